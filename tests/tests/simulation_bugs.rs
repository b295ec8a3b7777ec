//! Each deliberate bug that the simulator is to catch is caught within so many seeds (protocol §8.1). Without a bug these seeds break
//! nothing (`simulation.rs`), so whatever they break here is the bug's.

#![cfg(feature = "deliberate-bugs")]

use phalanx_protocol::bugs::{self, Bug};
use phalanx_tests::simulation::campaign;

/// A bug, the invariant that it must be seen to break, and within how many seeds.
type Row = (Bug, &'static str, u64);

fn is_caught((bug, invariant, seeds): Row) -> bool {
    let breaks = |seed| campaign::run_guarded(seed).violation.is_some_and(|violation| violation.contains(invariant));
    bugs::with(Some(bug), || (0..seeds).any(breaks))
}

fn assert_caught(rows: &[Row]) {
    let missed: Vec<&Row> = rows.iter().filter(|row| !is_caught(**row)).collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn bugs_of_lease_claims_and_registration_are_caught() {
    assert_caught(&[
        (Bug::NoWithdrawal, "I-M1", 40),
        (Bug::LeaseNeverEnds, "L-1", 200),
        (Bug::OrderToDieIgnored, "L-3", 40),
        (Bug::UnreadableOwnerIgnored, "L-4", 20),
        (Bug::LeaseFromCompletion, "L-5", 5),
        (Bug::NotifiedBeforeCommit, "I-M3", 5),
        (Bug::StartBeforeRecovery, "I-R17", 10),
        (Bug::SentBeforeCommit, "I-R7", 5),
    ]);
}

/// Each in its own file of `simulation/invariants`, but for those that a unit test there breaks.
#[test]
fn bugs_of_the_rules_of_registration_are_caught() {
    assert_caught(&[
        (Bug::LeavesUndrained, "I-R2", 10),
        (Bug::ResultsOfAnyOperation, "I-R3", 40),
        (Bug::DisallowedTaken, "I-R4", 10),
        (Bug::MaturityNotLatched, "I-R9", 5),
        (Bug::TransferKeptInRecovery, "I-R10", 10),
        (Bug::EventsStayEnabled, "I-R11", 10),
        (Bug::LaterStartNotNotified, "I-R12", 5),
        (Bug::SummaryOfMostAdvanced, "I-R13", 5),
        (Bug::LeavesUndrained, "I-R14", 10),
        (Bug::NextStartBeforeCleanUp, "I-R16", 10),
        (Bug::UnrecoverableForgotten, "I-R17", 10),
        (Bug::LeaveNoticedOnce, "I-R18", 10),
        (Bug::EveryLeaveIsAReason, "I-R19", 10),
        (Bug::PlacementWithoutIncarnation, "I-R20", 10),
        (Bug::RestartedWithoutWant, "I-R20", 40),
    ]);
}

#[test]
fn bugs_of_coordinator_and_agent_are_caught() {
    assert_caught(&[
        (Bug::MarkedWithoutQuorum, "I-F6", 600),
        (Bug::BarrierSkipped, "I-T2", 5),
        (Bug::AcknowledgedBeforeAnswer, "I-T2", 5),
        (Bug::RecoveryBeforeProof, "I-T6", 10),
        (Bug::NoHold, "I-T20", 20),
        (Bug::NoWave, "I-T20", 20),
        (Bug::RestartWhenFinished, "I-T20", 20),
        (Bug::LeaveBesideRecovery, "I-T20", 250),
        (Bug::BatchAdvancesAlone, "I-T22", 10),
        (Bug::EarlyRejoin, "I-T23", 20),
        (Bug::NoOwnGhost, "I-T23", 60),
        (Bug::JoinAboveUnrecovered, "I-T23", 600),
        (Bug::HeldJoinWaitsForParked, "I-T16", 600),
        (Bug::BatchInPieces, "I-T16", 20),
        (Bug::GhostsForgotten, "I-T23", 300),
        (Bug::RestartNumberReset, "I-T16", 400),
    ]);
}
