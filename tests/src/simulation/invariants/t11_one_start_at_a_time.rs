//! I-T11: at most one start of a node lives.

use phalanx_messages::NodeIncarnation;

use crate::simulation::truth::Truth;

/// A start of a node has found out who it is.
pub fn check(who: NodeIncarnation, truth: &Truth) -> Vec<String> {
    let others = truth.running.iter().filter(|other| other.node == who.node && **other != who);
    others.map(|other| format!("I-T11: {who} runs beside {other}")).collect()
}
