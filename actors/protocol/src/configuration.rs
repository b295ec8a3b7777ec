//! Changes of the membership configuration (protocol §2, "MA and CF together"; spec: the membership database holds what is
//! needed to boot, shut down or panic a node).
//!
//! Always holds: names, ids and addresses are unique; at least one node stays; no active node and no node with a ghost is
//! removed; everything fits the configuration area.
//!
//! Never: commits. The master applies a change to the newest configuration and commits the result, then the membership record
//! that names it.

use std::collections::BTreeMap;

use phalanx_messages::configuration::{
    ChangeRefusal, ConfigurationRecord, FenceAgent, NodeChange, NodeConfiguration, NodeSettings, PanicPolicy, is_secret,
};
use phalanx_messages::limits::{
    ADDRESS_BYTES_MAX, FENCE_BYTES_MAX, FENCE_METHODS_MAX, FENCE_PARAMETERS_MAX, NAME_BYTES_MAX,
};
use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::{NodeId, Revision};

/// `record` after `changes`, all of them or none. Revision and consumed changes stay the caller's.
///
/// The rules hold for the result as a whole, so two nodes can swap their addresses in one change.
///
/// # Errors
/// The first [`ChangeRefusal`].
pub fn change(
    record: &ConfigurationRecord,
    membership: &MembershipRecord,
    nodes_max: u16,
    changes: &[NodeChange],
) -> Result<ConfigurationRecord, ChangeRefusal> {
    let mut changed = record.clone();
    for change in changes {
        match change {
            NodeChange::Add { name, id, address, settings } => {
                add(&mut changed, nodes_max, name, *id, address, settings)?;
            }
            NodeChange::Remove { name } => remove(&mut changed, membership, name)?,
            NodeChange::Set { name, address, settings } => set(&mut changed, name, address.as_deref(), settings)?,
            NodeChange::DiskVotes { votes } => changed.disk_votes = *votes,
        }
    }
    if let Some(name) = record.nodes.values().next().map(|node| node.name.clone()).filter(|_| changed.nodes.is_empty())
    {
        return Err(ChangeRefusal::LastNode { name });
    }
    check_addresses(&changed)?;
    changed.nodes.values().try_for_each(check_values)?;
    Ok(changed)
}

/// True if both say the same of every node and of the disk; revision and consumed changes do not count.
#[must_use]
pub fn same_settings(one: &ConfigurationRecord, other: &ConfigurationRecord) -> bool {
    one.nodes == other.nodes && one.disk_votes == other.disk_votes
}

/// The changes that turn the nodes of `from` into those of `to`, as far as an administrator decides them: a static key is the
/// node's own. Removals first, so that names, ids and addresses are free.
#[must_use]
pub fn difference(
    from: &BTreeMap<NodeId, NodeConfiguration>,
    to: &BTreeMap<NodeId, NodeConfiguration>,
) -> Vec<NodeChange> {
    let same = |id: &NodeId, node: &NodeConfiguration, other: &BTreeMap<NodeId, NodeConfiguration>| {
        other.get(id).is_some_and(|there| there.name == node.name)
    };
    let gone = from.iter().filter(|(id, node)| !same(id, node, to));
    let gone = gone.map(|(_, node)| NodeChange::Remove { name: node.name.clone() });
    let changed = to.iter().filter(|(id, node)| same(id, node, from)).filter_map(|(id, node)| {
        let (address, settings) = differing(&from[id], node);
        let differs = address.is_some() || settings != NodeSettings::default();
        differs.then(|| NodeChange::Set { name: node.name.clone(), address, settings })
    });
    let new = to.iter().filter(|(id, node)| !same(id, node, from)).map(|(id, node)| NodeChange::Add {
        name: node.name.clone(),
        id: Some(*id),
        address: node.address.clone(),
        settings: whole(node),
    });
    gone.chain(changed).chain(new).collect()
}

/// Every setting of a node, as a change that would give it.
#[must_use]
pub fn whole(node: &NodeConfiguration) -> NodeSettings {
    NodeSettings {
        votes: Some(node.votes),
        panic: Some(node.panic),
        shutdown_ms: Some(node.shutdown_ms),
        watchdog_attested: Some(node.watchdog_attested),
        fence: Some(node.fence.clone()),
        capacity: Some(node.capacity),
    }
}

fn differing(from: &NodeConfiguration, to: &NodeConfiguration) -> (Option<String>, NodeSettings) {
    let settings = NodeSettings {
        votes: (from.votes != to.votes).then_some(to.votes),
        panic: (from.panic != to.panic).then_some(to.panic),
        shutdown_ms: (from.shutdown_ms != to.shutdown_ms).then_some(to.shutdown_ms),
        watchdog_attested: (from.watchdog_attested != to.watchdog_attested).then_some(to.watchdog_attested),
        fence: (from.fence != to.fence).then(|| to.fence.clone()),
        capacity: (from.capacity != to.capacity).then_some(to.capacity),
    };
    ((from.address != to.address).then(|| to.address.clone()), settings)
}

fn add(
    record: &mut ConfigurationRecord,
    nodes_max: u16,
    name: &str,
    id: Option<NodeId>,
    address: &str,
    settings: &NodeSettings,
) -> Result<(), ChangeRefusal> {
    let name = name.to_owned();
    if let Some(id) = record.id_of(&name) {
        return Err(ChangeRefusal::NameTaken { name, id });
    }
    let id = match id {
        Some(id) if id.0 >= nodes_max => return Err(ChangeRefusal::IdTooHigh { name, id, nodes_max }),
        Some(id) => id,
        None => lowest_free(record, nodes_max).ok_or(ChangeRefusal::Full { nodes_max })?,
    };
    if let Some(other) = record.nodes.get(&id) {
        return Err(ChangeRefusal::IdTaken { name, id, other: other.name.clone() });
    }
    let panic = settings.panic.or_else(|| common_panic(record));
    let Some(panic) = panic else { return Err(ChangeRefusal::PanicNotChosen { name }) };
    let mut node = NodeConfiguration { panic, ..NodeConfiguration::new(name, address) };
    give(&mut node, settings);
    record.nodes.insert(id, node);
    Ok(())
}

fn lowest_free(record: &ConfigurationRecord, nodes_max: u16) -> Option<NodeId> {
    (0..nodes_max).map(NodeId).find(|id| !record.nodes.contains_key(id))
}

/// The policy of all nodes, if they have one.
fn common_panic(record: &ConfigurationRecord) -> Option<PanicPolicy> {
    let mut policies = record.nodes.values().map(|node| node.panic);
    let first = policies.next()?;
    policies.all(|policy| policy == first).then_some(first)
}

fn remove(record: &mut ConfigurationRecord, membership: &MembershipRecord, name: &str) -> Result<(), ChangeRefusal> {
    let id = known(record, name)?;
    let state = membership.nodes.get(&id).map_or(NodeState::Inactive, |entry| entry.state);
    let name = name.to_owned();
    match state {
        NodeState::Inactive => {}
        NodeState::Joining | NodeState::Joined | NodeState::Leaving | NodeState::ForcedLeaving => {
            return Err(ChangeRefusal::Active { name, state });
        }
    }
    if membership.ghosts.contains_key(&id) {
        return Err(ChangeRefusal::Haunted { name });
    }
    record.nodes.remove(&id);
    record.consumed.remove(&id);
    Ok(())
}

fn set(
    record: &mut ConfigurationRecord,
    name: &str,
    address: Option<&str>,
    settings: &NodeSettings,
) -> Result<(), ChangeRefusal> {
    let id = known(record, name)?;
    if let Some(node) = record.nodes.get_mut(&id) {
        if let Some(address) = address {
            node.address = address.to_owned();
        }
        give(node, settings);
    }
    Ok(())
}

fn known(record: &ConfigurationRecord, name: &str) -> Result<NodeId, ChangeRefusal> {
    record.id_of(name).ok_or_else(|| {
        let known: Vec<&str> = record.nodes.values().map(|node| node.name.as_str()).collect();
        ChangeRefusal::Unknown { name: name.to_owned(), known: known.join(", ") }
    })
}

fn give(node: &mut NodeConfiguration, settings: &NodeSettings) {
    let NodeSettings { votes, panic, shutdown_ms, watchdog_attested, fence, capacity } = settings;
    node.capacity = capacity.unwrap_or(node.capacity);
    node.votes = votes.unwrap_or(node.votes);
    node.panic = panic.unwrap_or(node.panic);
    node.shutdown_ms = shutdown_ms.unwrap_or(node.shutdown_ms);
    node.watchdog_attested = watchdog_attested.unwrap_or(node.watchdog_attested);
    if let Some(fence) = fence {
        node.fence.clone_from(fence);
    }
}

fn check_addresses(record: &ConfigurationRecord) -> Result<(), ChangeRefusal> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for node in record.nodes.values() {
        if let Some(other) = seen.insert(&node.address, &node.name) {
            let (name, address, other) = (node.name.clone(), node.address.clone(), other.to_owned());
            return Err(ChangeRefusal::AddressTaken { name, address, other });
        }
    }
    Ok(())
}

/// What is wrong with the values of one node: the configuration area must hold them, and other nodes must understand them.
fn check_values(node: &NodeConfiguration) -> Result<(), ChangeRefusal> {
    let wrong =
        |key: &str, text: String| Err(ChangeRefusal::Value { name: node.name.clone(), key: key.to_owned(), text });
    if let Some(text) = mistake_in_name(&node.name) {
        return wrong("name", text);
    }
    if let Some(text) = mistake_in_address(&node.address) {
        return wrong("address", text);
    }
    if node.shutdown_ms == 0 {
        return wrong("shutdown_timeout", "must be above 0, as in \"5m\"".to_owned());
    }
    match mistake_in_fence(&node.fence) {
        Some(text) => wrong("fencing", text),
        None => Ok(()),
    }
}

/// What is wrong with a name, if something is: names appear in file names, cgroups, environment variables and command lines.
#[must_use]
pub fn mistake_in_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("has {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    (!starts_well || !name.bytes().all(allowed))
        .then(|| "must begin with a letter or digit and hold only letters, digits, `-`, `_` and `.`".to_owned())
}

/// What is wrong with an address, if something is.
#[must_use]
pub fn mistake_in_address(address: &str) -> Option<String> {
    if address.len() > ADDRESS_BYTES_MAX {
        return Some(format!("has {} bytes; at most {ADDRESS_BYTES_MAX} are allowed", address.len()));
    }
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    (port.is_none() || port == Some(0)).then(|| format!("is `{address}`; it must be `host:port` with a port above 0"))
}

/// What is wrong with a node's fence methods, if something is.
#[must_use]
pub fn mistake_in_fence(fence: &[FenceAgent]) -> Option<String> {
    if fence.len() > FENCE_METHODS_MAX {
        return Some(format!("has {} methods; at most {FENCE_METHODS_MAX} are allowed", fence.len()));
    }
    for (index, method) in fence.iter().enumerate() {
        if let Some(text) = mistake_in_name(&method.agent) {
            return Some(format!("names the agent `{}`, which {text}", method.agent));
        }
        if fence[..index].iter().any(|before| before.agent == method.agent) {
            return Some(format!("names the agent `{}` twice", method.agent));
        }
        if let Some(secret) = method.parameters.keys().find(|name| is_secret(name)) {
            return Some(secret_parameter(&method.agent, secret));
        }
    }
    let parameters = || fence.iter().flat_map(|method| &method.parameters);
    if parameters().count() > FENCE_PARAMETERS_MAX {
        return Some(format!("has {} parameters; at most {FENCE_PARAMETERS_MAX} are allowed", parameters().count()));
    }
    let names: usize = fence.iter().map(|method| method.agent.len()).sum();
    let bytes = names + parameters().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    (bytes > FENCE_BYTES_MAX)
        .then(|| format!("has {bytes} bytes of agents and parameters; at most {FENCE_BYTES_MAX} are allowed"))
}

/// What is said of a secret that would get onto the shared disk.
#[must_use]
pub fn secret_parameter(agent: &str, parameter: &str) -> String {
    format!(
        "gives `{agent}` the parameter `{parameter}`, which is a secret; secrets stay off the shared disk: put it into \
         `fence.d/<node>.toml` (mode 0600) on every node"
    )
}

/// A change by `source` is part of `record` now.
pub fn consume(
    record: &mut ConfigurationRecord,
    source: phalanx_messages::NodeIncarnation,
    counter: u64,
    revision: Revision,
) {
    let consumed = phalanx_messages::configuration::Consumed { incarnation: source.incarnation, counter, revision };
    record.consumed.insert(source.node, consumed);
}
