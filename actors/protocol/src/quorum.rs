//! Quorum: the votes that a master needs before it changes who is a member (protocol §4.4).
//!
//! The disk arbitrates between masters, so quorum is a policy, not what keeps two of them apart. By default the disk decides
//! alone; `disk_votes = 0` makes a majority cluster, which waits rather than let a minority go on.

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::set::NodeSet;

/// The votes of a configuration. Without one the disk decides alone, and each node has a vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quorum {
    disk_votes: Option<u32>,
    node_votes: BTreeMap<NodeId, u8>,
    /// Votes that are being committed.
    coming: Option<Box<Quorum>>,
}

impl Quorum {
    /// The votes that an administrator has given.
    #[must_use]
    pub fn of(configuration: &ConfigurationRecord) -> Self {
        Self {
            disk_votes: configuration.disk_votes.map(u32::from),
            node_votes: configuration.nodes.iter().map(|(id, node)| (*id, node.votes)).collect(),
            coming: None,
        }
    }

    /// A change of the votes is on its way. What is decided meanwhile is committed before it, with it or after it, so it must be
    /// right by both.
    #[must_use]
    pub fn changing_to(mut self, configuration: &ConfigurationRecord) -> Self {
        let coming = Self::of(configuration);
        self.coming = (coming != self).then(|| Box::new(coming));
        self
    }

    /// Votes of one node.
    #[must_use]
    pub fn of_node(&self, node: NodeId) -> u8 {
        self.node_votes.get(&node).copied().unwrap_or(1)
    }

    /// Votes that are there and votes needed, by the configuration that has not enough, if one has not.
    #[must_use]
    pub fn count(&self, present: &NodeSet) -> (u32, u32) {
        let coming = self.coming.as_ref().filter(|coming| !coming.is_reached_by(present));
        coming.map_or((self.votes(present), self.needed()), |coming| coming.count(present))
    }

    /// Votes needed: `floor((expected + 2) / 2)`.
    fn needed(&self) -> u32 {
        (self.all_nodes() + self.disk() + 2) / 2
    }

    /// Votes of these nodes, of those that are configured, and of the disk.
    fn votes(&self, present: &NodeSet) -> u32 {
        let configured = self.node_votes.iter().filter(|(node, _)| present.contains(**node));
        configured.map(|(_, votes)| u32::from(*votes)).sum::<u32>() + self.disk()
    }

    /// These nodes may decide who is a member.
    #[must_use]
    pub fn is_reached_by(&self, present: &NodeSet) -> bool {
        let reached = self.disk_votes.is_none() || self.votes(present) >= self.needed();
        reached && self.coming.as_ref().is_none_or(|coming| coming.is_reached_by(present))
    }

    fn all_nodes(&self) -> u32 {
        self.node_votes.values().copied().map(u32::from).sum()
    }

    fn disk(&self) -> u32 {
        self.disk_votes.unwrap_or_else(|| self.all_nodes().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::configuration::NodeConfiguration;

    fn quorum(disk_votes: Option<u16>, votes: &[u8]) -> Quorum {
        let node = |(id, votes): (u16, &u8)| {
            let node =
                NodeConfiguration { votes: *votes, ..NodeConfiguration::new(format!("n{id}"), format!("h:{id}")) };
            (NodeId(id), node)
        };
        let nodes = (0..).zip(votes).map(node).collect();
        Quorum::of(&ConfigurationRecord { disk_votes, nodes, ..ConfigurationRecord::default() })
    }

    #[test]
    fn the_table_of_quorum() {
        /// Votes of the disk and of the nodes, votes needed, who is present, enough.
        type Row = (Option<u16>, &'static [u8], u32, &'static [u16], bool);
        let rows: [Row; 14] = [
            (None, &[1, 1], 2, &[1], true),          // protocol §4.4: expected 3, quorum 2
            (None, &[1, 1, 1, 1, 1], 5, &[3], true), // any single node that owns the disk
            (None, &[3, 1, 1], 5, &[2], true),
            (None, &[0, 1], 1, &[0], true),       // as before there were disk votes
            (Some(2), &[1, 1, 1], 3, &[0], true), // N - 1, said
            (Some(1), &[1, 1, 1], 3, &[0], false),
            (Some(1), &[1, 1, 1], 3, &[0, 2], true),
            (Some(1), &[1, 1], 2, &[1], true), // the classical quorum disk of two nodes
            (Some(0), &[1, 1, 1], 2, &[1], false),
            (Some(0), &[1, 1, 1], 2, &[1, 2], true),
            (Some(0), &[1, 1, 1, 1], 3, &[0, 1], false), // half is no majority
            (Some(0), &[3, 1, 1], 3, &[0], true),
            (Some(0), &[3, 1, 1], 3, &[1, 2], false),
            (Some(0), &[1, 1, 1], 2, &[1, 9], false), // who is not configured has no vote
        ];
        for (disk_votes, votes, needed, present, enough) in rows {
            let quorum = quorum(disk_votes, votes);
            let present: NodeSet = present.iter().copied().map(NodeId).collect();
            let found = (quorum.needed(), quorum.is_reached_by(&present));
            assert_eq!(found, (needed, enough), "{disk_votes:?} {votes:?} {present:?}");
        }
    }

    /// Two disjoint sets never both have a majority.
    #[test]
    fn of_a_set_and_its_complement_at_most_one_is_a_majority() {
        for votes in [&[1, 1, 1][..], &[1, 1, 1, 1], &[2, 1, 1, 0], &[5, 1, 1, 1, 1]] {
            let quorum = quorum(Some(0), votes);
            let count = u16::try_from(votes.len()).unwrap();
            for bits in 0..1_u16 << count {
                let side = |bit| (0..count).filter(|node| bits >> node & 1 == bit).map(NodeId).collect::<NodeSet>();
                assert!(!(quorum.is_reached_by(&side(0)) && quorum.is_reached_by(&side(1))), "{votes:?} {bits:b}");
            }
        }
    }
}
