//! `phalanx config show` and `phalanx config apply`: the membership database as a file, and back.

mod nodes;
pub mod report;

use std::collections::BTreeMap;
use std::path::Path;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{ConfigurationRecord, NodeChange, NodeConfiguration};
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::service_report::PlannedStep;

pub(in crate::cli) use nodes::{panic_text, plan_nodes};

use self::nodes::{NodePlan, cluster_difference, difference_of, plan_disk_votes};
use self::report::{ConfigurationApplied, ConfigurationShown, ConfiguredNode};
use super::apply::{self, Changes};
use super::args::{Global, Output};
use super::client::Client;
use super::node::{EXIT_CONFIGURATION, configuration_errors};
use super::order::{carry_out, plan_text, planned};
use super::service::definitions;
use super::{Exit, config_text, disk, event, locate, print};
use crate::config::{ClusterConfig, EventDefinitions, event_group_keys, event_keys, service_keys};

pub(super) fn show(from: Option<&Path>, global: &Global) -> Result<(), Exit> {
    let (record, services, events) = match from {
        Some(path) => disk::configuration_and_definitions(path)?,
        None => {
            let mut client = locate::connect(global)?;
            (client.configuration()?.record, definitions(&mut client)?, event::definitions(&mut client)?)
        }
    };
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&shown(&record, &services, &events)?)?),
        Output::Text => anstream::print!("{}", config_text::whole(&record, &services, &events)),
    }
    Ok(())
}

fn shown(
    record: &ConfigurationRecord,
    services: &[ServiceDefinition],
    events: &EventDefinitions,
) -> Result<ConfigurationShown, Exit> {
    let node = |(id, node): (&NodeId, &NodeConfiguration)| ConfiguredNode {
        name: node.name.clone(),
        id: id.0,
        address: node.address.clone(),
        votes: node.votes,
        panic: node.panic,
        shutdown_ms: node.shutdown_ms,
        watchdog_attested: node.watchdog_attested,
        fence: node.fence.clone(),
        capacity: node.capacity,
        has_key: node.public_key.is_some(),
    };
    let name_of = |node| record.name_of(node);
    let services = services.iter().map(|service| as_json(service_keys(service, &name_of)));
    let groups = events.groups.iter().map(|group| as_json(event_group_keys(group, &name_of)));
    let events = events.events.iter().map(|event| as_json(event_keys(event)));
    Ok(ConfigurationShown {
        cluster: record.cluster.clone(),
        revision: record.revision.to_string(),
        disk_votes: record.disk_votes,
        nodes: record.nodes.iter().map(node).collect(),
        services: services.collect::<Result<_, Exit>>()?,
        events: events.collect::<Result<_, Exit>>()?,
        event_groups: groups.collect::<Result<_, Exit>>()?,
    })
}

/// The keys of a table as JSON.
fn as_json(keys: Vec<(&'static str, toml::Value)>) -> Result<BTreeMap<String, serde_json::Value>, Exit> {
    let json = |value| serde_json::to_value(value).map_err(|error| Exit::error(error.to_string()));
    keys.into_iter().map(|(key, value)| Ok((key.to_owned(), json(value)?))).collect()
}

/// Everything that `config apply` would do.
struct Plan {
    record: ConfigurationRecord,
    nodes: NodePlan,
    services: Changes,
    /// Services to be removed.
    unnamed: Vec<String>,
    /// What follows for services at once.
    steps: Vec<PlannedStep>,
}

/// The difference first; then services that go, the nodes in one commit, and the services of the file in one commit.
pub(super) fn apply(file: &Path, dry_run: bool, prune: bool, global: &Global) -> Result<(), Exit> {
    let wanted = ClusterConfig::load(file).map_err(|errors| configuration_errors(&errors))?;
    let mut client = locate::connect(global)?;
    let record = client.configuration()?.record;
    if wanted.cluster != record.cluster {
        let text = format!("{} is for cluster `{}`, and `{}` answers", file.display(), wanted.cluster, record.cluster);
        return Err(Exit::code(EXIT_CONFIGURATION, text).hint("`--socket` or `--dir` names another cluster"));
    }
    let plan = make_plan(&mut client, record, wanted, prune)?;
    if global.output == Output::Text {
        anstream::print!("{}", plan.text());
    }
    let applied = !dry_run && !plan.is_empty();
    if applied {
        plan.carry_out(&mut client)?;
    } else if dry_run {
        client.change(Some(plan.record.revision), plan.nodes.changes.clone(), true)?;
        anstream::eprintln!("would be accepted; nothing was committed (--dry-run)");
    }
    if global.output == Output::Json {
        anstream::println!("{}", print::json(&plan.report(applied))?);
    }
    Ok(())
}

fn make_plan(
    client: &mut Client,
    record: ConfigurationRecord,
    wanted: ClusterConfig,
    prune: bool,
) -> Result<Plan, Exit> {
    let mut nodes = plan_nodes(&record, &wanted.nodes, prune)?;
    nodes.changes.extend(plan_disk_votes(&record, wanted.disk_votes));
    let named = |node: NodeId| {
        let wanted = wanted.nodes.iter().find(|wanted| wanted.id == node);
        wanted.map_or_else(|| record.name_of(node), |wanted| wanted.name.clone())
    };
    let mut services = Changes::find(client, &named, wanted.services)?;
    services.find_events(client, &named, wanted.events, prune)?;
    let unnamed = if prune { std::mem::take(&mut services.left_alone) } else { Vec::new() };
    for service in &unnamed {
        planned(client, &removal(service))?; // refused while it runs, before anything is done
    }
    let steps = if services.is_empty() { Vec::new() } else { planned(client, &services.order())? };
    Ok(Plan { record, nodes, services, unnamed, steps })
}

fn removal(service: &str) -> RegistrationOrder {
    RegistrationOrder::Service { service: service.to_owned(), order: ServiceOrder::Remove { skip_recovery: false } }
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.nodes.changes.is_empty() && self.services.is_empty() && self.unnamed.is_empty()
    }

    fn carry_out(&self, client: &mut Client) -> Result<(), Exit> {
        for service in &self.unnamed {
            carry_out(client, &removal(service))?;
            anstream::eprintln!("service {service} is removed");
        }
        if let Some(revision) = self.change_nodes(client)? {
            anstream::eprintln!("committed as configuration {revision}");
        }
        if !self.services.is_empty() {
            carry_out(client, &self.services.order())?;
            anstream::eprintln!("the services and events are committed");
        }
        Ok(())
    }

    fn change_nodes(&self, client: &mut Client) -> Result<Option<phalanx_messages::Revision>, Exit> {
        let changes: Vec<NodeChange> = self.nodes.changes.clone();
        if changes.is_empty() { Ok(None) } else { client.change(Some(self.record.revision), changes, false) }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let cluster = cluster_difference(&self.nodes.changes, &self.record);
        if !cluster.is_empty() {
            text += &apply::difference_text("changed", "cluster", &self.record.cluster, &cluster);
        }
        for difference in self.nodes.changes.iter().filter_map(|change| difference_of(change, &self.record)) {
            text += &apply::difference_text(&difference.kind, "node", &difference.node, &difference.keys);
        }
        for service in &self.services.difference {
            text += &apply::difference_text(&service.kind, "service", &service.service, &service.keys);
        }
        text += &self.services.events_text();
        text.extend(self.unnamed.iter().map(|service| format!("- service {service}\n")));
        if text.is_empty() {
            text += "the file says what the cluster has: nothing to apply\n";
        }
        let alone = [
            ("nodes", &self.nodes.left_alone),
            ("services", &self.services.left_alone),
            ("events", &self.services.events_left_alone),
        ];
        for (what, names) in alone.into_iter().filter(|(_, names)| !names.is_empty()) {
            text += &format!("{what} not in the file, left alone (`--prune` removes them): {}\n", names.join(", "));
        }
        if !self.services.is_empty() {
            text += &format!("\n{}", plan_text(&self.steps));
        }
        text
    }

    fn report(&self, applied: bool) -> ConfigurationApplied {
        let removed = self.unnamed.iter().map(|service| apply::removed(service));
        ConfigurationApplied {
            cluster: cluster_difference(&self.nodes.changes, &self.record),
            nodes: self.nodes.changes.iter().filter_map(|change| difference_of(change, &self.record)).collect(),
            nodes_left_alone: self.nodes.left_alone.clone(),
            services: self.services.difference.iter().cloned().chain(removed).collect(),
            services_left_alone: self.services.left_alone.clone(),
            events: self.services.events.clone(),
            events_left_alone: self.services.events_left_alone.clone(),
            plan: self.steps.clone(),
            applied,
        }
    }
}
