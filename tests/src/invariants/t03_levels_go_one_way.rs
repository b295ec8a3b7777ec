//! I-T3: within one transition joins and forced leaves ascend the levels, and leaves descend them.

use phalanx_messages::membership::{MembershipRecord, TransitionKind};
use phalanx_protocol::coordinator::level_states::step_of;

use super::subjects;

pub(super) fn check(before: &MembershipRecord, after: &MembershipRecord) -> Vec<String> {
    let mut found = Vec::new();
    for (subject, step) in subjects(before) {
        let Some(now) = step_of(after, subject).filter(|now| now.transition == step.transition) else { continue };
        let wrong = match step.kind {
            TransitionKind::Leaving => now.level > step.level,
            TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::ForcedLeaving => {
                now.level < step.level
            }
        };
        if wrong {
            found.push(format!("I-T3: {step:?} became {now:?}"));
        }
    }
    found
}
