//! I-T19: when a node becomes `Inactive`, no subsystem of a live member still sees that incarnation.

use phalanx_messages::membership::{LevelState, MembershipRecord, NodeState};
use phalanx_messages::{Level, NodeId, NodeIncarnation};
use phalanx_protocol::coordinator::level_states::entry_state;

use super::{View, Views};

/// What one commit lets the live member `id`, whose subsystems know `views`, see wrongly from then on.
#[must_use]
pub fn t19_the_inactive_are_forgotten(
    before: &MembershipRecord,
    after: &MembershipRecord,
    id: NodeId,
    views: &Views,
) -> Vec<String> {
    if before.formation != after.formation {
        return Vec::new(); // T-18: who was lost is still to be recovered, as a ghost
    }
    let state = |record: &MembershipRecord, node| record.nodes.get(&node).map(|entry| entry.state);
    let gone = before.nodes.iter().filter(|(node, entry)| {
        entry.state != NodeState::Inactive && state(after, **node) == Some(NodeState::Inactive)
    });
    let gone: Vec<_> =
        gone.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation }).collect();
    let mut found = Vec::new();
    for level in users(after, id, views) {
        for who in gone.iter().filter(|who| who.node != id) {
            let view = views.get(&(level, *who)).copied().unwrap_or_default();
            if view != View::Inactive {
                found.push(format!("I-T19: {who} is gone, and level {level} of node {id} sees it as {view:?}"));
            }
        }
    }
    found
}

/// Levels at which that member is, and knows that it is.
fn users(record: &MembershipRecord, id: NodeId, views: &Views) -> Vec<Level> {
    let Some(entry) = record.nodes.get(&id) else { return Vec::new() };
    let me = NodeIncarnation { node: id, incarnation: entry.incarnation };
    let is_there = |level: &Level| {
        let told = views.get(&(*level, me)).is_some_and(|view| *view != View::Inactive);
        told && entry_state(entry, *level) != LevelState::Inactive
    };
    entry.levels.iter().copied().filter(is_there).collect()
}
