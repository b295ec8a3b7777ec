//! Requests of the command line to a daemon, and what it answers (architecture §5).
//!
//! On the local socket: length-delimited frames, each one JSON value. One [`AdminRequest`] gets one [`AdminAnswer`], but
//! [`AdminRequest::Follow`] gets a stream of [`AdminAnswer::Happened`] until either side closes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::configuration::{ConfigurationRecord, NodeChange};
use crate::event::{EventDefinition, EventGroupDefinition};
use crate::event_report::{EventsReport, OccurrenceReport};
use crate::ids::{Revision, TransitionId};
use crate::membership::{NodeState, TransitionKind};
use crate::order::{RegistrationOrder, Supposition};
use crate::service::ServiceDefinition;
use crate::service_report::{PlannedStep, ServiceExplanation};

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminRequest {
    /// Everything that `status` shows.
    Status,
    /// Take a node out gracefully; answered when the request is accepted, not when the node has left.
    Leave {
        /// The node's name; this daemon's own if none.
        node: Option<String>,
    },
    /// One transition, merged from what all nodes keep of it.
    Trace {
        /// Which; the newest if none.
        which: Option<TransitionId>,
    },
    /// Carry out an order about services; answered when it is committed.
    Order(RegistrationOrder),
    /// What that order would do.
    Plan(RegistrationOrder),
    /// Everything that would follow from something; answered by [`AdminAnswer::Plan`].
    Simulate(Supposition),
    /// Every service as it is defined.
    Definitions,
    /// Why a service is where it is.
    Explain {
        /// Its name.
        service: String,
    },
    /// The membership configuration.
    Configuration,
    /// Change the membership configuration; answered when the change is committed.
    Change {
        /// The configuration that the client saw, if the change depends on it.
        base: Option<Revision>,
        /// The changes: all in one commit, or none.
        changes: Vec<NodeChange>,
        /// Only say whether it would be refused.
        dry_run: bool,
    },
    /// Force a node out; answered when the request is accepted, not when the node is out.
    Fence {
        /// The node's name.
        node: String,
        /// Why.
        reason: String,
    },
    /// The administrator's word that a node which is being forced out is dead.
    ConfirmDead {
        /// The node's name.
        node: String,
    },
    /// The cluster keys of this node, by their fingerprints.
    Keys,
    /// Read the key file again, and use what it says from now on.
    ReloadKeys,
    /// Every event and event group, and which of them this node watches.
    Events,
    /// Every event and event group as it is defined.
    EventDefinitions,
    /// Occurrences on this node. Answered by [`AdminAnswer::Occurrences`], or, when followed, by a stream of
    /// [`AdminAnswer::Occurred`] until either side closes.
    Occurrences {
        /// How many of the last ones.
        count: u32,
        /// Go on with every one from then on, and with what became of it.
        follow: bool,
    },
    /// Let an event occur on this node, or every event of a group, without waiting for its condition. Answered by
    /// [`AdminAnswer::Occurrences`] when its action function has ended.
    TestEvent {
        /// Name of the event or event group.
        name: String,
        /// OUT parameters of the occurrence, as texts.
        out: BTreeMap<String, String>,
        /// Run nothing.
        dry_run: bool,
    },
    /// Every happening from now on.
    Follow {
        /// Begin with those that are remembered.
        recent: bool,
    },
    /// Log lines: the node's own, or the output of a service's commands on it. Answered by [`AdminAnswer::Logs`], or, when
    /// followed, by a stream of [`AdminAnswer::Logged`] until either side closes.
    Logs {
        /// A service; the node itself if none.
        service: Option<String>,
        /// How many of the last lines.
        lines: u32,
        /// Go on with every line from then on.
        follow: bool,
    },
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdminAnswer {
    /// To `Status`.
    Status(Box<Status>),
    /// To `Trace`.
    Trace(Box<Trace>),
    /// To `Plan` and `Simulate`.
    Plan(Vec<PlannedStep>),
    /// To `Definitions`, by name.
    Definitions(Vec<ServiceDefinition>),
    /// To `Explain`.
    Explanation(Box<ServiceExplanation>),
    /// To `Configuration`.
    Configuration(Box<Configuration>),
    /// To `Change`.
    Changed {
        /// False: everything was so already, and nothing was committed.
        committed: bool,
        /// The configuration that has the change.
        revision: Revision,
    },
    /// To `Keys` and `ReloadKeys`.
    Keys(KeyStatus),
    /// To `Events`.
    Events(Box<EventsReport>),
    /// To `EventDefinitions`, by name.
    EventDefinitions {
        /// The events.
        events: Vec<EventDefinition>,
        /// The event groups.
        groups: Vec<EventGroupDefinition>,
    },
    /// To `Occurrences` and `TestEvent`, oldest first.
    Occurrences(Vec<OccurrenceReport>),
    /// One of a followed stream.
    Occurred(OccurrenceReport),
    /// To `Logs`, oldest first.
    Logs(Vec<LogLine>),
    /// One line of a followed log.
    Logged(LogLine),
    /// Accepted.
    Done,
    /// Not done.
    Refused {
        /// Exit code of the contract (architecture §5).
        code: u8,
        /// What the administrator reads; names the key or command to use next.
        text: String,
    },
    /// One line of a followed stream.
    Happened(HappeningReport),
}

/// The cluster keys of one node. A fingerprint tells a key from others and nothing of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeyStatus {
    /// The node.
    pub node: String,
    /// The key that it dials with.
    pub spoken: String,
    /// Every key that it takes, the spoken one first.
    pub accepted: Vec<String>,
    /// The key that each link stands on, by the name of the other node.
    pub links: BTreeMap<String, String>,
}

/// The membership configuration with the limits of its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// As it stands on the disk.
    pub record: ConfigurationRecord,
    /// Node ids lie below this.
    pub nodes_max: u16,
}

/// One thing that happened, as text and with what a program needs to tell it apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HappeningReport {
    /// Wall clock, milliseconds since the Unix epoch; for people.
    pub at_ms: u64,
    /// Node that reports it.
    pub reporter: String,
    /// The reporter was master: only it sees every step.
    pub by_master: bool,
    /// Term the reporter is in.
    pub term: u64,
    /// Kind: `master`, `node-state`, `proof`, `step`, `ended`, `service`; `missed` = the follower was too slow, and lines
    /// before the next one are lost.
    pub kind: String,
    /// Node it is about, if it is about one.
    pub node: Option<String>,
    /// Service it is about, if it is about one.
    pub service: Option<String>,
    /// One line for people, without the time.
    pub text: String,
}

/// `status --output json`: stable keys, more may be added (architecture §5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Name of the cluster.
    pub cluster: String,
    /// Highest term known.
    pub term: u64,
    /// Name of the master, if there is one.
    pub master: Option<String>,
    /// Node that answered; empty when read from the disk alone.
    pub node: String,
    /// Votes, if the cluster needs a majority (`disk_votes`); null if the disk decides alone.
    pub quorum: Option<QuorumStatus>,
    /// The shared disk as the answering node sees it.
    pub disk: DiskStatus,
    /// The nodes by id.
    pub nodes: Vec<NodeStatus>,
    /// The registered levels, ascending.
    pub levels: Vec<LevelStatus>,
    /// Transitions in progress.
    pub transitions: Vec<TransitionStatus>,
    /// The client services by name.
    pub services: Vec<ServiceStatus>,
    /// Where this comes from: `daemon`, or `disk` when none answered and the shared disk alone was read.
    pub source: String,
    /// Why no daemon was asked, when `source` is `disk`.
    pub source_reason: Option<String>,
}

/// Votes of a cluster that needs a majority (protocol §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QuorumStatus {
    /// There are enough: nodes may be forced out and let in.
    pub reached: bool,
    /// Votes of the nodes that are there, and of the disk.
    pub votes: u32,
    /// Votes needed.
    pub needed: u32,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogLine {
    /// Wall clock, milliseconds since the Unix epoch; none for the output of commands.
    pub at_ms: Option<u64>,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`; none for the output of commands.
    pub level: Option<String>,
    /// The part of the program that says it, or `service NAME`.
    pub source: String,
    /// The line.
    pub text: String,
}

/// The shared disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiskStatus {
    /// `healthy`, `slow` or `lost`; `unknown` when read from the disk alone.
    pub state: String,
    /// Since the last renewal that counted.
    pub heartbeat_age_ms: u64,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u16,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its state.
    pub state: NodeState,
    /// Highest level it has joined, if any.
    pub level: Option<u16>,
    /// Its state at each level it registered, by level order.
    pub levels: BTreeMap<String, String>,
    /// `hardware` or `none`.
    pub watchdog: String,
    /// `cgroup`, `subreaper` or `none`.
    pub containment: String,
    /// `host`, or `test` for a node that takes itself for a host of its own because a test says so.
    pub identity: String,
    /// It takes no services by an administrator's word.
    pub standby: bool,
    /// How often it has died within the last hour, as the answering node has counted since it joined. Every time after the first
    /// doubles how long it must be up before a service moves to it freely.
    pub deaths: u32,
    /// What is known of its death, if it is being forced out.
    pub fence: FenceStatus,
}

/// Fencing of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FenceStatus {
    /// `none`, `marked`, `io-certain` or `certain`.
    pub state: String,
    /// How it was proved.
    pub method: Option<String>,
    /// What recovery waits for.
    pub awaiting: Option<String>,
}

/// One registered level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LevelStatus {
    /// Its place in the ordering.
    pub order: u16,
    /// Its name.
    pub name: String,
    /// Barriers by kind: `joining`, `leaving`, `forced_leaving`.
    pub barriers: BTreeMap<String, u8>,
}

/// One transition in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TransitionStatus {
    /// `term.counter`.
    pub id: String,
    /// The node in transition.
    pub node: String,
    /// What it does.
    pub kind: TransitionKind,
    /// Current or next level.
    pub level: u16,
    /// Current barrier.
    pub barrier: u8,
    /// Nodes that have not acknowledged.
    pub awaiting: Vec<String>,
    /// Since it began.
    pub elapsed_ms: u64,
}

/// One client service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its summary state (architecture §5).
    pub state: String,
    /// Node it is placed on; none also if it is registered on all nodes.
    pub node: Option<String>,
    /// Fencing token of the present registration: only grows.
    pub generation: Option<String>,
    /// It should run.
    pub wanted: bool,
    /// Its parent.
    pub parent: Option<String>,
    /// Flags by name: `transfer_intent`, `awaiting_maturity`, `has_notify`.
    pub flags: BTreeMap<String, bool>,
    /// Its state on each node.
    pub nodes: BTreeMap<String, ServiceNodeStatus>,
    /// What is left of its maturity time, while it waits for that.
    pub maturity_ms: Option<u64>,
    /// Why it is not running, if it is not.
    pub reason: Option<String>,
    /// Failures in place that count at present, all instances together.
    pub failures: u64,
    /// What its monitor has found on the answering node; null if it is not registered there, or is not monitored.
    pub monitor: Option<MonitorStatus>,
}

/// The monitor of a service that is registered on the answering node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MonitorStatus {
    /// Bad ones in a row until now.
    pub bad_in_row: u16,
    /// So many in a row are a failure of the service.
    pub tolerance: u16,
    /// Bad ones since the node has had to do with the service.
    pub bad: u64,
    /// All that were begun since then.
    pub begun: u64,
}

/// A service as seen from one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceNodeStatus {
    /// `registered`, `starting`, `stopping`, `recovering`, `up`, `down` or `-`.
    pub state: String,
    /// The node is in an explicit allowable list.
    pub available: bool,
    /// The node has been notified of the present registration.
    pub notified: bool,
}

/// One transition from its first sight to its end, merged from what the nodes keep of it. Times are milliseconds on one node's
/// clock since that node first saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trace {
    /// `term.counter`.
    pub id: String,
    /// The node in transition.
    pub node: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// What it did.
    pub kind: TransitionKind,
    /// Why, where a reason was given.
    pub reason: String,
    /// How long it took; `null` while it runs.
    pub elapsed_ms: Option<u64>,
    /// Time in which no subsystem was awaited: commits, proofs of death, other transitions that go first.
    pub between_ms: u64,
    /// The node whose clock the times are of: the master, or who led for longest of those that answered.
    pub clock: String,
    /// The step and the node that took longest; `null` if everything took less than a millisecond.
    pub blame: Option<TraceBlame>,
    /// How the clock of each other node that answered lies to that one.
    pub offsets: BTreeMap<String, TraceOffset>,
    /// Nodes that took part and cannot tell of it, and why.
    pub missing: BTreeMap<String, String>,
    /// The first steps, which nobody keeps any more.
    pub steps_dropped: u64,
    /// Its steps, in order.
    pub steps: Vec<TraceStep>,
}

/// Who took longest in a transition, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TraceBlame {
    /// The node.
    pub node: String,
    /// The level.
    pub level: u16,
    /// Its name.
    pub name: String,
    /// The barrier, from 0.
    pub barrier: u8,
    /// From the commit of the step to its acknowledgement at the master, or until now; what its subsystem took, where no master
    /// can tell any more.
    pub took_ms: u64,
    /// How much of it its subsystem took, if that node answered.
    pub subsystem_ms: Option<u64>,
    /// It has not acknowledged yet.
    pub awaited: bool,
}

/// What is added to a node's own times to place them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TraceOffset {
    /// The middle of what is possible, since the one and the other node first saw the transition.
    pub offset_ms: i64,
    /// It may be off by so much; `null` if it is bounded on one side only.
    pub within_ms: Option<u64>,
    /// What bounds it: `master-times` (when the master sent steps and got their acknowledgements), `step-order` alone, or `nothing`.
    pub from: String,
}

/// One step of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TraceStep {
    /// The level.
    pub level: u16,
    /// Its name.
    pub name: String,
    /// The barrier, from 0.
    pub barrier: u8,
    /// Restarts so far.
    pub restart: u32,
    /// When it was committed.
    pub begun_ms: u64,
    /// When the next step or the end was.
    pub ended_ms: Option<u64>,
    /// Who had to acknowledge, and when that arrived at the master; `null` if no master that answers has seen it.
    pub acknowledged_ms: BTreeMap<String, Option<u64>>,
    /// What those nodes say themselves.
    pub nodes: BTreeMap<String, TraceTimes>,
}

/// What a node says of its own part in a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TraceTimes {
    /// When its subsystem was notified, placed by the offset.
    pub notified_ms: u64,
    /// When its subsystem answered, placed by the offset.
    pub answered_ms: Option<u64>,
    /// How long its subsystem took on its own clock.
    pub subsystem_ms: Option<u64>,
}
