//! I-R4: a service starts only on an allowable node that is up in the view of the decision; a child where its parent is.

use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRun};

use super::candidates_of;

/// A new operation is committed. A child starts where its parent is (I-R3), though that node may be disallowed since: who runs
/// stays.
pub fn check(instance: &Instance, run: &ServiceRun, record: &RegistrationRecord) -> Vec<String> {
    let is_child = record.services.get(&instance.service).is_some_and(|service| service.definition.parent.is_some());
    if is_child || run.state != RunState::Starting || candidates_of(record, instance).contains(run.node.node) {
        return Vec::new();
    }
    vec![format!("I-R4: {} starts on {}", instance.lane(), run.node)]
}
