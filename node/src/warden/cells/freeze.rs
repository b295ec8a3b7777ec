//! Freezing every owner while the lease is lost (protocol §4.7).

use std::io;

use rustix::process::Signal;

use super::{Cells, Keep};
use crate::containment::tree::{Roundup, Scope};
use crate::containment::{now, pause};

/// How long a freeze may take to be seen, in milliseconds: a process stops only once it gets a processor.
const FREEZE_MS: u64 = 1_000;

impl Cells {
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
}
