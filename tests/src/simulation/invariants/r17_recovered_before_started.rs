//! I-R17: after an instance was lost that ran, a start is not committed before its recovery has succeeded.

use phalanx_messages::registration::{Instance, RunState, ServiceRun};

use crate::simulation::service_truth::ServiceTruth;

/// A new operation is committed.
pub fn check(instance: &Instance, run: &ServiceRun, truth: &ServiceTruth) -> Vec<String> {
    if run.state != RunState::Starting || !truth.is_lost(&instance.lane()) {
        return Vec::new();
    }
    vec![format!("I-R17: {} starts on {}, and its lost instance is not recovered", instance.lane(), run.node)]
}
