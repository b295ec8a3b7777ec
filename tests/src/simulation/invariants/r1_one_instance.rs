//! I-R1: at any time at most one start of one node has a possibly running instance, recovery included.

use crate::simulation::service_truth::ServiceTruth;

/// Something has begun.
pub fn check(service: &str, truth: &ServiceTruth) -> Vec<String> {
    let on = truth.runs_on(service);
    if on.len() <= 1 { Vec::new() } else { vec![format!("I-R1: {service} may run on {on:?}")] }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::registration::{Command, CommandKind, Instance};
    use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, OperationId};

    use super::*;

    fn begins(truth: &mut ServiceTruth, kind: CommandKind, node: u16) -> usize {
        let target = NodeIncarnation { node: NodeId(node), incarnation: Incarnation(1) };
        let operation = OperationId::default();
        let instance = Instance::only("web");
        truth.command_begins(&Command { instance, operation, kind, target, victim: None, generation: operation }).len()
    }

    #[test]
    fn a_start_beside_a_recovery_on_another_node_is_found() {
        let mut truth = ServiceTruth::default();
        assert_eq!(begins(&mut truth, CommandKind::Recovery, 0), 0);
        assert_eq!(begins(&mut truth, CommandKind::Start, 1), 1);
    }
}
