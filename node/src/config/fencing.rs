//! Checks `[fencing]`: the fence methods of each node, in order, with what each agent is told (architecture §6).
//!
//! Secrets never get onto the shared disk: they are refused here and again by the master.

use std::collections::BTreeMap;

use phalanx_messages::configuration::{FenceAgent, is_secret};
use phalanx_messages::membership::Certainty;
use phalanx_protocol::configuration::{mistake_in_fence, secret_parameter};

use super::ClusterNode;
use super::check::Mistakes;
use super::document::Key;
use super::raw::{RawFencing, RawFencingNode, RawMethod};

fn at<'a>(index: usize, rest: &[&'a str]) -> Vec<Key<'a>> {
    let begin = [Key::Name("fencing"), Key::Name("node"), Key::Index(index)];
    begin.into_iter().chain(rest.iter().copied().map(Key::Name)).collect()
}

/// Gives each node its methods. Without `[fencing]` nothing is said of them.
pub(super) fn check(raw: Option<&RawFencing>, nodes: &mut [ClusterNode], mistakes: &mut Mistakes<'_>) {
    let Some(raw) = raw else { return };
    check_names(raw, nodes, mistakes);
    for node in nodes {
        let row = raw.node.iter().enumerate().find(|(_, row)| row.name == node.name);
        let methods = row.and_then(|(_, row)| row.methods.as_ref()).unwrap_or(&raw.methods);
        let levels = (0..).zip(methods);
        let fence: Vec<FenceAgent> = levels
            .flat_map(|(level, method)| method.agents().iter().map(move |agent| (level, agent)))
            .map(|(level, agent)| FenceAgent { level, ..method(agent, row.map(|(_, row)| row), &raw.storage) })
            .collect();
        if let Some((index, row)) = row {
            check_agents(index, row, methods, mistakes);
        }
        let secret = fence.iter().any(|method| method.parameters.keys().any(|name| is_secret(name)));
        if let Some(text) = mistake_in_fence(&fence).filter(|_| !secret) {
            let path =
                row.map_or_else(|| vec![Key::Name("fencing"), Key::Name("methods")], |(index, _)| at(index, &[]));
            mistakes.add(
                &path,
                format!("[fencing] {text} for node `{}`", node.name),
                "see [fencing] in configs/node.toml",
            );
        }
        node.settings.fence = Some(fence);
    }
}

fn check_names(raw: &RawFencing, nodes: &[ClusterNode], mistakes: &mut Mistakes<'_>) {
    for (index, row) in raw.node.iter().enumerate() {
        if !nodes.iter().any(|node| node.name == row.name) {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let message = format!("[[fencing.node]] names `{}`, which is no node", row.name);
            mistakes.add(&at(index, &["name"]), message, format!("the nodes are {}", known.join(", ")));
        }
        if let Some(before) = raw.node[..index].iter().position(|other| other.name == row.name) {
            let message = format!("two [[fencing.node]] name `{}`", row.name);
            mistakes.clash(&at(index, &["name"]), &at(before, &["name"]), message, "write one for each node");
        }
    }
}

fn method(agent: &str, row: Option<&RawFencingNode>, storage: &[String]) -> FenceAgent {
    let given = row.and_then(|row| row.agents.get(agent));
    let parameters = given.into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string()));
    let only_storage = is_known_for_storage(agent) || storage.iter().any(|name| name == agent);
    let proves = if only_storage { Certainty::Io } else { Certainty::Death };
    FenceAgent { parameters: parameters.collect::<BTreeMap<_, _>>(), proves, ..FenceAgent::new(agent) }
}

/// True for agents of the fence-agents project that shut a node out of its storage and leave its host running.
#[must_use]
pub fn is_known_for_storage(agent: &str) -> bool {
    const AGENTS: [&str; 6] =
        ["fence_scsi", "fence_mpath", "fence_brocade", "fence_sanbox2", "fence_cisco_mds", "fence_ifmib"];
    AGENTS.contains(&agent)
}

fn check_agents(index: usize, row: &RawFencingNode, methods: &[RawMethod], mistakes: &mut Mistakes<'_>) {
    for (agent, parameters) in &row.agents {
        if !methods.iter().any(|method| method.agents().contains(agent)) {
            let message = format!("`{agent}` of node `{}` has parameters and is not among its methods", row.name);
            let hint = format!("add \"{agent}\" to `methods` under [fencing], or to `methods` of this node");
            mistakes.add(&at(index, &["agents", agent]), message, hint);
        }
        for name in parameters.keys().filter(|name| is_secret(name)) {
            let message = format!("[fencing] {}", secret_parameter(agent, name));
            let hint = format!("move it to `fence.d/{}.toml`, mode 0600", row.name);
            mistakes.add_unseen(&at(index, &["agents", agent, name]), message, hint);
        }
    }
}
