//! What a node remembers of one transition, on its own clock (architecture §5, `trace`).
//!
//! Two hosts' clocks are not comparable, so every time here counts from the moment at which *this* node first saw the
//! transition. Whoever merges the traces of several nodes finds out how they lie to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, NodeIncarnation, NotificationId, TransitionId};
use crate::membership::TransitionKind;
use crate::set::NodeSet;

/// One step of a trace. Times are milliseconds since the trace began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTrace {
    /// The step.
    pub id: NotificationId,
    /// Who had to acknowledge.
    pub participants: NodeSet,
    /// When its record was first seen; on the master: when it was committed.
    pub begun_ms: u64,
    /// When each acknowledgement arrived; known on the node that was master then, and nowhere else.
    pub acknowledged_ms: BTreeMap<NodeId, u64>,
    /// When the next step or the end was seen.
    pub ended_ms: Option<u64>,
    /// When this node's own subsystem was notified, if it takes part.
    pub notified_ms: Option<u64>,
    /// When this node's own subsystem acknowledged.
    pub answered_ms: Option<u64>,
}

/// One transition from the first sight to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionTrace {
    /// The transition.
    pub id: TransitionId,
    /// The node in transition.
    pub subject: NodeIncarnation,
    /// What it does.
    pub kind: TransitionKind,
    /// Why, where a reason was given.
    pub reason: String,
    /// When it was first seen, on the clock of the node that saw it, in milliseconds.
    pub started_ms: u64,
    /// When this was told, in milliseconds since it was first seen.
    pub told_ms: u64,
    /// Its steps, in order.
    pub steps: Vec<StepTrace>,
    /// Steps that are no longer kept: the first ones.
    pub steps_dropped: u64,
    /// How long it took, once it has ended.
    pub elapsed_ms: Option<u64>,
}

/// Between membership managers, when somebody wants to see a trace. Changes nothing anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceMessage {
    /// What do you remember of that transition? Not repeated: whoever does not answer is named as missing.
    Ask {
        /// Counts the questions of the sender's incarnation.
        counter: u64,
        /// Which; the newest if none.
        which: Option<TransitionId>,
    },
    /// The answer; `None` = nothing of it is kept.
    Answer {
        /// To which question.
        counter: u64,
        /// What is remembered.
        trace: Option<Box<TransitionTrace>>,
    },
}
