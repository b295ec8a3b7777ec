//! The active membership state (`MA`): the record that every membership commit writes whole (protocol §2, §5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Level, NodeId, NotificationId, Revision, Term, TransitionId};
use crate::set::NodeSet;

/// State of a node in the cluster (spec, "SOFTWARE").
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NodeState {
    /// Not configured or not an active member.
    #[default]
    Inactive,
    /// Not all registered subsystems have completed the transition that includes it.
    Joining,
    /// Fully joined.
    Joined,
    /// Not all registered subsystems have completed the transition that excludes it.
    Leaving,
    /// Being forced out by the others.
    ForcedLeaving,
}

impl NodeState {
    /// As it is written everywhere.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Joining => "joining",
            Self::Joined => "joined",
            Self::Leaving => "leaving",
            Self::ForcedLeaving => "forced-leaving",
        }
    }
}

/// What kind of way through the levels a transition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TransitionKind {
    /// Graceful join: levels ascend.
    Joining,
    /// A joined node's later level joins (protocol T-15); levels ascend.
    JoinExtending,
    /// Graceful leave: levels descend. Of a `Joined` node: one level alone leaves, the others stay (protocol T-17, T-24).
    Leaving,
    /// Forced leave: levels ascend.
    ForcedLeaving,
}

/// Where a transition stands at its level (protocol §2).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StepPhase {
    /// Waits to enter `level`; nobody is notified of it there.
    #[default]
    Between,
    /// Participants are being notified of `level`, `barrier`.
    Notifying,
    /// Stopped by a forced leave; restarts at barrier 0 with `restart + 1` (protocol T-9).
    Held,
}

/// The running step of one transition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// The transition.
    pub transition: TransitionId,
    /// Its kind.
    pub kind: TransitionKind,
    /// Current or, if `Between`, next level. For a forced leave this is the *frontier*.
    pub level: Level,
    /// Current barrier.
    pub barrier: u8,
    /// Restarts so far.
    pub restart: u32,
    /// Where it stands.
    pub phase: StepPhase,
    /// Who must acknowledge; empty unless `Notifying`.
    pub participants: NodeSet,
}

impl Step {
    /// The notification this step stands for.
    #[must_use]
    pub fn notification(&self) -> NotificationId {
        NotificationId { transition: self.transition, level: self.level, barrier: self.barrier, restart: self.restart }
    }
}

/// How a death was proved (protocol §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FenceMethod {
    /// F0: the victim's own `DeadDrained`, written by its warden.
    OwnWord,
    /// F3: a survivor on the same host killed the containment and saw it empty.
    Local,
    /// F5: the administrator confirmed it.
    Operator,
    /// The old incarnation of a node that runs again on the same boot (protocol T-13).
    NewIncarnation,
    /// F2: a fence agent has switched the host off and sees that it is off.
    Agent,
    /// F1: a fence agent has shut the node out of the shared storage. Its processes may run on.
    Storage,
    /// F4: its hardware watchdog has fired, by the time that has passed.
    Deadline,
}

impl FenceMethod {
    /// What is certain once it has succeeded (protocol §4.5).
    #[must_use]
    pub const fn proves(self) -> Certainty {
        match self {
            Self::Storage => Certainty::Io,
            Self::OwnWord | Self::Local | Self::Operator | Self::NewIncarnation | Self::Agent | Self::Deadline => {
                Certainty::Death
            }
        }
    }
}

/// What is certain about a node that is being forced out (protocol §4.5).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceState {
    /// The order to force it out is committed.
    pub marked: bool,
    /// No write of it takes effect any more.
    pub io_certain: bool,
    /// No process of it runs any more.
    pub death_certain: bool,
    /// How it was proved.
    pub method: Option<FenceMethod>,
}

/// What a level needs before its recovery may start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// I/O certainty: lock manager, volumes, file system.
    #[default]
    Io,
    /// Death certainty: event manager and everything that runs commands.
    Death,
}

/// One incarnation of a node that is being forced out and no longer has the entry: left by a cold start (protocol T-18).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Victim {
    /// The incarnation that is gone.
    pub incarnation: Incarnation,
    /// Highest level that ever heard of it; `None` = no level did.
    pub top: Option<Level>,
    /// What is certain.
    pub fence: FenceState,
    /// Why.
    pub reason: String,
    /// Its way through the levels.
    pub step: Step,
}

/// A node in the membership record.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Incarnation the state belongs to.
    pub incarnation: Incarnation,
    /// State of the node.
    pub state: NodeState,
    /// Its transition, if it is in one.
    pub step: Option<Step>,
    /// Levels this incarnation registered, ascending: before it joined (spec: "Before a node joins a cluster, interested
    /// subsystems of that node register"), or at run time, the running `JoinExtending` step's included (protocol T-15).
    pub levels: Vec<Level>,
    /// Forced leave: highest level ever notified of this incarnation.
    pub top: Option<Level>,
    /// A leave was requested, perhaps while joining (protocol T-12).
    pub leave_requested: bool,
    /// The level that joins a joined node is given up: it leaves again, alone, when it has joined (protocol T-17, T-24).
    pub withdrawing: bool,
    /// Forced leave: what is certain.
    pub fence: FenceState,
    /// Why it is leaving or was forced out.
    pub reason: String,
}

/// Barriers of one level for each kind of transition (spec: "Each registered subsystem may specify a number of barriers").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BarrierCounts {
    /// Barriers of a join.
    pub joining: u8,
    /// Barriers of a graceful leave.
    pub leaving: u8,
    /// Barriers of a forced leave.
    pub forced_leaving: u8,
}

impl BarrierCounts {
    /// Barriers of one kind of transition.
    #[must_use]
    pub const fn of(&self, kind: TransitionKind) -> u8 {
        match kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => self.joining,
            TransitionKind::Leaving => self.leaving,
            TransitionKind::ForcedLeaving => self.forced_leaving,
        }
    }
}

/// What one subsystem registers with its membership manager (spec, "A. Membership manager").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LevelRegistration {
    /// Its place in the global transition ordering.
    pub level: Level,
    /// Its name, the same on every node.
    pub name: String,
    /// Its barriers, the same on every node.
    pub barriers: BarrierCounts,
    /// What its recovery needs.
    pub needs: Certainty,
    /// Recovery may be skipped where nobody is left at the level (protocol T-18). Built-in levels are mandatory.
    pub optional: bool,
}

/// The whole active membership state. What a commit writes and a notification carries (protocol T-23).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// Place in the committed chain.
    pub revision: Revision,
    /// Term in which the cluster was formed by a cold start (protocol §6.2, formation id).
    pub formation: Term,
    /// The configuration record this belongs to (protocol §2, "MA and CF together").
    pub configuration: Revision,
    /// Last counter used by a [`TransitionId`].
    pub transition_counter: u64,
    /// Every node that was ever a member.
    pub nodes: BTreeMap<NodeId, MemberEntry>,
    /// Victims that no longer have the entry: at most one a node.
    pub ghosts: BTreeMap<NodeId, Victim>,
    /// The level registry: present while some node uses the level.
    pub levels: BTreeMap<Level, LevelRegistration>,
}

/// State of one node at one level; derived, never stored (protocol §5.1, `pls`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelState {
    /// The level knows nothing of the node.
    #[default]
    Inactive,
    /// The level is processing its join.
    Joining,
    /// The level has accepted it.
    Joined,
    /// The level is processing its leave.
    Leaving,
    /// The level has not recovered from its loss yet.
    ForcedLeaving,
}
