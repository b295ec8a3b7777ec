//! `phalanx service apply`, and the services of `config apply`: a file's against the database's; the difference first, then one commit.

use std::path::Path;

use phalanx_messages::NodeId;
use phalanx_messages::admin::Status;
use phalanx_messages::configuration::NodeSettings;
use phalanx_messages::order::{DefinitionChange, DefinitionChanges, RegistrationOrder};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::service_report::PlannedStep;
use schemars::JsonSchema;
use serde::Serialize;

use super::args::{Following, Global, Output};
use super::client::Client;
use super::node::configuration_errors;
use super::order::{Progress, carry_out, follow, plan_text, planned, state_text};
use super::service::{definitions, name_of};
use super::{Exit, locate, print};
use crate::config::{ClusterNode, EventDefinitions, KeyDifference, NameOf, definitions_of_file, service_difference};

/// One service in a difference.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ServiceDifference {
    /// The service.
    pub service: String,
    /// `added`, `changed` or `removed`.
    pub kind: String,
    /// The keys that differ.
    pub keys: Vec<KeyDifference>,
}

/// One event or event group in a difference.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EventDifference {
    /// `event` or `event group`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub kind: String,
    /// The keys that differ.
    pub keys: Vec<KeyDifference>,
}

/// Printed by `service apply` with `--output json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ApplyReport {
    /// What differs, by service.
    pub difference: Vec<ServiceDifference>,
    /// Services that the file does not name.
    pub left_alone: Vec<String>,
    /// What differs, by event and event group.
    pub events: Vec<EventDifference>,
    /// Events and event groups that the file does not name.
    pub events_left_alone: Vec<String>,
    /// What it does at once.
    pub plan: Vec<PlannedStep>,
    /// False for `--dry-run`, and if nothing differs.
    pub applied: bool,
}

/// The order that `service apply` would give for a file.
pub(super) fn order_of_file(client: &mut Client, status: &Status, file: &Path) -> Result<RegistrationOrder, Exit> {
    Ok(changes_of_file(client, status, file)?.order())
}

fn changes_of_file(client: &mut Client, status: &Status, file: &Path) -> Result<Changes, Exit> {
    let definitions = definitions_of_file(file, &nodes(status), true);
    let (services, events) = definitions.map_err(|errors| configuration_errors(&errors))?;
    if services.is_empty() && events == EventDefinitions::default() {
        let text = format!("{} has no [[service]], [[event]] or [[event_group]]", file.display());
        return Err(Exit::code(super::node::EXIT_CONFIGURATION, text).hint("`phalanx service apply --help` tells more"));
    }
    let name_of = |node| name_of(status, node);
    let mut changes = Changes::find(client, &name_of, services)?;
    changes.find_events(client, &name_of, events, false)?;
    Ok(changes)
}

pub(super) fn services(file: &Path, following: Following, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let status = client.status()?;
    let changes = changes_of_file(&mut client, &status, file)?;
    let plan = if changes.is_empty() { Vec::new() } else { planned(&mut client, &changes.order())? };
    if global.output == Output::Text {
        anstream::print!("{}", changes.text());
        if !changes.is_empty() {
            anstream::print!("\n{}", plan_text(&plan));
        }
    }
    let applied = !following.dry_run && !changes.is_empty();
    if applied {
        carry_out(&mut client, &changes.order())?;
    }
    if global.output == Output::Json {
        let Changes { difference, left_alone, events, events_left_alone, .. } = changes.clone();
        let plan = plan.clone();
        let report = ApplyReport { difference, left_alone, events, events_left_alone, plan, applied };
        anstream::println!("{}", print::json(&report)?);
    }
    if applied && !following.no_wait {
        Changes::follow_starts(&mut client, &plan, following.within, global)?;
    }
    Ok(())
}

fn nodes(status: &Status) -> Vec<ClusterNode> {
    let node = |node: &phalanx_messages::admin::NodeStatus| ClusterNode {
        name: node.name.clone(),
        id: NodeId(node.id),
        address: String::new(),
        settings: NodeSettings::default(),
    };
    status.nodes.iter().map(node).collect()
}

/// What differs between a file's services, events and event groups and the database's.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    pub difference: Vec<ServiceDifference>,
    /// Services that the file does not name.
    pub left_alone: Vec<String>,
    pub events: Vec<EventDifference>,
    /// Events and event groups that the file does not name.
    pub events_left_alone: Vec<String>,
    pub(super) orders: DefinitionChanges,
}

impl Changes {
    pub fn find(client: &mut Client, name_of: NameOf<'_>, wanted: Vec<ServiceDefinition>) -> Result<Self, Exit> {
        let known = definitions(client)?;
        let unnamed = known.iter().filter(|known| wanted.iter().all(|wanted| wanted.name != known.name));
        let left_alone = unnamed.map(|known| known.name.clone()).collect();
        let mut changes = Self {
            difference: Vec::new(),
            left_alone,
            events: Vec::new(),
            events_left_alone: Vec::new(),
            orders: DefinitionChanges::default(),
        };
        for after in wanted {
            let before = known.iter().find(|known| known.name == after.name).cloned();
            if before.as_ref() == Some(&after) {
                continue;
            }
            changes.difference.push(ServiceDifference {
                service: after.name.clone(),
                kind: if before.is_some() { "changed" } else { "added" }.to_owned(),
                keys: service_difference(before.as_ref(), &after, name_of),
            });
            changes.orders.services.push(DefinitionChange { before, after });
        }
        Ok(changes)
    }

    pub fn is_empty(&self) -> bool {
        self.orders == DefinitionChanges::default()
    }

    pub fn order(&self) -> RegistrationOrder {
        RegistrationOrder::Apply(self.orders.clone())
    }

    fn text(&self) -> String {
        let differences = self.difference.iter();
        let mut text: String =
            differences.map(|it| difference_text(&it.kind, "service", &it.service, &it.keys)).collect();
        text += &self.events_text();
        if self.is_empty() {
            text += "the file says what the cluster has: nothing to apply\n";
        }
        if !self.left_alone.is_empty() {
            text += &format!("not in the file, left alone: {}\n", self.left_alone.join(", "));
        }
        text
    }

    /// Waits for those that the change starts.
    fn follow_starts(client: &mut Client, plan: &[PlannedStep], within_ms: u64, global: &Global) -> Result<(), Exit> {
        for step in plan.iter().filter(|step| step.action == "start") {
            let service = &step.service;
            follow(client, service, within_ms, global, |status| {
                status
                    .services
                    .iter()
                    .find(|known| known.name == *service)
                    .map_or(Progress::Done, |known| super::service::runs(known, None))
            })?;
            if global.output == Output::Text {
                let status = client.status()?;
                if let Some(known) = status.services.iter().find(|known| known.name == *service) {
                    anstream::println!("{service}: {}", state_text(known));
                }
            }
        }
        Ok(())
    }
}

/// One difference: what it is about, then its keys.
pub(super) fn difference_text(kind: &str, what: &str, name: &str, keys: &[KeyDifference]) -> String {
    let sign = match kind {
        "added" => "+",
        "removed" => "-",
        _ => "~",
    };
    let mut text = format!("{sign} {what} {name}\n");
    for KeyDifference { key, before, after } in keys.iter().filter(|key| key.key != "name") {
        text += &match (before, after) {
            (Some(before), Some(after)) => format!("    {key}: {before} -> {after}\n"),
            (None, Some(after)) => format!("    {key}: {after}\n"),
            (Some(before), None) => format!("    {key}: {before} -> (left out)\n"),
            (None, None) => String::new(),
        };
    }
    text
}

/// A service that goes.
pub(super) fn removed(service: &str) -> ServiceDifference {
    ServiceDifference { service: service.to_owned(), kind: "removed".to_owned(), keys: Vec::new() }
}
