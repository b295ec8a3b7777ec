//! Is a disk sound? Judged from one image of it: superblocks, every slot of every region, and what the records must say of
//! themselves and of each other (protocol §2, §4.8, §5.7, §6.6).
//!
//! Pure: the caller reads the disk into an [`Image`]. Invariants that need two moments or the tables of a running node are not
//! judged here. What a loss of power may do to a sound disk is a note, never an error (protocol §1.3): there only steps that
//! were not yet flushed are gone.

mod definitions;
mod image;
mod membership;
mod registers;
mod registration;
pub mod repair;
mod slots;
#[cfg(test)]
mod tests;

use phalanx_messages::NodeId;
use phalanx_storage::BlockIndex;

pub use image::{AreaImage, Image, Slot};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Normal after a crash, or on a live disk; the cluster mends it by itself.
    Note,
    /// Damage, or a record that no node would write.
    Error,
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Short name of the region, as `disk show` lists it.
    pub region: &'static str,
    /// Whose part of it.
    pub node: Option<NodeId>,
    /// First and last block.
    pub blocks: Option<(BlockIndex, BlockIndex)>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

/// What to do about a record that contradicts another.
const CONTRADICTION: &str = "do not start nodes on this disk; restore a copy, or format it anew with `phalanx disk create`, \
                             and report what was found";
/// What to do about a block that cannot be read and has no other copy.
const LOST: &str =
    "restore a copy of the disk, or format it anew with `phalanx disk create --config FILE --force CLUSTER-NAME`";

/// Everything that is wrong with a disk, in the order of its regions.
#[must_use]
pub fn check(image: &Image) -> Vec<Finding> {
    let mut findings = slots::check(image);
    findings.extend(registers::check(image));
    findings.extend(membership::check(image));
    findings.extend(registration::check(image));
    findings
}

/// True if none of them is an error.
#[must_use]
pub fn is_sound(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Error)
}
