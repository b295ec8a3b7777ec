//! Ending processes: asked first or not, of a cell, of an owner or of everything, and seen to be gone.

use std::collections::BTreeSet;
use std::io;

use phalanx_messages::launch::Owner;
use rustix::process::Signal;

use super::{Cell, CellId, Cells, Event, Keep, kill_child};
use crate::containment::cgroup;
use crate::containment::process::{self, Stat};
use crate::containment::tree::{self, BeforeLook, Progress, Scope, TreeKill};
use crate::containment::{now, owner_text};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Cell(CellId),
    Owner,
}

#[derive(Debug)]
pub(super) struct Killing {
    owner: Owner,
    target: Target,
    tree: TreeKill,
    /// Its processes have been asked to end, and are not killed.
    gentle: bool,
}

impl Cells {
    /// Begins to kill what is left of a cell.
    pub fn kill_cell(&mut self, owner: Owner, cell: CellId) {
        let tree = TreeKill::new(now());
        self.killings.push(Killing { owner, target: Target::Cell(cell), tree, gentle: false });
    }

    /// Begins to kill everything of an owner, instead of whatever was being killed of it.
    pub fn kill_owner(&mut self, owner: Owner) {
        self.begin(owner, false);
    }

    /// Asks everything of an owner to end, and tells when nothing of it is left.
    pub fn end_owner(&mut self, owner: Owner) {
        if let Err(error) = self.ask_to_end(&owner) {
            tracing::debug!(owner = %owner_text(&owner), %error, "some processes were not asked to end"); // they are killed later
        }
        self.begin(owner, true);
    }

    fn begin(&mut self, owner: Owner, gentle: bool) {
        self.killings.retain(|killing| killing.owner != owner);
        self.killings.push(Killing { owner, target: Target::Owner, tree: TreeKill::new(now()), gentle });
    }

    fn ask_to_end(&self, owner: &Owner) -> io::Result<()> {
        match &self.keep {
            Keep::Cgroup(node) => cgroup::signal(&node.owner(owner), Signal::TERM),
            Keep::Subreaper => tree::signal(&self.below_keepers_of(owner), Signal::TERM),
        }
    }

    /// Everything below the keepers of an owner.
    fn below_keepers_of(&self, owner: &Owner) -> Scope {
        let keepers = |of: bool| {
            let cells = self.cells.values().filter(move |cell| (cell.owner == *owner) == of);
            cells.filter_map(|cell| cell.child)
        };
        let spared = keepers(false).chain([self.daemon]).collect();
        Scope { spared, passed: keepers(true).collect(), ..Scope::below(std::process::id()) }
    }

    /// True while [`Cells::step_kills`] has something to do.
    #[must_use]
    pub const fn is_killing(&self) -> bool {
        !self.killings.is_empty()
    }

    /// Goes on with all kills.
    pub fn step_kills(&mut self, events: &mut Vec<Event>) {
        let mut killings = std::mem::take(&mut self.killings);
        // One list of all processes for all kills: a kill does not wait for the looks of the others.
        let before: Vec<BeforeLook> = killings.iter_mut().map(|killing| killing.tree.before_look()).collect();
        let processes = self.list_for(&killings);
        for (mut killing, before) in killings.into_iter().zip(before) {
            match self.step_kill(&mut killing, before, &processes) {
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

    /// Every process of this host, if a kill needs to know; none if they cannot be listed.
    fn list_for(&self, killings: &[Killing]) -> Option<Vec<Stat>> {
        match &self.keep {
            Keep::Subreaper if killings.iter().any(|killing| !killing.gentle) => process::all().ok(),
            Keep::Subreaper | Keep::Cgroup(_) => None,
        }
    }

    fn step_kill(&self, killing: &mut Killing, before: BeforeLook, processes: &Option<Vec<Stat>>) -> io::Result<bool> {
        let is_meant = |id: &CellId, cell: &Cell| match &killing.target {
            Target::Cell(target) => id == target,
            Target::Owner => cell.owner == killing.owner,
        };
        let (meant, others): (Vec<_>, Vec<_>) = self.cells.iter().partition(|(id, cell)| is_meant(id, cell));
        let children: Vec<u32> = meant.iter().filter_map(|(_, cell)| cell.child).collect();
        match &self.keep {
            Keep::Cgroup(node) => {
                if killing.gentle {
                    return Ok(!cgroup::populated(&node.owner(&killing.owner))? && children.is_empty());
                }
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
            Keep::Subreaper if killing.gentle => Ok(children.is_empty()), // a keeper stays as long as something below it lives
            Keep::Subreaper => {
                // Whatever lost its keeper is nobody's, and goes with the first one that is killed.
                let spared: BTreeSet<u32> =
                    others.iter().filter_map(|(_, cell)| cell.child).chain([self.daemon]).collect();
                let scope = Scope { spared, ..Scope::below(std::process::id()) };
                let Some(processes) = processes else { return Err(io::Error::other("/proc cannot be read")) };
                let progress = killing.tree.step_with(before, &scope, processes, now())?;
                Ok(progress == Progress::Done && children.is_empty())
            }
        }
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
}
