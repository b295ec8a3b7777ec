//! Messages at the seams between actors. Each says who sends it and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Message;
use phalanx_messages::admin::ServiceStatus;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::FenceMethod;
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::register::{FenceHandle, NodeRegister};
use phalanx_messages::{Instant, NodeId, NodeIncarnation};

/// Sent to the interconnect: deliver to one peer, if it is connected; otherwise dropped, since senders repeat.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SendToPeer {
    /// Receiver.
    pub to: NodeId,
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

/// One reading of all node registers. An unreadable one (both slots torn twice) is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistersReading {
    /// When the read began; a write completed before this is seen by it (protocol D3).
    pub begun: Instant,
    /// When it ended; silence of a register counts from here.
    pub ended: Instant,
    /// Register of every configured node id.
    pub registers: BTreeMap<NodeId, Option<NodeRegister>>,
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

/// Sent by whoever shows status to registration-and-launch.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<ServiceStatus>")]
pub struct GetServices;

/// Sent by tests: panic while handling this message. Every actor kind handles it inside its guard.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct InjectPanic;
