//! Rows of the fault table (protocol §8.5, docs/faults.md) with whole nodes on a simulated network and one disk.
//!
//! Nobody is fenced unless a test says so: whoever is marked finds the order on the disk and panics, and its warden says so.

use phalanx_actors::ports::InjectPanic;
use phalanx_messages::membership::NodeState;
use phalanx_tests::draw::Draw;
use phalanx_tests::order_checker::Kind;
use phalanx_tests::simulated_cluster::{Happened, PROFILE, SimulatedCluster};

/// All pairs of one side and the other.
fn between(side: &[u16], other: &[u16]) -> Vec<(u16, u16)> {
    side.iter().flat_map(|a| other.iter().map(|b| (*a, *b))).collect()
}

fn settled(count: u16, master: u16, seed: u64) -> SimulatedCluster {
    let mut cluster = SimulatedCluster::new(count, seed);
    cluster.begin(count, master);
    cluster
}

/// Exactly these nodes stay: all others panic because they were forced out or are on the losing side, and nobody panics later.
/// Then the links are repaired, all start again and join.
fn expect_survivors(mut cluster: SimulatedCluster, count: u16, stay: &[u16]) {
    cluster.until_settled(stay);
    cluster.run(10_000);
    let mut gone: Vec<u16> = cluster.panics().iter().map(|(node, _)| *node).collect();
    gone.sort_unstable();
    let others: Vec<u16> = (0..count).filter(|id| !stay.contains(id)).collect();
    assert_eq!(gone, others, "{}", cluster.text());
    let knew = |reason: &str| reason.starts_with("forced out") || reason.contains("the survivor rule chose others");
    assert!(cluster.panics().iter().all(|(_, reason)| knew(reason)), "{:?}", cluster.panics());
    assert!(stay.contains(&cluster.master().expect("a master")), "{}", cluster.text());
    (0..count).for_each(|a| cluster.repair((0..count).filter(|b| a != *b).map(|b| (a, b))));
    others.iter().for_each(|id| cluster.start(*id));
    cluster.until_settled(&(0..count).collect::<Vec<_>>());
    cluster.check();
}

/// Row 3: "master killed: T_takeover, election, then as 1; in-flight steps continue", at every moment of a join.
#[test]
fn fault_03_a_killed_master_leaves_its_transitions_to_the_next_one() {
    let mut in_flight = 0;
    for moment in (0..400).step_by(10) {
        let mut cluster = SimulatedCluster::new(4, moment);
        cluster.begin(3, 0);
        cluster.start(3);
        cluster.run(moment);
        in_flight += u32::from(cluster.state(3) == NodeState::Joining);
        cluster.kill(0);
        cluster.until_settled(&[1, 2, 3]);
        assert!(cluster.panics().is_empty() && cluster.master() != Some(0), "{}", cluster.text());
        cluster.start(0);
        cluster.until_settled(&[0, 1, 2, 3]);
        cluster.check();
    }
    assert!(in_flight > 5, "the join was in flight in {in_flight} runs");
}

/// Row 14: "all links down: master alone stays".
#[test]
fn fault_14_with_all_links_down_the_master_alone_stays() {
    for (count, master) in [(3, 0), (3, 2), (5, 3)] {
        let cluster = settled(count, master, 14);
        let all: Vec<u16> = (0..count).collect();
        all.iter().for_each(|a| cluster.cut(all.iter().filter(|b| *b > a).map(|b| (*a, *b))));
        expect_survivors(cluster, count, &[master]);
    }
}

/// Row 15: "one-way link loss: treated as cut; rule 4.3".
#[test]
fn fault_15_a_link_that_is_cut_one_way_is_cut() {
    // Between master and member: the side with the master. Between members: the smaller ids beside the master.
    for (from, to, stay) in [(0, 1, [0, 2]), (1, 0, [0, 2]), (1, 2, [0, 1]), (2, 1, [0, 1])] {
        let cluster = settled(3, 0, 15);
        cluster.cut_one_way(from, to);
        expect_survivors(cluster, 3, &stay);
    }
}

/// Row 16: "A-B cut, both see C: deterministic clique; one of A, B leaves".
#[test]
fn fault_16_a_cut_between_two_of_three_costs_one_of_them() {
    for seed in 0..4 {
        for (master, stay) in [(2, [0, 2]), (0, [0, 2]), (1, [1, 2])] {
            let cluster = settled(3, master, seed);
            cluster.cut([(0, 1)]);
            expect_survivors(cluster, 3, &stay);
        }
    }
}

/// Row 17: "2 nodes, link cut: master stays, other panics on pill; no race".
#[test]
fn fault_17_of_two_nodes_without_a_link_the_master_stays() {
    for seed in 0..6 {
        for master in [0, 1] {
            let cluster = settled(2, master, seed);
            cluster.cut([(0, 1)]);
            expect_survivors(cluster, 2, &[master]);
        }
    }
}

/// Protocol §4.3: two against two, and three against two with the master among the two, which evicts its own side and itself.
#[test]
fn s43_a_cluster_in_two_parts_goes_on_as_one_of_them() {
    let cluster = settled(4, 3, 43);
    cluster.cut(between(&[0, 1], &[2, 3]));
    expect_survivors(cluster, 4, &[2, 3]);
    let cluster = settled(5, 4, 43);
    cluster.cut(between(&[0, 1, 2], &[3, 4]));
    expect_survivors(cluster, 5, &[0, 1, 2]);
}

/// Row 18: "2 nodes, link cut and master disk dead". The master can neither renew nor decide: it stops, the other one is elected by
/// the disk alone. Here the proof of death is a survivor's fence, which must come before anything is started elsewhere.
#[test]
fn fault_18_a_master_without_link_and_disk_is_replaced() {
    for master in [0, 1] {
        let other = 1 - master;
        let mut cluster = SimulatedCluster::with_local_fence(2, 18);
        cluster.begin(2, master);
        cluster.cut([(0, 1)]);
        cluster.cut_disk(master);
        cluster.until_settled(&[other]);
        assert_eq!((cluster.master(), cluster.serving()), (Some(other), vec![other]));
        assert!(!cluster.is_alive(master));
        cluster.check();
    }
}

/// Row 18 where the node hangs in its dead disk and nobody can end it: without a proof of death nothing is recovered, and its
/// service, which may still run, is not started beside it.
#[test]
fn fault_18_without_a_proof_of_death_recovery_waits() {
    let mut cluster = SimulatedCluster::new(2, 18);
    cluster.begin(2, 0);
    cluster.stick(0);
    cluster.cut([(0, 1)]);
    cluster.cut_disk(0);
    cluster.until("n0 marked by the next master", |cluster| {
        cluster.state(0) == NodeState::ForcedLeaving && cluster.master() == Some(1)
    });
    cluster.run(20_000);
    assert_eq!((cluster.state(0), cluster.serving()), (NodeState::ForcedLeaving, vec![0]), "{}", cluster.text());
}

/// Row 19: "flapping link shorter than T_net: no action".
#[test]
fn fault_19_a_link_that_flaps_is_not_acted_on() {
    for seed in 0..5 {
        let mut draw = Draw::new(seed);
        let mut cluster = settled(3, 0, seed);
        for _ in 0..10 {
            let cut = [[(0, 1)], [(1, 2)], [(0, 2)]][draw.below(3)];
            cluster.cut(cut);
            cluster.run(PROFILE.net_ms * 2 / 3);
            cluster.repair(cut);
            cluster.run(2 * PROFILE.net_ms);
        }
        cluster.until_settled(&[0, 1, 2]);
        let forced = |what: &Happened| matches!(what, Happened::Step(line) if line.kind == Kind::ForcedLeaving);
        assert!(cluster.panics().is_empty() && !cluster.has_happened(|event| forced(&event.what)));
        assert_eq!(cluster.master(), Some(0));
        cluster.check();
    }
}

/// A node loses its path to the disk: it is forced out, and its service moves only after it is dead.
fn lose_the_disk_of(lost: u16) {
    let mut cluster = SimulatedCluster::with_local_fence(3, 20);
    cluster.begin(3, 0);
    cluster.cut_disk(lost);
    let rest: Vec<u16> = (0..3).filter(|id| *id != lost).collect();
    cluster.until_settled(&rest);
    assert!(rest.contains(&cluster.master().expect("a master")) && !cluster.is_alive(lost));
    cluster.check();
}

/// Row 20: "disk lost on one member: suspends at L; marked; recovery".
#[test]
fn fault_20_a_member_without_its_disk_is_forced_out() {
    lose_the_disk_of(2);
}

/// Row 21: "disk lost on the master: lease ends; election; old master marked".
#[test]
fn fault_21_a_master_without_its_disk_is_replaced_and_forced_out() {
    lose_the_disk_of(0);
}

/// Row 27: "both NB slots of a live node rot: healed by its next two renewals", of a member and of the master; nobody is marked and
/// nothing moves.
#[test]
fn fault_27_the_register_of_a_live_node_heals_and_costs_nothing() {
    for id in 0..3 {
        let mut cluster = settled(3, 0, 27);
        let before = cluster.register(id).expect("readable");
        cluster.rot_register(id);
        assert_eq!(cluster.register(id), None);
        cluster.run(2 * PROFILE.renewal_ms + PROFILE.io_timeout_ms);
        assert_eq!(cluster.register(id).map(|register| register.incarnation), Some(before.incarnation));
        cluster.run(10_000);
        cluster.until_settled(&[0, 1, 2]);
        assert!(cluster.panics().is_empty(), "{:?}", cluster.panics());
        assert_eq!((cluster.master(), cluster.serving()), (Some(0), vec![0]));
        cluster.check();
    }
}

/// Row 28: "both NB slots of a dead node rot: SUSPEND until proxy repair (3.8)". The node is out; until its register is written in
/// its place nothing can be committed, then what waited goes on, and the node starts and joins again with an incarnation that it
/// never had.
#[test]
fn fault_28_the_register_of_a_dead_node_suspends_the_master_until_it_is_written_in_its_place() {
    for (seed, gone, stays) in [(1, 2, [0, 1]), (2, 1, [0, 2])] {
        let mut cluster = settled(3, 0, seed);
        cluster.kill(gone);
        cluster.until_settled(&stays);
        let used = cluster.register(gone).expect("readable").incarnation;
        cluster.rot_register(gone);
        let rotten_at = cluster.now_ms();
        let leaver = stays[1];
        cluster.run(PROFILE.renewal_ms);
        cluster.leave(leaver);
        cluster.run(PROFILE.fence_ms() - 2 * PROFILE.renewal_ms);
        assert_eq!(cluster.register(gone), None);
        assert!(cluster.is_alive(leaver) && cluster.state(leaver) != NodeState::Inactive, "suspended");
        cluster.until("the repair", |cluster| cluster.register(gone).is_some());
        let repaired_at = cluster.now_ms();
        assert!(repaired_at - rotten_at >= PROFILE.fence_ms(), "{repaired_at} after {rotten_at}");
        let register = cluster.register(gone).expect("just seen");
        let master = cluster.register(0).expect("readable").claim;
        assert!(register.incarnation >= used && register.claim.owned == master.term, "{register:?}");
        cluster.until_settled(&[0]);
        assert!(cluster.panics().is_empty(), "{:?}", cluster.panics());
        cluster.until("the end of who left", |cluster| !cluster.is_alive(leaver));
        cluster.start(gone);
        cluster.start(leaver);
        cluster.until_settled(&[0, 1, 2]);
        cluster.check();
    }
}

/// Row 32: "node reboots faster than detection: T-13: Busy, old inc forced out, then joins". Nobody spoke for the old start.
#[test]
fn fault_32_a_node_that_reboots_faster_than_it_is_missed_joins_after_its_old_start_is_recovered() {
    for (seed, id) in [(1, 0), (2, 1), (3, 2)] {
        let mut cluster = settled(3, 0, seed);
        cluster.power_off(id);
        cluster.start(id);
        cluster.until_settled(&[0, 1, 2]);
        assert!(cluster.panics().is_empty());
        let name = format!("n{id}");
        let steps = cluster.journal().into_iter().filter_map(|event| match event.what {
            Happened::Step(line) if line.subject == name => Some((line.kind, line.incarnation)),
            Happened::Started
            | Happened::Joined
            | Happened::Ended(_)
            | Happened::Panicked(_)
            | Happened::Dead
            | Happened::Step(_)
            | Happened::Service(_) => None,
        });
        let mut kinds: Vec<_> = steps.collect();
        kinds.dedup();
        assert_eq!(kinds, [(Kind::Joining, 1), (Kind::ForcedLeaving, 1), (Kind::Joining, 2)], "one after the other");
        cluster.check();
    }
}

/// Row 44: "EM process crashes". The event manager is an actor of the daemon, so there is nothing to resume: its crash is the
/// node's (T-17, `ForceNode`).
#[test]
fn fault_44_a_node_whose_event_manager_crashes_is_forced_out() {
    for id in [0, 2] {
        let mut cluster = settled(3, 0, 44);
        cluster.actors(id).event_manager.do_send(InjectPanic);
        let rest: Vec<u16> = (0..3).filter(|other| *other != id).collect();
        cluster.until_settled(&rest);
        assert!(matches!(&cluster.panics()[..], [(node, reason)] if *node == id && reason.contains("event manager")));
        cluster.start(id);
        cluster.until_settled(&[0, 1, 2]);
        cluster.check();
    }
}

/// Row 54: "whole cluster power loss: cold start, parked Forced recovered level by level". Whoever comes back first forms the
/// cluster anew; nobody spoke for the others, which are recovered as far as they prove themselves dead by starting again.
#[test]
fn fault_54_a_cluster_that_lost_its_power_forms_again() {
    for seed in 0..8 {
        let mut draw = Draw::new(seed);
        let mut cluster = settled(3, 0, seed);
        for id in draw.shuffled(&[0, 1, 2]) {
            cluster.power_off(id);
            cluster.run(u64::try_from(draw.below(3)).unwrap());
        }
        cluster.run(100);
        for id in draw.shuffled(&[0, 1, 2]) {
            cluster.start(id);
            cluster.run(u64::try_from(draw.below(3_000)).unwrap());
        }
        cluster.until_settled(&[0, 1, 2]);
        assert!(cluster.panics().is_empty());
        cluster.check();
    }
}
