//! I-M6: terms and incarnations never go back in a register.

use phalanx_messages::NodeId;
use phalanx_messages::register::NodeRegister;

pub fn check(node: NodeId, register: &NodeRegister, before: &NodeRegister) -> Vec<String> {
    let pairs = [
        ("incarnation", before.incarnation.0, register.incarnation.0),
        ("term of the claim", before.claim.term.0, register.claim.term.0),
        ("term owned", before.claim.owned.0, register.claim.owned.0),
    ];
    let back = pairs.into_iter().filter(|(_, before, now)| now < before);
    back.map(|(what, before, now)| format!("I-M6: {what} of node {node} goes from {before} back to {now}")).collect()
}
