//! Where a service may run, and where it should (spec, "2. Choosing Parameters"; protocol §6.2).

use std::collections::BTreeMap;

use phalanx_messages::order::Unfit;
use phalanx_messages::registration::View;
use phalanx_messages::service::{AllowableNodes, NodePreferences, ServiceDefinition};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation};

use super::index::Index;
use crate::bugs::{self, Bug};

/// A node of which no capacity is said counts as this large when loads are compared.
const CAPACITY_COMPARED: u64 = 100;

/// What is known of the nodes beside the view when a node is chosen: an input of the decision, so that the rule stays pure.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NodeLoads {
    /// How hard each is pressed, 0 to 10, smoothed (spec: "recent performance statistics of particular nodes").
    pub pressure: BTreeMap<NodeId, u8>,
    /// Weight that each takes at most; a node that is not named takes any.
    pub capacity: BTreeMap<NodeId, u32>,
}

impl NodeLoads {
    /// Compared among equally preferred nodes; the smallest is taken.
    pub(super) fn score(&self, index: &Index, node: NodeId) -> (u8, u64) {
        self.score_without(index, node, 0)
    }

    /// The same, without so much of what the node carries.
    pub(super) fn score_without(&self, index: &Index, node: NodeId, weight: u64) -> (u8, u64) {
        let capacity = self.capacity.get(&node).map_or(CAPACITY_COMPARED, |capacity| u64::from(*capacity).max(1));
        let pressure = self.pressure.get(&node).copied().unwrap_or(0);
        (pressure, index.weight_on(node).saturating_sub(weight).saturating_mul(1_000) / capacity)
    }

    /// The node has room for that much more.
    pub(super) fn fits(&self, index: &Index, node: NodeId, weight: u64) -> bool {
        let capacity = self.capacity.get(&node).copied();
        capacity.is_none_or(|capacity| index.weight_on(node).saturating_add(weight) <= u64::from(capacity))
    }
}

/// `node` is allowable and not disallowed.
pub(super) fn is_allowable(definition: &ServiceDefinition, node: NodeId) -> bool {
    let allowable = match &definition.allowable_nodes {
        AllowableNodes::Any => true,
        AllowableNodes::Listed(nodes) => nodes.contains(&node),
    };
    allowable && (!definition.disallowable_nodes.contains(&node) || bugs::active(Bug::DisallowedTaken))
}

/// `cand(s)`: allowable nodes that take services. Of the root of the group; nothing else has choosing parameters.
#[must_use]
pub fn candidates(definition: &ServiceDefinition, view: &View, standby: &NodeSet) -> NodeSet {
    view.up().filter(|node| is_allowable(definition, *node) && !standby.contains(*node)).collect()
}

/// Why `node` is none of the [`candidates`]; none = it is one.
#[must_use]
pub fn unfit(definition: &ServiceDefinition, view: &View, standby: &NodeSet, node: NodeId) -> Option<Unfit> {
    if definition.disallowable_nodes.contains(&node) {
        Some(Unfit::Disallowed)
    } else if !is_allowable(definition, node) {
        Some(Unfit::NotAllowable)
    } else if !view.is_present(node) {
        Some(Unfit::Down)
    } else if !view.is_up(node) {
        Some(Unfit::Leaving)
    } else {
        standby.contains(node).then_some(Unfit::Standby)
    }
}

/// Nobody else is at the level (protocol RL-8). One that leaves counts as well: nobody could take over from it, so it is never
/// forced out (T-24), and must be able to let go of what it cannot stop.
#[must_use]
pub fn is_only_member(view: &View, node: NodeId) -> bool {
    view.is_present(node) && view.nodes.keys().all(|other| *other == node || !view.is_present(*other))
}

/// The rule of protocol §6.2, `mature(s)`, without the elapsed time, which is an event.
pub(super) fn is_mature(definition: &ServiceDefinition, candidates: &NodeSet) -> bool {
    let unconditional = definition.maturity_count.is_none() && definition.maturity_time_ms.is_none();
    let enough = definition.maturity_count.is_some_and(|count| candidates.len() >= usize::from(count));
    !candidates.is_empty() && (unconditional || enough || is_primary_available(definition, candidates))
}

/// Ordered preferences: the first node that may run it is up; unordered: all of them are; none: never.
fn is_primary_available(definition: &ServiceDefinition, candidates: &NodeSet) -> bool {
    let allowed = |nodes: &[NodeId]| -> Vec<NodeId> {
        nodes.iter().copied().filter(|node| is_allowable(definition, *node)).collect()
    };
    match &definition.node_preferences {
        NodePreferences::None => false,
        NodePreferences::Ordered(nodes) => allowed(nodes).first().is_some_and(|node| candidates.contains(*node)),
        NodePreferences::Unordered(nodes) => {
            let nodes = allowed(nodes);
            !nodes.is_empty() && nodes.iter().all(|node| candidates.contains(*node))
        }
    }
}

/// The most preferred; then the least loaded; ties go to the lowest id.
pub(super) fn best(
    definition: &ServiceDefinition,
    among: &NodeSet,
    score: impl Fn(NodeId) -> (u8, u64),
) -> Option<NodeId> {
    among.iter().min_by_key(|node| (rank(definition, *node), score(*node), *node))
}

/// 0 = most preferred.
pub(super) fn rank(definition: &ServiceDefinition, node: NodeId) -> usize {
    match &definition.node_preferences {
        NodePreferences::None => 0,
        NodePreferences::Ordered(nodes) => nodes.iter().position(|other| *other == node).unwrap_or(nodes.len()),
        NodePreferences::Unordered(nodes) => usize::from(!nodes.contains(&node)),
    }
}

/// The incarnation of `node` that the view knows.
pub(super) fn incarnation_of(view: &View, node: NodeId) -> NodeIncarnation {
    NodeIncarnation { node, incarnation: view.incarnation(node) }
}
