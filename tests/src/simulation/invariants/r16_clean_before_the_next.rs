//! I-R16: what a failed start has left is killed before the service is started on the next node.

use phalanx_messages::registration::{Instance, RunState, ServiceRun};

use crate::simulation::service_truth::ServiceTruth;

/// A new operation is committed.
pub fn check(instance: &Instance, run: &ServiceRun, truth: &ServiceTruth) -> Vec<String> {
    let failed = truth.failed_start(&instance.lane());
    match failed.filter(|_| run.state == RunState::Starting) {
        Some(who) => vec![format!("I-R16: {} starts on {}, and is not clean on {who}", instance.lane(), run.node)],
        None => Vec::new(),
    }
}
