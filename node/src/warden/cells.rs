//! The processes of the owners: starts, watches and kills them in the containment in use.
//!
//! A *cell* is one launch with everything it leaves running: a cgroup directory, or a keeper process. A cell or owner is
//! gone only when the containment is empty *and* the child that was started has been reaped, because that child enters its
//! directory by itself.

mod clean_up;
mod freeze;
mod kills;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use phalanx_messages::launch::{LaunchRequest, LaunchResult, Owner, Program};
use rustix::process::{Pid, Signal, WaitStatus};

use self::kills::Killing;
use self::watch::Watches;
use super::desk::CellId;
use super::log::Log;
use crate::containment::cgroup::{self, NodeCgroup};
use crate::containment::keeper::failure;
use crate::containment::owner_text;
use crate::containment::tree::Roundup;

/// Enters the directory given first, takes the default OOM score, becomes the command. No word of the command is read by this shell.
const PRELUDE: &str = r#"echo 0 >"$1" || exit 125; echo 0 2>/dev/null >/proc/self/oom_score_adj; shift; exec "$@""#;
/// Enters the directory given first and becomes the daemon, which keeps the warden's OOM score.
const DAEMON_PRELUDE: &str = r#"echo 0 >"$1" || exit 125; shift; exec "$@""#;
/// Variables that commands get from the warden's own environment.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "OCF_ROOT",
    "HA_RSCTMP",
];
/// Marks every process of a node, so that the next start finds what an earlier one could not keep together.
pub const MARK: &str = "PHALANX_CONTAINMENT";

/// The containment in use.
#[derive(Debug)]
pub enum Keep {
    /// cgroup v2.
    Cgroup(NodeCgroup),
    /// This process is subreaper.
    Subreaper,
}

/// What is the same for every command.
#[derive(Debug)]
pub struct Surroundings {
    /// Name of the node.
    pub node_name: String,
    /// The containment's key.
    pub key: String,
    /// Directory of the owners' output.
    pub log_dir: PathBuf,
    /// The keeper's command line.
    pub keeper_command: Vec<OsString>,
}

#[derive(Debug)]
struct Cell {
    owner: Owner,
    /// The command, or its keeper; `None` once reaped.
    child: Option<u32>,
    directory: Option<PathBuf>,
    report: Option<UnixStream>,
    told: bool,
    /// Something lived on when the command ended, as its keeper says.
    left: bool,
    /// Whoever asked is to be told when nothing of it is alive any more.
    watched: bool,
    log: Log,
}

/// Something ended.
#[derive(Debug)]
pub enum Event {
    /// The command of a cell.
    Ended(Owner, CellId, LaunchResult),
    /// Everything of a cell, after [`Cells::kill_cell`].
    CellGone(Owner, CellId),
    /// Everything of an owner, after [`Cells::kill_owner`] or [`Cells::end_owner`].
    OwnerGone(Owner),
    /// What a cell's command left running, by itself, after [`Cells::watch`].
    Emptied(Owner, CellId),
}

/// What a command left running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing, as far as can be known.
    Nothing,
    /// It lives.
    Living,
    /// It has ended since.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Cells {
    keep: Keep,
    around: Surroundings,
    daemon: u32,
    cells: BTreeMap<CellId, Cell>,
    killings: Vec<Killing>,
    frozen: Option<Roundup>,
    watches: Watches,
}

impl Cells {
    /// No cell yet.
    #[must_use]
    pub fn new(keep: Keep, around: Surroundings) -> Self {
        let (cells, killings, watches) = (BTreeMap::new(), Vec::new(), Watches::default());
        Self { keep, around, daemon: 0, cells, killings, frozen: None, watches }
    }

    /// The containment in use.
    #[must_use]
    pub const fn keep(&self) -> &Keep {
        &self.keep
    }

    /// Starts the daemon with `socket` as its stdin.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_daemon(&mut self, command: &[OsString], socket: OwnedFd) -> io::Result<u32> {
        let [program, arguments @ ..] = command else { return Err(io::Error::other("no daemon command is given")) };
        let mut daemon = match &self.keep {
            Keep::Cgroup(node) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", DAEMON_PRELUDE, "sh"]).arg(node.daemon().join("cgroup.procs")).arg(program);
                shell
            }
            Keep::Subreaper => Command::new(program),
        };
        // A process group of its own: Ctrl-C at the terminal is for the warden alone.
        daemon.args(arguments).env(MARK, &self.around.key).stdin(socket).process_group(0);
        self.daemon = daemon.spawn()?.id();
        Ok(self.daemon)
    }

    /// Starts the command of a request as `id`.
    ///
    /// # Errors
    /// Why it could not be started, for the administrator.
    pub fn start(&mut self, id: CellId, request: &LaunchRequest) -> Result<(), String> {
        self.tidy(&request.owner);
        let log = Log::open(&self.around.log_dir, &request.owner);
        let directory = match &self.keep {
            Keep::Cgroup(node) => Some(node.cell(&request.owner, id.0).map_err(not_started)?),
            Keep::Subreaper => None,
        };
        let title = format!("{}: {}", self.around.node_name, owner_text(&request.owner));
        let (child, report) = self
            .spawn(directory.as_deref(), &title, &request.command, &request.environment, &log)
            .map_err(not_started)?;
        let owner = request.owner.clone();
        let cell = Cell { owner, child: Some(child), directory, report, told: false, left: false, watched: false, log };
        self.cells.insert(id, cell);
        Ok(())
    }

    fn spawn(
        &self,
        directory: Option<&Path>,
        title: &str,
        program: &Program,
        environment: &[(String, String)],
        log: &Log,
    ) -> io::Result<(u32, Option<UnixStream>)> {
        let mut report = None;
        let mut shell = if let Some(directory) = directory {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", PRELUDE, "sh"]).arg(directory.join("cgroup.procs")).args(program.words(title));
            shell.stdin(Stdio::null());
            shell
        } else {
            let [keeper, arguments @ ..] = self.around.keeper_command.as_slice() else {
                return Err(io::Error::other("no keeper command is given"));
            };
            let (here, there) = UnixStream::pair()?;
            here.set_nonblocking(true)?;
            report = Some(here);
            let mut keeper = Command::new(keeper);
            keeper.args(arguments).arg(title).args(program.words(title)).stdin(OwnedFd::from(there));
            keeper
        };
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        shell.env_clear().envs(inherited).env(MARK, &self.around.key);
        shell.envs(environment.iter().map(|(name, value)| (name, value)));
        shell.stdout(log.output()).stderr(log.output()).process_group(0);
        Ok((shell.spawn()?.id(), report))
    }

    /// From now on the end of what that cell's command left running is told, if it lives.
    pub fn watch(&mut self, id: CellId) -> Left {
        let Some(cell) = self.cells.get_mut(&id) else { return Left::Nothing };
        let left = match &cell.directory {
            Some(directory) if self.watches.add(directory, id) => match cgroup::populated(directory) {
                Ok(false) => Left::Nothing, // if something was there, nobody knows
                Ok(true) | Err(_) => Left::Living,
            },
            None if cell.left && cell.child.is_none() => Left::Ended,
            None if cell.left => Left::Living,
            Some(_) | None => Left::Nothing,
        };
        cell.watched = left == Left::Living;
        if left != Left::Living {
            self.watches.remove(id);
        }
        left
    }

    /// Wakes when something may have happened to what is watched.
    pub fn watches(&self) -> Option<BorrowedFd<'_>> {
        self.watches.fd()
    }

    /// Tells of watched cells in which nothing lives any more.
    pub fn hear_watches(&mut self, events: &mut Vec<Event>) {
        for id in self.watches.hear() {
            let Some(cell) = self.cells.get_mut(&id) else { continue };
            let lives = cell.directory.as_deref().is_some_and(|directory| cgroup::populated(directory).unwrap_or(true));
            if !lives {
                cell.watched = false;
                self.watches.remove(id);
                events.push(Event::Emptied(cell.owner.clone(), id));
            }
        }
    }

    /// Removes the files with the output of an owner.
    pub fn forget(&self, owner: &Owner) {
        Log::remove(&self.around.log_dir, owner);
    }

    /// A child has been reaped.
    pub fn reaped(&mut self, pid: u32, status: WaitStatus, events: &mut Vec<Event>) {
        let Some((id, cell)) = self.cells.iter_mut().find(|(_, cell)| cell.child == Some(pid)) else { return };
        cell.child = None;
        if cell.told {
            if std::mem::take(&mut cell.watched) && cell.report.is_some() {
                events.push(Event::Emptied(cell.owner.clone(), *id)); // a keeper ends when nothing is left below it
            }
            return;
        }
        if cell.report.is_some() && cell.hear(*id, events) {
            return;
        }
        cell.told = true;
        let result = if cell.report.is_some() {
            let how = failure(ExitStatus::from_raw(status.as_raw())).unwrap_or_else(|| "without a word".to_owned());
            LaunchResult::Failed { text: format!("its keeper ended: {how}") }
        } else {
            cell.result(ExitStatus::from_raw(status.as_raw()))
        };
        events.push(Event::Ended(cell.owner.clone(), *id, result));
    }

    /// Sockets on which keepers tell how their commands ended.
    pub fn reports(&self) -> impl Iterator<Item = &UnixStream> {
        self.cells.values().filter(|cell| !cell.told).filter_map(|cell| cell.report.as_ref())
    }

    /// Reads what the keepers tell.
    pub fn hear_keepers(&mut self, events: &mut Vec<Event>) {
        for (id, cell) in self.cells.iter_mut().filter(|(_, cell)| !cell.told) {
            cell.hear(*id, events);
        }
    }

    /// Forgets cells of `owner` in which nothing lives any more.
    fn tidy(&mut self, owner: &Owner) {
        let watches = &mut self.watches;
        self.cells.retain(|id, cell| {
            if cell.owner != *owner || cell.child.is_some() || !cell.told {
                return true;
            }
            let kept = match &cell.directory {
                Some(directory) => cgroup::populated(directory).unwrap_or(true) || cgroup::remove(directory).is_err(),
                None => false,
            };
            if !kept {
                watches.remove(*id);
            }
            kept
        });
    }

    /// The daemon has been reaped; its process id may be anybody's.
    pub const fn daemon_reaped(&mut self) {
        self.daemon = 0;
    }
}

impl Cell {
    /// Reads the keeper's report. `true` = the command has ended.
    fn hear(&mut self, id: CellId, events: &mut Vec<Event>) -> bool {
        let Some(mut report) = self.report.as_ref() else { return false };
        let mut words = [0; 5];
        if report.read_exact(&mut words).is_err() {
            return false; // not yet, or never: then its end is seen when it is reaped
        }
        let [status @ .., left] = words;
        self.told = true;
        self.left = left > 0;
        let result = self.result(ExitStatus::from_raw(i32::from_le_bytes(status)));
        events.push(Event::Ended(self.owner.clone(), id, result));
        true
    }

    fn result(&self, status: ExitStatus) -> LaunchResult {
        match failure(status) {
            None => LaunchResult::Succeeded,
            Some(how) => LaunchResult::Failed { text: how + &self.log.tail() },
        }
    }
}

fn not_started(error: io::Error) -> String {
    format!("failed to start: {error}")
}

/// A child of this process that has not been reaped, so the id cannot be a stranger's.
fn kill_child(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process(pid, Signal::KILL).ok();
    }
}
