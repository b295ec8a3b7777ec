//! What `config apply` would do to the nodes: the difference of a file and the database, in words and as changes.

use std::collections::BTreeMap;

use phalanx_messages::configuration::{
    ConfigurationRecord, FenceAgent, NodeChange, NodeConfiguration, NodeSettings, PanicPolicy,
};
use phalanx_protocol::configuration::{difference, whole};

use super::report::NodeDifference;
use crate::cli::Exit;
use crate::cli::node::EXIT_CONFIGURATION;
use crate::config::{ClusterNode, DiskVotes, KeyDifference};

/// What `config apply` would do to the nodes, and to the votes of the disk.
pub(in crate::cli) struct NodePlan {
    pub changes: Vec<NodeChange>,
    /// Nodes of the cluster that the file does not name and that stay.
    pub left_alone: Vec<String>,
}

/// The difference between the nodes of a file and those of the database. What the file does not say stays as it is.
pub(in crate::cli) fn plan_nodes(
    record: &ConfigurationRecord,
    wanted: &[ClusterNode],
    prune: bool,
) -> Result<NodePlan, Exit> {
    let mut nodes = BTreeMap::new();
    for node in wanted {
        if let Some(id) = record.id_of(&node.name).filter(|id| *id != node.id) {
            let text = format!("id of node `{}` is {id} in the cluster and {} in the file", node.name, node.id);
            return Err(Exit::code(EXIT_CONFIGURATION, text)
                .hint("an id never changes; remove the node and add it again, or correct the file"));
        }
        let known = record.nodes.get(&node.id).filter(|known| known.name == node.name);
        if let Some(other) = record.nodes.get(&node.id).filter(|known| known.name != node.name) {
            let text =
                format!("id {} of node `{}` belongs to node `{}` in the cluster", node.id, node.name, other.name);
            return Err(Exit::code(EXIT_CONFIGURATION, text).hint("give each node its own id"));
        }
        nodes.insert(node.id, as_wanted(node, known, record)?);
    }
    let names: Vec<&String> = wanted.iter().map(|node| &node.name).collect();
    let unnamed = record.nodes.iter().filter(|(_, node)| !names.contains(&&node.name));
    let left_alone: Vec<String> = if prune {
        Vec::new()
    } else {
        let unnamed: Vec<_> = unnamed.collect();
        nodes.extend(unnamed.iter().map(|(id, node)| (**id, (*node).clone())));
        unnamed.into_iter().map(|(_, node)| node.name.clone()).collect()
    };
    Ok(NodePlan { changes: difference(&record.nodes, &nodes), left_alone })
}

fn as_wanted(
    node: &ClusterNode,
    known: Option<&NodeConfiguration>,
    record: &ConfigurationRecord,
) -> Result<NodeConfiguration, Exit> {
    let Some(known) = known else {
        let mut policies = record.nodes.values().map(|node| node.panic);
        let first = policies.next();
        let common = first.filter(|first| policies.all(|policy| policy == *first));
        if node.settings.panic.or(common).is_none() {
            let text = format!("the nodes have different panic policies, so new node `{}` must choose", node.name);
            return Err(Exit::code(EXIT_CONFIGURATION, text).hint("add `panic` to its [[cluster.node]]"));
        }
        return Ok(node.configuration(common));
    };
    let NodeSettings { votes, panic, shutdown_ms, watchdog_attested, fence, capacity } = node.settings.clone();
    Ok(NodeConfiguration {
        address: node.address.clone(),
        votes: votes.unwrap_or(known.votes),
        panic: panic.unwrap_or(known.panic),
        shutdown_ms: shutdown_ms.unwrap_or(known.shutdown_ms),
        watchdog_attested: watchdog_attested.unwrap_or(known.watchdog_attested),
        fence: fence.unwrap_or_else(|| known.fence.clone()),
        capacity: capacity.unwrap_or(known.capacity),
        ..known.clone()
    })
}

/// The change of the disk's votes, if the file says them and the database has others.
pub(super) fn plan_disk_votes(record: &ConfigurationRecord, wanted: Option<DiskVotes>) -> Option<NodeChange> {
    let votes = wanted?.0;
    (votes != record.disk_votes).then_some(NodeChange::DiskVotes { votes })
}

/// What changes about the cluster as a whole.
pub(super) fn cluster_difference(changes: &[NodeChange], record: &ConfigurationRecord) -> Vec<KeyDifference> {
    let votes = changes.iter().filter_map(|change| match change {
        NodeChange::DiskVotes { votes } => Some(*votes),
        NodeChange::Add { .. } | NodeChange::Remove { .. } | NodeChange::Set { .. } => None,
    });
    let key = |votes| KeyDifference {
        key: "disk_votes".to_owned(),
        before: Some(DiskVotes(record.disk_votes).to_string()),
        after: Some(DiskVotes(votes).to_string()),
    };
    votes.map(key).collect()
}

/// One change of a node, as it is printed; none for those of the cluster.
pub(super) fn difference_of(change: &NodeChange, record: &ConfigurationRecord) -> Option<NodeDifference> {
    let node = change.node()?;
    let before = record.id_of(node).and_then(|id| record.nodes.get(&id));
    let (kind, keys) = match change {
        NodeChange::Remove { .. } => ("removed", Vec::new()),
        NodeChange::Add { id, address, settings, .. } => {
            let id = id.map(|id| KeyDifference { key: "id".to_owned(), before: None, after: Some(id.to_string()) });
            ("added", id.into_iter().chain(key_changes(None, Some(address), settings)).collect())
        }
        NodeChange::Set { address, settings, .. } => ("changed", key_changes(before, address.as_ref(), settings)),
        NodeChange::DiskVotes { .. } => return None,
    };
    Some(NodeDifference { node: node.to_owned(), kind: kind.to_owned(), keys })
}

fn key_changes(
    before: Option<&NodeConfiguration>,
    address: Option<&String>,
    settings: &NodeSettings,
) -> Vec<KeyDifference> {
    let known = before.map(whole);
    let known = |text: &dyn Fn(&NodeSettings) -> Option<String>| known.as_ref().and_then(text);
    let of = |key: &str, text: &dyn Fn(&NodeSettings) -> Option<String>| {
        text(settings).map(|after| KeyDifference { key: key.to_owned(), before: known(text), after: Some(after) })
    };
    let address = address.map(|after| KeyDifference {
        key: "address".to_owned(),
        before: before.map(|node| node.address.clone()),
        after: Some(after.clone()),
    });
    [
        address,
        of("votes", &|settings| settings.votes.map(|votes| votes.to_string())),
        of("panic", &|settings| settings.panic.map(|panic| panic_text(panic).to_owned())),
        of("shutdown_timeout", &|settings| settings.shutdown_ms.map(crate::config::duration_text)),
        of("watchdog_attested", &|settings| settings.watchdog_attested.map(|attested| attested.to_string())),
        of("capacity", &|settings| settings.capacity.map(|capacity| capacity.to_string())),
        of("fencing", &|settings| settings.fence.as_deref().map(fence_text)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(in crate::cli) const fn panic_text(panic: PanicPolicy) -> &'static str {
    match panic {
        PanicPolicy::Exit => "exit",
        PanicPolicy::Reboot => "reboot",
        PanicPolicy::Crash => "crash",
        PanicPolicy::Watchdog => "watchdog",
    }
}

fn fence_text(fence: &[FenceAgent]) -> String {
    let method = |method: &FenceAgent| {
        let parameters = method.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        format!("{}({})", method.agent, parameters.collect::<Vec<_>>().join(" "))
    };
    if fence.is_empty() { "none".to_owned() } else { fence.iter().map(method).collect::<Vec<_>>().join(", ") }
}
