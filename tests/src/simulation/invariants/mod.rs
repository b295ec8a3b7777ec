//! The invariants of membership and fencing (protocol §4.8), of registration (§6.6), and those of the transition engine (§5.7) that
//! need more than records to judge. One a file, named as in the protocol; [`crate::invariants`] has the others.
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
pub mod r11_events_where_registered;
pub mod r12_every_node_is_notified;
pub mod r13_the_summary_is_the_fold;
pub mod r14_nothing_stays_behind;
pub mod r15_settled_is_settled;
pub mod r16_clean_before_the_next;
pub mod r17_recovered_before_started;
pub mod r18_a_leave_has_a_row;
pub mod r19_stopped_for_a_reason;
pub mod r1_one_instance;
pub mod r20_everything_comes_to_rest;
pub mod r2_begun_when_nothing_runs;
pub mod r3_under_its_parent;
pub mod r4_only_where_allowed;
pub mod r5_recovered_when_dead;
pub mod r6_one_chain;
pub mod r7_committed_then_sent;
pub mod r8_never_an_older_operation;
pub mod r9_waits_only_for_maturity;
pub mod t11_one_start_at_a_time;
pub mod t12_barriers_are_agreed;
pub mod t13_one_answer;
pub mod t17_reversal_from_where_it_was;
pub mod t21_only_the_newest_record;
pub mod t4_only_committed_steps;
pub mod t7_no_join_beside_its_own_recovery;

use phalanx_messages::NodeId;
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRecord};
use phalanx_messages::service::{AllowableNodes, ServiceDefinition};
use phalanx_messages::set::NodeSet;

/// A service and everything above it, with its name, the root of its group last. Parents form no circle.
pub fn chain<'a>(
    record: &'a RegistrationRecord,
    service: &str,
) -> impl Iterator<Item = (&'a str, &'a ServiceRecord)> + use<'a> {
    let named = |name: &str| record.services.get_key_value(name).map(|(name, service)| (name.as_str(), service));
    std::iter::successors(named(service), move |(_, below)| named(below.definition.parent.as_deref()?))
}

/// The root of a service's group, which chooses for it.
#[must_use]
pub fn root_of<'a>(record: &'a RegistrationRecord, service: &str) -> Option<&'a ServiceRecord> {
    chain(record, service).last().map(|(_, root)| root)
}

/// Everybody in the group of a root, the root included.
pub fn group_of<'a>(
    record: &'a RegistrationRecord,
    root: &'a str,
) -> impl Iterator<Item = (&'a str, &'a ServiceRecord)> + use<'a> {
    let belongs =
        move |(name, _): &(&str, &ServiceRecord)| chain(record, name).last().is_some_and(|(top, _)| top == root);
    record.services.iter().map(|(name, service)| (name.as_str(), service)).filter(belongs)
}

/// The node is allowable and not disallowed. Not the production code: that is what is looked at.
#[must_use]
pub fn is_allowable(definition: &ServiceDefinition, node: NodeId) -> bool {
    let allowable = match &definition.allowable_nodes {
        AllowableNodes::Any => true,
        AllowableNodes::Listed(nodes) => nodes.contains(&node),
    };
    allowable && !definition.disallowable_nodes.contains(&node)
}

/// Nodes on which an instance may start, by the root of its group and whose instance it is.
#[must_use]
pub fn candidates_of(record: &RegistrationRecord, instance: &Instance) -> NodeSet {
    let Some(root) = root_of(record, &instance.service) else { return NodeSet::default() };
    let view = record.seen();
    let takes = |node: &NodeId| is_allowable(&root.definition, *node) && !record.standby.contains(*node);
    view.up().filter(takes).filter(|node| instance.of.is_none_or(|of| of == *node)).collect()
}

/// It may run something to recover, or must do so first.
#[must_use]
pub const fn is_in_recovery(state: RunState) -> bool {
    matches!(state, RunState::PendRecovery | RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery)
}
