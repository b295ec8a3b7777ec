//! `phalanx dev`: a whole cluster from one command. N real node processes on one shared-disk file, with the subsystems and the
//! demo service of `configs/dev.toml`; every transition is printed as it happens.
//!
//! First Ctrl-C: all nodes leave as one batch. Second: they are killed through their containments. The default directory is
//! removed at the end, unless a node failed; one given with `--dir` keeps disk, configs, logs and journals, never sockets.

mod directory;
mod follow;
mod nodes;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use phalanx_messages::Instant;
use phalanx_messages::admin::HappeningReport;

use crate::cli::Exit;
use crate::cli::print;
use crate::containment::now;

pub use crate::cli::{default_dev_directory, node_socket};
pub use directory::{CONTROL, DISK, LOCK, remove_containments, remove_containments_of};

use directory::Directory;
use nodes::Nodes;

/// What `phalanx dev` is told.
pub type Arguments = crate::cli::DevArguments;

/// Something that happened, from any thread.
enum Event {
    Happened(HappeningReport),
    Ended { node: String, code: Option<i32> },
    Signal,
    Start { node: String, answer: Sender<String> },
}

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Runs the cluster until it is told to end. Gives the exit code.
///
/// # Errors
/// What kept it from starting.
pub fn run(arguments: Arguments, dir: Option<PathBuf>) -> Result<u8, Exit> {
    let directory = Directory::prepare(&arguments, dir)?;
    let (events, received) = mpsc::channel();
    watch_signals(events.clone())?;
    let control = listen(&directory, events.clone())?;
    let mut nodes = Nodes::new(directory.clone(), arguments.subreaper, events.clone());
    print_start(&directory);
    let started = directory.nodes.iter().try_for_each(|node| nodes.start(node));
    let mut cluster = Cluster { begun: now(), nodes, said: follow::Said::default(), leaving: 0, failed: false };
    if let Err(exit) = started {
        cluster.failed = true;
        cluster.say(&format!("{}; the others end", exit.text));
        cluster.leave(); // they would run on without anybody to end them
    }
    let until = arguments.for_ms.map(|ms| cluster.begun.plus(ms));
    while cluster.goes_on() {
        match received.recv_timeout(TICK) {
            Ok(event) => cluster.event(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if cluster.leaving == 0 && until.is_some_and(|until| now() >= until) {
            cluster.leave();
        }
    }
    drop(control);
    let failed = cluster.failed;
    directory.clean(failed);
    Ok(u8::from(failed))
}

/// A reader that has gone is no reason to leave the nodes alone.
fn print_line(text: &str) {
    let mut stdout = anstream::stdout();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).ok();
}

fn print_start(directory: &Directory) {
    print_line(&format!("cluster of {} nodes in {}", directory.nodes.len(), directory.path.display()));
    if let Some(port) = directory.port {
        print_line(&format!("licence server, once it is registered: curl http://127.0.0.1:{port}/take"));
    }
    let shown = if directory.is_default { String::new() } else { format!(" --dir {}", directory.path.display()) };
    print_line(&format!(
        "in a second terminal: phalanx{shown} status | kill n0 | start n0 | node leave n1 | trace last"
    ));
    print_line("Ctrl-C: all nodes leave; twice: all are killed\n");
}

struct Cluster {
    begun: Instant,
    nodes: Nodes,
    said: follow::Said,
    leaving: u32,
    failed: bool,
}

impl Cluster {
    /// A cluster whose nodes have all ended is over once it was told to end; else somebody may start one again.
    fn goes_on(&self) -> bool {
        self.leaving == 0 || self.nodes.running() > 0
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Happened(report) => {
                if self.said.is_news(&report) {
                    let style = print::style(&report.kind, &report.text);
                    self.say(&format!("{style}{}{style:#}", report.text));
                }
            }
            Event::Ended { node, code } => self.ended(&node, code),
            Event::Signal if self.leaving == 0 => self.leave(),
            Event::Signal => self.kill(),
            Event::Start { node, answer } => {
                let result = self.nodes.start(&node).map_or_else(|exit| exit.text, |()| "ok".to_owned());
                answer.send(result).ok(); // whoever asked may have gone
            }
        }
    }

    fn ended(&mut self, node: &str, code: Option<i32>) {
        self.nodes.ended(node);
        match code {
            Some(0) => self.say(&format!("{node} has ended")),
            Some(90) => self.say(&format!("{node} was forced out; `phalanx start {node}` starts it again")),
            Some(code) => {
                self.failed = true;
                self.say(&format!("{node} ended with exit code {code}; see {}", self.nodes.log(node).display()));
            }
            None => self.say(&format!("{node} was killed with its warden; `phalanx start {node}` starts it again")),
        }
    }

    fn leave(&mut self) {
        self.leaving = 1;
        self.say("all nodes leave; Ctrl-C again kills them");
        self.nodes.terminate();
    }

    fn kill(&mut self) {
        self.leaving += 1;
        self.say("killing all nodes");
        self.nodes.terminate();
    }

    fn say(&self, text: &str) {
        let ms = now().since(self.begun);
        print_line(&format!("{:>4}.{:03}  {text}", ms / 1_000, ms % 1_000));
    }
}

fn watch_signals(events: Sender<Event>) -> Result<(), Exit> {
    let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
    let mut signals = signal_hook::iterator::Signals::new(signals)
        .map_err(|error| Exit::error(format!("failed to watch signals: {error}")))?;
    std::thread::spawn(move || signals.forever().take_while(|_| events.send(Event::Signal).is_ok()).count());
    Ok(())
}

/// Removes its socket when it goes.
struct Control(PathBuf);

impl Drop for Control {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// Takes `start NODE` from the command line.
fn listen(directory: &Directory, events: Sender<Event>) -> Result<Control, Exit> {
    let path = directory.path.join(CONTROL);
    std::fs::remove_file(&path).ok(); // the directory is locked, so it is a leftover
    let listener = UnixListener::bind(&path)
        .map_err(|error| Exit::error(format!("failed to listen on {}: {error}", path.display())))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut line = String::new();
            let mut reader = BufReader::new(&stream);
            if reader.read_line(&mut line).is_err() {
                continue;
            }
            let Some(node) = line.trim().strip_prefix("start ") else { continue };
            let (answer, answered) = mpsc::channel();
            if events.send(Event::Start { node: node.to_owned(), answer }).is_err() {
                return;
            }
            let text = answered.recv().unwrap_or_else(|_| "the cluster is ending".to_owned());
            writeln!(&stream, "{text}").ok();
        }
    });
    Ok(Control(path))
}
