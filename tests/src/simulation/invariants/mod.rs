//! The invariants of membership and fencing (protocol §4.8), and those of the transition engine (§5.7) that need more than records
//! to judge. One a file, named as in the protocol; [`crate::invariants`] has the others.
//!
//! I-M4 and I-M5, I-F1 and I-F4, I-T10, I-T16 and Table 1 are judged where they happen, in [`super::world`] and [`super::campaign`]:
//! I-F1 with I-T6 in [`crate::invariants::of_notification`].

pub mod f2_nothing_lands_after_certainty;
pub mod f3_certainly_dead_is_dead;
pub mod f5_the_marked_never_join;
pub mod f6_no_minority_decides;
pub mod f7_one_writer_at_a_time;
pub mod m1_one_owner_of_a_term;
pub mod m2_one_chain;
pub mod m3_persist_then_tell;
pub mod m6_nothing_goes_back;
pub mod r10_intent_only_at_work;
pub mod r14_nothing_stays_behind;
pub mod r15_settled_is_settled;
pub mod r17_recovered_before_started;
pub mod r1_one_instance;
pub mod r2_begun_when_nothing_runs;
pub mod r3_under_its_parent;
pub mod r4_only_where_allowed;
pub mod r5_recovered_when_dead;
pub mod r6_one_chain;
pub mod r7_committed_then_sent;
pub mod t11_one_start_at_a_time;
pub mod t12_barriers_are_agreed;
pub mod t13_one_answer;
pub mod t17_reversal_from_where_it_was;
pub mod t21_only_the_newest_record;
pub mod t4_only_committed_steps;
pub mod t7_no_join_beside_its_own_recovery;

use phalanx_messages::registration::{Instance, RegistrationRecord};
use phalanx_messages::set::NodeSet;
use phalanx_protocol::registration::candidates;

/// Nodes on which an instance may start, by the root of its group and whose instance it is.
#[must_use]
pub fn candidates_of(record: &RegistrationRecord, instance: &Instance) -> NodeSet {
    let mut root = record.services.get(&instance.service);
    while let Some(parent) = root.and_then(|service| service.definition.parent.as_ref()) {
        root = record.services.get(parent);
    }
    let all = root.map(|root| candidates(&root.definition, &record.seen(), &record.standby)).unwrap_or_default();
    match instance.of {
        None => all,
        Some(node) => all.iter().filter(|candidate| *candidate == node).collect(),
    }
}
