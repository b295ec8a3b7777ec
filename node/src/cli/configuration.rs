//! `phalanx config show` and `phalanx config apply`: the membership configuration as a file, and back.

use std::collections::BTreeMap;
use std::path::Path;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{
    ConfigurationRecord, FenceAgent, NodeChange, NodeConfiguration, NodeSettings, PanicPolicy,
};
use phalanx_protocol::configuration::{difference, whole};
use serde_json::{Value, json};

use super::args::{Global, Output};
use super::client::Client;
use super::node::{EXIT_CONFIGURATION, configuration_errors};
use super::{Exit, config_text, disk, locate, print};
use crate::config::{ClusterConfig, ClusterNode};

pub(super) fn show(from: Option<&Path>, global: &Global) -> Result<(), Exit> {
    let (record, services) = match from {
        Some(path) => disk::configuration_and_services(path)?,
        None => (locate::connect(global)?.configuration()?.record, Vec::new()),
    };
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&as_json(&record))?),
        Output::Text => anstream::print!("{}", config_text::whole(&record, &services)),
    }
    Ok(())
}

/// Stable keys; more may be added.
fn as_json(record: &ConfigurationRecord) -> Value {
    let node = |(id, node): (&NodeId, &NodeConfiguration)| {
        json!({
            "name": node.name, "id": id, "address": node.address, "votes": node.votes, "panic": node.panic,
            "shutdown_ms": node.shutdown_ms, "watchdog_attested": node.watchdog_attested,
            "fence": node.fence, "has_key": node.public_key.is_some(),
        })
    };
    json!({
        "cluster": record.cluster,
        "revision": record.revision.to_string(),
        "nodes": record.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

/// What `config apply` would do to the nodes.
pub(super) struct NodePlan {
    pub changes: Vec<NodeChange>,
    /// Nodes of the cluster that the file does not name and that stay.
    pub left_alone: Vec<String>,
}

pub(super) fn apply(file: &Path, dry_run: bool, prune: bool, global: &Global) -> Result<(), Exit> {
    let wanted = ClusterConfig::load(file).map_err(|errors| configuration_errors(&errors))?;
    let mut client = locate::connect(global)?;
    let record = client.configuration()?.record;
    if wanted.cluster != record.cluster {
        let text = format!("{} is for cluster `{}`, and `{}` answers", file.display(), wanted.cluster, record.cluster);
        return Err(Exit::code(EXIT_CONFIGURATION, text).hint("`--socket` or `--dir` names another cluster"));
    }
    let plan = plan_nodes(&record, &wanted.nodes, prune)?;
    print_plan(&plan, &record, global.output)?;
    if plan.changes.is_empty() {
        anstream::eprintln!("nothing to change; nothing was committed");
        return Ok(());
    }
    apply_nodes(&mut client, &record, plan.changes, dry_run)
}

/// The difference between the nodes of a file and those of the database. What the file does not say stays as it is.
pub(super) fn plan_nodes(record: &ConfigurationRecord, wanted: &[ClusterNode], prune: bool) -> Result<NodePlan, Exit> {
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
    let NodeSettings { votes, panic, shutdown_ms, watchdog_attested, fence } = node.settings.clone();
    Ok(NodeConfiguration {
        address: node.address.clone(),
        votes: votes.unwrap_or(known.votes),
        panic: panic.unwrap_or(known.panic),
        shutdown_ms: shutdown_ms.unwrap_or(known.shutdown_ms),
        watchdog_attested: watchdog_attested.unwrap_or(known.watchdog_attested),
        fence: fence.unwrap_or_else(|| known.fence.clone()),
        ..known.clone()
    })
}

/// Carries a plan out in one commit.
pub(super) fn apply_nodes(
    client: &mut Client,
    base: &ConfigurationRecord,
    changes: Vec<NodeChange>,
    dry_run: bool,
) -> Result<(), Exit> {
    match client.change(Some(base.revision), changes, dry_run)? {
        Some(revision) => anstream::eprintln!("committed as configuration {revision}"),
        None if dry_run => anstream::eprintln!("would be accepted; nothing was committed (--dry-run)"),
        None => anstream::eprintln!("nothing to change; nothing was committed"),
    }
    Ok(())
}

fn print_plan(plan: &NodePlan, record: &ConfigurationRecord, output: Output) -> Result<(), Exit> {
    match output {
        Output::Json => {
            let changes: Vec<Value> = plan.changes.iter().map(|change| change_json(change, record)).collect();
            anstream::println!("{}", print::json(&json!({ "changes": changes, "left_alone": plan.left_alone }))?);
        }
        Output::Text => {
            for line in plan.changes.iter().flat_map(|change| change_lines(change, record)) {
                anstream::println!("{line}");
            }
        }
    }
    for name in &plan.left_alone {
        anstream::eprintln!("node {name} is not in the file and is left alone; --prune removes it");
    }
    Ok(())
}

/// One key of a node before and after, as text.
struct KeyChange {
    key: &'static str,
    before: Option<String>,
    after: String,
}

fn key_changes(
    before: Option<&NodeConfiguration>,
    address: Option<&String>,
    settings: &NodeSettings,
) -> Vec<KeyChange> {
    let known = before.map(whole);
    let known = |text: &dyn Fn(&NodeSettings) -> Option<String>| known.as_ref().and_then(text);
    let of = |key, text: &dyn Fn(&NodeSettings) -> Option<String>| {
        text(settings).map(|after| KeyChange { key, before: known(text), after })
    };
    let address = address.map(|after| KeyChange {
        key: "address",
        before: before.map(|node| node.address.clone()),
        after: after.clone(),
    });
    [
        address,
        of("votes", &|settings| settings.votes.map(|votes| votes.to_string())),
        of("panic", &|settings| settings.panic.map(|panic| panic_text(panic).to_owned())),
        of("shutdown_timeout", &|settings| settings.shutdown_ms.map(config_text::duration)),
        of("watchdog_attested", &|settings| settings.watchdog_attested.map(|attested| attested.to_string())),
        of("fencing", &|settings| settings.fence.as_deref().map(fence_text)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) const fn panic_text(panic: PanicPolicy) -> &'static str {
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

fn change_lines(change: &NodeChange, record: &ConfigurationRecord) -> Vec<String> {
    let before = record.id_of(change.node()).and_then(|id| record.nodes.get(&id));
    match change {
        NodeChange::Remove { name } => vec![format!("- node {name}")],
        NodeChange::Add { name, id, address, settings } => {
            let id = id.map_or_else(String::new, |id| format!(" id {id}"));
            let keys = key_changes(None, Some(address), settings);
            let keys: Vec<String> = keys.iter().map(|it| format!("{} {}", it.key, it.after)).collect();
            vec![format!("+ node {name}{id} {}", keys.join(" "))]
        }
        NodeChange::Set { name, address, settings } => {
            let line = |it: &KeyChange| {
                format!("~ node {name} {} {} -> {}", it.key, it.before.clone().unwrap_or_default(), it.after)
            };
            key_changes(before, address.as_ref(), settings).iter().map(line).collect()
        }
    }
}

fn change_json(change: &NodeChange, record: &ConfigurationRecord) -> Value {
    let before = record.id_of(change.node()).and_then(|id| record.nodes.get(&id));
    let keys = |before, address, settings| {
        let keys = key_changes(before, address, settings);
        let keys = keys.into_iter().map(|it| json!({ "key": it.key, "before": it.before, "after": it.after }));
        keys.collect::<Vec<_>>()
    };
    match change {
        NodeChange::Remove { name } => json!({ "change": "remove", "node": name }),
        NodeChange::Add { name, id, address, settings } => {
            json!({ "change": "add", "node": name, "id": id, "keys": keys(None, Some(address), settings) })
        }
        NodeChange::Set { name, address, settings } => {
            json!({ "change": "set", "node": name, "keys": keys(before, address.as_ref(), settings) })
        }
    }
}
