//! Where a service may run, and where it should (spec, "2. Choosing Parameters"; protocol §6.2).

use phalanx_messages::order::Unfit;
use phalanx_messages::registration::{ServiceRun, View};
use phalanx_messages::service::{AllowableNodes, NodePreferences, ServiceDefinition};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation};

/// `node` is allowable and not disallowed.
pub(super) fn is_allowable(definition: &ServiceDefinition, node: NodeId) -> bool {
    let allowable = match &definition.allowable_nodes {
        AllowableNodes::Any => true,
        AllowableNodes::Listed(nodes) => nodes.contains(&node),
    };
    allowable && !definition.disallowable_nodes.contains(&node)
}

/// `cand(s)`: allowable nodes that take services.
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

/// `node` takes services, and nobody else is at the level (protocol RL-8).
#[must_use]
pub fn is_only_member(view: &View, node: NodeId) -> bool {
    view.is_up(node) && view.nodes.keys().all(|other| *other == node || !view.is_present(*other))
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

/// `choose(s)`: the target of a transfer first, then by preference, then by node id. Load is not looked at yet.
pub(super) fn choose(definition: &ServiceDefinition, run: &ServiceRun, among: &NodeSet) -> Option<NodeId> {
    let target = run.target.filter(|node| among.contains(*node));
    target.or_else(|| best(definition, among))
}

/// The most preferred; ties go to the lowest id.
pub(super) fn best(definition: &ServiceDefinition, among: &NodeSet) -> Option<NodeId> {
    among.iter().min_by_key(|node| (rank(definition, *node), *node))
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
