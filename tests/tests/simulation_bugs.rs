//! Each deliberate bug that the simulator is to catch is caught within so many seeds (protocol §8.1).

#![cfg(feature = "deliberate-bugs")]

use phalanx_protocol::bugs::{self, Bug};
use phalanx_tests::simulation::campaign;

/// The first seed that fails with the bug, and what it breaks.
fn caught(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    bugs::with(Some(bug), || {
        (0..seeds).find_map(|seed| campaign::run_guarded(seed).violation.map(|violation| (seed, violation)))
    })
}

#[test]
fn every_bug_that_is_the_simulators_is_caught() {
    let bugs = [
        (Bug::NoWithdrawal, 100, "I-M1"),
        (Bug::LeaseNeverEnds, 100, "L-1"),
        (Bug::OrderToDieIgnored, 10, "L-3"),
        (Bug::UnreadableOwnerIgnored, 20, "L-4"),
        (Bug::LeaseFromCompletion, 2, "L-5"),
        (Bug::NotifiedBeforeCommit, 2, "I-M3"),
        (Bug::BarrierSkipped, 2, "I-T2"),
        (Bug::AcknowledgedBeforeAnswer, 2, "I-T2"),
        (Bug::RecoveryBeforeProof, 10, "I-T6"),
        (Bug::NoHold, 10, "I-T2"),
        (Bug::NoWave, 10, "I-T20"),
        (Bug::RestartWhenFinished, 10, "I-T20"),
        (Bug::LeaveBesideRecovery, 10, "I-T20"),
        (Bug::BatchAdvancesAlone, 10, "I-T22"),
        (Bug::EarlyRejoin, 10, "I-T2"),
        (Bug::NoOwnGhost, 60, "I-T23"),
        (Bug::HeldJoinWaitsForParked, 60, "I-T16"),
        (Bug::BatchInPieces, 60, "I-T16"),
    ];
    let missed: Vec<String> = bugs
        .into_iter()
        .filter_map(|(bug, seeds, invariant)| match caught(bug, seeds) {
            Some((_, violation)) if violation.starts_with(invariant) => None,
            found => Some(format!("{bug:?} within {seeds} seeds: {found:?} instead of {invariant}")),
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
