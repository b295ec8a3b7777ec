//! Subsystems of any kind: an actor of an embedding application, or a program outside the node, at a level of its own (protocol
//! T-15 to T-17; spec, Figs. 7a to 7c and 10).
//!
//! A subsystem is a mailbox that takes [`Notification`]s. What its handler returns is its acknowledgement. While it works,
//! [`Notification::abort`] tells it that a forced leave or a restart has overtaken the notification; whatever it returns then counts
//! for nobody. A mailbox that closes is a dead subsystem, and [`DeathPolicy`] says what becomes of its level.

mod adapter;

use actix::prelude::*;
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::notification::{LevelStates, TransitionNotice};
use phalanx_messages::peer::LevelRefusal;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, Term};
use tokio_util::sync::CancellationToken;

pub use phalanx_messages::subsystem::DeathPolicy;

pub(crate) use adapter::{Adapter, AdapterEdges, Detach};

/// Sent to a subsystem: process these transitions as one unit, for this level of this node.
///
/// `Ok` acknowledges it; the next barrier or level follows when every node has. An error is what the administrator reads, and the
/// notification comes again, but for the join of the own node, which is then given up (protocol T-24).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct Notification {
    /// Ascending for each subsystem.
    pub number: u64,
    /// The level addressed.
    pub level: Level,
    /// The transitions to process; never empty.
    pub batch: Vec<TransitionNotice>,
    /// State of every node at this level, context only (protocol T-6).
    pub states: LevelStates,
    /// Everybody who processes this batch.
    pub participants: NodeSet,
    /// Term in which the cluster was formed.
    pub formation: Term,
    /// Fires when a forced leave, or a restart, overtakes this notification.
    pub abort: CancellationToken,
}

/// Sent to a subsystem that wants to know, beside its notifications.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum SubsystemEvent {
    /// It goes on where a dead one was; what that one had acknowledged is this. What it had not answered follows (protocol T-17).
    Resumed(LevelStates),
    /// The cluster does not take it (protocol T-15); nothing follows.
    Refused {
        /// Why.
        refusal: LevelRefusal,
        /// Why, for people.
        text: String,
    },
    /// Its level has left this node, alone or with the node (protocol T-16); nothing follows.
    Withdrawn,
}

/// A subsystem to register.
#[derive(Debug, Clone)]
pub struct Subsystem {
    /// What it registers.
    pub registration: LevelRegistration,
    /// What becomes of its level when it dies.
    pub on_death: DeathPolicy,
    /// Where its notifications go.
    pub notifications: Recipient<Notification>,
    /// Where everything else goes.
    pub events: Option<Recipient<SubsystemEvent>>,
}

impl Subsystem {
    /// A subsystem that costs its node when it dies, and whose recovery waits until a victim is certainly dead.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        level: Level,
        barriers: BarrierCounts,
        notifications: Recipient<Notification>,
    ) -> Self {
        // Optional: unlike a built-in level, it may have no user left (protocol T-18).
        let registration =
            LevelRegistration { level, name: name.into(), barriers, needs: Certainty::Death, optional: true };
        Self { registration, on_death: DeathPolicy::ForceNode, notifications, events: None }
    }

    /// What becomes of its level when it dies.
    #[must_use]
    pub const fn on_death(mut self, policy: DeathPolicy) -> Self {
        self.on_death = policy;
        self
    }

    /// What its recovery waits for.
    #[must_use]
    pub const fn needs(mut self, needs: Certainty) -> Self {
        self.registration.needs = needs;
        self
    }

    /// Tells `events` of everything that is no notification.
    #[must_use]
    pub fn events(mut self, events: Recipient<SubsystemEvent>) -> Self {
        self.events = Some(events);
        self
    }
}

/// Sent by an embedder or the local socket to the membership manager: this subsystem registers. Answered at once (spec, Figs. 7a
/// to 7c); the notification of its own join, or [`SubsystemEvent::Refused`], comes to its mailbox.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), RegisterError>")]
pub struct RegisterSubsystem(pub Subsystem);

/// Sent by an embedder or the local socket to the membership manager: the level of this node leaves alone. The notifications of
/// that leave come to its mailbox, then [`SubsystemEvent::Withdrawn`].
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), RegisterError>")]
pub struct WithdrawSubsystem(pub Level);

/// Sent by the adapter of a subsystem to the membership manager: its mailbox has closed.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct SubsystemDied {
    /// Its level.
    pub level: Level,
    /// Which registration at that level.
    pub registered: u64,
}

/// Why this node does not even ask the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The level is the node's own.
    #[error("level {0} is built in; a subsystem takes any other level")]
    BuiltIn(Level),
    /// Somebody living has the level.
    #[error("level {level} of this node is in use by `{name}`")]
    InUse {
        /// The level.
        level: Level,
        /// Who has it.
        name: String,
    },
    /// Nobody has registered at the level at run time.
    #[error("level {0} of this node has no subsystem that could leave alone")]
    NotRegistered(Level),
    /// The node is not there any more.
    #[error("the node is ending")]
    Ending,
}
