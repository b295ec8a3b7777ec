//! What a membership manager tells a registered subsystem, and what it expects back (spec, Table 1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Level, NodeId, NodeIncarnation, NotificationId};
use crate::membership::{LevelState, TransitionKind};
use crate::set::NodeSet;

/// One transitional node in a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TransitionNotice {
    /// The step; the acknowledgement repeats it.
    pub id: NotificationId,
    /// The node in transition.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// What it is doing.
    pub kind: TransitionKind,
    /// This replaces a notification that the subsystem may still be processing: abort that one (spec, Table 1,
    /// "Allowed Re-notifications").
    pub renotification: bool,
}

/// State of every node at one level, with the incarnation meant (protocol T-6).
pub type LevelStates = BTreeMap<NodeId, (Incarnation, LevelState)>;

/// A notification to the subsystem at one level of one node: all transitions of one batch, handled as one unit
/// (protocol T-5), with the state of every node at this level as context (protocol T-6).
///
/// Sent by the membership manager to the level's actor. May repeat; the subsystem answers each notice once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "actix", derive(actix::Message), rtype(result = "()"))]
pub struct SubsystemNotification {
    /// The level addressed.
    pub level: Level,
    /// The transitions to process; never empty (protocol I-T15).
    pub batch: Vec<TransitionNotice>,
    /// State of every node at this level, context only.
    pub states: LevelStates,
    /// Everybody who processes this batch.
    pub participants: NodeSet,
    /// Term in which the cluster was formed (protocol §6.2, formation id).
    pub formation: crate::ids::Term,
}

/// How a subsystem ended the processing of one notice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SubsystemAnswer {
    /// Processed.
    Acknowledged,
    /// Could not be processed, and why (architecture §3).
    Failed {
        /// What the administrator reads.
        text: String,
    },
}

/// The subsystem at `id.level` of this node has ended the processing of one notice.
///
/// Sent by a level's actor to its membership manager. Safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "actix", derive(actix::Message), rtype(result = "()"))]
pub struct SubsystemAcknowledged {
    /// The node in transition.
    pub subject: NodeIncarnation,
    /// The step.
    pub id: NotificationId,
    /// How it ended.
    pub answer: SubsystemAnswer,
}
