//! I-T7: no subsystem is told of the join of a node while it still sees an earlier incarnation of it. The exception is the forming
//! master of a cold start, whose ghost is recovered after it has joined.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{MembershipRecord, TransitionKind};
use phalanx_messages::notification::SubsystemNotification;

use super::{View, Views};

/// What is wrong with the joins of a notification, made from `record`, for a subsystem that knows `views`.
#[must_use]
pub fn t07_no_join_over_an_old_one(
    record: &MembershipRecord,
    notification: &SubsystemNotification,
    views: &Views,
) -> Vec<String> {
    let mut found = Vec::new();
    let joins = |kind| matches!(kind, TransitionKind::Joining | TransitionKind::JoinExtending);
    for notice in notification.batch.iter().filter(|notice| joins(notice.kind)) {
        let joiner = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        let old = views.iter().filter(|((level, who), view)| {
            let earlier = who.node == joiner.node && who.incarnation < joiner.incarnation;
            *level == notification.level && earlier && **view != View::Inactive
        });
        for ((level, who), view) in old.filter(|_| !record.ghosts.contains_key(&joiner.node)) {
            found.push(format!("I-T7: {joiner} joins level {level}, which sees {who} as {view:?}"));
        }
    }
    found
}
