//! I-F7: a register is written by one incarnation at a time: a new one only when nothing of the old one runs any more.

use phalanx_messages::register::NodeRegister;
use phalanx_messages::{NodeId, NodeIncarnation};

use crate::simulation::truth::Truth;

pub fn check(node: NodeId, register: &NodeRegister, before: &NodeRegister, truth: &Truth) -> Vec<String> {
    let old = NodeIncarnation { node, incarnation: before.incarnation };
    if register.incarnation > before.incarnation && !truth.is_dead(old) {
        return vec![format!("I-F7: incarnation {} writes the register of {old}, which runs", register.incarnation)];
    }
    Vec::new()
}
