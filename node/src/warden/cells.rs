//! The processes of the owners: starts, watches and kills them in the containment in use.
//!
//! A *cell* is one launch with everything it leaves running: a cgroup directory, or a keeper process. A cell or owner is
//! gone only when the containment is empty *and* the child that was started has been reaped, because that child enters its
//! directory by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use phalanx_messages::launch::{LaunchRequest, LaunchResult, Owner};
use rustix::process::{Pid, Signal, WaitStatus};

use super::desk::CellId;
use super::log::Log;
use crate::containment::cgroup::{self, NodeCgroup};
use crate::containment::keeper::failure;
use crate::containment::tree::{Progress, Roundup, Scope, TreeKill};
use crate::containment::{now, owner_text, pause};

/// Enters the directory given first, takes the default OOM score, becomes the command.
const PRELUDE: &str =
    r#"echo 0 >"$1" || exit 125; echo 0 2>/dev/null >/proc/self/oom_score_adj; exec /bin/sh -c "$2" "$3""#;
/// Enters the directory given first and becomes the daemon, which keeps the warden's OOM score.
const DAEMON_PRELUDE: &str = r#"echo 0 >"$1" || exit 125; shift; exec "$@""#;
/// Variables that commands get from the warden's own environment.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];
/// Marks every process of a node, so that the next start finds what an earlier one could not keep together.
pub const MARK: &str = "PHALANX_CONTAINMENT";
/// How long a freeze may take to be seen, in milliseconds: a process stops only once it gets a processor.
const FREEZE_MS: u64 = 1_000;

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
    log: Log,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Cell(CellId),
    Owner,
}

#[derive(Debug)]
struct Killing {
    owner: Owner,
    target: Target,
    tree: TreeKill,
}

/// Something ended.
#[derive(Debug)]
pub enum Event {
    /// The command of a cell.
    Ended(Owner, CellId, LaunchResult),
    /// Everything of a cell, after [`Cells::kill_cell`].
    CellGone(Owner, CellId),
    /// Everything of an owner, after [`Cells::kill_owner`].
    OwnerGone(Owner),
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
}

impl Cells {
    /// No cell yet.
    #[must_use]
    pub const fn new(keep: Keep, around: Surroundings) -> Self {
        Self { keep, around, daemon: 0, cells: BTreeMap::new(), killings: Vec::new(), frozen: None }
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
        self.cells.insert(id, Cell { owner, child: Some(child), directory, report, told: false, log });
        Ok(())
    }

    fn spawn(
        &self,
        directory: Option<&Path>,
        title: &str,
        command: &str,
        environment: &[(String, String)],
        log: &Log,
    ) -> io::Result<(u32, Option<UnixStream>)> {
        let mut report = None;
        let mut shell = if let Some(directory) = directory {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", PRELUDE, "sh"]).arg(directory.join("cgroup.procs")).arg(command).arg(title);
            shell.stdin(Stdio::null());
            shell
        } else {
            let [program, arguments @ ..] = self.around.keeper_command.as_slice() else {
                return Err(io::Error::other("no keeper command is given"));
            };
            let (here, there) = UnixStream::pair()?;
            here.set_nonblocking(true)?;
            report = Some(here);
            let mut keeper = Command::new(program);
            keeper.args(arguments).arg(title).arg(command).stdin(OwnedFd::from(there));
            keeper
        };
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        shell.env_clear().envs(inherited).env(MARK, &self.around.key);
        shell.envs(environment.iter().map(|(name, value)| (name, value)));
        shell.stdout(log.output()).stderr(log.output()).process_group(0);
        Ok((shell.spawn()?.id(), report))
    }

    /// Begins to kill what is left of a cell.
    pub fn kill_cell(&mut self, owner: Owner, cell: CellId) {
        self.killings.push(Killing { owner, target: Target::Cell(cell), tree: TreeKill::new(now()) });
    }

    /// Begins to kill everything of an owner, instead of whatever was being killed of it.
    pub fn kill_owner(&mut self, owner: Owner) {
        self.killings.retain(|killing| killing.owner != owner);
        self.killings.push(Killing { owner, target: Target::Owner, tree: TreeKill::new(now()) });
    }

    /// True while [`Cells::step_kills`] has something to do.
    #[must_use]
    pub const fn is_killing(&self) -> bool {
        !self.killings.is_empty()
    }

    /// Goes on with all kills.
    pub fn step_kills(&mut self, events: &mut Vec<Event>) {
        for mut killing in std::mem::take(&mut self.killings) {
            match self.step_kill(&mut killing) {
                Ok(true) => {
                    self.tidy(&killing.owner);
                    events.push(match killing.target {
                        Target::Cell(cell) => Event::CellGone(killing.owner, cell),
                        Target::Owner => Event::OwnerGone(killing.owner),
                    });
                }
                Ok(false) => self.killings.push(killing),
                Err(error) => {
                    // Not proved, so it goes on; the one who asked gives up at its own time-out.
                    tracing::debug!(owner = %owner_text(&killing.owner), %error, "kill is not complete");
                    self.killings.push(killing);
                }
            }
        }
    }

    fn step_kill(&self, killing: &mut Killing) -> io::Result<bool> {
        let is_meant = |id: &CellId, cell: &Cell| match &killing.target {
            Target::Cell(target) => id == target,
            Target::Owner => cell.owner == killing.owner,
        };
        let (meant, others): (Vec<_>, Vec<_>) = self.cells.iter().partition(|(id, cell)| is_meant(id, cell));
        let children: Vec<u32> = meant.iter().filter_map(|(_, cell)| cell.child).collect();
        match &self.keep {
            Keep::Cgroup(node) => {
                children.iter().for_each(|child| kill_child(*child));
                let empty = match killing.target {
                    Target::Owner => cgroup::kill(&node.owner(&killing.owner))?,
                    Target::Cell(_) => {
                        let directory = meant.first().and_then(|(_, cell)| cell.directory.as_deref());
                        directory.map_or(Ok(true), cgroup::kill)?
                    }
                };
                Ok(empty && children.is_empty())
            }
            Keep::Subreaper => {
                // Whatever lost its keeper is nobody's, and goes with the first one that is killed.
                let spared: BTreeSet<u32> =
                    others.iter().filter_map(|(_, cell)| cell.child).chain([self.daemon]).collect();
                let scope = Scope { spared, ..Scope::below(std::process::id()) };
                Ok(killing.tree.step(&scope, now())? == Progress::Done && children.is_empty())
            }
        }
    }

    /// A child has been reaped.
    pub fn reaped(&mut self, pid: u32, status: WaitStatus, events: &mut Vec<Event>) {
        let Some((id, cell)) = self.cells.iter_mut().find(|(_, cell)| cell.child == Some(pid)) else { return };
        cell.child = None;
        if cell.told {
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
        self.cells.retain(|_, cell| {
            if cell.owner != *owner || cell.child.is_some() || !cell.told {
                return true;
            }
            match &cell.directory {
                Some(directory) => cgroup::populated(directory).unwrap_or(true) || cgroup::remove(directory).is_err(),
                None => false,
            }
        });
    }

    /// Stops or continues every process of every owner. Gives whether all of them have: one that waits for the disk inside the
    /// kernel stops when that lets it go.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn freeze(&mut self, on: bool) -> io::Result<bool> {
        match (&self.keep, on) {
            (Keep::Cgroup(node), _) => node.freeze(on)?,
            (Keep::Subreaper, true) => self.frozen = Some(Roundup::default()),
            (Keep::Subreaper, false) => {
                self.frozen.take().map_or(Ok(()), |roundup| roundup.signal(Signal::CONT))?;
            }
        }
        let until = now().plus(FREEZE_MS);
        while on && !self.is_frozen()? {
            if now() >= until {
                return Ok(false);
            }
            pause(1);
        }
        Ok(true)
    }

    fn is_frozen(&mut self) -> io::Result<bool> {
        match &self.keep {
            Keep::Cgroup(node) => node.is_frozen(),
            Keep::Subreaper => self.keep_frozen(),
        }
    }

    /// Looks once whether something of a frozen owner still runs, and stops it. `true` = nothing does.
    ///
    /// # Errors
    /// If `/proc` cannot be read or a process may not be signalled.
    pub fn keep_frozen(&mut self) -> io::Result<bool> {
        let Some(roundup) = &mut self.frozen else { return Ok(true) };
        let keepers = self.cells.values().filter_map(|cell| cell.child).collect();
        let scope = Scope { spared: [self.daemon].into(), passed: keepers, ..Scope::below(std::process::id()) };
        roundup.look(&scope)
    }

    /// The daemon has been reaped; its process id may be anybody's.
    pub const fn daemon_reaped(&mut self) {
        self.daemon = 0;
    }

    /// Kills the children that have not been reaped, so that none of them can still enter a directory that was found empty.
    pub fn kill_children(&self) {
        let children = self.cells.values().filter_map(|cell| cell.child);
        children.chain([self.daemon]).filter(|child| *child != 0).for_each(kill_child);
    }

    /// Kills everything but this process, once. `true` = nothing is left.
    ///
    /// # Errors
    /// Why it cannot be known.
    pub fn kill_everything(&self, tree: &mut TreeKill) -> io::Result<bool> {
        match &self.keep {
            Keep::Cgroup(node) => node.kill_all_but_warden(),
            Keep::Subreaper => Ok(tree.step(&Scope::below(std::process::id()), now())? == Progress::Done),
        }
    }

    /// Starts a clean-up command outside of any cell, and gives its process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_clean_up(
        &self,
        number: u64,
        owner: &Owner,
        command: &str,
        environment: &[(String, String)],
    ) -> io::Result<CleaningUp> {
        let log = Log::open(&self.around.log_dir, owner);
        let directory = match &self.keep {
            Keep::Cgroup(node) => Some(node.cleanup(number)?),
            Keep::Subreaper => None,
        };
        let title = format!("{}: clean-up of {}", self.around.node_name, owner_text(owner));
        let (child, report) = self.spawn(directory.as_deref(), &title, command, environment, &log)?;
        let cell = Cell { owner: owner.clone(), child: Some(child), directory, report, told: false, log };
        Ok(CleaningUp(cell))
    }
}

/// A clean-up command that runs.
#[derive(Debug)]
pub struct CleaningUp(Cell);

impl CleaningUp {
    /// Whose state it cleans.
    #[must_use]
    pub const fn owner(&self) -> &Owner {
        &self.0.owner
    }

    /// Kills a clean-up that took too long; it has not been reaped, else it would have a result.
    pub fn kill(&self) {
        self.0.child.iter().for_each(|child| kill_child(*child));
    }

    /// How it ended, once it has.
    pub fn result(&mut self, reaped: &[(u32, WaitStatus)]) -> Option<LaunchResult> {
        let mut events = Vec::new();
        if !self.0.hear(CellId(0), &mut events) {
            let (_, status) = reaped.iter().find(|(pid, _)| self.0.child == Some(*pid))?;
            events.push(Event::Ended(
                self.0.owner.clone(),
                CellId(0),
                self.0.result(ExitStatus::from_raw(status.as_raw())),
            ));
        }
        match events.pop()? {
            Event::Ended(_, _, result) => Some(result),
            Event::CellGone(..) | Event::OwnerGone(_) => None,
        }
    }
}

impl Cell {
    /// Reads the keeper's report. `true` = the command has ended.
    fn hear(&mut self, id: CellId, events: &mut Vec<Event>) -> bool {
        let Some(mut report) = self.report.as_ref() else { return false };
        let mut status = [0; 4];
        if report.read_exact(&mut status).is_err() {
            return false; // not yet, or never: then its end is seen when it is reaped
        }
        self.told = true;
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
