//! `phalanx kill` and `phalanx start`: dev clusters only.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use phalanx_messages::admin::{HappeningReport, Status};
use phalanx_messages::membership::NodeState;
use phalanx_messages::register::{Containment, FenceHandle, NodeRegister};
use rustix::process::Signal;

use super::args::{Global, KillWhat};
use super::client::Client;
use super::interrupt::{self, EXIT_INTERRUPTED};
use super::show::EXIT_UNKNOWN;
use super::{Exit, locate, print};
use crate::containment::process::Process;
use crate::containment::{cgroup, now, pause};
use crate::daemon;

/// Exit code "the node named is not running".
const EXIT_NOT_RUNNING: u8 = 3;
/// Exit code "no master or no majority".
const EXIT_NO_QUORUM: u8 = 106;
/// Exit code "timed out".
const EXIT_TIMED_OUT: u8 = 124;

fn directory(global: &Global) -> Result<PathBuf, Exit> {
    let directory = locate::dev_directory(global).filter(|directory| directory.join(crate::dev::DISK).exists());
    directory.ok_or_else(|| {
        Exit::error("no dev cluster is meant")
            .hint("`--dir DIR` names one; production nodes are forced out, not killed")
    })
}

/// The register of a node, from the disk of its dev cluster.
fn register(directory: &Path, node: &str) -> Result<NodeRegister, Exit> {
    let disk = daemon::open_disk(&directory.join(crate::dev::DISK))?;
    let configuration = disk.configurations().newest().map_err(|error| Exit::code(74, error.to_string()))?;
    let configuration = configuration.unwrap_or_default();
    let Some(id) = configuration.id_of(node) else {
        let known: Vec<&str> = configuration.nodes.values().map(|node| node.name.as_str()).collect();
        return Err(Exit::code(EXIT_UNKNOWN, format!("there is no node `{node}`"))
            .hint(format!("the cluster has: {}", known.join(", "))));
    };
    let register = disk.registers().read(id).map_err(|error| Exit::code(74, error.to_string()))?;
    register.ok_or_else(|| Exit::code(74, format!("the register of {node} is unreadable")))
}

pub(super) fn kill(node: &str, what: KillWhat, for_ms: u64, global: &Global) -> Result<(), Exit> {
    let directory = directory(global)?;
    if !directory.join(crate::dev::LOCK).exists() {
        let text = format!("no `phalanx dev` runs in {}, and only its nodes are killed", directory.display());
        return Err(
            Exit::code(EXIT_NOT_RUNNING, text).hint(format!("`phalanx dev --dir {}` starts it", directory.display()))
        );
    }
    let handle = register(&directory, node)?.fence;
    let survivor = survivor(&directory, node);
    let killed = match what {
        KillWhat::Daemon => signal(&handle.daemon)?,
        KillWhat::Host => kill_host(&handle)?,
    };
    if !killed {
        return Err(Exit::code(EXIT_NOT_RUNNING, format!("{node} is not running"))
            .hint(format!("`phalanx start {node}` starts it")));
    }
    anstream::eprintln!("killed {node}");
    match survivor {
        Some(client) => follow(&directory, node, for_ms, client),
        None => {
            anstream::eprintln!("no other node is running");
            Ok(())
        }
    }
}

fn signal(identity: &phalanx_messages::register::ProcessIdentity) -> Result<bool, Exit> {
    let text = |error: std::io::Error| Exit::error(format!("failed to kill process {}: {error}", identity.pid));
    match Process::open(*identity).map_err(text)?.filter(|process| !process.has_ended()) {
        Some(process) => process.signal(Signal::KILL).map_err(text).map(|()| true),
        None => Ok(false),
    }
}

/// Warden, daemon and services in one instant: nobody is left to speak.
fn kill_host(handle: &FenceHandle) -> Result<bool, Exit> {
    match &handle.containment {
        Containment::Cgroup { path } if cgroup::is_start_directory(Path::new(path)) => {
            let path = Path::new(path);
            let lived = cgroup::populated(path).unwrap_or(false);
            cgroup::kill(path).map_err(|error| Exit::error(format!("failed to kill {}: {error}", path.display())))?;
            Ok(lived)
        }
        Containment::Cgroup { .. } | Containment::Subreaper | Containment::None => {
            let warden = signal(&handle.warden)?;
            let daemon = signal(&handle.daemon)?;
            Ok(warden || daemon)
        }
    }
}

/// Somebody else to watch, connected before the kill so that nothing is missed.
fn survivor(directory: &Path, victim: &str) -> Option<Client> {
    let sockets = locate::sockets(directory).into_iter();
    let others = sockets.filter(|socket| socket.file_stem().is_some_and(|name| name != victim));
    others.filter_map(|socket| Client::connect(&socket).ok()).next()
}

/// Prints what happens until the node is out and every wanted service runs again, or the cluster waits for votes.
fn follow(directory: &Path, node: &str, for_ms: u64, client: Client) -> Result<(), Exit> {
    let text = format!("{node} is killed; its recovery goes on, `phalanx status --watch` follows it");
    interrupt::ends_with(EXIT_INTERRUPTED, text)?;
    let begun = now();
    let (lines, received) = std::sync::mpsc::channel::<HappeningReport>();
    let mut last_text = String::new();
    if let Ok(happenings) = client.follow(false) {
        std::thread::spawn(move || happenings.take_while(|report| lines.send(report.clone()).is_ok()).count());
    }
    loop {
        for report in received.try_iter() {
            if report.text != last_text {
                let style = print::style(&report.kind, &report.text);
                anstream::println!("{style}{}{style:#}", report.text);
                last_text = report.text;
            }
        }
        let status = Global { dir: Some(directory.to_owned()), ..Global::default() };
        let status = locate::connect(&status).and_then(|mut client| client.status());
        if let Some(waits) = status.as_ref().ok().and_then(|status| status.quorum).filter(|quorum| !quorum.reached) {
            let text = format!("{node} is killed, and the others wait: {} votes, {} needed", waits.votes, waits.needed);
            return Err(Exit::code(EXIT_NO_QUORUM, text).hint("start a node (`phalanx start`), and they go on"));
        }
        if status.is_ok_and(|status| has_recovered(&status, node)) {
            anstream::eprintln!("{node} is out and its services run again after {} ms", now().since(begun));
            return Ok(());
        }
        if now().since(begun) >= for_ms {
            let text = format!("{node} is not recovered after {for_ms} ms");
            return Err(Exit::code(EXIT_TIMED_OUT, text).hint("`phalanx status` shows what is being waited for"));
        }
        pause(10);
    }
}

fn has_recovered(status: &Status, node: &str) -> bool {
    let out = super::node::state_of(status, node) == Some(NodeState::Inactive);
    out && status.transitions.is_empty()
        && status.services.iter().filter(|service| service.wanted).all(|service| service.state == "registered")
}

/// Asks the running `dev`, so that the node is its child and ends with it.
pub(super) fn start(node: &str, for_ms: u64, global: &Global) -> Result<(), Exit> {
    let directory = directory(global)?;
    register(&directory, node)?; // names the nodes if there is no such one
    let path = directory.join(crate::dev::CONTROL);
    let stream = std::os::unix::net::UnixStream::connect(&path);
    let mut stream = stream.map_err(|error| {
        let text = format!("`phalanx dev` does not run in {}: {error}", directory.display());
        Exit::code(super::client::EXIT_UNREACHABLE, text)
            .hint(format!("`phalanx dev --dir {}` starts it", directory.display()))
    })?;
    let mut answer = String::new();
    let talk = writeln!(stream, "start {node}").and_then(|()| stream.read_to_string(&mut answer).map(drop));
    talk.map_err(|error| Exit::error(format!("`phalanx dev` has ended: {error}")))?;
    if answer.trim() != "ok" {
        return Err(Exit::error(answer.trim().to_owned()).hint("`phalanx status` shows how the nodes are"));
    }
    interrupt::ends_with(EXIT_INTERRUPTED, format!("{node} is started; `phalanx status --watch` follows it"))?;
    let begun = now();
    while now().since(begun) < for_ms {
        let status = Global { dir: Some(directory.clone()), ..Global::default() };
        let status = locate::connect(&status).and_then(|mut client| client.status());
        if status.is_ok_and(|status| super::node::state_of(&status, node) == Some(NodeState::Joined)) {
            anstream::println!("{node} is joined after {} ms", now().since(begun));
            return Ok(());
        }
        pause(10);
    }
    Err(Exit::code(EXIT_TIMED_OUT, format!("{node} has not joined after {for_ms} ms"))
        .hint("`phalanx status` tells why"))
}
