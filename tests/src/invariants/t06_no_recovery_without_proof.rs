//! I-T6, I-F1: nobody recovers what a node left before its death is certain, and a proof is never of somebody who lives.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{MembershipRecord, TransitionKind};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_protocol::coordinator::level_states::victims;

pub(super) fn check(
    record: &MembershipRecord,
    notification: &SubsystemNotification,
    is_dead: &dyn Fn(NodeIncarnation) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for notice in notification.batch.iter().filter(|notice| notice.kind == TransitionKind::ForcedLeaving) {
        let who = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        let victim = victims(record).find(|victim| victim.step.transition == notice.id.transition);
        if !is_dead(who) {
            found.push(format!("I-T6: {who} is recovered at level {} and lives", notification.level));
        }
        if victim.is_none_or(|victim| !victim.fence.io_certain) {
            found.push(format!("I-T6: {who} is recovered at level {} without a proof", notification.level));
        }
    }
    found
}
