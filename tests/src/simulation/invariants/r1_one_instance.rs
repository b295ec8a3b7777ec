//! I-R1: at any time at most one start of one node has a possibly running instance, recovery included.

use crate::simulation::service_truth::ServiceTruth;

/// Something has begun.
pub fn check(service: &str, truth: &ServiceTruth) -> Vec<String> {
    let on = truth.runs_on(service);
    if on.len() <= 1 { Vec::new() } else { vec![format!("I-R1: {service} may run on {on:?}")] }
}
