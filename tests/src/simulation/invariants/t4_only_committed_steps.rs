//! I-T4: no node holds a step that is in no committed record.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::notification::SubsystemNotification;

use crate::simulation::truth::{Truth, key};

pub fn check(who: NodeIncarnation, notification: &SubsystemNotification, truth: &Truth) -> Vec<String> {
    let unknown = notification.batch.iter().filter(|notice| !truth.steps.contains(&key(&notice.id)));
    unknown.map(|notice| format!("I-T4: {who} is notified of {notice:?}, which no record has")).collect()
}
