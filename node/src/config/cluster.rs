//! Checks `[cluster]` with its `[[cluster.node]]`: the part of the membership database that administrators decide.

use std::path::PathBuf;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{NodeSettings, PanicPolicy};
use phalanx_messages::limits::NODES_MAX;

use super::check::{Mistakes, check_name, required};
use super::document::{Documents, Key};
use super::raw::{RawCluster, RawClusterNode, RawScalar};
use super::{ClusterConfig, ClusterNode, DiskVotes, event, fencing, names, service, subsystem};

/// Checks a file that has `[cluster]` and nothing of one node: what `config show` prints.
pub(super) fn check(documents: &Documents) -> Result<ClusterConfig, super::ConfigErrors> {
    let mut mistakes = Mistakes::new(documents);
    let raw = &documents.raw;
    let (cluster, nodes) = check_nodes(documents, &mut mistakes);
    let disk_votes = check_disk_votes(documents, &mut mistakes);
    if !raw.subsystem.is_empty() {
        let message = "[[subsystem]] has no place in a file for the whole cluster";
        mistakes.add(&["subsystem".into()], message, "write it into the file of each node");
    }
    let known = super::check::KnownNodes::new(&nodes);
    // Whether a node may exit is judged with its own file, which tells its timing.
    let services = service::check_all(&raw.service, &known, true, &mut mistakes);
    let events = event::check_all(raw, &known, event::Names::InTheFile, &mut mistakes);
    mistakes.ended(ClusterConfig { cluster, disk_votes, nodes, services, events })
}

/// Name of the cluster and its nodes, with their fence methods.
pub(super) fn check_nodes(documents: &Documents, mistakes: &mut Mistakes<'_>) -> (String, Vec<ClusterNode>) {
    let Some(raw) = &documents.raw.cluster else {
        mistakes.add(&[], "table [cluster] is missing", "see configs/node.toml for a whole file");
        return (String::new(), Vec::new());
    };
    let name = required(raw.name.clone(), "cluster", "name", "\"alpha\"", mistakes);
    check_name(&["cluster".into(), "name".into()], &name, mistakes);
    if raw.node.is_empty() {
        let hint = "add one [[cluster.node]] with name, id and address for each node";
        mistakes.add(&["cluster".into()], "no [[cluster.node]] is listed", hint);
    }
    let mut nodes = check_each(&raw.node, mistakes);
    fencing::check(documents.raw.fencing.as_ref(), &mut nodes, mistakes);
    (name, nodes)
}

/// Written for a disk that needs no votes.
pub const DISK_ALONE: &str = "alone";

/// A number of votes, or the word for a disk that decides alone.
pub(super) fn check_disk_votes(documents: &Documents, mistakes: &mut Mistakes<'_>) -> Option<DiskVotes> {
    let said = documents.raw.cluster.as_ref()?.disk_votes.as_ref()?;
    let votes = match said {
        RawScalar::Text(text) if text == DISK_ALONE => Some(DiskVotes(None)),
        RawScalar::Number(votes) => u16::try_from(*votes).ok().map(|votes| DiskVotes(Some(votes))),
        RawScalar::Text(_) | RawScalar::Flag(_) => None,
    };
    if votes.is_none() {
        let message = format!("disk_votes is `{said}`; it must be a number in 0..65535, or \"{DISK_ALONE}\"");
        let hint = "0 makes a majority cluster; leave the key out for a disk that decides alone";
        mistakes.add(&["cluster".into(), "disk_votes".into()], message, hint);
    }
    votes
}

/// Where a node finds the cluster key.
pub(super) fn check_key_file(documents: &Documents, raw: &RawCluster, mistakes: &mut Mistakes<'_>) -> PathBuf {
    let key_file = required(raw.key_file.clone(), "cluster", "key_file", "\"cluster.key\"", mistakes);
    documents.directory().join(key_file)
}

fn at(index: usize, key: &'static str) -> [Key<'static>; 4] {
    [Key::Name("cluster"), Key::Name("node"), index.into(), Key::Name(key)]
}

fn check_each(raw: &[RawClusterNode], mistakes: &mut Mistakes<'_>) -> Vec<ClusterNode> {
    let mut nodes = Vec::new();
    for (index, node) in raw.iter().enumerate() {
        check_name(&at(index, "name"), &node.name, mistakes);
        if let Some(message) = names::mistake_in_address("address", &node.address) {
            mistakes.add(&at(index, "address"), message, "as in `127.0.0.1:7600`");
        }
        check_clashes(raw, index, mistakes);
        let settings = check_settings(node, index, mistakes);
        match u16::try_from(node.id).ok().filter(|id| usize::from(*id) < NODES_MAX) {
            Some(id) => {
                let (name, address) = (node.name.clone(), node.address.clone());
                nodes.push(ClusterNode { name, id: NodeId(id), address, settings });
            }
            None => {
                let message = format!("id of node `{}` is {}; it must lie in 0..{}", node.name, node.id, NODES_MAX - 1);
                mistakes.add(&at(index, "id"), message, "number the nodes from 0");
            }
        }
    }
    nodes
}

fn check_clashes(raw: &[RawClusterNode], index: usize, mistakes: &mut Mistakes<'_>) {
    let node = &raw[index];
    for (before, other) in raw[..index].iter().enumerate() {
        let clashes = [
            ("name", node.name == other.name, node.name.clone()),
            ("id", node.id == other.id, node.id.to_string()),
            ("address", node.address == other.address, node.address.clone()),
        ];
        for (key, _, value) in clashes.into_iter().filter(|(_, same, _)| *same) {
            let message = format!("nodes `{}` and `{}` both have {key} {value}", other.name, node.name);
            mistakes.clash(&at(index, key), &at(before, key), message, format!("give each node its own {key}"));
        }
    }
}

fn check_settings(node: &RawClusterNode, index: usize, mistakes: &mut Mistakes<'_>) -> NodeSettings {
    let votes = node.votes.and_then(|votes| {
        let fits = u8::try_from(votes).ok();
        if fits.is_none() {
            let message = format!("votes of node `{}` is {votes}; it must lie in 0..255", node.name);
            mistakes.add(&at(index, "votes"), message, "leave the key out for 1");
        }
        fits
    });
    let panic = node.panic.as_deref().and_then(|panic| {
        let known = parse_panic(panic);
        if known.is_none() {
            let message = format!("panic `{panic}` of node `{}` is unknown", node.name);
            mistakes.add(&at(index, "panic"), message, "use one of exit, reboot, crash, watchdog");
        }
        known
    });
    let shutdown_ms = node
        .shutdown_timeout
        .as_ref()
        .map(|text| subsystem::timeout_ms(&at(index, "shutdown_timeout"), Some(text), 0, mistakes));
    let capacity = node.capacity.and_then(|capacity| {
        let fits = u32::try_from(capacity).ok();
        if fits.is_none() {
            let message = format!("capacity of node `{}` is {capacity}; it must lie in 0..{}", node.name, u32::MAX);
            mistakes.add(&at(index, "capacity"), message, "leave the key out for any weight");
        }
        fits
    });
    NodeSettings { votes, panic, shutdown_ms, watchdog_attested: node.watchdog_attested, fence: None, capacity }
}

/// A panic policy as it is written in files.
#[must_use]
pub fn parse_panic(text: &str) -> Option<PanicPolicy> {
    match text {
        "exit" => Some(PanicPolicy::Exit),
        "reboot" => Some(PanicPolicy::Reboot),
        "crash" => Some(PanicPolicy::Crash),
        "watchdog" => Some(PanicPolicy::Watchdog),
        _ => None,
    }
}
