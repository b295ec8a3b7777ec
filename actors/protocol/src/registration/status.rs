//! How services are shown (architecture §5; protocol §6.3, "Display"; spec, Tables 2 and 3).

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::admin::{ServiceNodeStatus, ServiceStatus};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun, View};
use phalanx_messages::service::{AllowableNodes, ServiceDefinition};
use phalanx_messages::set::NodeSet;

use super::choose::candidates;

/// Every service as the database and the view have it, by name. `maturity_ms` = what is left of a maturity time.
#[must_use]
pub fn service_statuses(
    record: &RegistrationRecord,
    view: &View,
    configuration: &ConfigurationRecord,
    maturity_ms: impl Fn(&str) -> Option<u64>,
) -> Vec<ServiceStatus> {
    let standby = &record.standby;
    let status = |(name, service): (&String, &ServiceRecord)| {
        service_status(service, view, standby, configuration, maturity_ms(name))
    };
    record.services.iter().map(status).collect()
}

pub(super) fn service_status(
    service: &ServiceRecord,
    view: &View,
    standby: &NodeSet,
    configuration: &ConfigurationRecord,
    maturity_ms: Option<u64>,
) -> ServiceStatus {
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
        maturity_ms,
        reason: reason(definition, run, &candidates(definition, view, standby), configuration, maturity_ms),
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
        RunState::AwaitParent => "awaiting-parent",
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
    candidates: &NodeSet,
    configuration: &ConfigurationRecord,
    maturity_ms: Option<u64>,
) -> Option<String> {
    let failure = || run.failure.clone().unwrap_or_else(|| "no reason is known".to_owned());
    match run.state {
        RunState::Registered | RunState::Stopping | RunState::Recovering => None,
        RunState::Starting => run.failure.as_ref().map(|text| format!("an earlier start failed: {text}")),
        RunState::Failed => Some(format!("every allowable node failed to start it; the last: {}", failure())),
        RunState::FailedRecovery => {
            Some(format!("no allowable node could recover what it left behind; the last: {}", failure()))
        }
        RunState::DeRegistered | RunState::AwaitMaturity | RunState::PendRecovery if run.held && run.want => {
            Some("it is held".to_owned())
        }
        RunState::DeRegistered if !run.want => Some("it is not asked to run".to_owned()),
        RunState::DeRegistered | RunState::PendRecovery if candidates.is_empty() => {
            Some("no allowable node is up".to_owned())
        }
        RunState::DeRegistered | RunState::PendRecovery => None,
        RunState::AwaitParent => Some("its parent is not registered".to_owned()),
        RunState::AwaitMaturity => Some(maturity_text(definition, candidates.len(), maturity_ms)),
        RunState::StartCleanup | RunState::StopKill | RunState::RecoveryCleanup => run.failure.clone(),
        RunState::FenceStart | RunState::FenceStop | RunState::FenceRecovery => Some(format!(
            "{} cannot let go of it and must be forced out: {}",
            configuration.name_of(run.node.node),
            failure()
        )),
    }
}

/// What a service waits for before its first start (protocol §6.2, `mature(s)`).
fn maturity_text(definition: &ServiceDefinition, up: usize, maturity_ms: Option<u64>) -> String {
    let left = maturity_ms.map(|left_ms| format!("{}.{} s", left_ms / 1_000, left_ms % 1_000 / 100));
    match (definition.maturity_count, left) {
        (Some(count), Some(left)) => {
            format!("waits for {count} allowable nodes ({up} up) or a preferred one, for another {left} at most")
        }
        (Some(count), None) => format!("waits for {count} allowable nodes ({up} up) or a preferred one"),
        (None, Some(left)) => format!("waits another {left} for a preferred node"),
        (None, None) => "waits for its maturity_time".to_owned(),
    }
}
