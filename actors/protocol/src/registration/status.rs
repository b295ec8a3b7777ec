//! How services are shown (architecture §5; protocol §6.3, "Display"; spec, Tables 2 and 3).

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::admin::{ServiceNodeStatus, ServiceStatus};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun, View};
use phalanx_messages::service::{AllowableNodes, ServiceDefinition};

use super::choose::candidates;

/// Every service as the database and the view have it, by name.
#[must_use]
pub fn service_statuses(
    record: &RegistrationRecord,
    view: &View,
    configuration: &ConfigurationRecord,
) -> Vec<ServiceStatus> {
    record.services.values().map(|service| service_status(service, view, configuration)).collect()
}

fn service_status(service: &ServiceRecord, view: &View, configuration: &ConfigurationRecord) -> ServiceStatus {
    let (definition, run) = (&service.definition, &service.run);
    let active = !run.state.is_idle();
    let flags = [
        ("transfer_intent", run.transfer_intent),
        ("awaiting_maturity", run.state == RunState::AwaitMaturity),
        ("has_notify", definition.notify_command.is_some()),
    ];
    let nodes = configuration.nodes.iter().map(|(node, entry)| (entry.name.clone(), node_status(*node, service, view)));
    ServiceStatus {
        name: definition.name.clone(),
        state: state_word(run).to_owned(),
        node: active.then(|| configuration.name_of(run.node.node)),
        generation: active.then(|| run.generation.revision.to_string()),
        wanted: run.want,
        parent: None,
        flags: flags.into_iter().map(|(name, set)| (name.to_owned(), set)).collect(),
        nodes: nodes.collect::<BTreeMap<_, _>>(),
        reason: reason(definition, run, view, configuration),
    }
}

/// The summary state. Internal steps show as the state that they belong to.
#[must_use]
pub const fn state_word(run: &ServiceRun) -> &'static str {
    match run.state {
        RunState::Failed | RunState::FailedRecovery => "failed",
        RunState::DeRegistered | RunState::AwaitMaturity | RunState::PendRecovery if run.held => "held",
        RunState::DeRegistered => "de-registered",
        RunState::AwaitMaturity => "awaiting-maturity",
        RunState::Starting | RunState::StartCleanup | RunState::FenceStart => "starting",
        RunState::Registered => "registered",
        RunState::Stopping | RunState::StopKill | RunState::FenceStop => "stopping",
        RunState::PendRecovery | RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery => {
            "recovering"
        }
    }
}

fn node_status(node: NodeId, service: &ServiceRecord, view: &View) -> ServiceNodeStatus {
    let (definition, run) = (&service.definition, &service.run);
    let here = !run.state.is_idle() && run.node.node == node;
    let state = if here {
        state_word(run)
    } else if view.is_up(node) {
        "up"
    } else if view.is_present(node) {
        "-"
    } else {
        "down"
    };
    let listed = match &definition.allowable_nodes {
        AllowableNodes::Any => false,
        AllowableNodes::Listed(nodes) => nodes.contains(&node),
    };
    let current = run.state == RunState::Registered && run.notified.get(&node) == Some(&view.incarnation(node));
    ServiceNodeStatus { state: state.to_owned(), available: listed, notified: current }
}

/// Why it is not running.
fn reason(
    definition: &ServiceDefinition,
    run: &ServiceRun,
    view: &View,
    configuration: &ConfigurationRecord,
) -> Option<String> {
    let failure = || run.failure.clone().unwrap_or_else(|| "no reason is known".to_owned());
    let candidates = candidates(definition, view);
    match run.state {
        RunState::Registered | RunState::Stopping | RunState::Recovering => None,
        RunState::Starting => run.failure.as_ref().map(|text| format!("an earlier start failed: {text}")),
        RunState::Failed => Some(format!("every allowable node failed to start it; the last: {}", failure())),
        RunState::FailedRecovery => {
            Some(format!("no allowable node could recover what it left behind; the last: {}", failure()))
        }
        RunState::DeRegistered | RunState::AwaitMaturity | RunState::PendRecovery if run.held => {
            Some("it is held".to_owned())
        }
        RunState::DeRegistered if !run.want => Some("it is not asked to run".to_owned()),
        RunState::DeRegistered | RunState::PendRecovery if candidates.is_empty() => {
            Some("no allowable node is up".to_owned())
        }
        RunState::DeRegistered | RunState::PendRecovery => None,
        RunState::AwaitMaturity => Some(match definition.maturity_count {
            Some(count) => format!("waits for {count} allowable nodes; {} up", candidates.len()),
            None => "waits for its maturity time".to_owned(),
        }),
        RunState::StartCleanup | RunState::StopKill | RunState::RecoveryCleanup => Some(failure()),
        RunState::FenceStart | RunState::FenceStop | RunState::FenceRecovery => Some(format!(
            "{} cannot let go of it and must be forced out: {}",
            configuration.name_of(run.node.node),
            failure()
        )),
    }
}
