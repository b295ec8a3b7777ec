//! The membership database as the TOML that `config check` and `config apply` take.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use phalanx_messages::configuration::{ConfigurationRecord, FenceAgent, NodeConfiguration};
use phalanx_messages::membership::Certainty;
use phalanx_messages::service::ServiceDefinition;

use super::configuration::panic_text;
use crate::config::{DiskVotes, EventDefinitions, duration_text, events_text, is_known_for_storage, service_text};

/// Everything.
#[must_use]
pub(super) fn whole(record: &ConfigurationRecord, services: &[ServiceDefinition], events: &EventDefinitions) -> String {
    let mut text =
        format!("# Configuration {} of the cluster.\n[cluster]\nname = {}\n", record.revision, quoted(&record.cluster));
    writeln!(text, "disk_votes = {}", DiskVotes(record.disk_votes)).ok(); // a string takes everything
    for (id, node) in &record.nodes {
        let NodeConfiguration { name, address, votes, panic, shutdown_ms, watchdog_attested, capacity, .. } = node;
        writeln!(
            text,
            "\n[[cluster.node]]\nname = {}\nid = {id}\naddress = {}\nvotes = {votes}\npanic = \"{}\"\n\
             shutdown_timeout = \"{}\"\nwatchdog_attested = {watchdog_attested}\ncapacity = {capacity}",
            quoted(name),
            quoted(address),
            panic_text(*panic),
            duration_text(*shutdown_ms)
        )
        .ok();
    }
    text += &fencing(record);
    text += &services_text(services, record);
    text + &events_text(events, &|node| record.name_of(node))
}

/// `[[service]]` tables of the services.
fn services_text(services: &[ServiceDefinition], record: &ConfigurationRecord) -> String {
    let text = |service: &ServiceDefinition| format!("\n{}", service_text(service, &|node| record.name_of(node)));
    services.iter().map(text).collect()
}

fn fencing(record: &ConfigurationRecord) -> String {
    if record.nodes.values().all(|node| node.fence.is_empty()) {
        return "\n[fencing]\nmethods = []\n".to_owned();
    }
    let common = record.nodes.values().next().map(|node| levels(&node.fence)).unwrap_or_default();
    let mut text = format!("\n[fencing]\nmethods = [{common}]\n");
    let storage = record.nodes.values().flat_map(|node| &node.fence);
    let storage = storage.filter(|method| method.proves == Certainty::Io && !is_known_for_storage(&method.agent));
    let storage: BTreeSet<String> = storage.map(|method| quoted(&method.agent)).collect();
    if !storage.is_empty() {
        writeln!(text, "storage = [{}]", storage.into_iter().collect::<Vec<_>>().join(", ")).ok();
    }
    for node in record.nodes.values() {
        let own = levels(&node.fence);
        let agents: Vec<String> = node.fence.iter().filter(|method| !method.parameters.is_empty()).map(agent).collect();
        if own == common && agents.is_empty() {
            continue;
        }
        writeln!(text, "\n[[fencing.node]]\nname = {}", quoted(&node.name)).ok();
        if own != common {
            writeln!(text, "methods = [{own}]").ok();
        }
        agents.iter().for_each(|line| text += line);
    }
    text
}

/// `methods`: the agents of a level with several of them are a list of their own.
fn levels(fence: &[FenceAgent]) -> String {
    let levels = fence.chunk_by(|one, next| one.level == next.level).map(|level| {
        let agents: Vec<String> = level.iter().map(|method| quoted(&method.agent)).collect();
        if let [agent] = agents.as_slice() { agent.clone() } else { format!("[{}]", agents.join(", ")) }
    });
    levels.collect::<Vec<_>>().join(", ")
}

fn agent(method: &FenceAgent) -> String {
    let parameters = method.parameters.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
    format!("agents.{} = {{ {} }}\n", quoted(&method.agent), parameters.collect::<Vec<_>>().join(", "))
}

/// A text as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::configuration::plan_nodes;
    use crate::config::ClusterConfig;
    use phalanx_messages::NodeId;
    use phalanx_messages::configuration::PanicPolicy;

    fn record() -> ConfigurationRecord {
        let agent = |level, agent: &str, parameters: &[(&str, &str)]| FenceAgent {
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            level,
            ..FenceAgent::new(agent)
        };
        let node = |id: u16, fence| {
            let node = NodeConfiguration::new(format!("n{id}"), format!("127.0.0.1:760{id}"));
            let node = NodeConfiguration { votes: 2, panic: PanicPolicy::Reboot, shutdown_ms: 90_500, fence, ..node };
            (NodeId(id), node)
        };
        let ipmi = agent(0, "fence_ipmilan", &[("Ip", "10.0.0.1"), ("odd \"name\"", "a\\b\n")]);
        let storage = |level, name| FenceAgent { proves: Certainty::Io, ..agent(level, name, &[]) };
        let nodes = [
            node(0, vec![ipmi.clone(), agent(1, "fence_pdu", &[])]),
            node(1, vec![agent(0, "fence_ipmilan", &[]), agent(1, "fence_pdu", &[])]),
            node(2, vec![agent(0, "psu_a", &[]), agent(0, "psu_b", &[]), storage(1, "fence_scsi")]),
            node(3, vec![storage(0, "our_switch")]),
            node(4, vec![ipmi]),
            node(5, vec![]),
        ];
        ConfigurationRecord { cluster: "alpha".to_owned(), nodes: nodes.into(), ..ConfigurationRecord::default() }
    }

    fn read(text: &str) -> ClusterConfig {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cluster.toml");
        std::fs::write(&file, text).unwrap();
        ClusterConfig::load(&file).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[test]
    fn what_is_shown_is_read_back_and_changes_nothing() {
        let mut bare = record();
        bare.nodes.values_mut().for_each(|node| node.fence.clear());
        bare.disk_votes = Some(0);
        for record in [record(), bare] {
            let wanted = read(&whole(&record, &[], &EventDefinitions::default()));
            assert_eq!(wanted.cluster, "alpha");
            assert_eq!(wanted.disk_votes, Some(DiskVotes(record.disk_votes)));
            let nodes = wanted.nodes.iter().map(|node| (node.id, node.configuration(None)));
            assert_eq!(nodes.collect::<std::collections::BTreeMap<_, _>>(), record.nodes);
            let plan = plan_nodes(&record, &wanted.nodes, true).unwrap();
            assert!(plan.changes.is_empty(), "{:?}", plan.changes);
        }
    }
}
