//! I-R2: a start or a recovery is committed only when nothing of the service may run.

use phalanx_messages::registration::{RunState, ServiceRecord};

use crate::simulation::service_truth::ServiceTruth;

/// A new operation is committed.
pub fn check(name: &str, service: &ServiceRecord, truth: &ServiceTruth) -> Vec<String> {
    let begins = matches!(service.run.state, RunState::Starting | RunState::Recovering);
    let on = truth.runs_on(name);
    if !begins || on.is_empty() {
        return Vec::new();
    }
    vec![format!("I-R2: {:?} of {name} is committed, and it may run on {on:?}", service.run.state)]
}
