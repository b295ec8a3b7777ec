//! What must be sent again from the database alone (protocol §6.1, "committed, no command sent"), and who must be forced out.

use std::collections::BTreeSet;

use phalanx_messages::NodeIncarnation;
use phalanx_messages::registration::{Command, CommandKind, Instance, RegistrationRecord, RunState};

use super::tree::{command, notification};

/// Every command without a consumed result: the current operation of each instance and each pending notification.
#[must_use]
pub fn outstanding(record: &RegistrationRecord) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, service) in &record.services {
        for (of, run) in service.runs() {
            let instance = || Instance { service: name.clone(), of };
            commands.extend(kind_of(run.state).map(|kind| command(instance(), run, kind)));
            commands.extend(run.notifying.iter().filter_map(|node| {
                let incarnation = *run.notified.get(&node)?;
                Some(notification(instance(), run, NodeIncarnation { node, incarnation }))
            }));
        }
    }
    commands
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
