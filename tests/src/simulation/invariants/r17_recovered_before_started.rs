//! I-R17: after an instance was lost that ran, a start is not committed before its recovery has succeeded.

use phalanx_messages::registration::{RunState, ServiceRecord};

use crate::simulation::service_truth::ServiceTruth;

/// A new operation is committed.
pub fn check(name: &str, service: &ServiceRecord, truth: &ServiceTruth) -> Vec<String> {
    if service.run.state != RunState::Starting || !truth.is_lost(name) {
        return Vec::new();
    }
    vec![format!("I-R17: {name} starts on {}, and its lost instance is not recovered", service.run.node)]
}
