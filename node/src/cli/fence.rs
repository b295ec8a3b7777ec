//! `phalanx fence NODE` and `phalanx fence confirm NODE`.

use std::io::{BufRead, IsTerminal, Write};

use phalanx_messages::admin::{AdminRequest, HappeningReport, NodeStatus, Status};
use phalanx_messages::membership::NodeState;

use super::args::Global;
use super::client::Client;
use super::show::EXIT_UNKNOWN;
use super::{Exit, locate, print};
use crate::containment::{now, pause};

/// Exit code "the node named is not running".
const EXIT_NOT_RUNNING: u8 = 3;
/// Exit code "refused without --force".
const EXIT_REFUSED: u8 = 107;
/// Exit code "timed out".
const EXIT_TIMED_OUT: u8 = 124;
/// The request is repeated this often until it is seen in the record, in milliseconds: its master may have died.
const ASK_AGAIN_MS: u64 = 1_000;

/// A node at the moment the command began.
struct Target<'a> {
    name: &'a str,
    incarnation: u64,
}

pub(super) fn fence(name: &str, reason: &str, force: bool, limit_ms: u64, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect_beside(global, name)?;
    let node = node_in(&client.status()?, name)?;
    if node.state == NodeState::Inactive {
        return Err(Exit::code(EXIT_NOT_RUNNING, format!("node {name} is not a member")));
    }
    if !force {
        confirmed(&format!("force {name} out? Its services move to other nodes. [y/N] "), |answer| answer == "y")?;
    }
    let target = Target { name, incarnation: node.incarnation };
    let request = AdminRequest::Fence { node: name.to_owned(), reason: reason.to_owned() };
    client.ask_patiently(&request)?;
    follow(&target, &request, limit_ms, global)
}

pub(super) fn confirm(name: &str, force: bool, limit_ms: u64, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect_beside(global, name)?;
    let node = node_in(&client.status()?, name)?;
    if !force {
        let first = format!(
            "{name} is taken for dead at your word alone. If it still runs, its data are lost: two nodes will write. \
             Is it off? [y/N] "
        );
        confirmed(&first, |answer| answer == "y")?;
        confirmed("type the name of the node that is dead: ", |answer| answer == name)?;
    }
    let request = AdminRequest::ConfirmDead { node: name.to_owned() };
    client.ask_patiently(&request)?;
    anstream::eprintln!("the death of {name} is confirmed");
    follow(&Target { name, incarnation: node.incarnation }, &request, limit_ms, global)
}

fn node_in(status: &Status, name: &str) -> Result<NodeStatus, Exit> {
    status.nodes.iter().find(|node| node.name == name).cloned().ok_or_else(|| {
        let known: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        Exit::code(EXIT_UNKNOWN, format!("there is no node `{name}`"))
            .hint(format!("the cluster has: {}", known.join(", ")))
    })
}

/// Asks on the terminal.
fn confirmed(question: &str, is_yes: impl Fn(&str) -> bool) -> Result<(), Exit> {
    let refused = |text: &str| Exit::code(EXIT_REFUSED, text).hint("`--force` does it without asking");
    if !std::io::stdin().is_terminal() {
        return Err(refused("this needs a confirmation, and there is no terminal"));
    }
    anstream::eprint!("{question}");
    std::io::stderr().flush().ok();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && is_yes(answer.trim()) { Ok(()) } else { Err(refused("not confirmed; nothing was done")) }
}

/// Prints what happens until the node is out.
fn follow(target: &Target<'_>, request: &AdminRequest, limit_ms: u64, global: &Global) -> Result<(), Exit> {
    let (begun, mut asked) = (now(), now());
    let mut said = Said::default();
    let mut listening = None;
    let mut awaited = None;
    // A forced leave is under way once the node is marked, a confirmation once it is no longer only marked.
    let confirming = matches!(request, AdminRequest::ConfirmDead { .. });
    let taken =
        |node: &NodeStatus| node.state == NodeState::ForcedLeaving && !(confirming && node.fence.state == "marked");
    loop {
        if listening.is_none() {
            listening = locate::connect_beside(global, target.name).ok().and_then(listen);
        }
        listening = listening.filter(|happenings| said.print(happenings));
        let client = locate::connect_beside(global, target.name);
        let node = client.and_then(|mut client| client.status()).ok().map(|status| node_in(&status, target.name));
        match node {
            // A node that was removed meanwhile is out too.
            Some(Err(exit)) if exit.code == EXIT_UNKNOWN => return Ok(()),
            Some(Ok(node)) if node.state == NodeState::Inactive || node.incarnation != target.incarnation => {
                anstream::println!("{} is out after {} ms", target.name, now().since(begun));
                return Ok(());
            }
            Some(Ok(node)) => {
                // The request, or the master that took it, was lost.
                if !taken(&node) && now().since(asked) >= ASK_AGAIN_MS {
                    asked = now();
                    locate::connect_beside(global, target.name)
                        .and_then(|mut client| client.ask_patiently(request))
                        .ok();
                }
                awaited = node.fence.awaiting;
            }
            Some(Err(_)) | None => {}
        }
        if now().since(begun) >= limit_ms {
            let awaited = awaited.map_or_else(String::new, |awaited| format!("; awaiting {awaited}"));
            let text = format!("{} is not out after {limit_ms} ms{awaited}", target.name);
            return Err(Exit::code(EXIT_TIMED_OUT, text).hint("`phalanx status` shows what is being waited for"));
        }
        pause(20);
    }
}

fn listen(client: Client) -> Option<std::sync::mpsc::Receiver<HappeningReport>> {
    let happenings = client.follow(true).ok()?;
    let (lines, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || happenings.take_while(|report| lines.send(report.clone()).is_ok()).count());
    Some(received)
}

/// What was printed already: another node may tell the same again.
#[derive(Default)]
struct Said {
    since_ms: Option<u64>,
    lines: std::collections::BTreeSet<String>,
}

impl Said {
    /// False once nothing more can come.
    fn print(&mut self, happenings: &std::sync::mpsc::Receiver<HappeningReport>) -> bool {
        let since_ms = *self.since_ms.get_or_insert_with(phalanx_actors::clock::wall_now_ms);
        loop {
            match happenings.try_recv() {
                Ok(report) if report.at_ms >= since_ms => {
                    if self.lines.insert(report.text.clone()) {
                        let style = print::style(&report.kind, &report.text);
                        anstream::println!("{style}{}{style:#}", report.text);
                    }
                }
                Ok(_) => {}
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }
}
