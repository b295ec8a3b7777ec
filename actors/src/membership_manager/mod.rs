//! The membership manager: agent on every node, coordinator while this node is master (spec, "A. Membership manager").
//!
//! It turns messages into inputs of the pure machines - [`mastership`](phalanx_protocol::mastership), the Fenced Register
//! Machine, the detector, the coordinator and the agent - and carries their outputs out in order. It decides nothing itself.
//!
//! Always holds: nothing is sent that depends on a record before that record is committed (protocol T-1); nothing is committed
//! without a lease that is valid for another `guard` (protocol §3.4).

mod agency;
mod configuration;
mod coordination;
mod detection;
mod election;
mod manager;
mod peers;
mod requests;
mod status;
mod suspicion;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::configuration::{ChangeRefusal, ConfigurationRecord, PublicKey};
use phalanx_messages::membership::{LevelRegistration, MembershipRecord};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{Level, NodeIncarnation};
use uuid::Uuid;

use crate::clock::Clock;
use crate::disk::DiskActor;
use crate::fence_actor::{FenceActor, SeekProofs};
use crate::gate::Gate;
use crate::guard::PanicGuard;
use crate::interconnect::{MasterIs, SetHeartbeatTargets, SetSeen};
use crate::lease_thread::LeaseHandle;
use crate::ports::{ConfigurationChanged, Happened, SendToPeer};
use crate::registration_and_launch::LeaseView;

pub use manager::MembershipManager;

/// How often time is looked at: re-sends, detection, join requests.
const TICK: Duration = Duration::from_millis(25);

/// How often the register of a node whose connection has closed is looked at (protocol §4.6 step 0).
const PROBE: Duration = Duration::from_millis(5);

/// What a membership manager is told about its node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node and its incarnation.
    pub me: NodeIncarnation,
    /// Boot of the kernel it runs in.
    pub boot: Uuid,
    /// Timing of the disk.
    pub profile: TimingProfile,
    /// Time.
    pub clock: Clock,
    /// Levels this node registers, ascending.
    pub levels: Vec<LevelRegistration>,
    /// Public half of its interconnect key.
    pub public_key: PublicKey,
    /// Node ids lie below this.
    pub nodes_max: u16,
    /// The configuration as read at boot.
    pub configuration: Arc<ConfigurationRecord>,
    /// The newest membership record on the disk at boot: tells whose lease must have ended before a node that is no member
    /// may form the cluster anew (protocol T-18). Nothing else depends on it, since it may never have been committed.
    pub record: Arc<MembershipRecord>,
}

/// Whom a membership manager talks to.
pub struct Edges {
    /// Lease thread: the node's own register.
    pub lease: LeaseHandle,
    /// Shared disk.
    pub disk: Addr<DiskActor>,
    /// I/O gate.
    pub gate: Gate,
    /// Wrapper of its handlers.
    pub guard: PanicGuard,
    /// Interconnect.
    pub peers: Recipient<SendToPeer>,
    /// Interconnect: what its heartbeats say this node has processed.
    pub seen: Recipient<SetSeen>,
    /// Interconnect: who must be beaten regularly.
    pub master: Recipient<MasterIs>,
    /// Interconnect: who must be beaten in a suspect round.
    pub targets: Recipient<SetHeartbeatTargets>,
    /// Fence actor; started by the membership manager's owner with the manager as receiver of proofs.
    pub fence: Option<Addr<FenceActor>>,
    /// Subsystems of this node.
    pub levels: BTreeMap<Level, Recipient<SubsystemNotification>>,
    /// Whoever wants to hear what happens.
    pub observers: Vec<Recipient<Happened>>,
    /// Whoever uses names, addresses and keys.
    pub configuration: Vec<Recipient<ConfigurationChanged>>,
    /// Whoever needs to know whose lease has ended or who is dead.
    pub leases: Vec<Recipient<LeaseView>>,
    /// Told when this node's graceful leave begins.
    pub leaving: Recipient<LeaveBegun>,
    /// Told once when this node has left gracefully, or cannot join.
    pub ended: Recipient<MembershipEnded>,
}

/// Sent at boot by the owner: the fence actor, which needs the manager's address first.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct UseFence(pub Addr<FenceActor>);

/// Sent once when this node begins to leave gracefully, whoever asked for it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LeaveBegun;

/// Sent once when this node's membership has ended without a panic.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum MembershipEnded {
    /// The graceful leave is complete and said on the disk.
    Left,
    /// The cluster does not take this node; the text names the key or command to use next.
    Refused(String),
}
