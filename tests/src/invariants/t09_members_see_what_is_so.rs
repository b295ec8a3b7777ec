//! I-T9, I-T19: when everything has ended, every subsystem of a member sees what the record says, and nothing of the lost.

use std::collections::BTreeMap;

use phalanx_messages::membership::{LevelState, MembershipRecord, TransitionKind};
use phalanx_messages::{Level, NodeId, NodeIncarnation};
use phalanx_protocol::coordinator::level_states::{barriers, states};

use super::View;

/// What the subsystems of one node know.
pub type Views = BTreeMap<(Level, NodeIncarnation), View>;

/// What the subsystems of the member `id` see wrongly.
#[must_use]
pub fn at_rest(record: &MembershipRecord, id: NodeId, views: &Views) -> Vec<String> {
    let levels = record.nodes.get(&id).map(|entry| entry.levels.clone()).unwrap_or_default();
    let sees = |level: &Level| is_always_told(record, *level);
    levels.into_iter().filter(sees).flat_map(|level| at_level(record, id, views, level)).collect()
}

/// A level without barriers for some kind of transition is passed without a word, and may know less.
fn is_always_told(record: &MembershipRecord, level: Level) -> bool {
    let kinds = [TransitionKind::Joining, TransitionKind::Leaving, TransitionKind::ForcedLeaving];
    kinds.into_iter().all(|kind| barriers(record, level, kind) > 0)
}

fn at_level(record: &MembershipRecord, id: NodeId, views: &Views, level: Level) -> Vec<String> {
    let told = states(record, level);
    let mut found = Vec::new();
    for (node, (incarnation, state)) in &told {
        let who = NodeIncarnation { node: *node, incarnation: *incarnation };
        let view = views.get(&(level, who)).copied().unwrap_or_default();
        let right = if *state == LevelState::Joined { View::Joined } else { View::Inactive };
        if view != right {
            found.push(format!("I-T9: level {level} of node {id} sees {who} as {view:?}, the record says {state:?}"));
        }
    }
    for ((_, who), view) in views.iter().filter(|((at, _), view)| *at == level && **view != View::Inactive) {
        if told.get(&who.node).is_some_and(|(incarnation, _)| who.incarnation < *incarnation) {
            found.push(format!("I-T19: level {level} of node {id} still sees {who} as {view:?}"));
        }
    }
    found
}
