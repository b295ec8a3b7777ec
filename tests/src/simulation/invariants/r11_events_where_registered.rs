//! I-R11: an event group is enabled just where the database says that its service is registered, or, if no service names it, on its
//! nodes that are joined.

use std::collections::BTreeSet;

use phalanx_messages::NodeIncarnation;
use phalanx_messages::event::EventGroupDefinition;
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRun};

use crate::simulation::service_truth::ServiceTruth;

/// The event manager of a start of a node has taken over a database, and watches for these events.
pub fn check(
    who: NodeIncarnation,
    watches: &BTreeSet<String>,
    record: &RegistrationRecord,
    truth: &ServiceTruth,
) -> Vec<String> {
    if !truth.is_committed(record.revision) {
        return vec![format!("I-R11: {who} watches by database {}, which nobody has committed", record.revision)];
    }
    let registered = |_: &Instance, run: &ServiceRun| run.state == RunState::Registered && run.node == who;
    compare(who, watches, &enabled_at(record, who, &registered))
}

/// Everything is at rest: events of services are watched for just where these really run.
pub fn at_rest(who: NodeIncarnation, watches: &BTreeSet<String>, truth: &ServiceTruth) -> Vec<String> {
    let runs = |instance: &Instance, _: &ServiceRun| truth.instance(&instance.lane(), who).started;
    compare(who, watches, &enabled_at(&truth.newest(), who, &runs))
}

fn compare(who: NodeIncarnation, watches: &BTreeSet<String>, enabled: &BTreeSet<String>) -> Vec<String> {
    if watches == enabled {
        return Vec::new();
    }
    vec![format!("I-R11: {who} watches for {watches:?}, and {enabled:?} are enabled there")]
}

type Here<'a> = &'a dyn Fn(&Instance, &ServiceRun) -> bool;

fn enabled_at(record: &RegistrationRecord, who: NodeIncarnation, here: Here<'_>) -> BTreeSet<String> {
    let enabled = record.event_groups.values().filter(|group| group.enabled && is_enabled_at(record, group, who, here));
    enabled.flat_map(|group| group.events.iter().cloned()).collect()
}

fn is_enabled_at(
    record: &RegistrationRecord,
    group: &EventGroupDefinition,
    who: NodeIncarnation,
    here: Here<'_>,
) -> bool {
    let names = |it: &&String| record.services[*it].definition.event_group.as_ref() == Some(&group.name);
    let mut naming = record.services.keys().filter(names).peekable();
    if naming.peek().is_none() {
        return record.seen().is_joined(who) && (group.nodes.is_empty() || group.nodes.contains(&who.node));
    }
    naming.any(|name| {
        let mut runs = record.services[name].runs();
        runs.any(|(of, run)| here(&Instance { service: name.clone(), of }, run))
    })
}
