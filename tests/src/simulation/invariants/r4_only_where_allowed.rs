//! I-R4: a service starts only on an allowable node that is up in the view of the decision.

use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord};
use phalanx_protocol::registration::candidates;

/// A new operation is committed.
pub fn check(name: &str, service: &ServiceRecord, record: &RegistrationRecord) -> Vec<String> {
    let node = service.run.node;
    let allowed = || candidates(&service.definition, &record.seen(), &record.standby).contains(node.node);
    if service.run.state != RunState::Starting || allowed() {
        return Vec::new();
    }
    vec![format!("I-R4: {name} starts on {node}")]
}
