//! I-R10: the transfer intent belongs to the root of a group and is only where a transfer is at work: it is Registered, Stopping or
//! Starting (or the clean-up or fence of these), never idle and never in recovery.

use phalanx_messages::registration::{Instance, RunState, ServiceRecord, ServiceRun};

use super::is_in_recovery;

/// A database is committed.
pub fn check(instance: &Instance, service: &ServiceRecord, run: &ServiceRun) -> Vec<String> {
    let misplaced = run.state.is_idle() || is_in_recovery(run.state) || service.definition.parent.is_some();
    let moves_elsewhere = run.moving && run.state != RunState::Registered;
    if (run.transfer_intent && misplaced) || moves_elsewhere {
        return vec![format!("I-R10: {} is {:?} with a transfer intent", instance.lane(), run.state)];
    }
    Vec::new()
}
