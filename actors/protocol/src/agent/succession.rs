//! Incarnations that have been replaced, of which an agent need know nothing any more.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::MembershipRecord;

/// No newer incarnation has replaced this one, or its recovery is not over.
pub(super) fn is_current(record: &MembershipRecord, who: &NodeIncarnation) -> bool {
    record.nodes.get(&who.node).is_none_or(|entry| entry.incarnation <= who.incarnation)
        || record.ghosts.get(&who.node).is_some_and(|ghost| ghost.incarnation == who.incarnation)
}

/// The newer record may have replaced an incarnation that the older one had. Most records only move a step.
pub(super) fn replaces_somebody(older: &MembershipRecord, newer: &MembershipRecord) -> bool {
    let sizes = |record: &MembershipRecord| (record.nodes.len(), record.ghosts.len());
    sizes(older) != sizes(newer) || incarnations(older).ne(incarnations(newer))
}

/// Of the entries, then of the ghosts.
fn incarnations(record: &MembershipRecord) -> impl Iterator<Item = NodeIncarnation> {
    let entries = record.nodes.iter().map(|(node, entry)| (*node, entry.incarnation));
    let ghosts = record.ghosts.iter().map(|(node, ghost)| (*node, ghost.incarnation));
    entries.chain(ghosts).map(|(node, incarnation)| NodeIncarnation { node, incarnation })
}
