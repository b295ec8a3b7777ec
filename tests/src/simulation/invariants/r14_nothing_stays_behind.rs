//! I-R14: no process of a service runs on a node that has left.

use phalanx_messages::NodeIncarnation;

use crate::simulation::service_truth::ServiceTruth;

/// That start of a node has left gracefully.
pub fn check(who: NodeIncarnation, truth: &ServiceTruth) -> Vec<String> {
    truth.services_of(who).into_iter().map(|name| format!("I-R14: {who} has left, and {name} may run there")).collect()
}
