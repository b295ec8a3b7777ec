//! I-T22: all transitions of a batch complete a level in one commit.

use phalanx_messages::membership::{MembershipRecord, Step, StepPhase, TransitionKind};
use phalanx_protocol::coordinator::level_states::{Subject, step_of};

use super::{has_advanced, subjects};

pub(super) fn check(before: &MembershipRecord, after: &MembershipRecord) -> Vec<String> {
    let completed = |subject: Subject, step: &Step| {
        let now = step_of(after, subject);
        has_advanced(step, now) && now.is_none_or(|now| (now.transition, now.level) != (step.transition, step.level))
    };
    let of_batch = |step: &Step| (step.level, step.kind == TransitionKind::ForcedLeaving);
    let notifying = || subjects(before).filter(|(_, step)| step.phase == StepPhase::Notifying);
    let mut found = Vec::new();
    for (_, step) in notifying().filter(|(subject, step)| completed(*subject, step)) {
        for (other, mate) in notifying().filter(|(_, mate)| of_batch(mate) == of_batch(step)) {
            if step_of(after, other).is_some_and(|now| now.notification() == mate.notification()) {
                found.push(format!("I-T22: {step:?} completed its level without {mate:?}"));
            }
        }
    }
    found
}
