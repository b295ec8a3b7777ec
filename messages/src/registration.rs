//! The registration database (`RD`) and what the registration-and-launch services of two nodes tell each other (protocol §6).
//!
//! Plain data: the rules that change it are in `phalanx_protocol::registration`. Placement and blame always name a node *and*
//! its incarnation (protocol RL-3).

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::event::{EventDefinition, EventGroupDefinition};
use crate::ids::{Incarnation, NodeId, NodeIncarnation, OperationId, Revision, Term};
use crate::launch::LaunchResult;
use crate::order::{ConsumedRequest, RegistrationRequest};
use crate::register::Claim;
use crate::service::ServiceDefinition;
use crate::set::NodeSet;

/// Payload of a decision register `DL[n]`: node n's claim of a depoch (protocol §6.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DecisionRegister {
    /// Which start of the node wrote this.
    pub incarnation: Incarnation,
    /// The claim.
    pub claim: Claim,
}

/// How an incarnation of a node stands at the event-manager level. Only ever grows for one incarnation (protocol §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Presence {
    /// Takes services.
    Joined,
    /// Takes no new ones; those it has are stopped.
    Leaving,
    /// Has let go of everything and is out.
    Left,
    /// Was forced out and is certainly dead.
    Forced,
}

/// What an event manager knows of one node: a newer incarnation is greater, then the presence decides (protocol RL-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sight {
    /// The newest incarnation known at this level.
    pub incarnation: Incarnation,
    /// How it stands.
    pub presence: Presence,
}

impl Sight {
    /// Every incarnation before this one is gone, and this one has not come yet.
    #[must_use]
    pub const fn before(incarnation: Incarnation) -> Self {
        Self { incarnation: Incarnation(incarnation.0.saturating_sub(1)), presence: Presence::Forced }
    }
}

/// The event-manager level as one node sees it (protocol §6.1, `view`).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// Term in which the cluster was formed by a cold start.
    pub formation: Term,
    /// Every node ever seen at this level.
    pub nodes: BTreeMap<NodeId, Sight>,
}

impl View {
    /// The node takes services.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|sight| sight.presence == Presence::Joined)
    }

    /// The node is at the level, if only to leave it.
    #[must_use]
    pub fn is_present(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|sight| sight.presence <= Presence::Leaving)
    }

    /// That incarnation takes services.
    #[must_use]
    pub fn is_joined(&self, who: NodeIncarnation) -> bool {
        self.nodes.get(&who.node) == Some(&Sight { incarnation: who.incarnation, presence: Presence::Joined })
    }

    /// That incarnation is gracefully leaving.
    #[must_use]
    pub fn is_leaving(&self, who: NodeIncarnation) -> bool {
        self.nodes.get(&who.node) == Some(&Sight { incarnation: who.incarnation, presence: Presence::Leaving })
    }

    /// That incarnation is gone for good (protocol RL-3). A node that is not in the view is never lost.
    #[must_use]
    pub fn is_lost(&self, who: NodeIncarnation) -> bool {
        let gone = Sight { incarnation: who.incarnation, presence: Presence::Left };
        self.nodes.get(&who.node).is_some_and(|sight| *sight >= gone)
    }

    /// Newest incarnation known of a node; 0 = none.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Incarnation {
        self.nodes.get(&node).map_or(Incarnation(0), |sight| sight.incarnation)
    }

    /// Nodes that take services.
    pub fn up(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|(_, sight)| sight.presence == Presence::Joined).map(|(node, _)| *node)
    }

    /// Some node is known better, or a later formation, in `other` (protocol RL-2).
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.formation < other.formation
            || other.nodes.iter().any(|(node, sight)| self.nodes.get(node).is_none_or(|mine| mine < sight))
    }

    /// Takes over what `other` knows better.
    pub fn merge(&mut self, other: &Self) {
        self.formation = self.formation.max(other.formation);
        for (node, sight) in &other.nodes {
            let mine = self.nodes.entry(*node).or_insert(*sight);
            *mine = (*mine).max(*sight);
        }
    }
}

/// State of one service that is registered on one node (protocol §6.3). Where it is, is in [`ServiceRun::node`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RunState {
    /// Not running, and nothing is being done.
    #[default]
    DeRegistered,
    /// Waits for enough nodes, or long enough, before its first start.
    AwaitMaturity,
    /// A child that waits for its parent to be registered (protocol §6.3, `PendParent`).
    AwaitParent,
    /// The start command runs.
    Starting,
    /// The start failed; what it left is being killed.
    StartCleanup,
    /// Runs.
    Registered,
    /// The stop command runs.
    Stopping,
    /// The stop failed; the processes are being killed.
    StopKill,
    /// Was lost with its node and waits to be recovered.
    PendRecovery,
    /// The recovery command runs.
    Recovering,
    /// The recovery failed; what it left is being killed.
    RecoveryCleanup,
    /// A failed start could not be cleaned: its node must be forced out.
    FenceStart,
    /// It could not be stopped: its node must be forced out.
    FenceStop,
    /// A failed recovery could not be cleaned: its node must be forced out.
    FenceRecovery,
    /// Every candidate failed to start it.
    Failed,
    /// Every candidate failed to recover it; not started until the administrator clears it.
    FailedRecovery,
}

impl RunState {
    /// Every state, in the order in which they are defined.
    pub const ALL: [Self; 16] = [
        Self::DeRegistered,
        Self::AwaitMaturity,
        Self::AwaitParent,
        Self::Starting,
        Self::StartCleanup,
        Self::Registered,
        Self::Stopping,
        Self::StopKill,
        Self::PendRecovery,
        Self::Recovering,
        Self::RecoveryCleanup,
        Self::FenceStart,
        Self::FenceStop,
        Self::FenceRecovery,
        Self::Failed,
        Self::FailedRecovery,
    ];

    /// No operation is outstanding and nothing runs (protocol §6.3).
    #[must_use]
    pub const fn is_idle(self) -> bool {
        match self {
            Self::DeRegistered
            | Self::AwaitMaturity
            | Self::AwaitParent
            | Self::PendRecovery
            | Self::Failed
            | Self::FailedRecovery => true,
            Self::Starting
            | Self::StartCleanup
            | Self::Registered
            | Self::Stopping
            | Self::StopKill
            | Self::Recovering
            | Self::RecoveryCleanup
            | Self::FenceStart
            | Self::FenceStop
            | Self::FenceRecovery => false,
        }
    }

    /// Its node must be forced out (protocol RL-8).
    #[must_use]
    pub const fn is_fence(self) -> bool {
        matches!(self, Self::FenceStart | Self::FenceStop | Self::FenceRecovery)
    }
}

/// One instance machine of a service: the service itself, or, if it or the root of its group is registered on all nodes, its
/// instance on one of them (protocol §6.5).
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The service.
    pub service: String,
    /// Whose instance, if there is one for each node.
    pub of: Option<NodeId>,
}

impl Instance {
    /// The only one of a service that is registered on one node.
    #[must_use]
    pub fn only(service: impl Into<String>) -> Self {
        Self { service: service.into(), of: None }
    }

    /// Names its processes and its executor on a node: `NAME`, or `NAME@ID`. Service names have no `@`.
    #[must_use]
    pub fn lane(&self) -> String {
        self.of.map_or_else(|| self.service.clone(), |node| format!("{}@{node}", self.service))
    }
}

/// Run state of one instance machine (protocol §6.3).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceRun {
    /// Its state.
    pub state: RunState,
    /// Where it is, or where the operation runs; means nothing in an idle state.
    pub node: NodeIncarnation,
    /// Whose loss is being recovered: set from the loss to the end of its recovery.
    pub victim: Option<NodeIncarnation>,
    /// The current operation; a result of any other is not consumed (protocol RL-4).
    pub operation: OperationId,
    /// Operation of the newest start: the fencing token of this registration.
    pub generation: OperationId,
    /// It should run.
    pub want: bool,
    /// Nothing is begun for it (`H`).
    pub held: bool,
    /// It is being moved, and the move is not finished (`T`).
    pub transfer_intent: bool,
    /// It must be stopped where it is, because it moves.
    pub moving: bool,
    /// Where an administrator wants it.
    pub target: Option<NodeId>,
    /// Maturity was reached since the cluster formed and since a candidate was there.
    pub matured: bool,
    /// Nodes that failed to start it in this attempt.
    pub tried: NodeSet,
    /// Nodes that failed to recover it.
    pub tried_recovery: NodeSet,
    /// Nodes that ever failed to start it.
    pub avoid: NodeSet,
    /// Incarnations that have been, or are being, notified of this registration.
    pub notified: BTreeMap<NodeId, Incarnation>,
    /// Nodes on which the notify command has not ended.
    pub notifying: NodeSet,
    /// How often all candidates were tried again.
    pub retries: u32,
    /// It has failed where it is registered, and must be stopped there.
    pub failing: bool,
    /// It was stopped after a failure and waits a moment before it is started again in place.
    pub resting: bool,
    /// Generations that failed and were restarted in place, within the window of its restart policy.
    pub restarts: Vec<OperationId>,
    /// Nodes on which it failed more often than its restart policy allows; it is not started there again in this attempt.
    pub exhausted: NodeSet,
    /// What went wrong last, for the administrator.
    pub failure: Option<String>,
}

/// One service in the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What the administrator asked for.
    pub definition: ServiceDefinition,
    /// What became of it. Of a service that is registered on all nodes only `want`, `held` and `matured` count here.
    pub run: ServiceRun,
    /// Its instances, if there is one for each node (protocol §6.5, register_on_all).
    pub instances: BTreeMap<NodeId, ServiceRun>,
}

impl ServiceRecord {
    /// A service of which nothing runs.
    #[must_use]
    pub const fn new(definition: ServiceDefinition, run: ServiceRun) -> Self {
        Self { definition, run, instances: BTreeMap::new() }
    }

    /// Every machine of it, with whose instance it is.
    pub fn runs(&self) -> impl Iterator<Item = (Option<NodeId>, &ServiceRun)> {
        let only = self.instances.is_empty().then_some((None, &self.run));
        only.into_iter().chain(self.instances.iter().map(|(node, run)| (Some(*node), run)))
    }

    /// One machine of it.
    #[must_use]
    pub fn run_of(&self, instance: Option<NodeId>) -> Option<&ServiceRun> {
        match instance {
            None => Some(&self.run),
            Some(node) => self.instances.get(&node),
        }
    }
}

/// The whole registration database; every decision commits it as one record.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegistrationRecord {
    /// Place in the committed chain: (depoch, seq).
    pub revision: Revision,
    /// Formation of the cluster that was seen last (protocol §6.2, `want`).
    pub formation: Term,
    /// The services by name. Shares what has not changed with the record that it was made from.
    #[serde(with = "crate::persistent")]
    pub services: OrdMap<String, ServiceRecord>,
    /// The events by name.
    #[serde(with = "crate::persistent")]
    pub events: OrdMap<String, EventDefinition>,
    /// The event groups by name.
    #[serde(with = "crate::persistent")]
    pub event_groups: OrdMap<String, EventGroupDefinition>,
    /// The event-manager level as the newest decision saw it (protocol RL-2).
    pub view: BTreeMap<NodeId, Sight>,
    /// Nodes that take no services by an administrator's word.
    pub standby: NodeSet,
    /// Last consumed request of each source.
    pub requests: BTreeMap<NodeId, ConsumedRequest>,
}

impl RegistrationRecord {
    /// A database with these definitions and nothing running: what `disk create` writes.
    #[must_use]
    pub fn of_definitions(definitions: impl IntoIterator<Item = ServiceDefinition>) -> Self {
        let record = |definition: ServiceDefinition| {
            (definition.name.clone(), ServiceRecord::new(definition, ServiceRun::default()))
        };
        Self { services: definitions.into_iter().map(record).collect(), ..Self::default() }
    }

    /// The view of the newest decision.
    #[must_use]
    pub fn seen(&self) -> View {
        View { formation: self.formation, nodes: self.view.clone() }
    }

    /// Nothing is placed on, or done at, that incarnation (protocol RL-6).
    #[must_use]
    pub fn is_drained(&self, who: NodeIncarnation) -> bool {
        let rests = |run: &ServiceRun| run.state.is_idle() || run.node != who;
        self.services.values().all(|service| service.runs().all(|(_, run)| rests(run)))
    }
}

/// What an executor has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CommandKind {
    /// Run the start command.
    Start,
    /// Run the stop command.
    Stop,
    /// Kill what is there and verify that nothing is left.
    Kill,
    /// Run the recovery command for the victim.
    Recovery,
    /// Run the notify command. Has a lane of its own; its operation is the generation it tells of.
    Notify,
}

/// One committed operation, for the executor on `target` (protocol RL-4).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// Which instance of which service.
    pub instance: Instance,
    /// Its id; grows for each service.
    pub operation: OperationId,
    /// What to do.
    pub kind: CommandKind,
    /// Who, and which start of it: no other may accept it.
    pub target: NodeIncarnation,
    /// Whose loss is recovered, for `Recovery`.
    pub victim: Option<NodeIncarnation>,
    /// Fencing token of the registration it belongs to.
    pub generation: OperationId,
}

/// A command with the definition it was decided by, in which inherited actions are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The command.
    pub command: Command,
    /// The service.
    pub definition: ServiceDefinition,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationResult {
    /// Which instance of which service.
    pub instance: Instance,
    /// The operation.
    pub operation: OperationId,
    /// What it was.
    pub kind: CommandKind,
    /// How it ended.
    pub outcome: LaunchResult,
}

/// What the registration-and-launch services of two nodes tell each other. Everything may be lost, repeated and late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistrationMessage {
    /// From the owner of a depoch to an executor. Repeated until a result is consumed.
    Orders {
        /// Depoch of the sender.
        depoch: Term,
        /// What to do.
        orders: Vec<Order>,
    },
    /// To the owner of the decisions: operations of the sender have ended. Repeated until the database has a newer operation.
    Results(Vec<OperationResult>),
    /// From the owner: this revision is committed; read it.
    Committed {
        /// The revision.
        revision: Revision,
    },
    /// To the owner: an administrator asks. Repeated until the database has consumed it.
    Requests(Vec<RegistrationRequest>),
    /// To the owner: how hard the sender's processors, memory and disks are pressed, 0 to 10, smoothed. Repeated.
    Load {
        /// The highest of the three.
        pressure: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    /// A state that is added to the type is missed here.
    #[test]
    fn all_states_are_all_that_there_are() {
        for (index, state) in RunState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index, "{state:?}");
        }
        let states = u32::try_from(RunState::ALL.len()).unwrap();
        let decoded = |number: u32| codec::decode::<RunState>(&number.to_le_bytes(), 4);
        assert_eq!(decoded(states - 1).unwrap(), RunState::FailedRecovery);
        assert!(decoded(states).is_err(), "there is another state");
    }
}
