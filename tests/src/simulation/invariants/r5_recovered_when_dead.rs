//! I-R5: a lost instance is recovered only when its node is certainly dead: no process of that start runs.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::registration::{Instance, RunState, ServiceRun};

/// A new operation is committed.
pub fn check(instance: &Instance, run: &ServiceRun, is_dead: &dyn Fn(NodeIncarnation) -> bool) -> Vec<String> {
    if run.state != RunState::Recovering {
        return Vec::new();
    }
    match run.victim {
        None => vec![format!("I-R5: the recovery of {} names no victim", instance.lane())],
        Some(victim) if !is_dead(victim) => vec![format!("I-R5: {} is recovered, and {victim} lives", instance.lane())],
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_beside_its_living_victim_or_of_nobody_is_found() {
        let (instance, victim) = (Instance::only("web"), Some(NodeIncarnation::default()));
        let found = |state, victim, dead: bool| {
            let run = ServiceRun { state, victim, ..ServiceRun::default() };
            check(&instance, &run, &|_| dead).len()
        };
        assert_eq!([found(RunState::Recovering, victim, false), found(RunState::Recovering, None, true)], [1, 1]);
        assert_eq!([found(RunState::Recovering, victim, true), found(RunState::Registered, victim, false)], [0, 0]);
    }
}
