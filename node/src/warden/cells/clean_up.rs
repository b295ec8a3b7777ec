//! Clean-up commands, which run after the daemon's death outside of any cell.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use phalanx_messages::launch::{LaunchResult, Owner, Program};
use rustix::process::WaitStatus;

use super::{Cell, CellId, Cells, Event, Keep, Log, kill_child};
use crate::containment::owner_text;

impl Cells {
    /// Starts a clean-up command outside of any cell, and gives its process.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_clean_up(
        &self,
        number: u64,
        owner: &Owner,
        command: &Program,
        environment: &[(String, String)],
    ) -> io::Result<CleaningUp> {
        let log = Log::open(&self.around.log_dir, owner);
        let directory = match &self.keep {
            Keep::Cgroup(node) => Some(node.cleanup(number)?),
            Keep::Subreaper => None,
        };
        let title = format!("{}: clean-up of {}", self.around.node_name, owner_text(owner));
        let (child, report) = self.spawn(directory.as_deref(), &title, command, environment, &log)?;
        let cell = Cell {
            owner: owner.clone(),
            child: Some(child),
            directory,
            report,
            told: false,
            left: false,
            watched: false,
            log,
        };
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
            Event::CellGone(..) | Event::OwnerGone(_) | Event::Emptied(..) => None,
        }
    }
}
