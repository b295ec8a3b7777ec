//! What goes into the machine and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder};
use phalanx_messages::registration::{
    CommandKind, DecisionRegister, Instance, OperationResult, Order, RegistrationMessage, RegistrationRecord,
};
use phalanx_messages::{NodeId, NodeIncarnation, OperationId, Revision};

use super::registered::RegisteredHere;
use crate::registration::{LeaseSigns, SightChange};

/// Who waits for the newest database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegistrationReader {
    /// The decision machine.
    Decisions,
    /// The first change of the level: whoever was there and is not there now, is gone.
    StartingTable,
    /// This node, to know what is committed.
    Follower,
}

/// A disk request that reads; answered by [`LauncherInput::DecisionsRead`] or [`LauncherInput::RegistrationRead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LauncherRead {
    /// All decision registers.
    Decisions,
    /// The newest database.
    Registration(RegistrationReader),
}

/// A disk request that writes; answered by [`LauncherInput::Written`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LauncherWrite {
    /// This node's decision register. It must survive loss of power: a claim that is forgotten would be made twice.
    Decision(DecisionRegister),
    /// This node's copy of the database.
    Registration {
        /// What to write.
        record: Arc<RegistrationRecord>,
        /// It must survive loss of power.
        durable: bool,
    },
}

/// What happens to the machine. Errors are texts; a write that failed may have happened.
#[derive(Debug, Clone)]
pub enum LauncherInput {
    /// Time passes; at least each I/O time-out.
    Tick,
    /// Leases have changed, as the membership manager sees it.
    Leases(LeaseSigns),
    /// Names have changed.
    Configuration(Arc<ConfigurationRecord>),
    /// How hard this node's processors, memory and disks are pressed, 0 to 10, smoothed. Told again and again.
    Pressed(u8),
    /// The level has changed. Answered by [`LauncherOutput::Adopted`] when it is adopted, and, for the second barrier of this
    /// node's own leave, when nothing is placed here any more (protocol RL-6).
    Adopt {
        /// Names the answer; never 0.
        change: u64,
        /// What.
        sights: SightChange,
    },
    /// An authenticated connection to this incarnation stands.
    Up(NodeIncarnation),
    /// A message of that incarnation.
    Received {
        /// Sender.
        from: NodeIncarnation,
        /// What it said.
        message: RegistrationMessage,
    },
    /// A service of this node has ended a command. Repeated until the database has consumed it.
    Reported(OperationResult),
    /// An administrator's order. Answered by [`LauncherOutput::Answer`] with the same number, exactly once.
    Ask {
        /// Number chosen by the caller; never used twice by one incarnation, ascending.
        counter: u64,
        /// What.
        order: RegistrationOrder,
    },
    /// Answer to [`LauncherRead::Decisions`].
    DecisionsRead(Result<BTreeMap<NodeId, Option<DecisionRegister>>, String>),
    /// Answer to [`LauncherRead::Registration`].
    RegistrationRead(RegistrationReader, Result<Option<RegistrationRecord>, String>),
    /// Answer to [`LauncherOutput::Write`].
    Written(Result<(), String>),
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum LauncherOutput {
    /// Read from the disk.
    Read(LauncherRead),
    /// Write to the disk.
    Write(LauncherWrite),
    /// Tell a peer, if it is connected. Senders repeat.
    Send {
        /// Receiver.
        to: NodeId,
        /// What to say.
        message: RegistrationMessage,
    },
    /// Carry this out, if the gate is open: it was committed, and it is for this incarnation.
    Perform {
        /// What.
        order: Box<Order>,
        /// Name of the node whose loss is recovered.
        victim: Option<String>,
    },
    /// Tell a service that there is a newer database.
    DatabaseSeen {
        /// The service's instance, or the service of which this node runs one for another node.
        instance: Instance,
        /// The database's revision.
        revision: Revision,
        /// Results of this node that it waits for.
        awaited: BTreeSet<(CommandKind, OperationId)>,
        /// The service is defined. One that was removed ends with its last result.
        defined: bool,
    },
    /// Tell a service where it is registered at this incarnation of this node, and how it is defined; none = it is not. Said when
    /// it changes.
    Registered {
        /// Which machine of the service.
        instance: Instance,
        /// Where, and how it is defined.
        here: Option<Box<RegisteredHere>>,
    },
    /// This node can't let go of a service and must be forced out (protocol RL-8). Repeated while the need exists.
    Force {
        /// Who.
        victim: NodeIncarnation,
        /// Why.
        reason: String,
    },
    /// For whoever shows what happens.
    Happened {
        /// The service.
        service: String,
        /// Node it concerns, if one.
        node: Option<NodeId>,
        /// One line for people.
        text: String,
    },
    /// Answer to [`LauncherInput::Adopt`].
    Adopted(u64),
    /// Answer to [`LauncherInput::Ask`]: the committed database has consumed the order, or it was not carried out.
    Answer {
        /// Number of the order.
        counter: u64,
        /// How it ended.
        answer: Result<(), OrderFailure>,
    },
    /// A newer database is committed: for whoever watches by it.
    Committed(Arc<RegistrationRecord>),
    /// Who decides now, as far as this node knows; for the log.
    Leader(Option<NodeId>),
    /// A disk request has failed and is tried again; for the log.
    DiskFailed(String),
}

/// Why an order was not carried out, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderFailure {
    /// Nothing has changed.
    Refused(OrderRefusal),
    /// Nobody has decided about it in time. It is not repeated any more, but may still be carried out.
    NoDecision,
}
