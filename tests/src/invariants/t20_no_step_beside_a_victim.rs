//! I-T20: while a step runs at a level, every victim that the level still has to recover is in the same batch. The exception is the
//! join that forms an empty level, where the victims are parked (T-19).

use phalanx_messages::Level;
use phalanx_messages::membership::{LevelState, MembershipRecord, Step, StepPhase, TransitionKind};
use phalanx_protocol::coordinator::level_states::{Subject, entry_state, ghost_state, members_at, victims};

use super::running;

pub(super) fn check(record: &MembershipRecord) -> Vec<String> {
    running(record).flat_map(|(subject, step)| outside_the_batch(record, subject, step)).collect()
}

fn outside_the_batch(record: &MembershipRecord, subject: Subject, step: &Step) -> Vec<String> {
    let forced = step.kind == TransitionKind::ForcedLeaving;
    victims(record)
        .filter(|victim| victim.subject != subject)
        .filter(|victim| state_at(record, victim.subject, step.level) == LevelState::ForcedLeaving)
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

/// `pls` of a victim: a level that it never had is not recovered, and what runs there is not beside it.
fn state_at(record: &MembershipRecord, victim: Subject, level: Level) -> LevelState {
    let state = match victim {
        Subject::Node(node) => record.nodes.get(&node).map(|entry| entry_state(entry, level)),
        Subject::Ghost(node) => record.ghosts.get(&node).map(|ghost| ghost_state(ghost, level)),
    };
    state.unwrap_or_default()
}
