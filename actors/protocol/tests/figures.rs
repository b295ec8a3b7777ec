//! The spec's figures as scenarios, with their level names.

mod common;

use common::*;
use phalanx_messages::membership::NodeState;
use phalanx_messages::notification::SubsystemAnswer;
use phalanx_messages::{Incarnation, NodeIncarnation};

fn two_joined() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.join(node(0), spec_levels());
    cluster.run();
    cluster.join(node(1), spec_levels());
    cluster.run();
    assert_eq!((cluster.state(0), cluster.state(1)), (NodeState::Joined, NodeState::Joined));
    cluster.take_log();
    cluster
}

/// Spec, Figs. 3 to 10: a join is told from the lowest level up, on every node; VDM hears of it only after DLM on *both* nodes.
#[test]
fn figs_3_to_10_a_join_ascends_and_every_level_waits_for_every_node() {
    let mut cluster = Cluster::new();
    cluster.join(node(0), spec_levels());
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        ["N0:DLM N0 joining b0", "N0:VDM N0 joining b0", "N0:SFS N0 joining b0", "N0:EM N0 joining b0",]
    );
    cluster.join(node(1), spec_levels());
    cluster.commit();
    while cluster.deliver(0) {}
    assert_eq!(cluster.take_log(), ["N0:DLM N1 joining b0", "N1:DLM N1 joining b0"]);
    cluster.acknowledge(node(1), 0);
    while cluster.deliver(0) || cluster.commit() {}
    assert_eq!(cluster.take_log(), Vec::<String>::new(), "DLM on N0 has not acknowledged");
    cluster.acknowledge(node(0), 0);
    while cluster.deliver(0) || cluster.commit() {}
    assert_eq!(cluster.take_log(), ["N0:VDM N1 joining b0", "N1:VDM N1 joining b0"]);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
    cluster.check_rest();
}

/// Spec, Figs. 11 and 12: a graceful leave descends, and the leaver takes part to the end.
#[test]
fn figs_11_and_12_a_graceful_leave_descends() {
    let mut cluster = two_joined();
    cluster.leave(node(1));
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        [
            "N0:EM N1 leaving b0",
            "N1:EM N1 leaving b0",
            "N0:SFS N1 leaving b0",
            "N1:SFS N1 leaving b0",
            "N0:VDM N1 leaving b0",
            "N1:VDM N1 leaving b0",
            "N0:DLM N1 leaving b0",
            "N1:DLM N1 leaving b0",
        ]
    );
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert!(cluster.members[&node(1)].left);
    cluster.check_rest();
}

/// Spec, "An ungraceful leave is processed from the bottom-up": a forced leave ascends on the survivors, and the victim is told nothing.
#[test]
fn a_forced_leave_ascends_on_the_survivors() {
    let mut cluster = two_joined();
    cluster.kill(node(1));
    cluster.force(node(1));
    cluster.run();
    assert_eq!(cluster.take_log(), Vec::<String>::new(), "recovery waits for the proof of death");
    assert_eq!(cluster.state(1), NodeState::ForcedLeaving);
    cluster.prove(node(1));
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        [
            "N0:DLM N1 forced-leaving b0",
            "N0:VDM N1 forced-leaving b0",
            "N0:SFS N1 forced-leaving b0",
            "N0:EM N1 forced-leaving b0",
        ]
    );
    assert_eq!(cluster.state(1), NodeState::Inactive);
    cluster.check_rest();
}

/// Spec, "barrier synchronization" and Fig. 2: barriers. Nobody is told barrier 1 before everybody acknowledged barrier 0.
#[test]
fn fig_2_barriers_synchronise_a_level() {
    let levels = || vec![registration(DLM, 3, 2, 3), registration(EM, 1, 2, 1)];
    let mut cluster = Cluster::new();
    cluster.join(node(0), levels());
    cluster.run();
    cluster.take_log();
    cluster.join(node(1), levels());
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        [
            "N0:DLM N1 joining b0",
            "N1:DLM N1 joining b0",
            "N0:DLM N1 joining b1",
            "N1:DLM N1 joining b1",
            "N0:DLM N1 joining b2",
            "N1:DLM N1 joining b2",
            "N0:EM N1 joining b0",
            "N1:EM N1 joining b0",
        ]
    );
    cluster.leave(node(1));
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        [
            "N0:EM N1 leaving b0",
            "N1:EM N1 leaving b0",
            "N0:EM N1 leaving b1",
            "N1:EM N1 leaving b1",
            "N0:DLM N1 leaving b0",
            "N1:DLM N1 leaving b0",
            "N0:DLM N1 leaving b1",
            "N1:DLM N1 leaving b1",
        ]
    );
}

/// Spec, "such as when many nodes boot after a power failure": two nodes that join together climb as one batch; each level is passed once.
#[test]
fn nodes_that_join_together_climb_as_one_batch() {
    let mut cluster = Cluster::new();
    cluster.join(node(0), spec_levels());
    cluster.run();
    cluster.take_log();
    cluster.join(node(1), spec_levels());
    cluster.join(node(2), spec_levels());
    // N1's step is committed first; N2 waits at DLM, catches up, and both are joined at the end.
    cluster.run();
    assert_eq!([1, 2].map(|id| cluster.state(id)), [NodeState::Joined; 2]);
    cluster.check_rest();
    cluster.take_log();

    let mut together = Cluster::new();
    together.coordinator = together.coordinator.map(|coordinator| coordinator.gathering_joins_for(100));
    for id in 0..3 {
        together.join(node(id), spec_levels());
    }
    together.tick(1);
    together.run();
    assert_eq!(together.take_log(), Vec::<String>::new(), "joins are gathered");
    together.tick(200);
    together.run();
    let log = together.take_log();
    assert_eq!(log.len(), 3 * 3 * 4, "three nodes are told of three nodes at four levels, once: {log:#?}");
    assert!(log[..9].iter().all(|line| line.contains(":DLM")), "{log:#?}");
    assert_eq!([0, 1, 2].map(|id| together.state(id)), [NodeState::Joined; 3]);
}

/// Spec, Figs. 13 to 15: the join of a node hangs in SFS; it is forced out from DLM up through SFS, whose subsystem gets a
/// re-notification, and the event manager, which never heard of it, is told nothing.
#[test]
fn figs_13_to_15_a_lost_joiner_is_recovered_through_the_level_it_had_reached() {
    let mut cluster = Cluster::new();
    cluster.join(node(0), spec_levels());
    cluster.run();
    cluster.take_log();
    cluster.join(node(1), spec_levels());
    cluster.commit();
    for _level in [DLM, VDM] {
        while cluster.deliver(0) || cluster.commit() {}
        cluster.acknowledge(node(0), 0);
        cluster.acknowledge(node(1), 0);
    }
    while cluster.deliver(0) || cluster.commit() {}
    let hung = cluster.take_log();
    assert_eq!(hung.len(), 6, "DLM and VDM are done, SFS is processing: {hung:#?}");
    assert_eq!(hung[4..], ["N0:SFS N1 joining b0", "N1:SFS N1 joining b0"]);
    cluster.kill(node(1));
    cluster.force(node(1));
    cluster.prove(node(1));
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        ["N0:DLM N1 forced-leaving b0", "N0:VDM N1 forced-leaving b0", "N0:SFS N1 forced-leaving b0"]
    );
    assert_eq!(cluster.state(1), NodeState::Inactive);
    cluster.check_rest();
}

/// A node that is lost while it leaves: the levels it has left are not told again.
#[test]
fn a_lost_leaver_is_recovered_from_below_through_its_level() {
    let mut cluster = two_joined();
    cluster.leave(node(1));
    cluster.commit();
    while cluster.deliver(0) {}
    cluster.acknowledge(node(0), 0);
    cluster.acknowledge(node(1), 0);
    while cluster.deliver(0) || cluster.commit() {}
    cluster.take_log();
    cluster.kill(node(1));
    cluster.force(node(1));
    cluster.prove(node(1));
    cluster.run();
    assert_eq!(
        cluster.take_log(),
        ["N0:DLM N1 forced-leaving b0", "N0:VDM N1 forced-leaving b0", "N0:SFS N1 forced-leaving b0",],
        "EM had completed its leave"
    );
    cluster.check_rest();
}

/// A forced leave while another node joins: the join is held, the recovery overtakes it, and the join restarts.
#[test]
fn a_forced_leave_preempts_the_join_of_another_node() {
    let mut cluster = Cluster::new();
    for id in 0..3 {
        cluster.join(node(id), spec_levels());
        cluster.run();
    }
    cluster.join(node(3), spec_levels());
    cluster.commit();
    while cluster.deliver(0) {}
    cluster.take_log();
    cluster.kill(node(1));
    cluster.force(node(1));
    cluster.prove(node(1));
    cluster.run();
    let log = cluster.take_log();
    let forced = log.iter().position(|line| line == "N3:DLM N1 forced-leaving b0").expect("the joiner takes part");
    let restart = log.iter().position(|line| line == "N3:DLM N3 joining b0 r1").expect("the join restarts");
    assert!(forced < restart, "{log:#?}");
    assert_eq!((cluster.state(1), cluster.state(3)), (NodeState::Inactive, NodeState::Joined));
    cluster.check_rest();
}

/// Protocol T-12: a master that leaves stays master until its own end is committed.
#[test]
fn the_master_leaves_like_everybody_and_hands_over_at_its_end() {
    let mut cluster = two_joined();
    cluster.leave(node(0));
    assert!(!cluster.handed_over);
    cluster.run();
    assert!(cluster.handed_over && cluster.members[&node(0)].left);
    assert_eq!((cluster.state(0), cluster.state(1)), (NodeState::Inactive, NodeState::Joined));
}

#[test]
fn all_nodes_leave_as_one_batch() {
    let mut cluster = two_joined();
    cluster.leave(node(1));
    cluster.leave(node(0));
    cluster.run();
    assert_eq!((cluster.state(0), cluster.state(1)), (NodeState::Inactive, NodeState::Inactive));
    assert!(cluster.members[&node(1)].left && cluster.handed_over);
}

/// Protocol T-13: a second start of a node first costs the first one its membership.
#[test]
fn a_node_that_was_started_again_waits_until_its_old_incarnation_is_recovered() {
    let mut cluster = two_joined();
    cluster.kill(node(1));
    let again = NodeIncarnation { incarnation: Incarnation(2), ..node(1) };
    cluster.join(again, spec_levels());
    assert!(cluster.take_log().iter().any(|line| line.starts_with("refused N1: BusyLeaving")));
    cluster.prove(node(1));
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    cluster.ask_to_join(again);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
    cluster.check_rest();
}

/// Protocol T-24: a joining node whose own subsystem fails does not join.
#[test]
fn a_joiner_whose_own_subsystem_fails_leaves_from_that_level() {
    let mut cluster = two_joined();
    cluster.join(node(2), spec_levels());
    cluster.commit();
    while cluster.deliver(0) {}
    let (_, notice) = cluster.members.get_mut(&node(2)).unwrap().processing.remove(0);
    cluster.answer(node(2), &notice, SubsystemAnswer::Failed { text: "no such device".to_owned() });
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
    assert!(cluster.members[&node(2)].left);
    assert_eq!(cluster.committed.nodes[&node(2).node].reason, "no such device");
    cluster.check_rest();
}

/// Protocol T-18: nobody of the old cluster is left. The forming node joins a level, then recovers the lost there, then goes on.
#[test]
fn a_cold_start_recovers_each_level_right_after_it_is_formed() {
    let old = two_joined().committed;
    let again = NodeIncarnation { incarnation: Incarnation(2), ..node(0) };
    let mut cluster = Cluster::from_record(again, old, 2);
    cluster.prove(node(0));
    cluster.prove(node(1));
    cluster.own(
        again,
        3,
        Some([node(0), node(1)].map(|who| (who, phalanx_messages::membership::FenceMethod::Local)).into()),
    );
    cluster.start(again, spec_levels());
    cluster.commit();
    cluster.ask_to_join(again);
    cluster.run();
    cluster.ask_to_join(again);
    cluster.run();
    let level = |level: &str| {
        [
            format!("N0:{level} N0 joining b0"),
            format!("N0:{level} N0 forced-leaving b0"),
            format!("N0:{level} N1 forced-leaving b0"),
        ]
    };
    let expected: Vec<String> = ["DLM", "VDM", "SFS", "EM"].into_iter().flat_map(level).collect();
    assert_eq!(cluster.take_log(), expected);
    assert_eq!(cluster.state(0), NodeState::Joined);
    assert!(cluster.committed.ghosts.is_empty());
    cluster.check_rest();
}

/// Protocol §5.6: a new master resumes the step under the same id, and forces the old master out first.
#[test]
fn a_new_master_goes_on_where_the_old_one_died() {
    let mut cluster = Cluster::new();
    for id in 0..3 {
        cluster.join(node(id), spec_levels());
        cluster.run();
    }
    cluster.leave(node(2));
    cluster.commit();
    while cluster.deliver(0) {}
    cluster.acknowledge(node(2), 0);
    cluster.take_log();
    cluster.kill(node(0));
    cluster.messages.clear();
    cluster.own(node(1), 2, None);
    cluster.force(node(0));
    cluster.prove(node(0));
    cluster.run();
    assert_eq!([0, 1, 2].map(|id| cluster.state(id)), [NodeState::Inactive, NodeState::Joined, NodeState::Inactive]);
    let log = cluster.take_log();
    assert!(log.contains(&"N1:EM N2 leaving b0 r1".to_owned()), "the held leave restarts: {log:#?}");
    cluster.check_rest();
}
