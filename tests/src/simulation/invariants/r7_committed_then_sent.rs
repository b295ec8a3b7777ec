//! I-R7: no command is sent before the database that orders it is committed.

use std::sync::Arc;

use phalanx_messages::registration::{Order, RegistrationRecord};

use crate::simulation::service_truth::ServiceTruth;

/// A command is sent, or taken.
pub fn check(order: &Order, truth: &ServiceTruth) -> Vec<String> {
    let command = &order.command;
    let ordered = |record: &Arc<RegistrationRecord>| {
        let service = record.services.get(&command.instance.service);
        let run = service.and_then(|service| service.run_of(command.instance.of));
        run.is_some_and(|run| run.operation == command.operation)
    };
    // A database that was written and never called committed may be the base of the next one.
    if truth.is_committed(command.operation.revision) || truth.committed().rev().any(ordered) {
        return Vec::new();
    }
    vec![format!(
        "I-R7: {:?} of {} is sent, and {} is not committed",
        command.kind,
        command.instance.lane(),
        command.operation
    )]
}
