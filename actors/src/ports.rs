//! Messages at the seams between actors. Each says who sends it and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Message;
use phalanx_messages::admin::{QuorumStatus, ServiceStatus};
use phalanx_messages::configuration::{ChangeRefusal, ConfigurationRecord, FenceAgent, NodeChange};
use phalanx_messages::event::{EventDefinition, EventGroupDefinition};
use phalanx_messages::membership::{FenceMethod, MembershipRecord};
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, Supposition};
use phalanx_messages::peer::{MasterAnswer, MasterRequest, PeerMessage};
use phalanx_messages::register::{FenceHandle, HostWords};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::service_report::{PlannedStep, ServiceExplanation};
use phalanx_messages::set::NodeSet;
use phalanx_messages::trace::TransitionTrace;
use phalanx_messages::{NodeId, NodeIncarnation, Term, TransitionId};
use phalanx_protocol::chronicle::Happening;
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::launcher::OrderFailure;

/// What the lease thread says to the warden, which keeps this node's processes. Must not block.
pub trait WardenLine: Send {
    /// The node may live; said at least every W / 3.
    fn alive(&mut self);

    /// The lease is lost, or valid for the first time or again: services are frozen while it is lost (protocol §4.7).
    fn lease(&mut self, valid: bool);
}

/// A device that resets the host when it has not been fed for the watchdog period (protocol §3.3, C2).
pub trait Watchdog: Send {
    /// Winds it up once more. Must not block.
    ///
    /// # Errors
    /// If the device refuses: then it will fire.
    fn feed(&mut self) -> std::io::Result<()>;
}

/// Sent to the interconnect: deliver to one peer, if it is connected; otherwise dropped, since senders repeat.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SendToPeer {
    /// Receiver.
    pub to: NodeId,
    /// What to say.
    pub message: PeerMessage,
}

/// Sent to the interconnect: deliver to each of these peers that is connected. As [`SendToPeer`] to each, but the message is
/// encoded once.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SendToPeers {
    /// Receivers.
    pub to: NodeSet,
    /// What to say.
    pub message: PeerMessage,
}

/// Sent by the interconnect.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub enum PeerEvent {
    /// An authenticated connection to this incarnation stands.
    Up(NodeIncarnation),
    /// The last connection to this incarnation has closed. The process may be dead: look at its register at once.
    Down(NodeIncarnation),
    /// A message of that incarnation. Heartbeats come through here too.
    Received {
        /// Sender, authenticated.
        from: NodeIncarnation,
        /// What it said.
        message: PeerMessage,
    },
}

/// Sent by the lease thread after each renewal cycle, and on demand, to whoever watches registers.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RegistersRead(pub Arc<RegistersReading>);

/// Sent by anyone to the supervisor: this node is no longer fit and must stop at once (spec: "a node panics by halting
/// further processing in order to avoid corrupting shared cluster resources").
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct NodePanic {
    /// Why, for the log and the administrator.
    pub reason: String,
}

/// Sent by the lease thread when the lease is lost (`false`) or valid again (`true`).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LeaseChanged {
    /// Whether the node may act.
    pub valid: bool,
}

/// Sent by the fence actor to whatever can kill a node of this host and see that it is dead (fence method F3, protocol §4.5).
/// May block for a while on a thread of its own; the text of an error is what the administrator reads.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct ProveDead {
    /// Who must be dead.
    pub victim: NodeIncarnation,
    /// How to reach its processes, from its register.
    pub handle: FenceHandle,
}

/// Sent by the fence actor to whatever can run a fence agent (fence method F2, protocol §4.5): the host must be off, and the agent
/// must see that it is off. The text of an error is what the administrator reads.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct RunFenceAgent {
    /// Name of the node that must be dead.
    pub node: String,
    /// The agent and its parameters; its secrets are on this host.
    pub agent: FenceAgent,
}

/// Sent by the fence actor to the membership manager: this incarnation is dead.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct DeathProved {
    /// Who.
    pub victim: NodeIncarnation,
    /// How it is known.
    pub method: FenceMethod,
}

/// Sent by the membership manager at boot and whenever the configuration has changed: to the interconnect (addresses and keys
/// of the peers) and to whoever shows names.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ConfigurationChanged(pub Arc<ConfigurationRecord>);

/// What registration-and-launch knows, for whoever shows status.
#[derive(Debug, Clone, Default)]
pub struct ServicesKnown {
    /// The services by name.
    pub services: Vec<ServiceStatus>,
    /// Nodes that take no services by an administrator's word.
    pub standby: NodeSet,
    /// How often nodes have died of late, as the answering node has counted.
    pub deaths: BTreeMap<NodeId, u32>,
}

/// Sent by whoever shows status to registration-and-launch.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ServicesKnown")]
pub struct GetServices;

/// Sent by whoever changes services to registration-and-launch: every service as it is defined, by name.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<ServiceDefinition>")]
pub struct GetDefinitions;

/// Sent by whoever changes events to registration-and-launch: every event and event group as it is defined, by name.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "(Vec<EventDefinition>, Vec<EventGroupDefinition>)")]
pub struct GetEventDefinitions;

/// Sent by registration-and-launch to the event manager, and by it to the event manager daemon: this database is committed.
/// Newer ones only; some may be skipped.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct DatabaseCommitted(pub Arc<RegistrationRecord>);

/// Sent by the local API to registration-and-launch: why a service is where it is. None = there is no such service.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<ServiceExplanation>")]
pub struct ExplainService(pub String);

/// Sent by the local API to registration-and-launch: carry out an administrator's order. Answered when the database that has
/// consumed it is committed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), OrderFailure>")]
pub struct CarryOut(pub RegistrationOrder);

/// Sent by the local API to registration-and-launch: what that order would do.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<PlannedStep>, OrderRefusal>")]
pub struct PlanOrder(pub RegistrationOrder);

/// Sent by the local API to registration-and-launch: everything that would follow from something.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<PlannedStep>, OrderRefusal>")]
pub struct Simulate(pub Supposition);

/// What the membership manager knows, for whoever shows status.
#[derive(Debug, Clone)]
pub struct MembershipStatus {
    /// Votes, if the cluster needs a majority.
    pub quorum: Option<QuorumStatus>,
    /// This node.
    pub me: NodeIncarnation,
    /// Newest committed record this node knows.
    pub record: Arc<MembershipRecord>,
    /// The configuration it belongs to.
    pub configuration: Arc<ConfigurationRecord>,
    /// Node ids lie below this.
    pub nodes_max: u16,
    /// Highest term known.
    pub term: Term,
    /// Owner of that term, if its lease may be valid.
    pub master: Option<NodeId>,
    /// Who has not acknowledged the running step of a transition; exact on the master, all participants elsewhere.
    pub awaiting: BTreeMap<TransitionId, NodeSet>,
    /// Milliseconds each running transition has taken.
    pub running_ms: BTreeMap<TransitionId, u64>,
    /// What the recovery of a node waits for.
    pub proofs_awaited: BTreeMap<NodeId, String>,
    /// What the registers say of the nodes' hosts.
    pub hosts: BTreeMap<NodeId, HostWords>,
    /// Since the last renewal of this node's lease.
    pub heartbeat_age_ms: u64,
    /// This node may act.
    pub lease_valid: bool,
}

/// Sent by whoever shows status to the membership manager.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "MembershipStatus")]
pub struct GetMembership;

/// What the nodes keep of one transition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TracesKept {
    /// Who answered, and what it keeps; this node is one of them.
    pub kept: BTreeMap<NodeId, Option<TransitionTrace>>,
    /// Members that did not answer in time.
    pub silent: NodeSet,
}

/// Sent by whoever shows traces to the membership manager: what this node and all members keep of that transition; if none
/// is named, of the newest that this node keeps, or if it keeps none the newest of each. Answered when all have answered, or after
/// [`TRACE_ANSWER_MS`](phalanx_messages::limits::TRACE_ANSWER_MS).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "TracesKept")]
pub struct AskTraces(pub Option<TransitionId>);

/// Sent by the local API, or by the warden on SIGTERM, to the membership manager: take this node out gracefully. `Ok` = accepted.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), String>")]
pub struct RequestLeave(pub NodeId);

/// Sent by registration-and-launch to the membership manager: this node cannot let go of a service and must be forced out
/// (protocol RL-8). Repeated while the need exists.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct RequestForce {
    /// Who.
    pub victim: NodeIncarnation,
    /// Why.
    pub reason: String,
}

/// Sent by the local API to the membership manager: ask the master this. Answered when the master has answered, or when nobody
/// has for long.
#[derive(Debug, Clone, Message)]
#[rtype(result = "MasterAnswer")]
pub struct AskMaster(pub MasterRequest);

/// Sent by the local API to the membership manager: would this be refused, and would it change anything?
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<bool, ChangeRefusal>")]
pub struct TryChange(pub Vec<NodeChange>);

/// Sent by the membership manager to whoever shows what happens.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Happened {
    /// What.
    pub happening: Happening,
    /// This node is master: only the master sees every step.
    pub by_master: bool,
    /// Highest term known.
    pub term: Term,
}

/// Sent by registration-and-launch to whoever shows what happens.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ServiceHappened {
    /// The service.
    pub service: String,
    /// Node it concerns, if one.
    pub node: Option<NodeId>,
    /// One line for people.
    pub text: String,
}

/// Sent by tests: panic while handling this message. Every actor kind handles it inside its guard.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct InjectPanic;
