//! I-T13: a member never acknowledges a step and then answers it otherwise. A refusal may become an acknowledgement: the step is
//! notified again (protocol T-24).

use phalanx_messages::NodeIncarnation;
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer};

use crate::simulation::truth::{Truth, key};

/// A node sends answers.
pub fn check(who: NodeIncarnation, answers: &[SubsystemAcknowledged], truth: &Truth) -> Vec<String> {
    let changed = answers.iter().filter(|answer| {
        answer.answer != SubsystemAnswer::Acknowledged && truth.said_done.contains(&(who, key(&answer.id)))
    });
    changed
        .map(|answer| format!("I-T13: {who} has acknowledged {:?} and says {:?}", answer.id, answer.answer))
        .collect()
}
