//! I-R5: a lost instance is recovered only when its node is certainly dead: no process of that start runs.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::registration::{RunState, ServiceRecord};

/// A new operation is committed.
pub fn check(name: &str, service: &ServiceRecord, is_dead: &dyn Fn(NodeIncarnation) -> bool) -> Vec<String> {
    if service.run.state != RunState::Recovering {
        return Vec::new();
    }
    match service.run.victim {
        None => vec![format!("I-R5: the recovery of {name} names no victim")],
        Some(victim) if !is_dead(victim) => vec![format!("I-R5: {name} is recovered, and {victim} lives")],
        Some(_) => Vec::new(),
    }
}
