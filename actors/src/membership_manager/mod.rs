//! The membership manager: agent on every node, coordinator while this node is master (spec, "A. Membership manager").
//!
//! Its decisions are made by [`phalanx_protocol::manager`]. This actor gives it what arrives, and carries its outputs out in
//! order. It decides nothing itself.

mod actor;
mod answers;
mod perform;
mod status;
mod subsystems;
mod traces;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::Level;
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::peer::JoinRefusal;

use crate::clock::Clock;
use crate::disk::DiskActor;
use crate::fence_actor::FenceActor;
use crate::gate::Gate;
use crate::guard::PanicGuard;
use crate::interconnect::{MasterIs, SetHeartbeatTargets, SetSeen};
use crate::lease_thread::LeaseHandle;
use crate::ports::{ConfigurationChanged, Happened, SendToPeer, SendToPeers};
use crate::registration_and_launch::LeaseView;
use crate::subsystem::Subsystem;

pub use actor::MembershipManager;
pub use phalanx_protocol::manager::ManagerSettings;

/// Whom a membership manager talks to.
pub struct Edges {
    /// Time.
    pub clock: Clock,
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
    /// Interconnect: one message to many peers.
    pub many: Recipient<SendToPeers>,
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
    /// Subsystems that an embedder has made part of this node's own join; each has a level in the settings too.
    pub subsystems: Vec<Subsystem>,
    /// Whoever wants to hear what happens.
    pub observers: Vec<Recipient<Happened>>,
    /// Whoever uses names, addresses and keys.
    pub configuration: Vec<Recipient<ConfigurationChanged>>,
    /// Whoever needs to know whose lease has ended or who is dead.
    pub leases: Vec<Recipient<LeaseView>>,
    /// Between two looks for the last word of a node whose connection has closed.
    pub probe: Duration,
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
