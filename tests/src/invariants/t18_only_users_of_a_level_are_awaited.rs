//! I-T18: every participant of a running step is Joining, Joined or Leaving at that level: nobody de-registered or marked is
//! awaited.

use phalanx_messages::membership::{LevelState, MembershipRecord};
use phalanx_protocol::coordinator::level_states::entry_state;

use super::running;

pub(super) fn check(record: &MembershipRecord) -> Vec<String> {
    let mut found = Vec::new();
    for (_, step) in running(record) {
        for node in step.participants.iter() {
            let there = entry_state(&record.nodes[&node], step.level);
            if !matches!(there, LevelState::Joining | LevelState::Joined | LevelState::Leaving) {
                found.push(format!("I-T18: node {node} is {there:?} and awaited by {step:?}"));
            }
        }
    }
    found
}
