//! I-T1, I-T2: a step advances only when every participant has acknowledged it, at this barrier and with this restart.

use phalanx_messages::membership::{MemberEntry, MembershipRecord, NodeState, Step, TransitionKind};
use phalanx_messages::{NodeId, NodeIncarnation};
use phalanx_protocol::coordinator::level_states::{Subject, joining_at, members_at, step_of};

use super::{Acknowledged, has_advanced, running};

pub(super) fn check(
    before: &MembershipRecord,
    after: &MembershipRecord,
    acknowledged: Acknowledged<'_>,
) -> Vec<String> {
    let mut found = Vec::new();
    let advanced = |(subject, step): &(Subject, &Step)| {
        has_advanced(step, step_of(after, *subject)) && !is_skipped(before, after, step)
    };
    for (subject, step) in running(before).filter(advanced) {
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

/// T-9 and T-18 in one commit: it marks the last users of an optional level, which holds what ran there and leaves nobody to
/// recover anything.
fn is_skipped(before: &MembershipRecord, after: &MembershipRecord, step: &Step) -> bool {
    let optional = before.levels.get(&step.level).is_some_and(|level| level.optional);
    let marked = |node: NodeId| after.nodes.get(&node).is_none_or(|entry| entry.state == NodeState::ForcedLeaving);
    let used = members_at(after, step.level).union(&joining_at(after, step.level));
    optional && used.is_empty() && step.kind == TransitionKind::ForcedLeaving && step.participants.iter().any(marked)
}

/// T-24: the join of that entry, or of one of its levels, is given up, so that a refusal counts for it.
#[must_use]
pub fn gives_up(entry: &MemberEntry) -> bool {
    let leaves = |step: &Step| step.kind == TransitionKind::Leaving;
    entry.leave_requested || entry.withdrawing || entry.step.as_ref().is_some_and(leaves)
}
