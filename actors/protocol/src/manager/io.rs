//! What goes into the machine and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::{FenceMethod, LevelRegistration, MembershipRecord};
use phalanx_messages::notification::{LevelStates, SubsystemAcknowledged, SubsystemNotification};
use phalanx_messages::peer::{JoinRefusal, LevelRefusal, MasterAnswer, MasterRequest, MembershipMessage};
use phalanx_messages::register::OwnState;
use phalanx_messages::set::NodeSet;
use phalanx_messages::subsystem::DeathPolicy;
use phalanx_messages::{Level, NodeId, NodeIncarnation, Revision, Term};

use crate::chronicle::Happening;
use crate::coordinator::Warning;
use crate::expiry::RegistersReading;
use crate::lease::Publication;
use crate::manager::FenceTarget;

/// Who waits for a reading of the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// The Fenced Register Machine; the read must begin after every earlier output was carried out.
    RegisterMachine,
    /// The probe of a node whose connection has closed (protocol §4.6 step 0).
    Probe,
    /// The look for a master, while none is known.
    Look,
}

/// Who waits for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordReader {
    /// The Fenced Register Machine, for the base of a new term.
    Base,
    /// This node itself: has its leave been committed, or which configuration does the newest record name?
    Follower,
}

/// What the disk has said: an error text means that the operation may or may not have happened.
pub type DiskResult<T> = Result<T, String>;

/// What is asked of the disk.
#[derive(Debug, Clone)]
pub enum DiskRequest {
    /// Read all registers. The read begins after every earlier request was carried out.
    ReadRegisters(Reader),
    /// Read the newest membership record of all areas.
    ReadMembership(RecordReader),
    /// Read the configuration of this revision.
    ReadConfiguration(RecordReader, Revision),
    /// Write a configuration, durably; of the older ones only `keep` is still needed.
    WriteConfiguration {
        /// What to write.
        record: Arc<ConfigurationRecord>,
        /// The configuration that the newest committed record names.
        keep: Revision,
    },
    /// Write a membership record into this node's area.
    WriteMembership {
        /// What to write.
        record: Arc<MembershipRecord>,
        /// It must survive loss of power.
        durable: bool,
    },
}

/// What the disk answers; each request has one answer.
#[derive(Debug, Clone)]
pub enum DiskAnswer {
    /// To [`DiskRequest::ReadRegisters`].
    Registers(Reader, DiskResult<Arc<RegistersReading>>),
    /// To [`DiskRequest::ReadMembership`]: the newest valid record of all areas.
    Membership(RecordReader, DiskResult<Option<MembershipRecord>>),
    /// To [`DiskRequest::ReadConfiguration`]: the record of that revision, if it is on the disk.
    Configuration(RecordReader, DiskResult<Option<ConfigurationRecord>>),
    /// To [`DiskRequest::WriteConfiguration`].
    ConfigurationWritten(DiskResult<()>),
    /// To [`DiskRequest::WriteMembership`].
    MembershipWritten(DiskResult<()>),
}

/// What happens to the machine.
#[derive(Debug, Clone)]
pub enum ManagerInput {
    /// Time passes; every [`TICK_MS`](super::TICK_MS).
    Tick,
    /// A reading that the machine has not asked for: the one of a renewal.
    Registers(Arc<RegistersReading>),
    /// The lease was lost, or is valid.
    LeaseChanged {
        /// Valid.
        valid: bool,
    },
    /// An authenticated connection to this incarnation stands.
    Up(NodeIncarnation),
    /// The last connection to this incarnation has closed.
    Down(NodeIncarnation),
    /// A message of that incarnation, authenticated.
    Received {
        /// Sender.
        from: NodeIncarnation,
        /// What it said.
        message: MembershipMessage,
    },
    /// A heartbeat of that incarnation.
    Heartbeat {
        /// Sender.
        from: NodeIncarnation,
        /// Newest record it has processed.
        seen: Revision,
    },
    /// A subsystem of this node has ended a step.
    Answered(SubsystemAcknowledged),
    /// The death of this incarnation is proved.
    DeathProved {
        /// Who.
        victim: NodeIncarnation,
        /// How it is known.
        method: FenceMethod,
    },
    /// An administrator wants this node to leave gracefully, if it is a member. Answered by [`ManagerOutput::LeaveTaken`].
    Leave(NodeId),
    /// A part of this node says that a node must be forced out (protocol RL-8). Repeated while the need exists.
    Force {
        /// Who.
        victim: NodeIncarnation,
        /// Why.
        reason: String,
    },
    /// An administrator asks the master. Answered by [`ManagerOutput::Answer`] with the same number, exactly once.
    Ask {
        /// Number chosen by the caller; never used twice by one incarnation, ascending.
        counter: u64,
        /// What.
        request: MasterRequest,
    },
    /// A subsystem of this node registers at run time (protocol T-15), or again after its death (T-17). The caller has made sure
    /// that none that lives has the level. The answer is a notification, a refusal or [`ManagerOutput::Resume`].
    Register(LevelRegistration),
    /// The subsystem at that level wants to leave alone. Answered by [`ManagerOutput::Deregistered`].
    Withdraw(Level),
    /// The subsystem at that level has died without a leave (protocol T-17).
    Died {
        /// Which.
        level: Level,
        /// What becomes of it if it does not register again in time.
        policy: DeathPolicy,
    },
    /// Answer to [`ManagerOutput::Disk`].
    Disk(DiskAnswer),
    /// Answer to [`ManagerOutput::PublishClaim`]: a write that carries it has completed.
    ClaimPublished(DiskResult<()>),
    /// The time of [`ManagerOutput::ProbeLater`] has passed.
    Probe,
    /// Answer to [`ManagerOutput::StopLease`]: the last word is written, or cannot be.
    LeaseStopped,
}

/// What must be done, in this order.
#[derive(Debug, Clone)]
pub enum ManagerOutput {
    /// Ask the disk. It takes requests in the order in which they are given.
    Disk(DiskRequest),
    /// Write these fields into the own register soon; nobody waits for it.
    Publish(Publication),
    /// Write the claim into the own register, durably, and say when it is there.
    PublishClaim(Publication),
    /// Renew the lease at once: its reading shows what others claim.
    RenewLease,
    /// Write this last word into the own register and never write it again.
    StopLease(OwnState),
    /// Tell a peer, if it is connected. Senders repeat.
    Send {
        /// Receiver.
        to: NodeId,
        /// What to say.
        message: MembershipMessage,
    },
    /// Tell these peers, as far as they are connected, the committed record ([`MembershipMessage::Notify`]).
    Tell {
        /// Receivers.
        to: NodeSet,
        /// What they dispatch from.
        record: Arc<MembershipRecord>,
    },
    /// Notify a subsystem of this node.
    Notify(SubsystemNotification),
    /// The subsystem that registered again after its predecessor's death goes on from here (protocol T-17).
    Resume {
        /// Which.
        level: Level,
        /// What its predecessor had acknowledged.
        states: LevelStates,
    },
    /// The cluster does not take the subsystem that registered at that level.
    LevelRefused {
        /// Where.
        level: Level,
        /// Why.
        refusal: LevelRefusal,
    },
    /// The level has left this node: its subsystem is told nothing any more (protocol T-16).
    Deregistered(Level),
    /// Heartbeats say from now on that this record was processed.
    Seen(Revision),
    /// Requests go to this master from now on.
    MasterIs(NodeId),
    /// Beat these nodes; `None` = as usual.
    HeartbeatTargets(Option<NodeSet>),
    /// These victims need a proof of death; whoever is not named does not any more.
    SeekProofs(BTreeMap<NodeIncarnation, FenceTarget>),
    /// Whose lease has ended, and who is dead, for registration-and-launch.
    Leases {
        /// Nodes whose register has been silent for too long, or says that they are down.
        expired: NodeSet,
        /// Incarnations whose death is proved.
        dead: Vec<NodeIncarnation>,
        /// Incarnations that are out of the event-manager level for good. Nobody is notified of the end of a leave.
        gone: Vec<NodeIncarnation>,
    },
    /// Names, addresses, keys or settings have changed.
    ConfigurationChanged(Arc<ConfigurationRecord>),
    /// For whoever shows what happens.
    Happened {
        /// What.
        happening: Happening,
        /// This node is master: only the master sees every step.
        by_master: bool,
        /// Highest term known.
        term: Term,
    },
    /// This node's graceful leave begins. Said once.
    LeaveBegun,
    /// Answer to [`ManagerInput::Leave`].
    LeaveTaken(Result<(), String>),
    /// Answer to [`ManagerInput::Ask`].
    Answer {
        /// Number of the request.
        counter: u64,
        /// What the master has said, or that nobody has.
        answer: MasterAnswer,
    },
    /// Give [`ManagerInput::Probe`] after [`PROBE_MS`](super::PROBE_MS).
    ProbeLater,
    /// For the log.
    Remark(Remark),
    /// This node's membership has ended without a panic. The last output ever.
    Ended(End),
    /// This node is no longer fit and must stop at once. The last output ever.
    Panic {
        /// Why.
        reason: String,
    },
}

/// How a membership ends without a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The graceful leave is complete and said on the disk.
    Left,
    /// A subsystem of this node did not take its join (protocol T-24); its own words.
    JoinFailed(String),
    /// The cluster does not take this node.
    Refused(JoinRefusal),
}

/// Something that people who read the log want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// This node owns the term.
    Leads(Term),
    /// Another node owns or claims a newer term.
    Deposed {
        /// That term.
        by: Term,
    },
    /// Members are alive, so one of them must lead (protocol T-18).
    MembersLive,
    /// A member is being forced out.
    ForcingOut {
        /// Who.
        victim: NodeIncarnation,
        /// Why.
        reason: String,
    },
    /// A member ought to be forced out and is not, because those who would be left have no quorum (protocol §4.4). It is asked to
    /// panic by itself, again and again while the need exists.
    KeptForQuorum {
        /// Who.
        victim: NodeIncarnation,
        /// Why it ought to go.
        reason: String,
    },
    /// An administrator has confirmed a death (protocol §4.5, F5).
    DeathConfirmed {
        /// Who.
        victim: NodeIncarnation,
        /// By whose word.
        by: String,
    },
    /// The master does not let this node in, for now or for good.
    JoinRefused(JoinRefusal),
    /// Quorum was lost or is there again (protocol §4.4).
    Quorum {
        /// It is there.
        reached: bool,
        /// Votes present, the disk's included.
        votes: u32,
        /// Votes needed.
        needed: u32,
    },
    /// A transition does not advance.
    Overdue(Warning),
    /// The configuration that the newest record names cannot be read; it is tried again.
    ConfigurationUnreadable(String),
}
