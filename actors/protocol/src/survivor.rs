//! Who stays when links fail: the survivor rule (protocol §4.3).
//!
//! Every node publishes whom it hears in its register, so whoever decides sees the same graph. The survivors are a *clique*, not
//! a component, because every level needs messages from all to all. The rule is deterministic: any decider finds the same set.
//!
//! Pure. It says who should stay; the master marks the others in one commit.

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::set::NodeSet;

use crate::bugs::{self, Bug};

/// What is known of one member that is alive on the disk and whose view is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// It is `Joined`; others count only for the size of a clique.
    pub joined: bool,
    /// Its votes.
    pub votes: u8,
    /// Nodes that it hears.
    pub hears: NodeSet,
}

/// How good a clique is; greater is better, ties go to the smallest ids.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    votes: u32,
    has_master: bool,
    members: usize,
}

impl Worth {
    const fn with(self, view: &View, is_master: bool) -> Self {
        Self {
            votes: self.votes + if view.joined { view.votes as u32 } else { 0 },
            has_master: self.has_master || is_master,
            members: self.members + 1,
        }
    }
}

/// The members that stay (protocol §4.3). A link counts only if both ends hear each other.
#[must_use]
pub fn survivors(views: &BTreeMap<NodeId, View>, master: Option<NodeId>) -> NodeSet {
    let links = links(views);
    let everybody: NodeSet = views.keys().copied().collect();
    let mut search = Search { views, links: &links, master, best: (Worth::default(), NodeSet::EMPTY) };
    search.grow(NodeSet::EMPTY, Worth::default(), everybody);
    search.best.1
}

/// Nobody has to go.
#[must_use]
pub fn is_whole(views: &BTreeMap<NodeId, View>) -> bool {
    let everybody: NodeSet = views.keys().copied().collect();
    let reaches_all = |node: &NodeId, linked: &NodeSet| everybody.difference(linked).iter().all(|other| other == *node);
    if bugs::active(Bug::OneWayLinkCounts) {
        return links(views).iter().all(|(node, linked)| reaches_all(node, linked));
    }
    // Where each hears all the others, all are heard by each.
    views.iter().all(|(node, view)| reaches_all(node, &view.hears))
}

/// Who is linked with whom, in both directions.
fn links(views: &BTreeMap<NodeId, View>) -> BTreeMap<NodeId, NodeSet> {
    let hears = |from: NodeId, to: NodeId| views.get(&from).is_some_and(|view| view.hears.contains(to));
    let linked = |node: NodeId| {
        let both = |other: &NodeId| {
            let (to, from) = (hears(node, *other), hears(*other, node));
            *other != node && (to && from || (to || from) && bugs::active(Bug::OneWayLinkCounts))
        };
        views.keys().copied().filter(both).collect()
    };
    views.keys().map(|node| (*node, linked(*node))).collect()
}

/// Branch and bound over cliques, smallest ids first: of equally good ones the lexicographically smallest is met first.
struct Search<'a> {
    views: &'a BTreeMap<NodeId, View>,
    links: &'a BTreeMap<NodeId, NodeSet>,
    master: Option<NodeId>,
    best: (Worth, NodeSet),
}

impl Search<'_> {
    fn grow(&mut self, clique: NodeSet, worth: Worth, candidates: NodeSet) {
        if worth > self.best.0 {
            self.best = (worth, clique);
        }
        let mut left = candidates;
        while let Some(node) = left.iter().next() {
            if self.bound(worth, left) <= self.best.0 {
                return;
            }
            left.remove(node);
            let mut larger = clique;
            larger.insert(node);
            let worth = worth.with(&self.views[&node], self.master == Some(node));
            let linked = self.links[&node];
            self.grow(larger, worth, left.iter().filter(|other| linked.contains(*other)).collect());
        }
    }

    /// No clique of `clique` and some of `candidates` is worth more: nodes without a link between them (one colour) give one
    /// member and the most votes among them.
    fn bound(&self, worth: Worth, candidates: NodeSet) -> Worth {
        let mut colours: Vec<(NodeSet, u32)> = Vec::new();
        for node in candidates.iter() {
            let view = &self.views[&node];
            let votes = if view.joined { u32::from(view.votes) } else { 0 };
            let linked = self.links[&node];
            match colours.iter_mut().find(|(colour, _)| colour.difference(&linked) == *colour) {
                Some((colour, most)) => {
                    colour.insert(node);
                    *most = (*most).max(votes);
                }
                None => colours.push(([node].into_iter().collect(), votes)),
            }
        }
        Worth {
            votes: worth.votes + colours.iter().map(|(_, votes)| votes).sum::<u32>(),
            has_master: worth.has_master || self.master.is_some_and(|master| candidates.contains(master)),
            members: worth.members + colours.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` joined nodes with a vote each, all linked but for the cuts; a cut is one-way if it is given so.
    fn views(n: u16, cuts: &[(u16, u16)]) -> BTreeMap<NodeId, View> {
        let hears = |me: u16| {
            let cut = |other: &u16| cuts.contains(&(me, *other));
            (0..n).filter(|other| !cut(other)).map(NodeId).collect()
        };
        (0..n).map(|id| (NodeId(id), View { joined: true, votes: 1, hears: hears(id) })).collect()
    }

    fn both(cuts: &[(u16, u16)]) -> Vec<(u16, u16)> {
        cuts.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect()
    }

    fn between(side: &[u16], other: &[u16]) -> Vec<(u16, u16)> {
        both(&side.iter().flat_map(|a| other.iter().map(|b| (*a, *b))).collect::<Vec<_>>())
    }

    fn stay(views: &BTreeMap<NodeId, View>, master: Option<u16>) -> Vec<u16> {
        survivors(views, master.map(NodeId)).iter().map(|node| node.0).collect()
    }

    /// The table of protocol §4.3, A = 0, B = 1, ...; each row is named as there.
    #[test]
    fn the_table_of_the_survivor_rule() {
        let ab = both(&[(0, 1)]);
        let rows: [(&str, Vec<u16>, &[u16]); 10] = [
            ("A-B cut, both see C, C master", stay(&views(3, &ab), Some(2)), &[0, 2]),
            ("A-B cut, A master", stay(&views(3, &ab), Some(0)), &[0, 2]),
            ("A-B cut, B master", stay(&views(3, &ab), Some(1)), &[1, 2]),
            ("one-way A->B only", stay(&views(3, &[(1, 0)]), Some(2)), &[0, 2]),
            ("{A,B} | {C,D}, master in either: C", stay(&views(4, &between(&[0, 1], &[2, 3])), Some(2)), &[2, 3]),
            ("{A,B} | {C,D}, master in either: A", stay(&views(4, &between(&[0, 1], &[2, 3])), Some(0)), &[0, 1]),
            ("5 nodes 2 | 3, master in the 2", stay(&views(5, &between(&[0, 1], &[2, 3, 4])), Some(0)), &[2, 3, 4]),
            ("all links down", stay(&views(3, &both(&[(0, 1), (0, 2), (1, 2)])), Some(1)), &[1]),
            ("all links down, no master", stay(&views(3, &both(&[(0, 1), (0, 2), (1, 2)])), None), &[0]),
            ("nothing is cut", stay(&views(4, &[]), Some(3)), &[0, 1, 2, 3]),
        ];
        for (row, got, expected) in rows {
            assert_eq!(got, expected, "{row}");
        }
    }

    #[test]
    fn votes_go_before_the_master_and_nodes_in_transition_have_none() {
        let mut heavy = views(3, &between(&[0, 1], &[2]));
        heavy.get_mut(&NodeId(2)).unwrap().votes = 3;
        assert_eq!(stay(&heavy, Some(0)), [2]);
        heavy.get_mut(&NodeId(2)).unwrap().joined = false;
        assert_eq!(stay(&heavy, Some(2)), [0, 1]);
    }

    /// Every pair of 64 nodes has lost its own link: 2^32 cliques are equally large.
    #[test]
    fn many_cuts_in_a_large_cluster_are_decided_at_once() {
        let pairs: Vec<(u16, u16)> = (0..32).map(|pair| (2 * pair, 2 * pair + 1)).collect();
        let expected: Vec<u16> = (0..32).map(|pair| 2 * pair).collect();
        assert_eq!(stay(&views(64, &both(&pairs)), Some(0)), expected);
        // The master is preferred where nothing else decides.
        let with_master: Vec<u16> = (0..32).map(|pair| if pair == 7 { 15 } else { 2 * pair }).collect();
        assert_eq!(stay(&views(64, &both(&pairs)), Some(15)), with_master);
    }

    /// MC5, I-F6: every graph on four nodes, every master, against a search that tries every set.
    #[test]
    fn mc5_every_graph_on_four_nodes_gives_the_best_clique() {
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
        for graph in 0..1_u32 << pairs.len() {
            let cuts: Vec<(u16, u16)> =
                pairs.iter().enumerate().filter(|(bit, _)| graph >> bit & 1 == 1).map(|(_, pair)| *pair).collect();
            for joined in 0..16_u16 {
                let mut views = views(4, &both(&cuts));
                views.iter_mut().for_each(|(node, view)| view.joined = joined >> node.0 & 1 == 1);
                for master in [None, Some(0), Some(1), Some(2), Some(3)] {
                    assert_eq!(stay(&views, master), best_by_trying(&views, master), "{cuts:?} {joined:b} {master:?}");
                }
            }
            assert_eq!(is_whole(&self::views(4, &both(&cuts))), cuts.is_empty());
        }
    }

    fn best_by_trying(views: &BTreeMap<NodeId, View>, master: Option<u16>) -> Vec<u16> {
        let sets = (1..16_u16).map(|bits| (0..4).filter(|node| bits >> node & 1 == 1).collect::<Vec<u16>>());
        let linked =
            |a: u16, b: u16| views[&NodeId(a)].hears.contains(NodeId(b)) && views[&NodeId(b)].hears.contains(NodeId(a));
        let cliques = sets.filter(|set| set.iter().all(|a| set.iter().all(|b| a == b || linked(*a, *b))));
        let votes = |set: &[u16]| set.iter().filter(|node| views[&NodeId(**node)].joined).count();
        let key = |set: &Vec<u16>| {
            let has_master = master.is_some_and(|master| set.contains(&master));
            (votes(set), has_master, set.len(), std::cmp::Reverse(set.clone()))
        };
        cliques.max_by_key(key).unwrap_or_default()
    }
}
