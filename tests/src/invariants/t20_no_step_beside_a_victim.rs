//! I-T20: while a step runs at a level, every victim that the level still has to recover is in the same batch. The exception is the
//! join that forms an empty level, where the victims are parked (T-19).

use phalanx_messages::membership::{MembershipRecord, Step, StepPhase, TransitionKind};
use phalanx_protocol::coordinator::level_states::{Subject, members_at, victims};

use super::running;

pub(super) fn check(record: &MembershipRecord) -> Vec<String> {
    running(record).flat_map(|(subject, step)| outside_the_batch(record, subject, step)).collect()
}

fn outside_the_batch(record: &MembershipRecord, subject: Subject, step: &Step) -> Vec<String> {
    let forced = step.kind == TransitionKind::ForcedLeaving;
    victims(record)
        .filter(|victim| victim.subject != subject)
        .filter(|victim| victim.step.level <= step.level && victim.top.is_some_and(|top| step.level <= top))
        .filter(|victim| {
            let mate = forced && victim.step.level == step.level && victim.step.phase == StepPhase::Notifying;
            let forming = !forced
                && members_at(record, step.level).is_empty()
                && victim.step.level == step.level
                && victim.step.phase != StepPhase::Notifying;
            !(mate || forming)
        })
        .map(|victim| format!("I-T20: {step:?} runs beside {victim:?}"))
        .collect()
}
