//! MC3: the lease and the deadline of fencing (protocol §4.5, §8.2; docs/design/model-checking.md).
//!
//! More and larger times with `PHALANX_MODEL=full`.

use phalanx_protocol::lease::StallPolicy;
use phalanx_tests::lease_model::{LeaseModel, NOTHING_IS_SUBMITTED, NOTHING_LANDS};
use stateright::{Checker, HasDiscoveries, Model};

/// (L, W, T_late)
fn times() -> Vec<(u64, u64, u64)> {
    let full = std::env::var("PHALANX_MODEL").is_ok_and(|model| model == "full");
    let (leases, watchdogs, lates) = if full { (3..=6, 1..=4, 0..=2) } else { (3..=4, 1..=2, 0..=1) };
    leases
        .flat_map(|lease| watchdogs.clone().map(move |watchdog| (lease, watchdog)))
        .flat_map(|(lease, watchdog)| lates.clone().map(move |late| (lease, watchdog, late)))
        .collect()
}

fn holds(model: LeaseModel) {
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (lease, watchdog, late) = (model.profile.lease_ms, model.profile.watchdog_ms, model.profile.late_write_ms);
    println!(
        "L {lease}, W {watchdog}, T_late {late}: {} states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

fn violates(model: LeaseModel, property: &'static str) {
    let checker = model.checker().finish_when(HasDiscoveries::AllOf([property].into())).spawn_bfs().join();
    let steps = checker.assert_any_discovery(property).into_actions().len();
    println!("{model:?}: {property} in {steps} steps at most");
}

/// I-F2, I-F4.
#[test]
fn after_l_and_two_w_nothing_of_the_node_takes_effect() {
    for (lease, watchdog, late) in times() {
        holds(LeaseModel::new(lease, watchdog, late));
    }
}

/// The first version of the deadline: a feed that was checked before the lease ended, and executed after a freeze just shorter
/// than W, winds the watchdog up again (protocol §3.10). Not even one unit can be spared.
#[test]
fn after_l_and_w_something_still_does() {
    for (lease, watchdog, late) in times() {
        let model = LeaseModel::new(lease, watchdog, late);
        violates(LeaseModel { deadline: model.deadline - watchdog, ..model }, NOTHING_LANDS);
        violates(LeaseModel { deadline: model.deadline - 1, ..model }, NOTHING_LANDS);
    }
}

/// Row 11 of the fault table: a node that is frozen between the check of its gate and the submission, and resumes after the deadline.
/// Only the watchdog keeps it from that (C2); without one the deadline proves nothing.
#[test]
fn fault_11_without_a_watchdog_a_write_takes_effect_after_the_deadline() {
    violates(LeaseModel { watchdog: false, ..LeaseModel::new(3, 1, 0) }, NOTHING_LANDS);
}

/// Protocol §4.7: riding a stall through is allowed only where no certainty comes from the deadline.
#[test]
fn a_node_that_rides_a_stall_through_must_not_be_fenced_by_the_deadline() {
    violates(LeaseModel { stall: StallPolicy::RideThrough, ..LeaseModel::new(3, 1, 0) }, NOTHING_IS_SUBMITTED);
}

/// Protocol §9.4 (a): the mark in the record alone, counted from the completion of its write.
#[test]
fn pills_add_nothing_to_the_mark_in_the_record() {
    for (lease, watchdog, late) in times() {
        holds(LeaseModel { pills: false, ..LeaseModel::new(lease, watchdog, late) });
    }
}

#[cfg(feature = "deliberate-bugs")]
mod deliberate {
    use phalanx_protocol::bugs::Bug;

    use super::*;

    fn with(bug: Bug) -> LeaseModel {
        LeaseModel { bug: Some(bug), ..LeaseModel::new(3, 1, 0) }
    }

    /// L-3, L-4, L-5, and the end of the lease.
    #[test]
    fn every_rule_of_the_lease_is_needed() {
        for bug in [Bug::OrderToDieIgnored, Bug::UnreadableOwnerIgnored, Bug::LeaseFromCompletion, Bug::LeaseNeverEnds]
        {
            violates(with(bug), NOTHING_LANDS);
        }
    }

    /// Protocol §3.5, M-5: "L-1 is defence in depth". Here too: a late renewal counts from its issue, before the order.
    #[test]
    fn a_late_renewal_alone_breaks_nothing() {
        holds(with(Bug::LateRenewalCounts));
    }
}
