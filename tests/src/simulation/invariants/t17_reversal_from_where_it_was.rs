//! I-T17: a join that turns into a leave begins it at the highest level where the node is joined: where its step was, once that is
//! acknowledged, else at the next level below (protocol T-12).

use phalanx_messages::membership::{LevelState, MembershipRecord, NodeState};
use phalanx_protocol::coordinator::level_states::entry_state;

/// A record is committed after another one.
pub fn check(before: &MembershipRecord, after: &MembershipRecord) -> Vec<String> {
    let mut found = Vec::new();
    for (node, entry) in after.nodes.iter().filter(|(_, entry)| entry.state == NodeState::Leaving) {
        let Some(joining) = before.nodes.get(node).filter(|before| before.incarnation == entry.incarnation) else {
            continue;
        };
        let (Some(was), Some(is)) = (&joining.step, &entry.step) else { continue };
        if joining.state != NodeState::Joining {
            continue;
        }
        let reached = |level: phalanx_messages::Level| {
            level == was.level && entry_state(joining, level) == LevelState::Joining
                || entry_state(joining, level) == LevelState::Joined
        };
        let highest = joining.levels.iter().copied().filter(|level| reached(*level)).max();
        if highest != Some(is.level) {
            found
                .push(format!("I-T17: node {node} was at {was:?}, and its leave begins at {is:?}, not at {highest:?}"));
        }
    }
    found
}
