//! I-R10: the transfer intent is only where a transfer is at work: never in an idle state.

use phalanx_messages::registration::{Instance, ServiceRun};

/// A database is committed.
pub fn check(instance: &Instance, run: &ServiceRun) -> Vec<String> {
    if run.transfer_intent && run.state.is_idle() {
        return vec![format!("I-R10: {} is {:?} with a transfer intent", instance.lane(), run.state)];
    }
    Vec::new()
}
