//! `disk create`, `disk show`, `disk check` and `disk repair` with `--output json`.

use phalanx_messages::membership::NodeState;
use phalanx_messages::profile::TimingProfile;
use serde::Serialize;

/// `disk show`: every region, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DiskReport {
    /// What the formatter fixed.
    pub superblock: SuperblockReport,
    /// The node registers of the configured nodes.
    pub registers: Vec<RegisterReport>,
    /// The newest membership record.
    pub membership: MembershipReport,
    /// The configuration it names.
    pub configuration: ConfigurationReport,
    /// The newest registration record.
    pub registration: RegistrationReport,
}

/// The superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SuperblockReport {
    /// Uuid of the cluster.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Nodes the disk has room for.
    pub nodes_max: u16,
    /// Services the disk has room for.
    pub services_max: u32,
    /// How nodes reach it: `mmap` or `direct`.
    pub backend: String,
    /// Every time-out of the cluster.
    pub profile: TimingProfile,
    /// When it was formatted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

/// The register of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RegisterReport {
    /// The node.
    pub node: String,
    /// At least one of its slots is valid; else the other keys are absent.
    pub readable: bool,
    /// What it says.
    #[serde(flatten)]
    pub contents: Option<RegisterContents>,
}

/// What a readable register says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RegisterContents {
    /// Which start of the node wrote it; 0 = never started.
    pub incarnation: u64,
    /// What the node says of itself.
    pub own_state: String,
    /// Grows with each renewal.
    pub heartbeat: u64,
    /// Its claim of a membership term.
    pub claim: ClaimReport,
    /// Newest membership record it has processed.
    pub seen: String,
    /// Nodes it hears over the interconnect.
    pub hears: Vec<String>,
    /// Its death orders.
    pub pills: Vec<NodeIncarnationReport>,
    /// Its claim of a decision term; none if that register is unreadable.
    pub decision: Option<ClaimReport>,
}

/// A claim of a term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ClaimReport {
    /// The term claimed last.
    pub term: u64,
    /// `none`, `claim`, `owner`, `withdrawn` or `resigned`.
    pub phase: String,
    /// Highest term ever owned or left undecided.
    pub owned: u64,
}

/// A node and one of its starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct NodeIncarnationReport {
    /// The node.
    pub node: String,
    /// Which start.
    pub incarnation: u64,
}

/// The membership record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct MembershipReport {
    /// Place in the committed chain: `term.seq`.
    pub revision: String,
    /// Term in which the cluster was formed.
    pub formation: u64,
    /// Every node that was ever a member.
    pub nodes: Vec<MemberReport>,
    /// Victims of a cold start.
    pub ghosts: Vec<NodeIncarnationReport>,
}

/// A node in the membership record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct MemberReport {
    /// The node.
    pub node: String,
    /// Its state.
    pub state: NodeState,
    /// Start that the state belongs to.
    pub incarnation: u64,
    /// Level of its running step.
    pub level: Option<u16>,
    /// Why it is leaving or was forced out.
    pub reason: String,
}

/// The configuration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ConfigurationReport {
    /// Place in its chain.
    pub revision: String,
    /// The nodes.
    pub nodes: Vec<ConfiguredNodeReport>,
}

/// A configured node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ConfiguredNodeReport {
    /// Its id.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Where its interconnect listens.
    pub address: String,
    /// Its static key is known.
    pub has_key: bool,
}

/// The registration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RegistrationReport {
    /// Place in its chain.
    pub revision: String,
    /// The services.
    pub services: Vec<DiskServiceReport>,
    /// The events.
    pub events: Vec<DiskEventReport>,
    /// The event groups.
    pub event_groups: Vec<DiskEventGroupReport>,
    /// Nodes that take no services by an administrator's word.
    pub standby: Vec<String>,
}

/// A service in the registration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DiskServiceReport {
    /// Its name.
    pub name: String,
    /// Its internal state.
    pub state: String,
    /// It should run.
    pub wanted: bool,
    /// Where it is.
    pub node: Option<String>,
}

/// An event in the registration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DiskEventReport {
    /// Its name.
    pub name: String,
    /// What detects it.
    pub watcher: String,
    /// Its action function, as it is defined.
    pub action: Option<String>,
    /// The event groups that have it.
    pub groups: Vec<String>,
}

/// An event group in the registration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DiskEventGroupReport {
    /// Its name.
    pub name: String,
    /// No administrator has disabled it.
    pub enabled: bool,
    /// Its events.
    pub events: Vec<String>,
    /// The services that name it: it is enabled where they are registered.
    pub services: Vec<String>,
    /// Where it is enabled if no service names it; empty = on all nodes.
    pub nodes: Vec<String>,
}

/// `disk create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct CreatedReport {
    /// The disk.
    pub path: String,
    /// Name of the cluster.
    pub name: String,
    /// Its uuid.
    pub cluster: String,
    /// Nodes it has room for.
    pub nodes_max: u16,
    /// Services it has room for.
    pub services_max: u32,
    /// Its length.
    pub bytes: u64,
    /// How nodes reach it: `mmap` or `direct`.
    pub backend: String,
}

/// `disk check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct CheckReport {
    /// The disk.
    pub path: String,
    /// Name of the cluster.
    pub name: String,
    /// No finding is an error.
    pub sound: bool,
    /// Nodes whose registers changed while it was read: findings may be transient.
    pub alive: Vec<String>,
    /// Errors and notes, in the order of the regions.
    pub findings: Vec<FindingReport>,
}

/// One thing that `disk check` has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FindingReport {
    /// `error` or `note`.
    pub severity: String,
    /// Short name of the region, as `disk show` lists it.
    pub region: String,
    /// Whose part of the region.
    pub node: Option<String>,
    /// First block.
    pub first_block: Option<u64>,
    /// Last block.
    pub last_block: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// `disk repair`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RepairReport {
    /// The disk.
    pub path: String,
    /// Nothing was written.
    pub dry_run: bool,
    /// What was written, or would be.
    pub repaired: Vec<RepairedReport>,
    /// What nothing may take the place of.
    pub lost: Vec<String>,
    /// No finding of `disk check` is an error now.
    pub sound: bool,
}

/// One part of a disk that was written anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RepairedReport {
    /// Short name of the region.
    pub region: String,
    /// Whose part of it.
    pub node: Option<String>,
    /// Its first block.
    pub first_block: u64,
    /// What was written, from what.
    pub what: String,
}
