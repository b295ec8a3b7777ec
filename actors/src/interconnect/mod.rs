//! The interconnect: one encrypted connection to each other node (spec: nodes exchange messages over a communication link;
//! protocol §4.1).
//!
//! TCP, frames with a length and a small limit, Noise with the cluster key and one static key for each node, bincode only behind
//! `messages::codec`. Of each pair of nodes the higher id dials and keeps dialling; the lower one, when it starts, knocks once, so
//! that either side's restart is noticed at once. Both say inside the encrypted handshake which start of which node they are.
//!
//! What always holds:
//! - everything delivered comes from the incarnation it names, whole and in the order in which it was sent on that connection;
//! - [`PeerEvent::Down`] of an incarnation comes before [`PeerEvent::Up`] of the next connection of that node;
//! - an incarnation older than one that has been seen is never `Up` again;
//! - a wrong key or cluster, a damaged, oversized or stalled connection ends that connection, with one rate-limited log line.
//!
//! What it never does: decide anything, promise delivery (protocol §1.1, N1: senders repeat), or send a name in the clear.
//!
//! [`PeerEvent::Down`]: crate::ports::PeerEvent::Down
//! [`PeerEvent::Up`]: crate::ports::PeerEvent::Up

mod actor;
mod admission;
mod beats;
mod closing;
mod cluster_keys;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod keys;
mod link;
mod network;
mod noise;

use std::collections::BTreeMap;

use actix::Message;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation, Revision};
use uuid::Uuid;

use crate::clock::Clock;

pub use actor::{Interconnect, PeerListener};
pub use closing::{CloseReason, Refusal};
pub use cluster_keys::{CLUSTER_KEYS_MAX, ClusterKeys, Fingerprint};
pub use keys::{ClusterKey, KeyError, StaticKeyPair};
pub use network::{ByteStream, Dialer, Listener, LocalFuture, Network, Stream};

/// What the interconnect is started with; the peers come with
/// [`ConfigurationChanged`](crate::ports::ConfigurationChanged), and until the first of these nobody is taken in.
#[derive(Debug, Clone)]
pub struct InterconnectSettings {
    /// This start of this node.
    pub me: NodeIncarnation,
    /// The cluster, from the superblock.
    pub cluster: Uuid,
    /// Shared by all nodes of the cluster.
    pub cluster_keys: ClusterKeys,
    /// This node's own key.
    pub key_pair: StaticKeyPair,
    /// Gives `T_net` and the period of heartbeats.
    pub profile: TimingProfile,
    /// Times log lines.
    pub clock: Clock,
    /// For tests: no connection is taken in or made, as if every one were refused.
    pub refuse_connections: bool,
}

/// Sent by the membership manager: from now on heartbeats carry this as the newest record that this node has processed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetSeen(pub Revision);

/// Sent by the membership manager when it learns who is master, or that nobody is: the master is beaten regularly (protocol §4.1).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct MasterIs(pub Option<NodeId>);

/// Sent to override who is beaten regularly; `None` goes back to the rule of protocol §4.1.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetHeartbeatTargets(pub Option<NodeSet>);

/// Sent by the membership manager in a suspect round (protocol §4.1): a heartbeat to every connected peer, now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ProbeAll;

/// Sent when this node leaves: every connection closes and the actor stops. Safe to repeat.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Disconnect;

/// Sent by whoever shows how the interconnect does.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "LinkStatistics")]
pub struct GetLinkStatistics;

/// How the interconnect does.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Established connections, by node id.
    pub connected: Vec<NodeIncarnation>,
    /// Incoming connections whose peer has not yet proved who it is.
    pub handshakes: usize,
    /// Connections that ended, and attempts that failed, since the start, by reason.
    pub closed: BTreeMap<CloseReason, u64>,
}

/// Sent by the local API when the key file has changed: from now on these cluster keys are taken.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct UseKeys(pub ClusterKeys);

/// Sent by the local API, which shows them.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "KeysInUse")]
pub struct GetKeysInUse;

/// The cluster keys of a node, and what stands on them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KeysInUse {
    /// The keys that are taken; the first is spoken.
    pub accepted: Vec<Fingerprint>,
    /// The key of each established link.
    pub links: BTreeMap<NodeId, Fingerprint>,
}
