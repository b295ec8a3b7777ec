//! Fencing by deadline (F4, protocol §4.5) and the stall policy `panic` (§4.7), with whole nodes on hosts of their own.
//!
//! Every host has a hardware watchdog that the administrator vouches for, and the only fence agent is installed nowhere.

use phalanx_messages::membership::{FenceMethod, NodeState};
use phalanx_tests::simulated_cluster::{Happened, PROFILE, SimulatedCluster};

/// Row 18 to its end: the administrator vouches for the watchdogs, so the time that has passed is the proof.
#[test]
fn fault_18_after_the_deadline_of_its_watchdog_a_master_without_link_and_disk_is_recovered() {
    let mut cluster = SimulatedCluster::with_watchdogs(2, 18);
    cluster.begin(2, 0);
    cluster.stick(0);
    cluster.cut([(0, 1)]);
    cluster.cut_disk(0);
    cluster.until("n0 marked by the next master", |cluster| cluster.state(0) == NodeState::ForcedLeaving);
    let cut_off = cluster.now_ms();
    cluster.until_settled(&[1]);
    let waited = cluster.now_ms() - cut_off;
    let dead = cluster.journal().into_iter().find(|event| event.node == 0 && event.what == Happened::Dead);
    let dead = dead.expect("its watchdog has reset it").at_ms;
    assert!(dead < cluster.now_ms() && cluster.serving() == [1], "{}", cluster.text());
    assert!(waited <= PROFILE.fence_ms() + 4 * PROFILE.renewal_ms, "{waited} ms");
    cluster.check();
}

/// Row 2 by deadline: nobody has an agent, and nobody speaks for a host without power.
#[test]
fn fault_02_a_host_that_loses_power_is_recovered_by_the_deadline_of_its_watchdog() {
    for lost in [0, 2] {
        let mut cluster = SimulatedCluster::with_watchdogs(3, 2);
        cluster.begin(3, 0);
        let silent = cluster.now_ms();
        cluster.power_off(lost);
        let rest: Vec<u16> = (0..3).filter(|id| *id != lost).collect();
        cluster.until_settled(&rest);
        let waited = cluster.now_ms() - silent;
        // Its last renewal may be that much older than its death.
        assert!(waited + PROFILE.renewal_ms >= PROFILE.fence_ms(), "recovered after {waited} ms\n{}", cluster.text());
        cluster.start(lost);
        cluster.until_settled(&[0, 1, 2]);
        cluster.check();
    }
}

/// Row 37: "fence agent fails: next method, else deadline". The only agent is installed nowhere.
#[test]
fn fault_37_when_every_agent_fails_the_deadline_is_waited_for() {
    let mut cluster = SimulatedCluster::with_watchdogs(3, 37);
    cluster.begin(3, 0);
    cluster.power_off(1);
    cluster.until("n1 marked", |cluster| cluster.state(1) == NodeState::ForcedLeaving);
    cluster.until("the proof", |cluster| cluster.proof(1) == Some(FenceMethod::Deadline));
    cluster.until_settled(&[0, 2]);
    cluster.check();
}

/// Row 11: "frozen between gate check and submit, resumes after T_self: impossible if C2 holds; simulated run without watchdog must
/// trip I-F2". A host whose watchdog is paused with it is recovered while it lives: this is what the attestation is about.
#[test]
#[should_panic(expected = "starts the service while [0] run it")]
fn fault_11_a_deadline_is_no_proof_where_the_watchdog_does_not_fire() {
    let mut cluster = SimulatedCluster::with_watchdogs(2, 11);
    cluster.begin(2, 0);
    cluster.stick(0);
    cluster.pause_watchdog(0);
    cluster.cut([(0, 1)]);
    cluster.cut_disk(0);
    cluster.until_settled(&[1]);
}

/// Row 23: "disk stall all > L, stall=panic: all stop by T_stop; cold start T-18 afterwards; no double run".
#[test]
fn fault_23_a_stall_of_every_path_ends_nodes_that_may_not_ride_it_through() {
    let mut cluster = SimulatedCluster::with_watchdogs(3, 23);
    cluster.begin(3, 0);
    let stalled = cluster.now_ms();
    (0..3).for_each(|id| cluster.cut_disk(id));
    cluster.until("the end of all", |cluster| (0..3).all(|id| !cluster.is_alive(id)));
    let took = cluster.now_ms() - stalled;
    assert!(took <= PROFILE.lease_ms + PROFILE.stop_ms, "{took} ms\n{}", cluster.text());
    assert!(cluster.panics().iter().all(|(_, reason)| reason == "the lease ended"), "{:?}", cluster.panics());
    assert_eq!((cluster.panics().len(), cluster.serving()), (3, vec![]));
    (0..3).for_each(|id| cluster.repair_disk(id));
    (0..3).for_each(|id| cluster.start(id));
    cluster.until_settled(&[0, 1, 2]);
    cluster.check();
}
