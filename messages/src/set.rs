//! A set of nodes as a bitmap, fixed in size so that a register always fits its block.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::limits::NODES_MAX;

const WORDS: usize = NODES_MAX / 64;

/// A set of node ids below [`NODES_MAX`], iterated in ascending order.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeSet([u64; WORDS]);

impl NodeSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds `node`; true if it was not there. Ids at or beyond the limit are never members.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let Some((word, bit)) = place(node) else { return false };
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// Empties the set.
    pub fn clear(&mut self) {
        *self = Self::EMPTY;
    }

    /// Removes `node`; true if it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let Some((word, bit)) = place(node) else { return false };
        let there = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        there
    }

    /// True if `node` is in the set.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        place(node).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// True if no node is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Number of nodes in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The nodes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + use<> {
        let set = *self;
        (0..NODES_MAX)
            .map(|index| NodeId(u16::try_from(index).unwrap_or(u16::MAX)))
            .filter(move |node| set.contains(*node))
    }

    /// True if every node of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// The nodes in either set.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
        self
    }

    /// The nodes of this set that are not in `other`.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine &= !theirs);
        self
    }
}

fn place(node: NodeId) -> Option<(usize, u64)> {
    let index = usize::from(node.0);
    (index < NODES_MAX).then_some((index / 64, 1 << (index % 64)))
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<T: IntoIterator<Item = NodeId>>(nodes: T) -> Self {
        let mut set = Self::EMPTY;
        for node in nodes {
            set.insert(node);
        }
        set
    }
}

impl Extend<NodeId> for NodeSet {
    fn extend<T: IntoIterator<Item = NodeId>>(&mut self, nodes: T) {
        for node in nodes {
            self.insert(node);
        }
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|node| node.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_set_and_ignores_ids_beyond_the_limit() {
        let mut set: NodeSet = [NodeId(3), NodeId(200), NodeId(0)].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [NodeId(0), NodeId(3), NodeId(200)]);
        assert!(!set.insert(NodeId(3)) && !set.insert(NodeId(256)) && !set.contains(NodeId(256)));
        assert!(set.remove(NodeId(3)) && !set.remove(NodeId(3)));
        assert_eq!(set.len(), 2);
        let other: NodeSet = [NodeId(0)].into_iter().collect();
        assert!(other.is_subset(&set) && !set.is_subset(&other));
        assert_eq!(set.difference(&other).iter().collect::<Vec<_>>(), [NodeId(200)]);
        assert_eq!(set.union(&other), set);
    }
}
