//! I-R12: every allowable node that is up, other than the one on which a service is registered, has been sent the notify command for
//! this registration, once for each start of it; also one that came later (protocol §6.5, "Late joiner").

use phalanx_messages::registration::{Command, CommandKind, Instance, RegistrationRecord, RunState};
use phalanx_messages::{NodeId, NodeIncarnation, OperationId};
use phalanx_protocol::registration::effective;

use super::{is_allowable, root_of};
use crate::simulation::service_truth::ServiceTruth;

/// One notification: whose registration, which, and to whom.
pub type Notification = (String, OperationId, NodeIncarnation);

/// As a place in a set; none = it is another command.
#[must_use]
pub fn of_command(command: &Command) -> Option<Notification> {
    let notifies = command.kind == CommandKind::Notify;
    notifies.then(|| (command.instance.lane(), command.operation, command.target))
}

/// A command begins.
pub fn check(command: &Command, truth: &ServiceTruth) -> Vec<String> {
    let repeated = of_command(command).filter(|notification| truth.notified.contains(notification));
    let repeated = repeated.into_iter();
    repeated.map(|(lane, generation, who)| format!("I-R12: {who} is notified twice of {lane} {generation}")).collect()
}

/// Everything is at rest.
pub fn at_rest(truth: &ServiceTruth) -> Vec<String> {
    let record = truth.newest();
    let mut found = Vec::new();
    for (name, service) in &record.services {
        if effective(&record.services, name).is_none_or(|definition| definition.notify_command.is_none()) {
            continue;
        }
        for (of, run) in service.runs().filter(|(_, run)| run.state == RunState::Registered) {
            let lane = Instance { service: name.clone(), of }.lane();
            let untold = others(&record, name, run.node.node).into_iter();
            let untold = untold.filter(|who| !truth.told.contains(&(lane.clone(), run.generation, *who)));
            found.extend(untold.map(|who| format!("I-R12: {who} was never sent that {lane} is {}", run.generation)));
        }
    }
    found
}

fn others(record: &RegistrationRecord, service: &str, here: NodeId) -> Vec<NodeIncarnation> {
    let view = record.seen();
    let root = root_of(record, service).map(|root| &root.definition);
    let allowable = |node: &NodeId| *node != here && root.is_some_and(|root| is_allowable(root, *node));
    let with = |node| NodeIncarnation { node, incarnation: view.incarnation(node) };
    view.up().filter(allowable).map(with).collect()
}
