//! Keeping the processes of a node together, so that they can be killed and counted (architecture §4, "Containment").
//!
//! Two kinds: a cgroup v2 directory per node ([`cgroup`]), or, without root, the tree of processes below a subreaper
//! ([`tree`]). A kill counts only once it is verified: `populated 0`, or nothing alive below the warden.

pub mod cgroup;
pub mod inherited;
pub mod keeper;
pub mod process;
pub mod tree;

use std::hash::Hasher;
use std::path::Path;

use phalanx_messages::Instant;
use phalanx_messages::NodeId;
use phalanx_messages::launch::Owner;
use uuid::Uuid;

/// Which containment an administrator asks for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ContainmentChoice {
    /// cgroup v2 where it can be had, else the subreaper.
    #[default]
    Best,
    /// cgroup v2 or no start.
    Cgroup,
    /// The subreaper, even where cgroup v2 can be had.
    Subreaper,
}

/// Name of the containment of one node of one cluster on one disk, the same at its next start.
///
/// The disk's path is part of it, so that a copied disk never takes the original's processes for leftovers of its own.
#[must_use]
pub fn containment_key(cluster: Uuid, disk: &Path, node: NodeId) -> String {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    let canonical = std::fs::canonicalize(disk).unwrap_or_else(|_| disk.to_owned());
    hasher.write(canonical.as_os_str().as_encoded_bytes());
    format!("phalanx-{}-{:016x}-n{node}", cluster.simple(), hasher.finish())
}

/// FNV-1a: the same in every build, which the standard hasher does not promise.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// `service clock` or `subsystem mounts`, for people.
#[must_use]
pub fn owner_text(owner: &Owner) -> String {
    match owner {
        Owner::Service(name) => format!("service {name}"),
        Owner::Subsystem(name) => format!("subsystem {name}"),
        Owner::Event(name) => format!("event {name}"),
    }
}

/// Now, on the clock that containments count with.
#[must_use]
pub fn now() -> Instant {
    phalanx_actors::clock::Clock::Boot.now()
}

/// Lets `ms` milliseconds pass between two looks at something that gives no event.
pub fn pause(ms: u64) {
    rustix::event::poll(&mut [], Some(&timespec(ms))).ok();
}

/// A time-out for `poll`.
#[must_use]
pub fn timespec(ms: u64) -> rustix::event::Timespec {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    rustix::event::Timespec { tv_sec: seconds, tv_nsec: i64::try_from(ms % 1_000 * 1_000_000).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_clusters_disks_and_nodes_apart_and_never_changes() {
        let key = |cluster, disk: &str, node| containment_key(Uuid::from_u128(cluster), Path::new(disk), NodeId(node));
        assert_eq!(
            key(1, "/nowhere/disk", 2),
            "phalanx-00000000000000000000000000000001-6a53ca1ea78ad41c-n2",
            "the next release must find this one's leftovers"
        );
        assert_ne!(key(1, "/nowhere/disk", 2), key(2, "/nowhere/disk", 2));
        assert_ne!(key(1, "/nowhere/disk", 2), key(1, "/nowhere/copy", 2));
        assert_ne!(key(1, "/nowhere/disk", 2), key(1, "/nowhere/disk", 3));
    }
}
