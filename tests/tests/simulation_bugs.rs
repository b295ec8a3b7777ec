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
fn a_barrier_passed_too_early_is_caught() {
    let (_, violation) = caught(Bug::BarrierSkipped, 5).expect("not caught");
    assert!(violation.starts_with("I-T2"), "{violation}");
}

#[test]
fn a_recovery_before_its_proof_is_caught() {
    let (_, violation) = caught(Bug::RecoveryBeforeProof, 20).expect("not caught");
    assert!(violation.starts_with("I-T6") || violation.starts_with("I-F"), "{violation}");
}
