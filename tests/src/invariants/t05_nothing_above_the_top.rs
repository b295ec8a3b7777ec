//! I-T5: a forced leave is never told to a level above the highest one that ever heard of its node.

use phalanx_messages::membership::{MembershipRecord, TransitionKind};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_protocol::coordinator::level_states::victims;

pub(super) fn check(record: &MembershipRecord, notification: &SubsystemNotification) -> Vec<String> {
    let forced = notification.batch.iter().filter(|notice| notice.kind == TransitionKind::ForcedLeaving);
    let above = |notice: &&phalanx_messages::notification::TransitionNotice| {
        let victim = victims(record).find(|victim| victim.step.transition == notice.id.transition);
        victim.is_none_or(|victim| victim.top < Some(notification.level))
    };
    forced.filter(above).map(|notice| format!("I-T5: {notice:?} is above the top of its node")).collect()
}
