//! Containment without root: everything below one process, found in `/proc` (architecture §4, containment 2).
//!
//! The root must be a subreaper, so that whatever is orphaned comes back below it. Everything is stopped until the set no
//! longer grows, only then killed, and looked for again until nothing alive is left. A process that ended counts as dead
//! only once all its threads have.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use phalanx_messages::Instant;
use phalanx_messages::register::ProcessIdentity;
use rustix::process::Signal;

use super::process::{self, Process, Stat, Stillness};

/// A process in uninterruptible sleep cannot be stopped; after this long the others are killed without it.
const STOP_PATIENCE_MS: u64 = 200;
/// Looks in a row that find nothing new before the set counts as complete.
const QUIET_LOOKS: u32 = 2;
/// Looks in a row that find a process in uninterruptible sleep before it counts as still.
const ASLEEP_LOOKS: u32 = 10;

/// Which processes are meant.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its descendants are meant, itself not.
    pub root: u32,
    /// Children of the root that are not meant, nor what is below them.
    pub spared: BTreeSet<u32>,
    /// Children of the root that are not meant, but what is below them is.
    pub passed: BTreeSet<u32>,
}

impl Scope {
    /// Everything below `root`.
    #[must_use]
    pub const fn below(root: u32) -> Self {
        Self { root, spared: BTreeSet::new(), passed: BTreeSet::new() }
    }

    /// The meant ones of `all`, zombies included, and whether somebody's parent was missing, so that more may be meant.
    fn select(&self, all: &[Stat]) -> (Vec<Stat>, bool) {
        let by_pid: BTreeMap<u32, &Stat> = all.iter().map(|stat| (stat.pid, stat)).collect();
        let mut torn = false;
        let meant = |stat: &&Stat| {
            let mut below = stat.pid;
            let mut parent = stat.parent;
            for _ in 0..all.len() {
                if parent == self.root {
                    let passed = stat.pid == below && self.passed.contains(&below);
                    return !passed && !self.spared.contains(&below);
                }
                let Some(next) = by_pid.get(&parent) else {
                    torn |= parent != 0;
                    return false;
                };
                below = next.pid;
                parent = next.parent;
            }
            torn = true; // a circle: parents changed while they were read
            false
        };
        let selected = all.iter().filter(meant).copied().collect();
        (selected, torn)
    }
}

/// Sends a signal once to everybody in a scope.
///
/// # Errors
/// If `/proc` cannot be read or a process may not be signalled; the others get the signal all the same.
pub fn signal(scope: &Scope, signal: Signal) -> io::Result<()> {
    let mut result = Ok(());
    for stat in scope.select(&process::all()?).0 {
        if let Some(process) = Process::open(stat.identity())? {
            result = process.signal(signal).and(result);
        }
    }
    result
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Step again after a moment.
    Working,
    /// Nothing alive is left in the scope.
    Done,
}

/// Stops every process of a scope, and remembers who is in it.
#[derive(Debug, Default)]
pub struct Roundup {
    known: BTreeMap<ProcessIdentity, Known>,
    quiet: u32,
}

#[derive(Debug)]
struct Known {
    process: Process,
    /// Looks in a row that found it asleep.
    asleep: u32,
}

impl Known {
    /// Looks at it. True if it makes no further process.
    fn is_still(&mut self) -> bool {
        match process::stillness(self.process.identity().pid) {
            Stillness::Stopped => true,
            Stillness::Asleep => {
                self.asleep += 1;
                self.asleep >= ASLEEP_LOOKS
            }
            Stillness::Running => {
                self.asleep = 0;
                false
            }
        }
    }
}

/// What was known before a list of processes was made ([`Roundup::before_look`]).
#[derive(Debug, Clone, Copy)]
pub struct BeforeLook {
    all_still: bool,
}

impl Roundup {
    /// Looks once. True if nobody new was found twice in a row while everybody known was stopped.
    ///
    /// # Errors
    /// If `/proc` cannot be read or a process may not be signalled.
    pub fn look(&mut self, scope: &Scope) -> io::Result<bool> {
        let before = self.before_look();
        self.see(before, scope, &process::all()?)
    }

    /// To be asked before the processes are listed: whoever is stopped now can make nobody while that is done.
    pub fn before_look(&mut self) -> BeforeLook {
        self.known.retain(|_, known| !known.process.has_ended());
        let moving = self.known.values_mut().map(|known| usize::from(!known.is_still())).sum::<usize>();
        BeforeLook { all_still: moving == 0 }
    }

    /// The same as [`Self::look`], with a list of all processes that was made since.
    ///
    /// # Errors
    /// As there.
    pub fn see(&mut self, before: BeforeLook, scope: &Scope, all: &[Stat]) -> io::Result<bool> {
        let (found, torn) = scope.select(all);
        let mut grown = torn;
        for stat in found {
            if self.known.contains_key(&stat.identity()) {
                continue;
            }
            let Some(process) = Process::open(stat.identity())?.filter(|process| !process.has_ended()) else {
                continue;
            };
            process.signal(Signal::STOP)?;
            self.known.insert(stat.identity(), Known { process, asleep: 0 });
            grown = true;
        }
        self.quiet = if before.all_still && !grown { self.quiet + 1 } else { 0 };
        Ok(self.quiet >= QUIET_LOOKS)
    }

    /// Sends `signal` to everybody known.
    ///
    /// # Errors
    /// If a process may not be signalled; the others get the signal all the same.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let results: Vec<io::Result<()>> = self.known.values().map(|known| known.process.signal(signal)).collect();
        results.into_iter().collect()
    }

    /// Everybody known who has not ended, for messages.
    #[must_use]
    pub fn alive(&self) -> Vec<u32> {
        self.known.iter().filter(|(_, known)| !known.process.has_ended()).map(|(identity, _)| identity.pid).collect()
    }
}

/// Kills every process of a scope, a step at a time.
#[derive(Debug)]
pub struct TreeKill {
    roundup: Roundup,
    stop_until: Instant,
    killing: bool,
}

impl TreeKill {
    /// Begins at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { roundup: Roundup::default(), stop_until: now.plus(STOP_PATIENCE_MS), killing: false }
    }

    /// One look and what follows from it. `Done` = complete, and all have ended.
    ///
    /// # Errors
    /// If `/proc` cannot be read or a process may not be signalled: nothing is proved then.
    pub fn step(&mut self, scope: &Scope, now: Instant) -> io::Result<Progress> {
        let before = self.before_look();
        self.step_with(before, scope, &process::all()?, now)
    }

    /// To be asked before the processes are listed that [`Self::step_with`] is given.
    pub fn before_look(&mut self) -> BeforeLook {
        self.roundup.before_look()
    }

    /// The same as [`Self::step`], with a list of all processes that others look at too.
    ///
    /// # Errors
    /// As there.
    pub fn step_with(&mut self, before: BeforeLook, scope: &Scope, all: &[Stat], now: Instant) -> io::Result<Progress> {
        let complete = self.roundup.see(before, scope, all)?;
        if complete && self.roundup.known.is_empty() {
            return Ok(Progress::Done);
        }
        if complete || self.killing || now >= self.stop_until {
            self.killing = true;
            self.roundup.signal(Signal::KILL)?;
        }
        Ok(Progress::Working)
    }

    /// Steps until nothing is left or `until` has come; `between` runs between two looks (reap there).
    ///
    /// # Errors
    /// Who is still alive, or why nothing could be proved.
    pub fn run(mut self, scope: &Scope, until: Instant, mut between: impl FnMut()) -> Result<(), String> {
        loop {
            match self.step(scope, super::now()) {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::Working) if super::now() < until => {}
                Ok(Progress::Working) => return Err(format!("processes {:?} do not end", self.alive())),
                Err(error) => return Err(format!("failed to kill what is below process {}: {error}", scope.root)),
            }
            between();
            super::pause(1);
        }
    }

    /// Everybody known who has not ended, for messages.
    #[must_use]
    pub fn alive(&self) -> Vec<u32> {
        self.roundup.alive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Stat {
        Stat { pid, parent, state: b'S', start_ticks: u64::from(pid) }
    }

    fn pids(scope: &Scope, all: &[Stat]) -> (Vec<u32>, bool) {
        let (found, torn) = scope.select(all);
        (found.iter().map(|stat| stat.pid).collect(), torn)
    }

    #[test]
    fn a_scope_is_what_is_below_its_root_without_those_that_are_spared() {
        let all = [(1, 0), (10, 1), (11, 10), (12, 11), (13, 10), (14, 13), (20, 1)].map(|(a, b)| process(a, b));
        let mut scope = Scope::below(10);
        assert_eq!(pids(&scope, &all), (vec![11, 12, 13, 14], false));
        scope.spared = [13].into();
        assert_eq!(pids(&scope, &all), (vec![11, 12], false));
        scope.passed = [11].into();
        assert_eq!(pids(&scope, &all), (vec![12], false));
    }

    #[test]
    fn a_missing_parent_or_a_circle_means_look_again() {
        let scope = Scope::below(10);
        assert_eq!(pids(&scope, &[process(10, 1), process(1, 0), process(12, 11)]), (vec![], true));
        assert_eq!(pids(&scope, &[process(12, 11), process(11, 12)]), (vec![], true));
    }
}
