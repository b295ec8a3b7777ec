//! Crash points (protocol §8.3): whole nodes write a scripted scenario to a recorded disk; a cluster must come out of everything that a
//! crash can leave of it. docs/design/crash-points.md says what is enumerated.
//!
//! [`scenario`] records. [`images`] gives, for each write, what the disk may hold if everything stops while it is under way: in a
//! crash of all processes, and in a loss of power, which takes what was volatile. [`duties`] says what an image must still
//! have, given what somebody had been told by then. [`restart`] lets the cluster form from it, and [`check`] does it all.

pub mod check;
pub mod duties;
pub mod images;
pub mod restart;
pub mod scenario;

use phalanx_storage::{Block, MemoryDisk};

/// A disk with that content.
#[must_use]
pub fn disk_of(blocks: Vec<Block>) -> MemoryDisk {
    let disk = MemoryDisk::new(0);
    disk.restore(blocks);
    disk
}
