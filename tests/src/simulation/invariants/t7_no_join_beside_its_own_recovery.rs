//! I-T7: nothing joins while an earlier incarnation of the same node is being recovered; the ghost of a forming master excepted.

use phalanx_messages::membership::{MembershipRecord, NodeState};

use crate::simulation::truth::Truth;

pub fn check(record: &MembershipRecord, truth: &Truth) -> Vec<String> {
    let forming = truth.owners.get(&record.formation).map(|owner| owner.node);
    let joining = record.nodes.iter().filter(|(_, entry)| entry.state == NodeState::Joining);
    let beside = joining.filter(|(node, _)| record.ghosts.contains_key(node) && Some(**node) != forming);
    beside
        .map(|(node, _)| format!("I-T7: node {node} joins beside its own ghost in record {}", record.revision))
        .collect()
}
