//! I-F5: an incarnation that was marked never becomes a member again.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{MembershipRecord, NodeState};

use crate::simulation::truth::Truth;

pub fn check(record: &MembershipRecord, truth: &Truth) -> Vec<String> {
    let member = |state| matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
    let members = record.nodes.iter().filter(|(_, entry)| member(entry.state));
    let members = members.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation });
    let marked = members.filter(|who| truth.marked.contains(who));
    marked.map(|who| format!("I-F5: {who} was marked and is a member in record {}", record.revision)).collect()
}
