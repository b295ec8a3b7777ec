//! I-T1, I-T2: a step advances only when every participant has acknowledged it, at this barrier and with this restart.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::MembershipRecord;
use phalanx_protocol::coordinator::level_states::step_of;

use super::{Acknowledged, has_advanced, running};

pub(super) fn check(
    before: &MembershipRecord,
    after: &MembershipRecord,
    acknowledged: Acknowledged<'_>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (subject, step) in running(before).filter(|(subject, step)| has_advanced(step, step_of(after, *subject))) {
        for node in step.participants.iter() {
            let incarnation = before.nodes[&node].incarnation;
            if !acknowledged(NodeIncarnation { node, incarnation }, step.notification()) {
                found
                    .push(format!("I-T2: {step:?} of {subject:?} advanced without the acknowledgement of node {node}"));
            }
        }
    }
    found
}
