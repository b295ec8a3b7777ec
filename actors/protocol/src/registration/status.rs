//! How services are shown (architecture §5; protocol §6.3, "Display"; spec, Tables 2 and 3).

use std::collections::BTreeMap;

use phalanx_messages::NodeId;
use phalanx_messages::admin::{ServiceNodeStatus, ServiceStatus};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun, View};
use phalanx_messages::service::{AllowableNodes, PlacementPolicy, ServiceDefinition};
use phalanx_messages::set::NodeSet;

use super::choose::{NodeLoads, candidates};
use super::definitions::effective;
use super::index::{Index, root_of};
use super::rows::is_in_recovery;
use crate::bugs::{self, Bug};

/// Every service as the database and the view have it, by name. `maturity_ms` = what is left of a maturity time.
#[must_use]
pub fn service_statuses(
    record: &RegistrationRecord,
    view: &View,
    configuration: &ConfigurationRecord,
    maturity_ms: impl Fn(&str) -> Option<u64>,
) -> Vec<ServiceStatus> {
    let status = |name: &String| service_status(record, name, view, configuration, maturity_ms(name));
    record.services.keys().filter_map(status).collect()
}

/// None = there is no such service.
pub(super) fn service_status(
    record: &RegistrationRecord,
    service: &str,
    view: &View,
    configuration: &ConfigurationRecord,
    maturity_ms: Option<u64>,
) -> Option<ServiceStatus> {
    let seen = Seen::of(record, service, view, configuration)?;
    let run = seen.summary();
    let active = !run.state.is_idle();
    let root = &seen.root.run;
    let flags = [
        ("transfer_intent", root.transfer_intent),
        ("awaiting_maturity", run.state == RunState::AwaitMaturity),
        ("has_notify", seen.definition.notify_command.is_some()),
    ];
    let nodes = configuration.nodes.iter().map(|(node, entry)| (entry.name.clone(), seen.node_status(*node)));
    let single = active && !seen.is_on_all();
    Some(ServiceStatus {
        name: service.to_owned(),
        state: state_word(run).to_owned(),
        node: single.then(|| configuration.name_of(run.node.node)),
        generation: single.then(|| run.generation.revision.to_string()),
        wanted: seen.service.run.want,
        parent: seen.definition.parent.clone(),
        flags: flags.into_iter().map(|(name, set)| (name.to_owned(), set)).collect(),
        nodes: nodes.collect::<BTreeMap<_, _>>(),
        maturity_ms,
        reason: seen.reason(run, maturity_ms),
        failures: seen.service.runs().map(|(_, run)| run.restarts.len() as u64).sum(),
        monitor: None, // only the node that runs it knows
    })
}

/// One service, and what it is seen with.
pub(super) struct Seen<'a> {
    pub record: &'a RegistrationRecord,
    pub service: &'a ServiceRecord,
    /// With the actions that it inherits.
    pub definition: ServiceDefinition,
    /// Who chooses for it: itself, or the root of its group.
    pub root: &'a ServiceRecord,
    pub standby: NodeSet,
    pub view: &'a View,
    pub configuration: &'a ConfigurationRecord,
}

impl<'a> Seen<'a> {
    pub fn of(
        record: &'a RegistrationRecord,
        service: &str,
        view: &'a View,
        configuration: &'a ConfigurationRecord,
    ) -> Option<Self> {
        Some(Self {
            record,
            service: record.services.get(service)?,
            definition: effective(&record.services, service)?,
            root: record.services.get(root_of(&record.services, service))?,
            standby: record.standby,
            view,
            configuration,
        })
    }

    pub fn is_on_all(&self) -> bool {
        self.root.definition.placement_policy == PlacementPolicy::RegisterOnAll
    }

    pub fn candidates(&self) -> NodeSet {
        candidates(&self.root.definition, self.view, &self.standby)
    }

    /// Of a service on all nodes the least advanced instance of a node that is up; it is registered if all are (I-R13).
    pub fn summary(&self) -> &ServiceRun {
        let candidates = self.candidates();
        let counts = |of: Option<NodeId>, run: &ServiceRun| {
            of.is_none_or(|node| candidates.contains(node)) || !run.state.is_idle() || run.victim.is_some()
        };
        let counted = self.service.runs().filter(|(of, run)| counts(*of, run));
        let counted = counted.map(|(_, run)| run);
        let summary = if bugs::active(Bug::SummaryOfMostAdvanced) {
            counted.max_by_key(|run| advance(run.state))
        } else {
            counted.min_by_key(|run| advance(run.state))
        };
        summary.unwrap_or(&self.service.run)
    }

    fn node_status(&self, node: NodeId) -> ServiceNodeStatus {
        let mut active = self.service.runs().filter(|(_, run)| !run.state.is_idle() && run.node.node == node);
        // Its own instance before that of another node, which it recovers.
        let own =
            self.service.runs().find(|(of, run)| *of == Some(node) && !run.state.is_idle() && run.node.node == node);
        let here = own.or_else(|| active.next()).map(|(_, run)| run);
        let state = match here {
            Some(run) => state_word(run),
            None if self.view.is_up(node) => "up",
            None if self.view.is_present(node) => "-",
            None => "down",
        };
        let listed = match &self.root.definition.allowable_nodes {
            AllowableNodes::Any => false,
            AllowableNodes::Listed(nodes) => nodes.contains(&node),
        };
        let told = |run: &ServiceRun| {
            run.state == RunState::Registered && run.notified.get(&node) == Some(&self.view.incarnation(node))
        };
        let notified = self.service.runs().any(|(_, run)| told(run));
        ServiceNodeStatus { state: state.to_owned(), available: listed, notified }
    }

    /// A root that is wanted, has candidates, and is not begun.
    fn why_not_started(&self, candidates: &NodeSet) -> Option<String> {
        let index = Index::of(self.record);
        let services = &self.record.services;
        let name = &self.definition.name;
        let below = services.iter().find(|(other, service)| {
            let recovered = service.runs().any(|(_, run)| is_in_recovery(run.state));
            recovered && *other != name && root_of(services, other) == name
        });
        if let Some((child, _)) = below {
            return Some(format!("service {child} below it is recovered first"));
        }
        let (weight, loads) = (index.weight_of_group(services, name), loads_of(self.configuration));
        let full = !candidates.iter().any(|node| loads.fits(&index, node, weight));
        full.then(|| format!("no allowable node has room for its weight of {weight}"))
    }

    /// Why it is not running.
    pub fn reason(&self, run: &ServiceRun, maturity_ms: Option<u64>) -> Option<String> {
        let (candidates, configuration) = (self.candidates(), self.configuration);
        let failure = || run.failure.clone().unwrap_or_else(|| "no reason is known".to_owned());
        match run.state {
            RunState::Registered if run.failing && run.held => {
                Some(format!("it is held, and it has failed: {}", failure()))
            }
            RunState::Registered | RunState::Stopping | RunState::Recovering => None,
            RunState::Starting => run.failure.as_ref().map(|text| format!("an earlier attempt failed: {text}")),
            RunState::Failed if self.definition.parent.is_some() => {
                Some(format!("it failed where its parent is; the last: {}", failure()))
            }
            RunState::Failed => Some(format!("every allowable node failed to start it; the last: {}", failure())),
            RunState::FailedRecovery => {
                Some(format!("no allowable node could recover what it left behind; the last: {}", failure()))
            }
            RunState::DeRegistered | RunState::AwaitMaturity | RunState::AwaitParent | RunState::PendRecovery
                if run.held && run.want =>
            {
                Some("it is held".to_owned())
            }
            RunState::DeRegistered if !run.want => Some("it is not asked to run".to_owned()),
            RunState::DeRegistered | RunState::PendRecovery if candidates.is_empty() => {
                Some("no allowable node is up".to_owned())
            }
            RunState::DeRegistered if run.resting => {
                Some(format!("it failed, and is started again in a moment: {}", failure()))
            }
            RunState::DeRegistered if self.definition.parent.is_none() => self.why_not_started(&candidates),
            RunState::DeRegistered | RunState::PendRecovery => None,
            RunState::AwaitParent => {
                let parent = self.definition.parent.as_deref().unwrap_or("?");
                Some(format!("its parent {parent} is not registered"))
            }
            RunState::AwaitMaturity => Some(maturity_text(&self.root.definition, candidates.len(), maturity_ms)),
            RunState::StartCleanup | RunState::StopKill | RunState::RecoveryCleanup => run.failure.clone(),
            RunState::FenceStart | RunState::FenceStop | RunState::FenceRecovery => Some(format!(
                "{} cannot let go of it and must be forced out: {}",
                configuration.name_of(run.node.node),
                failure()
            )),
        }
    }
}

/// What a state waits for if no row of protocol §6.3 applies to it.
#[must_use]
pub const fn awaits(state: RunState) -> &'static str {
    match state {
        RunState::DeRegistered => "`register` or `clear`, or a node",
        RunState::AwaitMaturity => "nodes, or its maturity time",
        RunState::AwaitParent => "its parent's registration",
        RunState::Starting => "the end of its start command",
        RunState::StartCleanup => "the end of what its failed start left",
        RunState::Registered => "nothing: it runs where it should",
        RunState::Stopping => "the end of its stop command",
        RunState::StopKill => "the end of its processes",
        RunState::PendRecovery => "a node to be recovered on, or what is below it",
        RunState::Recovering => "the end of its recovery command",
        RunState::RecoveryCleanup => "the end of what its failed recovery left",
        RunState::FenceStart | RunState::FenceStop | RunState::FenceRecovery => "the certain death of its node",
        RunState::Failed => "its back-off, another node, or `clear`",
        RunState::FailedRecovery => "`clear`",
    }
}

/// The capacities that are configured, and no pressure.
pub(super) fn loads_of(configuration: &ConfigurationRecord) -> NodeLoads {
    let capacity =
        configuration.nodes.iter().filter_map(|(node, entry)| (entry.capacity > 0).then_some((*node, entry.capacity)));
    NodeLoads { capacity: capacity.collect(), ..NodeLoads::default() }
}

/// How far a service has come; the least of its instances is its summary.
const fn advance(state: RunState) -> u8 {
    match state {
        RunState::FailedRecovery => 0,
        RunState::Failed => 1,
        RunState::PendRecovery | RunState::RecoveryCleanup | RunState::FenceRecovery => 2,
        RunState::Recovering => 3,
        RunState::DeRegistered => 4,
        RunState::AwaitParent => 5,
        RunState::AwaitMaturity => 6,
        RunState::StartCleanup | RunState::FenceStart => 7,
        RunState::StopKill | RunState::FenceStop => 8,
        RunState::Stopping => 9,
        RunState::Starting => 10,
        RunState::Registered => 11,
    }
}

/// The summary state. Internal steps show as the state that they belong to.
#[must_use]
pub const fn state_word(run: &ServiceRun) -> &'static str {
    match run.state {
        RunState::Failed | RunState::FailedRecovery => "failed",
        RunState::DeRegistered | RunState::AwaitMaturity | RunState::AwaitParent | RunState::PendRecovery
            if run.held =>
        {
            "held"
        }
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
