//! What must be sent again from the database alone (protocol §6.1, "committed, no command sent"), and who must be forced out.

use std::collections::BTreeSet;

use phalanx_messages::registration::{Command, CommandKind, Instance, RegistrationRecord, RunState, ServiceRun};
use phalanx_messages::{NodeId, NodeIncarnation};

use super::tree::{command, notification};

/// Every command without a consumed result: the current operation of each instance and each pending notification.
#[must_use]
pub fn outstanding(record: &RegistrationRecord) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, service) in &record.services {
        service.runs().for_each(|(of, run)| commands.extend(outstanding_of(name, of, run)));
    }
    commands
}

/// The same of one instance.
pub(crate) fn outstanding_of<'a>(
    name: &'a str,
    of: Option<NodeId>,
    run: &'a ServiceRun,
) -> impl Iterator<Item = Command> + use<'a> {
    let instance = move || Instance { service: name.to_owned(), of };
    let current = kind_of(run.state).map(|kind| command(instance(), run, kind));
    let notifications = run.notifying.iter().filter_map(move |node| {
        let incarnation = *run.notified.get(&node)?;
        Some(notification(instance(), run, NodeIncarnation { node, incarnation }))
    });
    current.into_iter().chain(notifications)
}

/// The command whose result a state waits for.
pub(super) fn kind_of(state: RunState) -> Option<CommandKind> {
    match state {
        RunState::Starting => Some(CommandKind::Start),
        RunState::Stopping => Some(CommandKind::Stop),
        RunState::StartCleanup | RunState::StopKill | RunState::RecoveryCleanup => Some(CommandKind::Kill),
        RunState::Recovering => Some(CommandKind::Recovery),
        RunState::DeRegistered
        | RunState::AwaitMaturity
        | RunState::AwaitParent
        | RunState::Registered
        | RunState::PendRecovery
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery
        | RunState::Failed
        | RunState::FailedRecovery => None,
    }
}

/// Nodes that cannot let go of a service and must be forced out, with one sentence why (protocol RL-8). The caller leaves
/// out the only member.
#[must_use]
pub fn victims_of_failure(record: &RegistrationRecord) -> BTreeSet<(NodeIncarnation, String)> {
    let runs = record.services.iter().flat_map(|(name, service)| service.runs().map(move |(_, run)| (name, run)));
    let fenced = runs.filter(|(_, run)| run.state.is_fence());
    fenced.map(|(name, run)| (run.node, format!("it cannot let go of service {name}"))).collect()
}
