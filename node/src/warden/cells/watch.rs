//! Seeing that what a launch left running has ended: the kernel tells when a cgroup's `populated` may have changed.
//!
//! Nothing is looked at between two events. Without cgroups keepers end when nothing is left below them, which is seen when they
//! are reaped.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use super::CellId;

/// Bytes of events that are read at once; more are read next.
const EVENT_BYTES: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Made when it is first needed.
    queue: Option<OwnedFd>,
    cells: BTreeMap<i32, CellId>,
}

impl Watches {
    /// Hears of changes of that directory. `false` = the kernel has no room for it, so nothing will be heard.
    pub fn add(&mut self, directory: &Path, cell: CellId) -> bool {
        if self.queue.is_none() {
            self.queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        }
        let Some(queue) = &self.queue else { return false };
        let Ok(watch) = inotify::add_watch(queue, directory.join("cgroup.events"), WatchFlags::MODIFY) else {
            return false;
        };
        self.cells.insert(watch, cell);
        true
    }

    /// Forgets a cell.
    pub fn remove(&mut self, cell: CellId) {
        let Some(watch) = self.cells.iter().find(|(_, known)| **known == cell).map(|(watch, _)| *watch) else { return };
        self.cells.remove(&watch);
        if let Some(queue) = &self.queue {
            inotify::remove_watch(queue, watch).ok(); // the kernel forgets it with the directory
        }
    }

    /// Wakes when there is something to hear.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.queue.as_ref().map(AsFd::as_fd)
    }

    /// Cells that should be looked at.
    pub fn hear(&self) -> BTreeSet<CellId> {
        let mut changed = BTreeSet::new();
        let Some(queue) = &self.queue else { return changed };
        let mut bytes = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut events = Reader::new(queue, &mut bytes);
        while let Ok(event) = events.next() {
            changed.extend(self.cells.get(&event.wd()));
        }
        changed
    }
}
