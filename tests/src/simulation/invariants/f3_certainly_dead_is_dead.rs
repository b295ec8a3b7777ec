//! I-F3: no process of an incarnation runs whose death is certain.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::MembershipRecord;

use crate::simulation::truth::Truth;

pub fn check(record: &MembershipRecord, truth: &Truth) -> Vec<String> {
    let entries = record.nodes.iter().filter(|(_, entry)| entry.fence.death_certain);
    let entries = entries.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation });
    let ghosts = record.ghosts.iter().filter(|(_, ghost)| ghost.fence.death_certain);
    let ghosts = ghosts.map(|(node, ghost)| NodeIncarnation { node: *node, incarnation: ghost.incarnation });
    let alive = entries.chain(ghosts).filter(|who| !truth.is_dead(*who));
    alive.map(|who| format!("I-F3: the death of {who} is certain in record {}, and it runs", record.revision)).collect()
}
