//! Identifiers. Each is a type of its own, so that a term is never taken for an incarnation.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Index of a node in the membership database, `0..limits::NODES_MAX` (spec: "indexed by a node identification number").
    NodeId(u16)
}
number! {
    /// How often this node id has been started. Grows by one with each start; 0 = never started.
    Incarnation(u64)
}
number! {
    /// Epoch of one Fenced Register Machine: a *term* for membership, a *depoch* for registration.
    /// At most one node ever owns a term (protocol §3.4). 0 = none.
    Term(u64)
}
number! {
    /// Place of a subsystem in the global transition ordering; lower levels have smaller values (spec, "A. Membership manager").
    Level(u16)
}

impl Level {
    /// Distributed lock manager.
    pub const DLM: Self = Self(100);
    /// Virtual disk manager.
    pub const VDM: Self = Self(200);
    /// Shared file system.
    pub const SFS: Self = Self(300);
    /// Event manager, the highest level of every node before it joins.
    pub const EVENT_MANAGER: Self = Self(1000);

    /// A level that every node registers in the end: the kernel levels and the event manager (protocol T-17, T-18).
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        matches!(self, Self::DLM | Self::VDM | Self::SFS | Self::EVENT_MANAGER)
    }
}

impl Incarnation {
    /// The incarnation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Position in the committed chain of one Fenced Register Machine; ordered by term, then by sequence (protocol §3.5, M-2).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// Term (or depoch) of the owner that wrote it.
    pub term: Term,
    /// Counts that owner's commits, from 0.
    pub seq: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.seq)
    }
}

/// One transition of one node incarnation: `term.counter`. The counter is part of the membership record (protocol §5.1, `tid`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransitionId {
    /// Term in which the transition was created.
    pub term: Term,
    /// Grows with each transition of the cluster.
    pub counter: u64,
}

impl fmt::Display for TransitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.counter)
    }
}

/// One step of one transition (protocol §5.1, `nid`). Independent of the current term, so a new master can repeat it.
///
/// *Not* ordered by its fields: the direction of the transition decides (protocol §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NotificationId {
    /// The transition.
    pub transition: TransitionId,
    /// The level being notified.
    pub level: Level,
    /// The barrier at that level, from 0.
    pub barrier: u8,
    /// How often the transition was restarted (protocol §5.1, `rgen`); never set back.
    pub restart: u32,
}

/// One committed operation on one client service (protocol §6.1, `op_id`). Grows for each service.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId {
    /// Revision of the registration database that committed it.
    pub revision: Revision,
    /// Index among the operations of that commit.
    pub index: u32,
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.index)
    }
}

/// A node and one of its incarnations; placement and blame always name both (protocol RL-3).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeIncarnation {
    /// The node.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

impl fmt::Display for NodeIncarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.incarnation)
    }
}

/// A point in time as milliseconds of the boot-time clock of the reader; comparable only on one host (protocol §1.1, C1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(pub u64);

impl Instant {
    /// This point `ms` milliseconds later.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this point; 0 if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
