//! The node register `NB[n]`: what node n alone writes and every node reads (protocol §2).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Incarnation, NodeId, Revision, Term};
use crate::set::NodeSet;

/// How far a claim of a term (or depoch) has come (protocol §3.4).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClaimPhase {
    /// Never claimed anything.
    #[default]
    None,
    /// Wants the term; nobody may decide against it unseen.
    Claim,
    /// Owns the term.
    Owner,
    /// Gave the claim up before owning it; the term is burnt.
    Withdrawn,
    /// Owned the term and handed it over. Distinct from `Withdrawn`: a waiting claimant of the same term must not take it.
    Resigned,
}

/// A node's claim in one Fenced Register Machine (protocol §3.4).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The term claimed last.
    pub term: Term,
    /// How far it came.
    pub phase: ClaimPhase,
    /// Highest term this node ever owned or left undecided; never decreases.
    pub owned: Term,
}

/// What a node says of itself in its register.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OwnState {
    /// Formatted, never started.
    #[default]
    Never,
    /// Started, not yet a member.
    Booting,
    /// Renews its lease.
    Member,
    /// Lost its lease: gate closed, services frozen.
    Suspended,
    /// Is stopping at once.
    Panicking,
    /// Everything of this incarnation is dead and nothing of it can be written any more (fence proof F0).
    DeadDrained,
    /// Left gracefully.
    CleanDown,
}

/// How a node keeps its processes together, so that they can be killed and counted (architecture §4).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Containment {
    /// No process but the node itself (embedded nodes without warden).
    #[default]
    None,
    /// cgroup v2; the path is the node's own directory.
    Cgroup {
        /// Absolute path in this host's mount table.
        path: String,
    },
    /// The warden is subreaper of all descendants; without it there is no local proof.
    Subreaper,
}

/// A process that may be signalled only if it is still the one that was meant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id; 0 = none.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// What a survivor on the same host needs in order to fence this node (fence method F3, protocol §4.5).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceHandle {
    /// Containment in use.
    pub containment: Containment,
    /// The warden.
    pub warden: ProcessIdentity,
    /// The daemon.
    pub daemon: ProcessIdentity,
    /// Path of the node-id lock file; a free lock proves that warden and daemon are dead.
    pub id_lock: String,
}

/// A death order in the register of the node that wrote it; it names the victim's incarnation (protocol §2, "Fence mailbox").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pill {
    /// The victim.
    pub target: NodeId,
    /// Its incarnation; others are not meant.
    pub incarnation: Incarnation,
    /// Term of the master that decided.
    pub term: Term,
}

/// Payload of a node register. One block; one write publishes all of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeRegister {
    /// Which start of the node wrote this.
    pub incarnation: Incarnation,
    /// The host, stable over reboots.
    pub host: Uuid,
    /// This boot of the host's kernel.
    pub boot: Uuid,
    /// Tells two hosts with one node id apart (protocol L-2).
    pub nonce: u64,
    /// Grows with each renewal.
    pub heartbeat: u64,
    /// What the node says of itself.
    pub own_state: OwnState,
    /// Newest membership record this node has processed; its term is a promise (protocol M-4).
    pub seen: Revision,
    /// Claim of a membership term.
    pub claim: Claim,
    /// Nodes whose heartbeats arrive over the interconnect.
    pub hears: NodeSet,
    /// The suspect round in which every link was probed for that view (protocol §4.1).
    pub round: u64,
    /// The newest suspect round that this node has begun or heard of.
    pub announced_round: u64,
    /// Death orders of this node; at most [`crate::limits::PILLS_MAX`].
    pub pills: Vec<Pill>,
    /// How to fence this node locally.
    pub fence: FenceHandle,
    /// What resets its host if the node stops.
    pub watchdog: WatchdogKind,
}

/// What resets a host whose node has stopped (protocol §4.5, F4).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WatchdogKind {
    /// Nothing.
    #[default]
    None,
    /// One that stops together with the kernel or the virtual machine. It proves nothing to others.
    Software,
    /// A device that is open, whose time-out was read back, and that is never fed after the end of the lease.
    Hardware,
}

/// How `status` names what a register says of the node's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostWords {
    /// `cgroup`, `subreaper` or `none`.
    pub containment: &'static str,
    /// `hardware` or `none`.
    pub watchdog: &'static str,
    /// `host`, or `test` for a host that is a part of a test only.
    pub identity: &'static str,
}

impl NodeRegister {
    /// What `status` says of the host.
    #[must_use]
    pub fn host_words(&self) -> HostWords {
        let containment = match self.fence.containment {
            Containment::None => "none",
            Containment::Cgroup { .. } => "cgroup",
            Containment::Subreaper => "subreaper",
        };
        let identity = if self.host.get_version_num() == TEST_HOST_UUID_VERSION { "test" } else { "host" };
        let watchdog = match self.watchdog {
            WatchdogKind::None => "none",
            WatchdogKind::Software => "software",
            WatchdogKind::Hardware => "hardware",
        };
        HostWords { containment, watchdog, identity }
    }
}

/// Hosts of tests have UUIDs of this version, which is for private use and which no real host has.
pub const TEST_HOST_UUID_VERSION: usize = 8;
