//! The warden's loop while its daemon lives: requests, ended commands, kills under way, signals, and the daemon's signs of life.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use phalanx_messages::Instant;
use phalanx_messages::launch::{LaunchResult, Owner};
use rustix::event::{PollFd, PollFlags};

use super::cells::{self, Cell};
use super::desk::{CellId, Desk, Input, Output};
use super::frames::{Line, WardenSays, Word};
use super::{Kept, WardenSettings};
use crate::containment::cgroup;
use crate::containment::keeper;
use crate::containment::process::Process;
use crate::containment::tree::{Progress, Roundup, Scope, TreeKill};
use crate::containment::{now, timespec};

/// Between two looks at something that is being killed, in milliseconds.
const KILL_LOOK_MS: u64 = 1;

/// Why the daemon is no longer watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It said that it has left, and ended.
    LeftCleanly,
    /// It ended, or said that it panics.
    DaemonGone,
    /// It gave no sign of life for W.
    NotFed,
    /// The administrator asked twice.
    Killed,
}

/// A kill under way.
struct Kill {
    owner: Owner,
    /// One launch, or everything of the owner.
    cell: Option<CellId>,
    /// Without cgroups: one for each keeper.
    trees: Vec<(u32, TreeKill)>,
}

/// See the module.
pub(super) struct Watch {
    pub settings: WardenSettings,
    pub kept: Kept,
    pub desk: Desk,
    pub daemon_child: Child,
    daemon: Process,
    line: Line,
    pipe: OwnedFd,
    signals: UnixStream,
    children: UnixStream,
    cells: BTreeMap<(Owner, CellId), Cell>,
    kills: Vec<Kill>,
    fed_at: Instant,
    looked_at: Instant,
    left_cleanly: bool,
    leave_asked: u32,
}

impl Watch {
    pub fn new(
        settings: WardenSettings,
        kept: Kept,
        daemon_child: Child,
        daemon: Process,
        socket: UnixStream,
        pipe: OwnedFd,
    ) -> io::Result<Self> {
        let signals = signal_pipe(&[signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
        let children = signal_pipe(&[signal_hook::consts::SIGCHLD])?;
        Ok(Self {
            settings,
            kept,
            desk: Desk::default(),
            daemon_child,
            daemon,
            line: Line::new(socket)?,
            pipe,
            signals,
            children,
            cells: BTreeMap::new(),
            kills: Vec::new(),
            fed_at: now(),
            looked_at: now(),
            left_cleanly: false,
            leave_asked: 0,
        })
    }

    /// Serves the daemon until it is gone or must be.
    pub fn run(&mut self) -> End {
        loop {
            self.wait();
            self.hear_words();
            if self.daemon.has_ended() {
                self.hear_words();
                return if self.left_cleanly { End::LeftCleanly } else { End::DaemonGone };
            }
            if self.hear_signals() {
                return End::Killed;
            }
            if self.starves() {
                eprintln!(
                    "node {}: the daemon gave no sign of life for {} ms",
                    self.settings.node_name, self.settings.watchdog_ms
                );
                return End::NotFed;
            }
            self.hear_requests();
            self.see_ended();
            self.go_on_killing();
            self.ask_desk(Input::Tick(now()));
            self.line.flush().ok(); // a daemon that is gone is seen above
        }
    }

    fn wait(&mut self) {
        let mut fds = vec![
            PollFd::new(&self.daemon, PollFlags::IN),
            PollFd::new(&self.line, if self.line.is_behind() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }),
            PollFd::new(&self.pipe, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.children, PollFlags::IN),
        ];
        for cell in self.cells.values().filter(|cell| !cell.ended) {
            match &cell.keeper {
                Some(keeper) => fds.push(PollFd::new(keeper, PollFlags::IN)),
                None => fds.push(PollFd::from_borrowed_fd(cell.process.as_fd(), PollFlags::IN)),
            }
        }
        let at = now();
        let due = self.fed_at.plus(self.settings.watchdog_ms).since(at).max(1);
        let deadline = self.desk.next_deadline().map_or(due, |deadline| deadline.since(at).max(1));
        let limit = if self.kills.is_empty() { u64::MAX } else { KILL_LOOK_MS };
        rustix::event::poll(&mut fds, Some(&timespec(due.min(deadline).min(limit)))).ok();
    }

    fn hear_words(&mut self) {
        let mut bytes = [0; 256];
        while let Ok(count) = rustix::io::read(&self.pipe, &mut bytes) {
            if count == 0 {
                return; // every writer is gone: the daemon ends
            }
            for word in bytes[..count].iter().filter_map(|byte| Word::of(*byte)) {
                self.fed_at = now();
                self.left_cleanly |= word == Word::LeftCleanly;
                if word == Word::Panicking {
                    self.daemon.signal(rustix::process::Signal::KILL).ok();
                }
            }
        }
    }

    /// The daemon did not feed for W. A warden that was itself frozen or suspended cannot judge: it grants a new W first.
    fn starves(&mut self) -> bool {
        let at = now();
        if at.since(std::mem::replace(&mut self.looked_at, at)) >= self.settings.watchdog_ms * 2 {
            self.fed_at = at;
        }
        at.since(self.fed_at) >= self.settings.watchdog_ms
    }

    /// SIGTERM and SIGINT: first leave, then kill. True = kill.
    fn hear_signals(&mut self) -> bool {
        let mut byte = [0; 1];
        while matches!((&self.signals).read(&mut byte), Ok(1)) {
            self.leave_asked += 1;
            if self.leave_asked == 1 {
                self.line.say(&WardenSays::Leave).ok();
            }
        }
        self.leave_asked > 1
    }

    fn hear_requests(&mut self) {
        let (asks, open) = match self.line.hear() {
            Ok(heard) => heard,
            Err(error) => {
                eprintln!("node {}: the daemon said something unintelligible: {error}", self.settings.node_name);
                (Vec::new(), false)
            }
        };
        for ask in asks {
            self.ask_desk(Input::Asked { ticket: ask.ticket, request: ask.request, now: now() });
        }
        if !open {
            // It closed its end: it ends, or is broken. Either way nothing more can be asked.
            self.daemon.signal(rustix::process::Signal::KILL).ok();
        }
    }

    fn ask_desk(&mut self, input: Input) {
        for output in self.desk.step(input) {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Start { cell, request } => {
                let owner = request.owner.clone();
                match cells::start(&self.settings, &self.kept, cell, &request) {
                    Ok(started) => drop(self.cells.insert((owner, cell), started)),
                    Err(error) => {
                        let result = LaunchResult::Failed { text: format!("failed to start: {error}") };
                        self.ask_desk(Input::Ended { owner, cell, result, now: now() });
                    }
                }
            }
            Output::KillCell { owner, cell } => self.begin_kill(owner, Some(cell)),
            Output::KillOwner(owner) => self.begin_kill(owner, None),
            Output::Freeze { ticket, on } => {
                let result = match self.freeze(on) {
                    Ok(()) => LaunchResult::Succeeded,
                    Err(error) => LaunchResult::Failed { text: error.to_string() },
                };
                self.answer(ticket, result);
            }
            Output::Answer(ticket, result) => self.answer(ticket, result),
        }
    }

    fn answer(&mut self, ticket: u64, result: LaunchResult) {
        self.line.say(&WardenSays::Answer(ticket, result)).ok(); // a daemon that is gone is seen in the loop
    }

    /// Commands that have ended by themselves.
    fn see_ended(&mut self) {
        keeper::drain(&self.children);
        let mut ended = Vec::new();
        for ((owner, id), cell) in self.cells.iter_mut().filter(|(_, cell)| !cell.ended) {
            let status = match &mut cell.keeper {
                None => cell.child.try_wait().ok().flatten(),
                Some(keeper) => told_status(keeper).or_else(|| cell.child.try_wait().ok().flatten()),
            };
            if let Some(status) = status {
                cell.ended = true;
                ended.push((owner.clone(), *id, status));
            }
        }
        for (owner, cell, status) in ended {
            let result = match keeper::failure(status) {
                None => LaunchResult::Succeeded,
                Some(how) => LaunchResult::Failed { text: how + &cells::last_words(&self.settings, &owner) },
            };
            self.ask_desk(Input::Ended { owner, cell, result, now: now() });
        }
        self.forget_empty_cells();
    }

    /// Cells whose command has ended and of which nothing is left, and orphans that came back here.
    fn forget_empty_cells(&mut self) {
        let Self { cells, kept, .. } = self;
        cells.retain(|(owner, id), cell| {
            if !cell.ended {
                return true;
            }
            match kept {
                Kept::Tree => cell.child.try_wait().is_ok_and(|status| status.is_none()),
                Kept::Cgroup(group) => {
                    let directory = group.owner(owner).join(id.0.to_string());
                    let empty = cgroup::populated(&directory).is_ok_and(|populated| !populated);
                    !(empty && cgroup::remove(&directory).is_ok())
                }
            }
        });
        self.reap_orphans();
    }

    /// Orphans of services come back here as children; a command or the daemon is waited for by its own handle.
    fn reap_orphans(&self) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let known: Vec<u32> = self.cells.values().map(|cell| cell.child.id()).chain([self.daemon_child.id()]).collect();
        // Look without reaping: the first ended child may be one whose status somebody waits for.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        for stat in crate::containment::process::all().unwrap_or_default() {
            if stat.parent != std::process::id() || stat.state != b'Z' || known.contains(&stat.pid) {
                continue;
            }
            let Some(pid) = i32::try_from(stat.pid).ok().and_then(rustix::process::Pid::from_raw) else { continue };
            if waitid(WaitId::Pid(pid), options).is_ok() {
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
            }
        }
    }

    fn begin_kill(&mut self, owner: Owner, cell: Option<CellId>) {
        let meant = |(of, id): &(Owner, CellId)| *of == owner && cell.is_none_or(|cell| cell == *id);
        let keepers = self.cells.iter().filter(|(key, _)| meant(key)).map(|(_, cell)| cell.child.id());
        let trees = match self.kept {
            Kept::Cgroup(_) => Vec::new(),
            Kept::Tree => keepers.map(|keeper| (keeper, TreeKill::new(now()))).collect(),
        };
        self.kills.push(Kill { owner, cell, trees });
        self.go_on_killing();
    }

    fn go_on_killing(&mut self) {
        let kills = std::mem::take(&mut self.kills);
        for mut kill in kills {
            match self.is_killed(&mut kill) {
                Ok(true) => {
                    let Kill { owner, cell, .. } = kill;
                    self.ask_desk(match cell {
                        Some(cell) => Input::CellGone { owner, cell, now: now() },
                        None => Input::OwnerGone { owner, now: now() },
                    });
                }
                Ok(false) => self.kills.push(kill),
                Err(error) => {
                    eprintln!("node {}: failed to kill {:?}: {error}", self.settings.node_name, kill.owner);
                    self.kills.push(kill); // the desk's deadline gives it up
                }
            }
        }
    }

    fn is_killed(&self, kill: &mut Kill) -> io::Result<bool> {
        match &self.kept {
            Kept::Cgroup(group) => {
                let owner = group.owner(&kill.owner);
                cgroup::kill(&kill.cell.map_or_else(|| owner.clone(), |cell| owner.join(cell.0.to_string())))
            }
            Kept::Tree => {
                let mut left = Vec::new();
                for (keeper, mut tree) in std::mem::take(&mut kill.trees) {
                    let gone = crate::containment::process::stat(keeper).map_or(true, |stat| stat.state == b'Z');
                    if !gone && tree.step(&Scope::below(keeper), now())? == Progress::Working {
                        left.push((keeper, tree));
                    }
                }
                kill.trees = left;
                Ok(kill.trees.is_empty())
            }
        }
    }

    fn freeze(&self, on: bool) -> io::Result<()> {
        match &self.kept {
            Kept::Cgroup(group) => group.freeze(on),
            Kept::Tree => {
                let signal = if on { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
                for cell in self.cells.values() {
                    let mut roundup = Roundup::default();
                    let scope = Scope::below(cell.child.id());
                    while !roundup.look(&scope)? {}
                    roundup.signal(signal)?;
                }
                Ok(())
            }
        }
    }
}

/// A socket that becomes readable on any of these signals.
fn signal_pipe(signals: &[i32]) -> io::Result<UnixStream> {
    let (here, there) = UnixStream::pair()?;
    here.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, there.try_clone()?)?;
    }
    Ok(here)
}

/// What the keeper has told of its command.
fn told_status(keeper: &mut UnixStream) -> Option<ExitStatus> {
    let mut raw = [0; 4];
    keeper.read_exact(&mut raw).ok()?;
    Some(ExitStatus::from_raw(i32::from_le_bytes(raw)))
}
