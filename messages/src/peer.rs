//! What two nodes tell each other over the interconnect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::configuration::{ChangeRefusal, NodeChange, PublicKey};
use crate::ids::{Level, NodeIncarnation, NotificationId, Revision};
use crate::membership::{LevelRegistration, MembershipRecord};
use crate::notification::SubsystemAcknowledged;
use crate::registration::RegistrationMessage;
use crate::set::NodeSet;
use crate::trace::TraceMessage;

/// One message from a node to another. Authenticated: the receiver knows which node and incarnation sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Sign of life (protocol §4.1).
    Heartbeat(Heartbeat),
    /// Between membership managers.
    Membership(MembershipMessage),
    /// Between registration-and-launch services.
    Registration(RegistrationMessage),
    /// Somebody wants to see a trace.
    Trace(TraceMessage),
}

/// Sign of life over the interconnect, every `T_net / 6` (protocol §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Grows with each heartbeat of this incarnation.
    pub seq: u64,
    /// Newest record the sender has processed.
    pub seen: Revision,
    /// Nodes the sender hears.
    pub hears: NodeSet,
}

/// Why a node may not join (protocol T-14). The text of each names the key or command to use next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// The asked node is not the master; ask that one, if known.
    NotMaster,
    /// An older incarnation is still being recovered (protocol T-13); try again.
    BusyLeaving,
    /// The node is not in the configuration.
    NotConfigured,
    /// Some members cannot be reached by the joiner, or it by them.
    NotFullyConnected {
        /// Who is missing.
        missing: NodeSet,
    },
    /// The level is registered with other barrier counts, or another name.
    BarrierMismatch {
        /// What the cluster has.
        have: LevelRegistration,
        /// What the joiner wants.
        want: LevelRegistration,
    },
    /// Levels do not ascend, are too many, or have too many barriers.
    LevelOrder,
    /// An older start of this node asks, or another host runs this node id.
    DuplicateId,
    /// The joiner runs in another boot of the kernel than the members of an mmap disk.
    OtherHost,
    /// Another static key is configured for this node.
    KeyMismatch,
    /// Too few votes are present to change who is a member (protocol §4.4); try again.
    NoQuorum {
        /// Votes present, the joiner's and the disk's included.
        votes: u32,
        /// Votes needed.
        needed: u32,
    },
}

/// Why a subsystem of a member may not register at run time (protocol T-15, T-14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LevelRefusal {
    /// That incarnation of the node is no member.
    NotMember,
    /// The node is leaving.
    Leaving,
    /// A level at or above it has joined: a level joins above those that it may depend on.
    BelowJoined {
        /// The node's highest level.
        highest: Level,
    },
    /// The level is registered with other barrier counts, or another name.
    BarrierMismatch {
        /// What the cluster has.
        have: LevelRegistration,
        /// What the subsystem wants.
        want: LevelRegistration,
    },
    /// The node or the cluster has as many levels as there can be, or the name or a number of barriers is too large.
    TooMany,
}

/// What an administrator asks of the master, through the membership manager of any node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasterRequest {
    /// Change the membership configuration: all of it in one commit, or nothing.
    Change {
        /// The configuration that the administrator saw, if the change depends on it.
        base: Option<Revision>,
        /// The changes, in order.
        changes: Vec<NodeChange>,
    },
    /// Force a member out.
    Fence {
        /// Who.
        victim: NodeIncarnation,
        /// Why.
        reason: String,
    },
    /// The administrator's word that a victim is dead (protocol §4.5, F5).
    ConfirmDead {
        /// Who.
        victim: NodeIncarnation,
        /// Who says so, in words.
        by: String,
    },
}

/// What the master says to a [`MasterRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasterAnswer {
    /// The change is committed.
    Changed {
        /// The configuration that has it.
        revision: Revision,
    },
    /// Everything is so already; nothing was committed.
    Unchanged {
        /// The configuration.
        revision: Revision,
    },
    /// It will be committed.
    Accepted,
    /// The change is not made.
    ChangeRefused(ChangeRefusal),
    /// The request is not carried out.
    Refused {
        /// Exit code of the contract (architecture §5).
        code: u8,
        /// What the administrator reads.
        text: String,
    },
}

/// Between membership managers. Every message that a decision depends on carries its revision or term (protocol M-4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipMessage {
    /// To the master: let me in. Repeated until answered by a record that has me, or refused (protocol §5.6, 7).
    JoinRequest {
        /// The levels this node registers, ascending.
        levels: Vec<LevelRegistration>,
        /// Kernel boot it runs in.
        boot: Uuid,
        /// Nodes the joiner hears.
        hears: NodeSet,
        /// Its static interconnect key; written to the configuration area at its first join, must match afterwards.
        public_key: PublicKey,
    },
    /// From the master: not (yet).
    JoinRefused(JoinRefusal),
    /// To the master: take this node out gracefully. Repeated until the record shows it.
    LeaveRequest {
        /// Who leaves.
        node: NodeIncarnation,
    },
    /// To the master: force this node out. From the master to the victim itself: end yourself, because quorum needs your vote and
    /// forbids to mark you (protocol §4.4).
    ForceRequest {
        /// Who.
        victim: NodeIncarnation,
        /// Why.
        reason: String,
    },
    /// From the master: the committed record. Dispatch what is yours in it (protocol T-23).
    Notify(Arc<MembershipRecord>),
    /// To the master: subsystems of this node have ended steps.
    Acknowledged(Vec<SubsystemAcknowledged>),
    /// To a deposed master: a newer revision was seen.
    Stale {
        /// The newest revision the sender has processed.
        seen: Revision,
    },
    /// From a new master: tell me where you stand (protocol §3.6).
    NewMaster {
        /// Its first commit.
        revision: Revision,
    },
    /// Answer to `NewMaster`: a promise not to listen to older terms, and the acknowledgements given so far.
    Report {
        /// Newest revision the sender has processed, of the new master's term.
        seen: Revision,
        /// Steps being processed or acknowledged, newest of each node.
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
    },
    /// From the master to a victim: you are out; panic.
    Expelled {
        /// Who is meant.
        victim: NodeIncarnation,
    },
    /// To the master: an administrator asks this. One at a time from each node, repeated until answered.
    Request {
        /// Counts the requests of the sender's incarnation.
        counter: u64,
        /// What.
        request: MasterRequest,
    },
    /// From the master. Safe to repeat.
    Answer {
        /// To which request.
        counter: u64,
        /// What became of it.
        answer: MasterAnswer,
    },
    /// To the master: a subsystem of the sender registers at run time (protocol T-15). Repeated until a record has it or it is
    /// refused.
    RegisterLevel {
        /// What it registers.
        registration: LevelRegistration,
        /// The record that the sender had processed when it asked; void if its levels have changed since.
        seen: Revision,
    },
    /// From the master: that registration is refused. Safe to repeat.
    LevelRefused {
        /// Which.
        registration: LevelRegistration,
        /// Why.
        refusal: LevelRefusal,
    },
    /// To the master: let one level of the sender leave alone (protocol T-17). Repeated until a record shows it.
    WithdrawLevel {
        /// Which.
        level: Level,
        /// As of `RegisterLevel`.
        seen: Revision,
    },
}
