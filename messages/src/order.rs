//! What administrators ask of registration and launch, and why it is refused (protocol §6.3, "Admin"; RL-10).
//!
//! A request is consumed by a decision, together with its answer, in one commit. Everything here can be repeated, and changes
//! nothing the second time.

use serde::{Deserialize, Serialize};

use crate::event::{EventDefinition, EventGroupDefinition};
use crate::ids::{Incarnation, NodeId, NodeIncarnation, Revision};
use crate::registration::RunState;
use crate::service::ServiceDefinition;

/// What an administrator can ask of one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceOrder {
    /// It should run.
    Register,
    /// It should not.
    Deregister,
    /// Move it.
    Transfer {
        /// Where to; none = wherever it would be chosen to run if its node did not count.
        to: Option<NodeId>,
    },
    /// Begin nothing for it; what runs goes on.
    Hold,
    /// Forget failures and the hold, and try again.
    Clear {
        /// Also forget that something of it is unrecovered.
        skip_recovery: bool,
    },
    /// Forget the service.
    Remove {
        /// Even if a lost instance of it is unrecovered.
        skip_recovery: bool,
    },
    /// It has failed where it is registered: a monitor's action function says so, or an administrator.
    Failed {
        /// Revision of the registration that failed; any other is refused.
        generation: Revision,
        /// Whose instance, of a service that is registered on all nodes.
        node: Option<NodeId>,
        /// What was seen.
        text: String,
    },
}

/// One service is defined, or defined otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DefinitionChange {
    /// What the administrator saw; none = there was no such service. Anything else in the database refuses the change.
    pub before: Option<ServiceDefinition>,
    /// What it becomes.
    pub after: ServiceDefinition,
}

/// One event is defined, defined otherwise, or (`after` = none) removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventChange {
    /// What the administrator saw; anything else in the database refuses the change.
    pub before: Option<EventDefinition>,
    /// What it becomes.
    pub after: Option<EventDefinition>,
}

/// One event group is defined, defined otherwise, or (`after` = none) removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventGroupChange {
    /// What the administrator saw; anything else in the database refuses the change.
    pub before: Option<EventGroupDefinition>,
    /// What it becomes.
    pub after: Option<EventGroupDefinition>,
}

/// Definitions that change together.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DefinitionChanges {
    /// Services.
    pub services: Vec<DefinitionChange>,
    /// Events.
    pub events: Vec<EventChange>,
    /// Event groups.
    pub event_groups: Vec<EventGroupChange>,
}

/// Only services change.
impl FromIterator<DefinitionChange> for DefinitionChanges {
    fn from_iter<I: IntoIterator<Item = DefinitionChange>>(services: I) -> Self {
        Self { services: services.into_iter().collect(), ..Self::default() }
    }
}

/// What an administrator can ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RegistrationOrder {
    /// Of one service.
    Service {
        /// Its name.
        service: String,
        /// What.
        order: ServiceOrder,
    },
    /// Take over definitions, all or none.
    Apply(DefinitionChanges),
    /// Enable or disable an event group.
    EnableGroup {
        /// The group.
        group: String,
        /// False disables it.
        enabled: bool,
    },
    /// A node gives up its services and takes none, until this is withdrawn. It stays a member.
    Standby {
        /// The node.
        node: NodeId,
        /// False withdraws it.
        standby: bool,
    },
}

/// Something that `phalanx simulate` supposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Supposition {
    /// A node leaves gracefully.
    Leaves(NodeId),
    /// A node is forced out.
    Fails(NodeId),
    /// A node joins.
    Joins(NodeId),
    /// An order is carried out.
    Ordered(RegistrationOrder),
}

/// An administrator's request. Repeated until answered; consumed once (protocol RL-10).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegistrationRequest {
    /// Node whose local socket took it.
    pub source: NodeIncarnation,
    /// Grows with each request of that source.
    pub counter: u64,
    /// What to do.
    pub order: RegistrationOrder,
}

/// The last consumed request of one source, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConsumedRequest {
    /// Incarnation of the source.
    pub incarnation: Incarnation,
    /// The request.
    pub counter: u64,
    /// What became of it.
    pub answer: Result<(), OrderRefusal>,
}

/// Why a node does not take a service now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unfit {
    /// It is not among the allowable nodes.
    NotAllowable,
    /// It is among the disallowable nodes.
    Disallowed,
    /// It is not at the event-manager level.
    Down,
    /// It is leaving.
    Leaving,
    /// It takes no services by an administrator's word.
    Standby,
}

/// Why a request is not carried out. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OrderRefusal {
    /// There is no such service.
    UnknownService {
        /// The name that was given.
        service: String,
    },
    /// It is not at rest where it runs.
    NotSettled {
        /// The service.
        service: String,
        /// What it is doing.
        state: RunState,
    },
    /// Nothing may be begun for it.
    Held {
        /// The service.
        service: String,
    },
    /// It is being moved.
    Moving {
        /// The service.
        service: String,
    },
    /// It runs on the target.
    AlreadyThere {
        /// The service.
        service: String,
        /// Where.
        node: NodeId,
    },
    /// The target cannot take it.
    Unfit {
        /// The service.
        service: String,
        /// The target.
        node: NodeId,
        /// Why.
        why: Unfit,
    },
    /// No other node can take it.
    NowhereElse {
        /// The service.
        service: String,
    },
    /// It runs, or something is being done for it.
    NotIdle {
        /// The service.
        service: String,
        /// What.
        state: RunState,
    },
    /// A lost instance of it is unrecovered.
    Unrecovered {
        /// The service.
        service: String,
        /// Whose loss.
        victim: NodeIncarnation,
    },
    /// Somebody has changed the definition since it was looked at.
    ChangedMeanwhile {
        /// The service.
        service: String,
    },
    /// The command that runs now would be taken away.
    CommandRuns {
        /// The service.
        service: String,
        /// What it is doing.
        state: RunState,
    },
    /// It is a child, which is wherever its parent is.
    Child {
        /// The service.
        service: String,
        /// Its parent.
        parent: String,
    },
    /// It is registered on all nodes, so there is nowhere to move it to.
    OnAllNodes {
        /// The service.
        service: String,
    },
    /// That registration of it is not the present one.
    StaleGeneration {
        /// The service.
        service: String,
        /// The present one, if it is registered.
        current: Option<Revision>,
    },
    /// Its parent is no service.
    UnknownParent {
        /// The service.
        service: String,
        /// What it names.
        parent: String,
    },
    /// Parents form a circle.
    Circle {
        /// Each names the next one as its parent; the last is the first again.
        path: Vec<String>,
    },
    /// A child would have a choosing parameter, or a parent something that a group can't have.
    NotInGroup {
        /// The service.
        service: String,
        /// The key.
        key: String,
    },
    /// It has children.
    HasChild {
        /// The service.
        service: String,
        /// One of them.
        child: String,
    },
    /// Its place in groups, or its placement policy, changes only while nothing of it runs.
    Regrouped {
        /// The service.
        service: String,
        /// What it, or something below it, is doing.
        state: RunState,
    },
    /// There is no such event.
    UnknownEvent {
        /// The name that was given.
        event: String,
    },
    /// There is no such event group.
    UnknownEventGroup {
        /// The name that was given.
        group: String,
    },
    /// Somebody has changed the event or event group since it was looked at.
    EventChangedMeanwhile {
        /// Its name.
        name: String,
    },
    /// Something names it still.
    EventInUse {
        /// The event or event group.
        name: String,
        /// The event group or service that names it.
        by: String,
    },
    /// The disk was formatted for fewer or smaller services.
    DatabaseFull {
        /// Services there would be.
        services: usize,
        /// Services there can be.
        services_max: usize,
        /// Bytes there would be.
        bytes: usize,
        /// Bytes there can be.
        bytes_max: usize,
    },
}
