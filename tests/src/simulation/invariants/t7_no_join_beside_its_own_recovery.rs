//! I-T7: nothing joins while an earlier incarnation of the same node is being recovered; the ghost of a forming master excepted.

use phalanx_messages::membership::{LevelState, MembershipRecord, NodeState};
use phalanx_protocol::coordinator::level_states::entry_state;

pub fn check(record: &MembershipRecord) -> Vec<String> {
    let joining = record.nodes.iter().filter(|(_, entry)| entry.state == NodeState::Joining);
    let beside = joining.filter(|(node, _)| record.ghosts.contains_key(node));
    // The forming master is the first member: nobody else has joined a level yet.
    let others = |node| {
        let joined = record.nodes.iter().filter(move |(other, _)| **other != node);
        joined.into_iter().any(|(_, entry)| record.levels.keys().any(|level| entry_state(entry, *level) == LevelState::Joined))
    };
    let wrong = beside.filter(|(node, _)| others(**node));
    wrong.map(|(node, _)| format!("I-T7: node {node} joins beside its own ghost in record {}", record.revision)).collect()
}
