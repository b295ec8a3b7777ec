//! Whole nodes, every actor of each, on a simulated network and clock with one disk for all: the order in which they start,
//! links that fail, messages that are lost, actors that are lost.

use phalanx_actors::ports::InjectPanic;
use phalanx_node::builder::NodeActors;
use phalanx_tests::draw::Draw;
use phalanx_tests::order_checker::Kind;
use phalanx_tests::simulated_cluster::{Event, Happened, PROFILE, SimulatedCluster};

/// A settled cluster of so many nodes; the first one leads and runs the service.
fn settled(count: u16, seed: u64) -> SimulatedCluster {
    let mut cluster = SimulatedCluster::new(count, seed);
    begin(&mut cluster, count);
    cluster
}

fn begin(cluster: &mut SimulatedCluster, count: u16) {
    cluster.start(0);
    cluster.until_settled(&[0]);
    (1..count).for_each(|id| cluster.start(id));
    cluster.until_settled(&(0..count).collect::<Vec<_>>());
    assert_eq!((cluster.master(), cluster.serving()), (Some(0), vec![0]));
}

fn is_forced(event: &Event) -> bool {
    matches!(&event.what, Happened::Step(line) if line.kind == Kind::ForcedLeaving)
}

/// Nobody panicked and nobody was forced out.
fn assert_undisturbed(cluster: &SimulatedCluster) {
    assert!(cluster.panics().is_empty() && !cluster.has_happened(is_forced), "{}", cluster.text());
    cluster.check();
}

#[test]
fn nodes_form_a_cluster_in_any_order_of_start() {
    for seed in 0..40 {
        let mut draw = Draw::new(seed);
        let count = 2 + u16::try_from(seed % 4).unwrap();
        let all: Vec<u16> = (0..count).collect();
        let mut cluster = SimulatedCluster::new(count, seed);
        for id in draw.shuffled(&all) {
            cluster.start(id);
            cluster.run([0, 0, 30, 300][draw.below(4)]);
        }
        cluster.until_settled(&all);
        assert_undisturbed(&cluster);
    }
}

#[test]
fn one_seed_is_one_run_to_the_last_event() {
    let run = |seed| {
        let mut cluster = SimulatedCluster::new(3, seed);
        (0..3).for_each(|id| cluster.start(id));
        cluster.until_settled(&[0, 1, 2]);
        cluster.cut([(0, 1), (0, 2)]);
        cluster.run(5_000);
        cluster.repair([(0, 1), (0, 2)]);
        cluster.until("one side gone", |cluster| !cluster.panics().is_empty());
        let gone = cluster.panics()[0].0;
        cluster.run(1_000);
        cluster.start(gone);
        cluster.until_settled(&[0, 1, 2]);
        cluster.check();
        cluster.text()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// A cut of less than `T_net` costs at most connections.
#[test]
fn a_cut_shorter_than_the_network_timeout_changes_nothing() {
    for cut in [vec![(0, 1)], vec![(1, 2)], vec![(0, 1), (0, 2)], vec![(0, 1), (0, 2), (1, 2)]] {
        let mut cluster = settled(3, 3);
        cluster.cut(cut.clone());
        cluster.run(PROFILE.net_ms - 150);
        cluster.repair(cut);
        cluster.run(10_000);
        cluster.until_settled(&[0, 1, 2]);
        assert_undisturbed(&cluster);
    }
}

/// A longer one is noticed, and costs nobody if it ends before the views have settled (protocol §4.3).
#[test]
fn a_cut_that_ends_before_the_views_have_settled_costs_nobody() {
    for seed in 0..5 {
        let mut cluster = settled(3, seed);
        cluster.cut([(0, 2), (1, 2)]);
        cluster.run(PROFILE.net_ms + 500);
        assert!(cluster.rounds() > 0, "it was noticed");
        cluster.repair([(0, 2), (1, 2)]);
        cluster.run(10_000);
        cluster.until_settled(&[0, 1, 2]);
        assert_undisturbed(&cluster);
    }
}

/// Again and again messages are lost on a drawn link, while a node leaves and joins. A simulated connection does not send again
/// what was lost, so it is dead, is found dead after `T_net`, and is made anew before the survivor rule may look: nobody goes.
#[test]
fn lost_messages_cost_connections_and_no_member() {
    let mut lost = 0;
    for seed in 0..10 {
        let mut draw = Draw::new(seed);
        let mut cluster = settled(3, seed);
        cluster.leave(2);
        for round in 0..20 {
            let [a, b, ..] = draw.shuffled(&[0, 1, 2])[..] else { panic!("three nodes") };
            cluster.cut([(a, b)]);
            cluster.run(1 + u64::try_from(draw.below(20)).unwrap());
            cluster.repair([(a, b)]);
            cluster.run(2 * PROFILE.net_ms + u64::try_from(draw.below(500)).unwrap());
            if round >= 10 && !cluster.is_alive(2) {
                cluster.start(2);
            }
        }
        cluster.until_settled(&[0, 1, 2]);
        assert_undisturbed(&cluster);
        lost += cluster.rounds();
    }
    assert!(lost > 10, "{lost} lost connections in ten runs");
}

/// Ends an actor of a node by its mailbox.
type Lose = fn(&NodeActors);

/// Architecture §3: an actor that panics takes its node along; the others recover it and its service, and it may come back.
#[test]
fn a_lost_actor_is_the_end_of_its_node_and_the_others_recover_it() {
    let actors: [(&str, Lose); 6] = [
        ("disk", |actors| actors.disk.do_send(InjectPanic)),
        ("fence", |actors| actors.fence.do_send(InjectPanic)),
        ("interconnect", |actors| actors.interconnect.do_send(InjectPanic)),
        ("membership manager", |actors| actors.membership.do_send(InjectPanic)),
        ("event manager", |actors| actors.event_manager.do_send(InjectPanic)),
        ("registration and launch", |actors| actors.registration.do_send(InjectPanic)),
    ];
    for (name, lose) in actors {
        let mut cluster = settled(3, 11);
        lose(&cluster.actors(0));
        cluster.until_settled(&[1, 2]);
        let panics = cluster.panics();
        assert!(matches!(&panics[..], [(0, reason)] if reason.contains(name)), "{name}: {panics:?}");
        assert!(cluster.has_happened(is_forced));
        cluster.start(0);
        cluster.until_settled(&[0, 1, 2]);
        cluster.check();
    }
}

/// Every node of a drawn cluster does something at drawn moments: it is killed, loses its power, leaves, loses links, starts again.
/// Then the faults end, and all nodes must be joined and the service run once.
#[test]
fn whole_nodes_settle_after_drawn_faults() {
    let seeds = std::env::var("PHALANX_FAULT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        eprintln!("seed {seed}");
        let mut draw = Draw::new(seed);
        let count = 3 + u16::try_from(draw.below(3)).unwrap();
        let all: Vec<u16> = (0..count).collect();
        let fenced = seed % 2 == 0;
        let make = if fenced { SimulatedCluster::with_local_fence } else { SimulatedCluster::new };
        let mut cluster = make(count, seed);
        begin(&mut cluster, count);
        for _ in 0..12 {
            disturb(&mut cluster, &mut draw, &all, fenced);
            cluster.run(u64::try_from(draw.below(900)).unwrap());
        }
        for a in &all {
            cluster.repair(all.iter().filter(|b| *b != a).map(|b| (*a, *b)));
        }
        for _ in 0..200 {
            cluster.run(100);
            let down: Vec<u16> = all.iter().copied().filter(|id| !cluster.is_alive(*id)).collect();
            down.into_iter().for_each(|id| cluster.start(id));
        }
        cluster.until_settled(&all);
        cluster.check();
    }
}

fn disturb(cluster: &mut SimulatedCluster, draw: &mut Draw, all: &[u16], fenced: bool) {
    let [a, b, ..] = draw.shuffled(all)[..] else { panic!("three nodes at least") };
    match (draw.below(7), cluster.is_alive(a)) {
        (6, true) if fenced => cluster.power_off(a),
        (0, true) => cluster.kill(a),
        (1, true) => cluster.leave(a),
        (2, _) => cluster.cut([(a, b)]),
        (3, _) => cluster.cut(all.iter().filter(|other| **other != a).map(|other| (a, *other))),
        (4, _) => cluster.repair([(a, b)]),
        (_, false) => cluster.start(a),
        (_, true) => {}
    }
}
