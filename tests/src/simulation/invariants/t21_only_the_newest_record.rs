//! I-T21: an agent dispatches only from the newest record that it has processed.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::notification::SubsystemNotification;

use crate::invariants::running;

/// A subsystem of a node is notified, and `newest` is what the node has processed.
pub fn check(who: NodeIncarnation, newest: &MembershipRecord, notification: &SubsystemNotification) -> Vec<String> {
    let runs = |notice: &&phalanx_messages::notification::TransitionNotice| {
        running(newest).any(|(_, step)| step.notification() == notice.id)
    };
    let stale = notification.batch.iter().filter(|notice| !runs(notice));
    stale
        .map(|notice| format!("I-T21: {who} dispatches {notice:?}, which is not in record {}", newest.revision))
        .collect()
}
