//! The warden's loop while its daemon lives: signals, the daemon's words, its requests, time.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use phalanx_messages::Instant;
use phalanx_messages::launch::LaunchResult;
use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;
use rustix::process::WaitStatus;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::cells::{Cells, Event, Left};
use super::desk::{Desk, Input, Output};
use super::frames::{Line, WardenSays, Word};
use super::inbox::Inbox;
use super::settings::WardenSettings;
use super::talk;
use crate::containment::keeper::{drain, reap};
use crate::containment::{now, timespec};

/// Between two looks at a kill that is under way, in milliseconds.
const KILL_LOOK_MS: u64 = 1;

/// Why the warden no longer serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The node has left; its register says so. With the daemon's exit code.
    LeftCleanly(i32),
    /// The daemon ended by itself with this code.
    Exited(i32),
    /// The daemon was killed, panicked, starved or talked nonsense: the text says which.
    Dead(String),
    /// The administrator asked a second time.
    Impatient,
    /// The graceful leave has taken as long as it may, in milliseconds.
    LeaveTookTooLong(u64),
}

/// Signals that arrive, as bytes on sockets.
#[derive(Debug)]
pub struct Signals {
    child: UnixStream,
    leave: UnixStream,
}

impl Signals {
    /// From here on they arrive here.
    ///
    /// # Errors
    /// If a handler cannot be installed.
    pub fn install() -> io::Result<Self> {
        let (child, leave) = (caught(&[SIGCHLD])?, caught(&[SIGTERM, SIGINT, SIGHUP])?);
        Ok(Self { child, leave })
    }

    /// The socket that wakes when a child ends.
    #[must_use]
    pub const fn child(&self) -> &UnixStream {
        &self.child
    }

    /// True once the administrator has asked for the end; the wish stays and is heard again by whoever serves.
    #[must_use]
    pub fn leave_is_asked(&self) -> bool {
        let mut fds = [PollFd::new(&self.leave, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec(0))).is_ok_and(|ready| ready > 0)
    }

    fn leave_requests(&self) -> usize {
        let mut bytes = [0; 16];
        (&self.leave).read(&mut bytes).unwrap_or(0)
    }
}

fn caught(signals: &[i32]) -> io::Result<UnixStream> {
    let (here, there) = UnixStream::pair()?;
    here.set_nonblocking(true)?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, there.try_clone()?)?;
    }
    Ok(here)
}

/// Reads what the daemon says byte by byte.
#[derive(Debug)]
pub struct Words(OwnedFd);

impl Words {
    /// The reading end, and the writing end for the daemon.
    ///
    /// # Errors
    /// If there are no descriptors.
    pub fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((Self(read), write))
    }

    fn hear(&self) -> Vec<Word> {
        let mut bytes = [0; 4096];
        let count = rustix::io::read(&self.0, &mut bytes).unwrap_or(0);
        bytes[..count].iter().filter_map(|byte| Word::of(*byte)).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Server<'a> {
    signals: &'a Signals,
    cells: &'a mut Cells,
    desk: &'a mut Desk,
    line: Line,
    inbox: Inbox,
    words: Words,
    daemon: u32,
    watchdog_ms: u64,
    /// A graceful leave may take this long.
    shutdown_ms: u64,
    /// Since when the node leaves.
    leaving: Option<Instant>,
    /// When the daemon last fed, from the first time on.
    fed: Option<Instant>,
    left_cleanly: bool,
    leave_requests: usize,
    looked: Instant,
}

impl<'a> Server<'a> {
    /// Serves the daemon with process id `daemon`.
    #[must_use]
    pub fn new(
        signals: &'a Signals,
        cells: &'a mut Cells,
        desk: &'a mut Desk,
        line: Line,
        words: Words,
        daemon: u32,
        settings: &WardenSettings,
    ) -> Self {
        let looked = now();
        Self {
            signals,
            cells,
            desk,
            line,
            inbox: Inbox::default(),
            words,
            daemon,
            watchdog_ms: settings.watchdog_ms,
            shutdown_ms: settings.shutdown_ms,
            leaving: None,
            fed: None,
            left_cleanly: false,
            leave_requests: 0,
            looked,
        }
    }

    /// Serves until there is no reason to go on.
    pub fn run(mut self) -> Ending {
        loop {
            self.wait();
            if let Some(ending) = self.look() {
                return ending;
            }
        }
    }

    fn wait(&self) {
        let line_wants = if self.line.is_behind() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = vec![
            PollFd::new(&self.signals.child, PollFlags::IN),
            PollFd::new(&self.signals.leave, PollFlags::IN),
            PollFd::from_borrowed_fd(self.line.as_fd(), line_wants),
            PollFd::new(&self.words.0, PollFlags::IN),
        ];
        fds.extend(self.cells.reports().map(|report| PollFd::new(report, PollFlags::IN)));
        fds.extend(self.cells.watches().map(|watches| PollFd::from_borrowed_fd(watches, PollFlags::IN)));
        rustix::event::poll(&mut fds, Some(&timespec(self.timeout_ms()))).ok(); // interrupted: look as well
    }

    fn timeout_ms(&self) -> u64 {
        if !self.inbox.is_empty() {
            return 0;
        }
        if self.cells.is_killing() {
            return KILL_LOOK_MS;
        }
        let now = now();
        let late = self.leaving.map(|since| since.plus(self.shutdown_ms));
        let until = self.desk.next_deadline().into_iter().chain(late).min().map(|deadline| deadline.since(now));
        (self.watchdog_ms / 4).min(until.unwrap_or(u64::MAX)).max(1)
    }

    fn look(&mut self) -> Option<Ending> {
        let now = now();
        // Read first, judge after: what the daemon said while this process did not run counts.
        let words = self.words.hear();
        self.left_cleanly |= words.contains(&Word::LeftCleanly);
        if words.contains(&Word::Alive) {
            self.fed = Some(now);
        }
        if words.contains(&Word::Leaving) {
            self.leaving.get_or_insert(now);
        }
        let lease = words.iter().filter_map(|word| match word {
            Word::LeaseLost => Some(Input::Lease { valid: false, now }),
            Word::LeaseValid => Some(Input::Lease { valid: true, now }),
            Word::Alive | Word::LeftCleanly | Word::Panicking | Word::Leaving => None,
        });
        let lease = lease.collect();
        let mut events = Vec::new();
        let daemon = self.reap(&mut events);
        self.cells.hear_keepers(&mut events);
        self.cells.hear_watches(&mut events);
        self.cells.step_kills(&mut events);
        self.cells.keep_frozen().ok(); // what cannot be looked at now is looked at next time
        if let Some(status) = daemon {
            self.cells.daemon_reaped();
            return Some(self.ending(status));
        }
        if words.contains(&Word::Panicking) {
            return Some(Ending::Dead("the daemon panicked".to_owned()));
        }
        if let Some(ending) = self.judge_feed(now).or_else(|| self.leave(now)) {
            return Some(ending);
        }
        self.answer(lease, events, now).err().map(Ending::Dead)
    }

    fn reap(&mut self, events: &mut Vec<Event>) -> Option<WaitStatus> {
        drain(&self.signals.child);
        let mut daemon = None;
        reap(|pid, status| {
            if pid == self.daemon {
                daemon = Some(status);
            } else {
                self.cells.reaped(pid, status, events);
            }
        });
        daemon
    }

    fn ending(&mut self, status: WaitStatus) -> Ending {
        self.left_cleanly |= self.words.hear().contains(&Word::LeftCleanly); // its last word, said just before
        match (status.exit_status(), status.terminating_signal()) {
            (code, _) if self.left_cleanly => Ending::LeftCleanly(code.unwrap_or(0)),
            (Some(code), _) => Ending::Exited(code),
            (None, Some(signal)) => Ending::Dead(format!("the daemon was killed by signal {signal}")),
            (None, None) => Ending::Dead("the daemon ended in a way that is not known".to_owned()),
        }
    }

    fn judge_feed(&mut self, now: Instant) -> Option<Ending> {
        // Not running itself for so long means that the host slept or this process was stopped: the daemon gets a chance.
        if now.since(self.looked) > self.watchdog_ms / 2 {
            self.fed = self.fed.map(|_| now);
        }
        self.looked = now;
        let silent_ms = now.since(self.fed?);
        if silent_ms < self.watchdog_ms {
            return None;
        }
        if self.left_cleanly {
            return Some(Ending::LeftCleanly(0)); // it hangs on its way out; nothing of it matters any more
        }
        Some(Ending::Dead(format!("the daemon did not feed its warden for {silent_ms} ms")))
    }

    fn leave(&mut self, now: Instant) -> Option<Ending> {
        let requests = self.signals.leave_requests();
        if requests == 0 {
            let late = self.leaving.filter(|since| !self.left_cleanly && now.since(*since) >= self.shutdown_ms);
            return late.map(|_| Ending::LeaveTookTooLong(self.shutdown_ms));
        }
        self.leaving.get_or_insert(now);
        self.leave_requests += requests;
        if self.leave_requests > 1 {
            return Some(Ending::Impatient);
        }
        talk::line("leaving the cluster; a second signal kills this node at once");
        self.line.say(&WardenSays::Leave).ok(); // if the daemon is gone, its end is seen
        None
    }

    /// # Errors
    /// Why the node cannot go on.
    fn answer(&mut self, mut inputs: Vec<Input>, events: Vec<Event>, now: Instant) -> Result<(), String> {
        let line = |error: io::Error| format!("the daemon cannot be talked to: {error}");
        inputs.extend(events.into_iter().map(|event| input(event, now)));
        let (asks, open) = self.line.hear().map_err(line)?;
        self.inbox.add(asks);
        let asks = self.inbox.take();
        inputs.extend(asks.into_iter().map(|ask| Input::Asked { ticket: ask.ticket, request: ask.request, now }));
        inputs.push(Input::Tick(now));
        while !inputs.is_empty() {
            let outputs: Vec<Output> = inputs.drain(..).flat_map(|input| self.desk.step(input)).collect();
            for output in outputs {
                inputs.extend(self.perform(output, now)?);
            }
        }
        self.line.flush().map_err(line)?;
        // The daemon's end closes its socket; wait for that, so that the end is told by its status.
        if !open && !ends_soon(self.daemon) {
            return Err(line(io::Error::other("it closed its socket and lives on")));
        }
        Ok(())
    }

    fn perform(&mut self, output: Output, now: Instant) -> Result<Option<Input>, String> {
        match output {
            Output::Start { cell, request } => {
                if let Err(text) = self.cells.start(cell, &request) {
                    let result = LaunchResult::Failed { text };
                    return Ok(Some(Input::Ended { owner: request.owner, cell, result, now }));
                }
            }
            Output::KillCell { owner, cell } => self.cells.kill_cell(owner, cell),
            Output::EndOwner(owner) => self.cells.end_owner(owner),
            Output::KillOwner(owner) => self.cells.kill_owner(owner),
            Output::Watch { owner, cell } => match self.cells.watch(cell) {
                Left::Living => {}
                Left::Nothing => return Ok(Some(Input::Emptied { owner, cell, left: false })),
                Left::Ended => return Ok(Some(Input::Emptied { owner, cell, left: true })),
            },
            Output::Forget(owner) => self.cells.forget(&owner),
            // A node whose services run on without a lease is no node that rides a stall through (protocol §4.7).
            Output::Freeze(on) => {
                let which = if on { "frozen" } else { "thawed" };
                let all = self.cells.freeze(on).map_err(|error| format!("services cannot be {which}: {error}"))?;
                talk::line(match (on, all) {
                    (true, true) => "the lease is lost: services are frozen",
                    (true, false) => "the lease is lost: services are being frozen, and some still wait for the disk",
                    (false, _) => "the lease is valid again: services go on",
                });
            }
            Output::Answer(ticket, result) => {
                let said = self.line.say(&WardenSays::Answer(ticket, result));
                said.map_err(|error| format!("the daemon cannot be talked to: {error}"))?;
            }
        }
        Ok(None)
    }
}

fn input(event: Event, now: Instant) -> Input {
    match event {
        Event::Ended(owner, cell, result) => Input::Ended { owner, cell, result, now },
        Event::CellGone(owner, cell) => Input::CellGone { owner, cell, now },
        Event::OwnerGone(owner) => Input::OwnerGone { owner, now },
        Event::Emptied(owner, cell) => Input::Emptied { owner, cell, left: true },
    }
}

/// A process that is ending closes its descriptors before it can be reaped.
fn ends_soon(pid: u32) -> bool {
    use crate::containment::process::{Process, stat};
    let identity = stat(pid).map(|stat| stat.identity()).unwrap_or_default();
    match Process::open(identity) {
        Ok(Some(process)) => process.ends_within(100),
        Ok(None) => true,
        Err(_) => false,
    }
}
