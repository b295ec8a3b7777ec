//! MC6: registration and launch under every interleaving (protocol §6.7, §8.2; docs/design/model-checking.md).
//!
//! The large configurations need time and memory: set `PHALANX_MODEL=full`, and `PHALANX_STATES` to stop after so many.

use std::collections::BTreeSet;

use phalanx_messages::registration::RunState;
use phalanx_tests::registration_model::configurations::{
    beyond, free_transfers, free_transfers_full, groups, groups_full, on_all_nodes, single, single_full, strictly,
    three_nodes_full,
};
use phalanx_tests::registration_model::{Passage, RegistrationModel, explore};

/// Explores everything, and returns which machines went from what to what.
fn hold(models: Vec<RegistrationModel>) -> BTreeSet<Passage> {
    let mut passages = BTreeSet::new();
    for model in models {
        let explored = explore(&model, usize::MAX);
        let seconds = explored.took.as_secs_f64();
        println!("{}: {} states, depth {}, {seconds:.1} s", model.name, explored.states, explored.depth);
        explored.assert_holds(model.name);
        passages.extend(explored.passages);
    }
    passages
}

/// So many states of each, all of them if nothing is said, and only if asked for.
fn hold_if_full(models: Vec<RegistrationModel>) {
    if !std::env::var("PHALANX_MODEL").is_ok_and(|model| model == "full") {
        models.iter().for_each(|model| println!("{}: only with PHALANX_MODEL=full", model.name));
        return;
    }
    let states_max = std::env::var("PHALANX_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    for model in models {
        let explored = explore(&model, states_max);
        let all = if explored.exhaustive { "" } else { "NOT exhaustive, " };
        let seconds = explored.took.as_secs_f64();
        println!("{}: {all}{} states, depth {}, {seconds:.1} s", model.name, explored.states, explored.depth);
        if explored.states < states_max || explored.violation.is_some() {
            explored.assert_holds(model.name);
        }
    }
}

/// A model that does nothing holds as well: these rows of protocol §6.3 must have been applied, each to a machine of that kin.
fn reached(kin: &'static str, passages: &BTreeSet<Passage>, rows: &[(RunState, RunState)]) {
    let missing: Vec<_> = rows.iter().filter(|(from, to)| !passages.contains(&(kin, *from, *to))).collect();
    assert!(missing.is_empty(), "no {kin} ever went {missing:?}");
}

/// Rows that apply to whatever runs somewhere.
const OF_EVERY_MACHINE: &[(RunState, RunState)] = &[
    (RunState::Starting, RunState::Registered),
    (RunState::Starting, RunState::StartCleanup),
    (RunState::Starting, RunState::DeRegistered), // lost
    (RunState::StartCleanup, RunState::DeRegistered),
    (RunState::DeRegistered, RunState::Failed),
    (RunState::Registered, RunState::Stopping),
    (RunState::Registered, RunState::PendRecovery), // lost
    (RunState::Stopping, RunState::DeRegistered),
    (RunState::Stopping, RunState::PendRecovery), // lost
    (RunState::PendRecovery, RunState::Recovering),
    (RunState::Recovering, RunState::DeRegistered),
];

/// Rows of failures.
const OF_FAILURES: &[(RunState, RunState)] = &[
    (RunState::Stopping, RunState::StopKill),
    (RunState::StopKill, RunState::FenceStop),
    (RunState::FenceStop, RunState::PendRecovery), // lost
    (RunState::Recovering, RunState::RecoveryCleanup),
    (RunState::RecoveryCleanup, RunState::PendRecovery),
];

#[test]
fn one_service() {
    let passages = hold(single());
    reached("root", &passages, OF_EVERY_MACHINE);
    reached("root", &passages, OF_FAILURES);
    let rows = [
        (RunState::DeRegistered, RunState::Starting),
        (RunState::StartCleanup, RunState::FenceStart),
        (RunState::FenceStart, RunState::StartCleanup), // the only member cleans again
        (RunState::FenceStop, RunState::StopKill),
        (RunState::DeRegistered, RunState::AwaitMaturity),
        (RunState::AwaitMaturity, RunState::Starting),
        (RunState::RecoveryCleanup, RunState::FenceRecovery),
        (RunState::FenceRecovery, RunState::RecoveryCleanup),
        (RunState::PendRecovery, RunState::FailedRecovery),
        (RunState::FailedRecovery, RunState::Recovering), // cleared
        (RunState::Recovering, RunState::PendRecovery),   // lost
        (RunState::Failed, RunState::Starting),
    ];
    reached("root", &passages, &rows);
}

#[test]
fn one_service_with_orders_and_time_outs() {
    hold_if_full(single_full());
}

#[test]
fn one_service_on_three_nodes() {
    hold_if_full(three_nodes_full());
}

#[test]
fn parents_children_and_grandchildren() {
    let passages = hold(groups());
    reached("root", &passages, OF_EVERY_MACHINE);
    reached("child", &passages, OF_EVERY_MACHINE);
    let rows = [
        (RunState::DeRegistered, RunState::AwaitParent),
        (RunState::AwaitParent, RunState::Starting),
        (RunState::Failed, RunState::AwaitParent),
        (RunState::Failed, RunState::Starting), // tried again after a pause
        (RunState::PendRecovery, RunState::FailedRecovery),
    ];
    reached("child", &passages, &rows);
    reached("child", &passages, OF_FAILURES);
}

#[test]
fn large_groups() {
    hold_if_full(groups_full());
}

#[test]
fn free_transfers_end() {
    let passages = hold(free_transfers());
    reached("root", &passages, OF_EVERY_MACHINE);
    hold_if_full(free_transfers_full());
}

#[test]
fn instances_on_all_nodes() {
    let passages = hold(on_all_nodes());
    reached("instance", &passages, OF_EVERY_MACHINE);
    let rows = [(RunState::AwaitParent, RunState::Starting), (RunState::PendRecovery, RunState::Recovering)];
    reached("child of an instance", &passages, &rows);
}

/// What protocol §6.7 does not have: failures of running services, standby, missing commands, orders to instances.
#[test]
fn configurations_beyond_the_protocol() {
    let passages = hold(beyond());
    reached("root", &passages, &[(RunState::Registered, RunState::DeRegistered)]); // lost, nothing to recover
    reached("child", &passages, &[(RunState::RecoveryCleanup, RunState::FenceRecovery)]);
    reached("instance", &passages, &[(RunState::AwaitMaturity, RunState::Starting)]);
}

/// I-R17 in its strict form: whatever really started is recovered.
#[test]
fn with_recover_lost_start_every_start_that_happened_is_recovered() {
    let passages = hold(strictly(single()));
    reached("root", &passages, &[(RunState::Starting, RunState::PendRecovery)]);
    let passages = hold(strictly(groups()));
    reached("child", &passages, &[(RunState::Starting, RunState::PendRecovery)]);
    hold_if_full(strictly(single_full()));
}
