//! I-R2: a start or a recovery is committed only when nothing of the service may run.

use phalanx_messages::registration::{Instance, RunState, ServiceRun};

use crate::simulation::service_truth::ServiceTruth;

/// A new operation is committed.
pub fn check(instance: &Instance, run: &ServiceRun, truth: &ServiceTruth) -> Vec<String> {
    let begins = matches!(run.state, RunState::Starting | RunState::Recovering);
    let on = truth.runs_on(&instance.lane());
    if !begins || on.is_empty() {
        return Vec::new();
    }
    vec![format!("I-R2: {:?} of {} is committed, and it may run on {on:?}", run.state, instance.lane())]
}
