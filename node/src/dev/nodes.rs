//! The node processes of a dev cluster: wardens, each a child of `dev`, with a follower of its local socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;

use super::directory::Directory;
use super::{Event, follow};
use crate::cli::Exit;

/// See the module.
pub(super) struct Nodes {
    directory: Directory,
    subreaper: bool,
    events: Sender<Event>,
    running: BTreeMap<String, u32>,
}

impl Nodes {
    pub(super) const fn new(directory: Directory, subreaper: bool, events: Sender<Event>) -> Self {
        Self { directory, subreaper, events, running: BTreeMap::new() }
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn log(&self, node: &str) -> PathBuf {
        self.directory.path.join(format!("{node}.log"))
    }

    pub(super) fn start(&mut self, node: &str) -> Result<(), Exit> {
        if !self.directory.nodes.iter().any(|known| known == node) {
            return Err(Exit::code(105, format!("there is no node `{node}`")));
        }
        if self.running.contains_key(node) {
            return Err(Exit::error(format!("{node} is running")));
        }
        let failed = |error: std::io::Error| Exit::error(format!("failed to start {node}: {error}"));
        let log = File::options().create(true).append(true).open(self.log(node)).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["node", "run", "--config"]).arg(self.directory.config(node));
        if self.subreaper {
            command.arg("--subreaper");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        // A group of its own: Ctrl-C reaches `dev` alone, which lets the nodes leave.
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        self.running.insert(node.to_owned(), child.id());
        let (events, name) = (self.events.clone(), node.to_owned());
        std::thread::spawn(move || {
            let code = child.wait().ok().and_then(|status| status.code());
            events.send(Event::Ended { node: name, code }).ok();
        });
        let (events, socket) = (self.events.clone(), self.directory.socket(node));
        std::thread::spawn(move || follow::follow(&socket, &events));
        Ok(())
    }

    pub(super) fn ended(&mut self, node: &str) {
        self.running.remove(node);
        std::fs::remove_file(self.directory.socket(node)).ok(); // a killed daemon leaves it
    }

    /// SIGTERM to every warden: the first means leave, the second kill.
    pub(super) fn terminate(&self) {
        for pid in self.running.values() {
            let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok(); // it may have just ended
            }
        }
    }
}
