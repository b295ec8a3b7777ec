//! Rules of protocol §5.2 and §3.6, one scenario each.

mod common;

use common::{Cluster, Packet, level, n, spec_levels};
use phalanx_messages::membership::{Certainty, FenceMethod, LevelRegistration, NodeState, StepPhase};
use phalanx_messages::peer::JoinRefusal;
use phalanx_messages::{Incarnation, Level, Term};
use phalanx_protocol::coordinator::level_states::subjects;
use phalanx_protocol::coordinator::{Warning, pills};

fn two_levels() -> Vec<LevelRegistration> {
    vec![level(Level::DLM, "DLM", 2, 1, 1), level(Level::VDM, "VDM", 1, 1, 1)]
}

fn told(cluster: &Cluster, part: &str) -> usize {
    cluster.log.iter().filter(|line| line.contains(part)).count()
}

/// Protocol T-5: nodes that boot together climb the levels once.
#[test]
fn t5_nodes_that_boot_together_join_as_one_batch() {
    let mut cluster = Cluster::new(4, &spec_levels());
    cluster.gather_ms = 100;
    (0..4).for_each(|id| cluster.boot(id));
    cluster.run();
    assert!(cluster.log.is_empty(), "they wait for each other");
    cluster.tick(150);
    cluster.run();
    assert!((0..4).all(|id| cluster.state(id) == NodeState::Joined));
    assert_eq!(cluster.log.len(), 4 * 4 * 4, "every node at every level hears of every node once");
    // One commit to form the cluster, one a request, one to enter each of the four levels (which also completes the one
    // below), and one at the end.
    assert_eq!(cluster.disk.revision.seq, 1 + 4 + 4 + 1);
}

/// Protocol T-5: kinds of one batch with different barrier counts complete the level in one commit.
#[test]
fn t5_a_join_and_a_leave_share_a_batch_in_lockstep() {
    let levels = [level(Level::DLM, "DLM", 3, 1, 1)];
    let mut cluster = Cluster::joined(2, 3, &levels);
    cluster.hung.insert((n(0), Level::DLM));
    cluster.leave(1);
    cluster.run(); // the leave runs and hangs; the join waits for it
    cluster.boot(2);
    cluster.run();
    assert_eq!(told(&cluster, "N2 joining"), 0, "a level has one graceful batch");
    cluster.hung.clear();
    cluster.run();
    assert_eq!(told(&cluster, "N2 joining barrier 2"), 2);
    assert_eq!((cluster.state(1), cluster.state(2)), (NodeState::Inactive, NodeState::Joined));
}

/// Protocol T-9: a member dies while another joins; the join is held, then restarted without it.
#[test]
fn t9_a_join_goes_on_after_a_participant_died() {
    let mut cluster = Cluster::joined(2, 3, &two_levels());
    cluster.hung.insert((n(1), Level::DLM));
    cluster.boot(2);
    cluster.run();
    cluster.kill(1, false);
    cluster.detect(None);
    cluster.run();
    let held = subjects(&cluster.disk).any(|(_, step)| step.phase == StepPhase::Held);
    assert!(held && cluster.state(2) == NodeState::Joining, "it waits for the recovery");
    cluster.prove();
    cluster.run();
    assert_eq!((cluster.state(1), cluster.state(2)), (NodeState::Inactive, NodeState::Joined));
    assert_eq!(told(&cluster, "N2 DLM: N2 joining barrier 0"), 2, "begun again: {:#?}", cluster.log);
    assert!(cluster.log.contains(&"N2 DLM: N1 forced-leaving".to_owned()), "mid-join at DLM it takes part there");
    assert!(!cluster.log.contains(&"N2 VDM: N1 forced-leaving".to_owned()), "and nowhere else");
}

/// Protocol T-7, T-8: the joiner itself dies; only levels that heard of it recover.
#[test]
fn t7_a_joiner_that_dies_is_recovered_through_the_level_it_reached() {
    let mut cluster = Cluster::joined(2, 3, &two_levels());
    cluster.hung.insert((n(2), Level::DLM));
    cluster.boot(2);
    cluster.run();
    cluster.log.clear();
    cluster.kill(2, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
    assert_eq!(cluster.log.len(), 2, "{:?}", cluster.log);
    assert!(cluster.log.iter().all(|line| line.contains("DLM: N2 forced-leaving")));
}

/// Protocol §5.6: the master dies in the middle of a step of which half the acknowledgements are in.
#[test]
fn s56_a_new_master_goes_on_with_the_same_step() {
    let mut cluster = Cluster::joined(3, 4, &two_levels());
    cluster.hung.insert((n(2), Level::VDM));
    cluster.boot(3);
    cluster.run();
    assert_eq!(told(&cluster, "VDM: N3 joining"), 4);
    cluster.leave(3); // T-12: asked for in the middle of the join
    cluster.run();
    cluster.kill(0, false);
    cluster.elect(n(1));
    cluster.run();
    assert_eq!(told(&cluster, "VDM: N3 joining"), 4, "who acknowledged repeats it, nobody is notified twice");
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.state(3), NodeState::Joining, "N0 has neither reported nor been forced out (3.6)");
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run_until(|cluster| cluster.state(3) == NodeState::Inactive);
    assert!(cluster.nodes[&n(3)].left, "the leave was committed, so the next master knows of it");
    assert_eq!(cluster.state(0), NodeState::Inactive);
}

/// Protocol M-2, T-1: a step that was committed but never sent is sent by the next master.
#[test]
fn t1_a_commit_that_nobody_heard_of_is_carried_out_by_the_next_master() {
    let mut cluster = Cluster::joined(3, 4, &two_levels());
    cluster.boot(3);
    while cluster.writing.is_none() {
        let envelope = cluster.wire.pop_front().unwrap();
        cluster.deliver(envelope);
    }
    cluster.kill(0, true);
    cluster.wire.clear();
    cluster.take_over(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!((cluster.state(0), cluster.state(3)), (NodeState::Inactive, NodeState::Joined));
}

/// Protocol T-10: two victims at once recover together, level by level.
#[test]
fn t10_two_victims_recover_as_one_wave() {
    let mut cluster = Cluster::joined(4, 4, &two_levels());
    cluster.kill(2, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.hung.insert((n(1), Level::VDM));
    cluster.run();
    assert_eq!(cluster.log.last().unwrap(), "N3 VDM: N2 forced-leaving");
    cluster.log.clear();
    cluster.kill(3, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    cluster.hung.clear();
    cluster.run();
    let expected = [
        "N0 DLM: N3 forced-leaving",
        "N1 DLM: N3 forced-leaving",
        "N0 VDM: N2 forced-leaving",
        "N0 VDM: N3 forced-leaving",
        "N1 VDM: N2 forced-leaving, re-notified",
        "N1 VDM: N3 forced-leaving",
    ];
    assert_eq!(cluster.log, expected);
    assert_eq!((cluster.state(2), cluster.state(3)), (NodeState::Inactive, NodeState::Inactive));
}

/// Protocol T-11: what needs death certainty waits for it; every victim has a pill meanwhile.
#[test]
fn t11_nothing_recovers_without_a_proof() {
    let mut cluster = Cluster::joined(2, 2, &two_levels());
    cluster.kill(1, false);
    cluster.detect(None);
    cluster.run();
    assert!(cluster.log.is_empty());
    let orders = pills(&cluster.disk, Term(7));
    assert_eq!(orders.len(), 1);
    assert_eq!((orders[0].target, orders[0].incarnation, orders[0].term), (n(1), Incarnation(1), Term(7)));
    cluster.prove();
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert!(pills(&cluster.disk, Term(7)).is_empty());
}

/// Protocol T-12: a leave asked for while joining waits for the level, then goes down from it.
#[test]
fn t12_a_join_reverses_between_notifications_only() {
    let mut cluster = Cluster::joined(1, 2, &spec_levels());
    cluster.hung.insert((n(0), Level::VDM));
    cluster.boot(1);
    cluster.run();
    cluster.leave(1);
    cluster.run();
    assert_eq!(told(&cluster, "leaving"), 0);
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    let down: Vec<_> = cluster.log.iter().filter(|line| line.contains("leaving")).map(String::as_str).collect();
    assert_eq!(down, ["N0 VDM: N1 leaving", "N1 VDM: N1 leaving", "N0 DLM: N1 leaving", "N1 DLM: N1 leaving"]);
    assert_eq!(told(&cluster, "SFS: N1"), 0);
}

/// Protocol T-13; spec: "a node may not initiate a graceful join while other nodes are processing the node's graceful leave".
#[test]
fn t13_a_restarted_node_waits_for_the_recovery_of_its_old_incarnation() {
    let mut cluster = Cluster::joined(2, 2, &two_levels());
    cluster.hung.insert((n(0), Level::VDM));
    cluster.leave(1);
    cluster.run();
    cluster.kill(1, false);
    cluster.boot(1);
    cluster.run();
    assert_eq!(cluster.refusals.last(), Some(&(n(1), JoinRefusal::BusyLeaving)));
    cluster.hung.clear();
    cluster.run_until(|cluster| cluster.state(1) == NodeState::Joined);
    assert!(cluster.log.contains(&"N0 VDM: N1 forced-leaving, re-notified".to_owned()), "{:#?}", cluster.log);
}

/// Protocol T-18: the whole cluster went down; whoever forms it anew recovers each level right after joining it.
#[test]
fn t18_a_cold_start_recovers_each_level_after_joining_it() {
    let mut cluster = Cluster::joined(3, 3, &two_levels());
    (0..3).for_each(|id| cluster.kill(id, false));
    cluster.boot(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
    let expected = [
        "N1 DLM: N1 joining barrier 0",
        "N1 DLM: N1 joining barrier 1",
        "N1 DLM: N0 forced-leaving",
        "N1 DLM: N1 forced-leaving",
        "N1 DLM: N2 forced-leaving",
        "N1 VDM: N1 joining",
        "N1 VDM: N0 forced-leaving",
        "N1 VDM: N1 forced-leaving",
        "N1 VDM: N2 forced-leaving",
    ];
    assert_eq!(cluster.log, expected);
    assert!(cluster.disk.ghosts.is_empty());
    assert_eq!(cluster.disk.formation, Term(2));
    cluster.boot(0);
    cluster.run();
    assert_eq!(cluster.state(0), NodeState::Joined);
}

/// Protocol T-18: at an optional level without members nothing is recovered.
#[test]
fn t18_an_optional_level_without_members_is_skipped() {
    let mut cluster = Cluster::new(2, &two_levels());
    let user = LevelRegistration { optional: true, ..level(Level(150), "user", 1, 1, 1) };
    cluster.nodes.get_mut(&n(1)).unwrap().levels.insert(1, user);
    cluster.boot(0);
    cluster.boot(1);
    cluster.run();
    cluster.log.clear();
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!(cluster.log, ["N0 DLM: N1 forced-leaving", "N0 VDM: N1 forced-leaving"]);
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert!(!cluster.disk.levels.contains_key(&Level(150)), "T-14: the registry forgets its last user");
}

/// Protocol T-21: what gets lost is sent again after a second, and no answer counts twice.
#[test]
fn t21_lost_notifications_and_acknowledgements_are_repeated() {
    let mut cluster = Cluster::joined(1, 2, &two_levels());
    cluster.boot(1);
    for round in 0..200 {
        cluster.land_commit();
        while let Some(envelope) = cluster.wire.pop_front() {
            let lost = round % 3 != 0 && matches!(envelope.packet, Packet::Record(_) | Packet::Acknowledge(_));
            if !lost {
                cluster.deliver(envelope);
            }
        }
        while !cluster.work.is_empty() {
            cluster.answer(0);
        }
        cluster.tick(1_000);
    }
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
    assert_eq!(cluster.log.len(), 6, "each barrier of each level once on each node: {:#?}", cluster.log);
}

/// Protocol T-24: a subsystem of the joining node that cannot join turns the join into a leave.
#[test]
fn t24_a_joiner_that_fails_leaves_again() {
    let mut cluster = Cluster::joined(1, 2, &two_levels());
    cluster.failing.insert((n(1), Level::VDM), 1);
    cluster.boot(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert!(cluster.disk.nodes[&n(1)].reason.contains("level 200 could not join: no"));
    assert!(cluster.nodes[&n(1)].left && told(&cluster, "VDM: N1 leaving") == 2);
    assert!(matches!(&cluster.warnings[..], [Warning::Failed { text, .. }] if text == "no"));
}

/// Protocol T-24: a member that fails is notified again after 1, 2, 4 seconds; the newcomer does not cost it its place.
#[test]
fn t24_a_member_that_fails_is_notified_again() {
    let mut cluster = Cluster::joined(1, 2, &two_levels());
    cluster.failing.insert((n(0), Level::VDM), 2);
    cluster.boot(1);
    cluster.run();
    assert_eq!((cluster.state(1), told(&cluster, "N0 VDM: N1 joining")), (NodeState::Joining, 1));
    cluster.tick(0);
    cluster.run();
    cluster.tick(999);
    cluster.run();
    assert_eq!(told(&cluster, "N0 VDM: N1 joining"), 1);
    cluster.tick(1);
    cluster.run();
    assert_eq!(told(&cluster, "N0 VDM: N1 joining"), 2);
    cluster.run_until(|cluster| cluster.state(1) == NodeState::Joined);
    assert_eq!(told(&cluster, "N0 VDM: N1 joining"), 3);
}

/// Protocol T-20: a subsystem that never answers is named, first as slow, then as hung.
#[test]
fn t20_a_step_that_hangs_is_warned_of_twice() {
    let mut cluster = Cluster::joined(1, 2, &two_levels());
    cluster.hung.insert((n(0), Level::VDM));
    cluster.boot(1);
    cluster.run();
    for _ in 0..100 {
        cluster.tick(1_000);
        cluster.run();
    }
    let hung: Vec<bool> = cluster
        .warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::Slow { missing, hung, .. } => {
                assert_eq!(*missing, [n(0)].into_iter().collect());
                Some(*hung)
            }
            Warning::Failed { .. } => None,
        })
        .collect();
    assert_eq!(hung, [false, true]);
}

/// The whole cluster leaves at once, the master in the same batch.
#[test]
fn everybody_leaves_as_one_batch() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    cluster.gather_ms = 100;
    cluster.kill(0, false);
    cluster.take_over(Some(FenceMethod::OwnWord)); // a master that gathers
    cluster.run();
    cluster.boot(0);
    cluster.run();
    cluster.log.clear();
    (0..3).for_each(|id| cluster.leave(id));
    cluster.run_until(|cluster| cluster.nodes.values().all(|node| !node.alive));
    assert_eq!(cluster.log.len(), 3 * 3 * 4, "one batch at each level: {:#?}", cluster.log);
    assert!((0..3).all(|id| cluster.state(id) == NodeState::Inactive && cluster.nodes[&n(id)].left));
}

/// Protocol I-F1 with levels that need different certainties is met by every method of this cut.
#[test]
fn a_level_that_needs_death_certainty_gets_it_with_the_proof() {
    let death = LevelRegistration { needs: Certainty::Death, ..level(Level::EVENT_MANAGER, "event manager", 1, 2, 1) };
    let mut cluster = Cluster::joined(2, 2, &[level(Level::DLM, "DLM", 1, 1, 1), death]);
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::Operator));
    cluster.run();
    assert_eq!(cluster.log, ["N0 DLM: N1 forced-leaving", "N0 event manager: N1 forced-leaving"]);
}

/// Protocol §4.5, F1: the levels that need certainty of I/O recover at once, the event manager waits for the death, and a weaker
/// proof takes nothing back.
#[test]
fn fault_50_a_node_that_is_shut_out_of_the_storage_is_recovered_below_the_services() {
    let death = LevelRegistration { needs: Certainty::Death, ..level(Level::EVENT_MANAGER, "event manager", 1, 2, 1) };
    let mut cluster = Cluster::joined(2, 2, &[level(Level::DLM, "DLM", 1, 1, 1), death]);
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::Storage));
    cluster.run();
    assert_eq!(cluster.log, ["N0 DLM: N1 forced-leaving"]);
    assert_eq!(cluster.state(1), NodeState::ForcedLeaving);
    cluster.prove();
    cluster.run();
    assert_eq!(cluster.log, ["N0 DLM: N1 forced-leaving", "N0 event manager: N1 forced-leaving"]);
    assert_eq!(cluster.state(1), NodeState::Inactive);
}
