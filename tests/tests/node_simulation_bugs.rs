//! The simulation of whole nodes can fail: a rule is taken out of the machines that the actors run, and it is missed.
//!
//! All nodes of a simulation run on the test's thread, so a bug of that thread is a bug of every node.
#![cfg(feature = "deliberate-bugs")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use phalanx_protocol::bugs::{Bug, with};
use phalanx_tests::simulated_cluster::SimulatedCluster;

/// Three nodes join, and one leaves and comes back; gives the steps out of order.
fn disorder(seed: u64) -> Vec<String> {
    let mut cluster = SimulatedCluster::new(3, seed);
    (0..3).for_each(|id| cluster.start(id));
    cluster.run(3_000);
    cluster.disorder()
}

/// I-T2 at the subsystems: a barrier opens before everybody is there.
#[test]
fn a_skipped_barrier_is_seen_by_the_order_of_steps() {
    let found = |bug| with(bug, || (0..10).any(|seed| !disorder(seed).is_empty()));
    assert!(found(Some(Bug::BarrierSkipped)) && !found(None));
}

/// I-F1: without a proof of death the service is started beside the instance of a node that may still live.
#[test]
fn recovery_before_the_proof_of_death_runs_the_service_twice() {
    let run = || {
        let mut cluster = SimulatedCluster::new(2, 18);
        cluster.start(0);
        cluster.until_settled(&[0]);
        cluster.start(1);
        cluster.until_settled(&[0, 1]);
        cluster.stick(0); // in its dead disk
        cluster.cut([(0, 1)]);
        cluster.cut_disk(0);
        cluster.run(20_000);
    };
    let runs = |bug| with(bug, || catch_unwind(AssertUnwindSafe(run)).is_ok());
    assert!(runs(None));
    assert!(!runs(Some(Bug::RecoveryBeforeProof)), "the service never ran twice");
}
