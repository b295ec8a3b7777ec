//! I-F6, the half of it that needs no views: whoever stays after a decision about who is a member has quorum (protocol §4.4). That the
//! survivors are a clique is MC5's.

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::{MemberEntry, MembershipRecord, NodeState};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation};

/// What is wrong with a commit. `there` = who ran lately: one of them may have been heard, and have wanted in.
pub fn check(
    before: &MembershipRecord,
    after: &MembershipRecord,
    configuration: &ConfigurationRecord,
    there: &[NodeIncarnation],
) -> Vec<String> {
    let Some(disk_votes) = configuration.disk_votes else { return Vec::new() };
    let decided: Vec<NodeId> =
        after.nodes.iter().filter(|(node, entry)| is_decided(before, **node, entry)).map(|(node, _)| *node).collect();
    if decided.is_empty() {
        return Vec::new();
    }
    let votes = |nodes: &NodeSet| {
        let present = configuration.nodes.iter().filter(|(node, _)| nodes.contains(**node));
        present.map(|(_, node)| u32::from(node.votes)).sum::<u32>()
    };
    let expected = votes(&configuration.nodes.keys().copied().collect()) + u32::from(disk_votes);
    let stays: NodeSet = staying(after, there);
    let reached = votes(&stays) + u32::from(disk_votes);
    if 2 * reached > expected {
        return Vec::new();
    }
    vec![format!(
        "I-F6: record {} decides about {decided:?} with {reached} votes of {expected}, those of {stays:?}",
        after.revision
    )]
}

/// The node is marked, or let in.
fn is_decided(before: &MembershipRecord, node: NodeId, entry: &MemberEntry) -> bool {
    let known = before.nodes.get(&node).filter(|known| known.incarnation == entry.incarnation);
    let was = known.map_or(NodeState::Inactive, |known| known.state);
    matches!(entry.state, NodeState::Joining | NodeState::ForcedLeaving) && entry.state != was
}

/// Unmarked members, and whoever ran and is no victim.
fn staying(record: &MembershipRecord, there: &[NodeIncarnation]) -> NodeSet {
    let member = |state| matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
    let members = record.nodes.iter().filter(|(_, entry)| member(entry.state)).map(|(node, _)| *node);
    let wants_in = |who: &&NodeIncarnation| {
        let entry = record.nodes.get(&who.node).is_none_or(|entry| entry.incarnation < who.incarnation);
        entry && record.ghosts.get(&who.node).is_none_or(|ghost| ghost.incarnation < who.incarnation)
    };
    members.chain(there.iter().filter(wants_in).map(|who| who.node)).collect()
}
