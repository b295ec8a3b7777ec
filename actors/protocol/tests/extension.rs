//! Levels of a joined node come and go at run time (protocol T-15, T-17; spec, Figs. 7a to 7c and 10).

mod common;

use common::invariants::View;
use common::{Cluster, Packet, level, n, spec_levels};
use phalanx_messages::Level;
use phalanx_messages::membership::{FenceMethod, LevelRegistration, LevelState, NodeState, TransitionKind};
use phalanx_messages::peer::LevelRefusal;
use phalanx_protocol::agent::DeathPolicy;

const MONITOR: Level = Level(1_100);
const REPORTER: Level = Level(1_200);

/// A user subsystem above the event manager that only watches.
fn monitor() -> LevelRegistration {
    LevelRegistration { optional: true, ..level(MONITOR, "monitor", 1, 1, 1) }
}

fn reporter() -> LevelRegistration {
    LevelRegistration { optional: true, ..level(REPORTER, "reporter", 1, 1, 1) }
}

fn event_manager() -> LevelRegistration {
    spec_levels().remove(3)
}

/// The kernel subsystems of the figures; the event manager comes at run time.
fn kernel() -> Vec<LevelRegistration> {
    spec_levels()[..3].to_vec()
}

/// `count` nodes joined, with the monitor on each.
fn monitored(count: u16) -> Cluster {
    let mut cluster = Cluster::joined(count, count, &spec_levels());
    for id in 0..count {
        cluster.register(id, monitor());
        cluster.run();
    }
    cluster.log.clear();
    cluster
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn dies(cluster: &mut Cluster, id: u16) {
    cluster.kill(id, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
}

/// Spec, Figs. 7a to 7c: the event manager of a node that has joined at the kernel level registers, is notified of its own
/// node's join at once, and marks the node joined; below it nobody hears anything.
#[test]
fn figs_7a_to_7c_an_event_manager_that_registers_later_is_notified_of_its_own_join_at_once() {
    let mut cluster = Cluster::joined(1, 2, &kernel());
    cluster.hung.insert((n(0), Level::EVENT_MANAGER));
    cluster.register(0, event_manager());
    cluster.run();
    assert_eq!(cluster.log, lines("N0 event manager: N0 joining"), "Fig. 7b");
    assert_eq!(cluster.state(0), NodeState::Joined, "what is displayed stays");
    assert_eq!(cluster.level_state(0, Level::EVENT_MANAGER), LevelState::Joining);
    assert_eq!(cluster.level_state(0, Level::SFS), LevelState::Joined);
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.level_state(0, Level::EVENT_MANAGER), LevelState::Joined, "Fig. 7c");
    assert_eq!(cluster.log.len(), 1);
}

/// Spec, Fig. 10: N1's event manager registers; both event managers process N1's join, and nobody else.
#[test]
fn fig_10_both_event_managers_process_the_join_of_the_second_one() {
    let mut cluster = Cluster::joined(2, 2, &kernel());
    cluster.register(0, event_manager());
    cluster.run();
    cluster.log.clear();
    cluster.register(1, event_manager());
    cluster.run();
    assert_eq!(cluster.log, lines("N0 event manager: N1 joining\nN1 event manager: N1 joining"));
    assert_eq!(cluster.disk.nodes[&n(1)].levels.last(), Some(&Level::EVENT_MANAGER));
    assert!(cluster.disk.nodes[&n(1)].step.is_none());
}

#[test]
fn t15_subsystems_that_register_at_one_level_together_join_as_one_batch() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.hung.insert((n(0), MONITOR));
    cluster.register(0, monitor());
    cluster.run();
    cluster.register(1, monitor());
    cluster.run();
    assert_eq!(cluster.log, lines("N0 monitor: N0 joining"), "the level has one graceful batch");
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.log[1..], lines("N0 monitor: N1 joining\nN1 monitor: N1 joining"));
}

#[test]
fn t15_a_registration_waits_while_its_node_joins() {
    let mut cluster = Cluster::joined(1, 2, &spec_levels());
    cluster.hung.insert((n(1), Level::SFS));
    cluster.boot(1);
    cluster.run();
    cluster.register(1, monitor());
    cluster.run();
    assert_eq!((cluster.state(1), cluster.level_refusals.len()), (NodeState::Joining, 0));
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.log.last().unwrap(), "N1 monitor: N1 joining");
    assert_eq!(cluster.level_state(1, MONITOR), LevelState::Joined);
}

#[test]
fn t15_two_levels_of_one_node_join_one_after_the_other() {
    let mut cluster = Cluster::joined(1, 1, &spec_levels());
    cluster.hung.insert((n(0), MONITOR));
    cluster.register(0, monitor());
    cluster.register(0, reporter());
    cluster.run();
    assert_eq!(cluster.log, lines("N0 monitor: N0 joining"));
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.log, lines("N0 monitor: N0 joining\nN0 reporter: N0 joining"));
    assert!(cluster.disk.nodes[&n(0)].step.is_none());
}

#[test]
fn t15_what_may_not_register_is_told_why() {
    let mut cluster = monitored(2);
    let late = level(Level(400), "late", 1, 1, 1);
    cluster.register(0, late);
    cluster.register(1, LevelRegistration { name: "other".to_owned(), ..reporter() });
    cluster.run();
    let other = LevelRegistration { name: "other".to_owned(), ..reporter() };
    cluster.register(0, reporter());
    cluster.run();
    let mismatch = LevelRefusal::BarrierMismatch { have: other, want: reporter() };
    let below = LevelRefusal::BelowJoined { highest: MONITOR };
    assert_eq!(cluster.level_refusals, [(n(0), Level(400), below), (n(0), REPORTER, mismatch)]);

    cluster.level_refusals.clear();
    cluster.hung.insert((n(1), Level::EVENT_MANAGER));
    cluster.leave(0);
    cluster.run();
    cluster.register(0, LevelRegistration { level: Level(2_000), ..reporter() });
    let barriers = phalanx_messages::membership::BarrierCounts { joining: 17, leaving: 1, forced_leaving: 1 };
    cluster.register(1, LevelRegistration { level: Level(3_000), barriers, ..reporter() });
    cluster.run();
    let expected = [(n(0), Level(2_000), LevelRefusal::Leaving), (n(1), Level(3_000), LevelRefusal::TooMany)];
    assert_eq!(cluster.level_refusals, expected);
}

/// Protocol T-12 in JoinExt: the level is completed, then everything goes down from it.
#[test]
fn t12_a_leave_during_a_registration_waits_for_the_level_and_goes_down_from_it() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(0, monitor());
    cluster.run();
    cluster.log.clear();
    cluster.hung.insert((n(0), MONITOR));
    cluster.register(1, monitor());
    cluster.run();
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
    cluster.hung.clear();
    cluster.run();
    let expected = "N0 monitor: N1 joining
        N1 monitor: N1 joining
        N0 monitor: N1 leaving
        N1 monitor: N1 leaving
        N0 event manager: N1 leaving";
    assert_eq!(cluster.log[..5], lines(expected));
    assert_eq!(cluster.state(1), NodeState::Inactive);
}

/// Protocol T-12 in JoinExt, between: a level that was never told of the registration is not told of the leave.
#[test]
fn t12_a_leave_before_a_registration_has_begun_starts_below_it() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(0, monitor());
    cluster.hung.insert((n(0), MONITOR));
    cluster.run();
    cluster.register(1, monitor());
    cluster.run();
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert_eq!(cluster.log.iter().filter(|line| line.contains("monitor")).count(), 1, "{:#?}", cluster.log);
}

/// Protocol T-7, T-8: the mark finds the node in its registration; the level aborts it and recovers.
#[test]
fn t8_a_node_that_dies_in_its_registration_is_recovered_through_that_level() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(0, monitor());
    cluster.run();
    cluster.hung.insert((n(0), MONITOR));
    cluster.register(1, monitor());
    cluster.run();
    cluster.log.clear();
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.log.last().unwrap(), "N0 monitor: N1 forced-leaving, re-notified");
    assert_eq!((cluster.log.len(), cluster.state(1)), (5, NodeState::Inactive));
}

/// Protocol T-9: a member dies beside a registration, which restarts when the level has recovered.
#[test]
fn t9_a_registration_goes_on_after_a_participant_died() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    for id in 0..2 {
        cluster.register(id, monitor());
        cluster.run();
    }
    cluster.hung.insert((n(1), MONITOR));
    cluster.register(2, monitor());
    cluster.run();
    cluster.log.clear();
    cluster.kill(1, false);
    cluster.detect(None);
    cluster.run();
    assert_eq!(cluster.level_state(2, MONITOR), LevelState::Joining, "held");
    cluster.prove();
    cluster.run();
    assert_eq!((cluster.state(1), cluster.level_state(2, MONITOR)), (NodeState::Inactive, LevelState::Joined));
    let end = lines("N0 monitor: N2 joining\nN2 monitor: N2 joining");
    assert_eq!(
        cluster.log[cluster.log.len() - 2..].iter().map(|line| line.replace(", re-notified", "")).collect::<Vec<_>>(),
        end
    );
}

/// Protocol T-18: the last user of an optional level dies; nobody is parked there, and its node can join again.
#[test]
fn t18_the_last_user_of_an_optional_level_does_not_park_there() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(1, monitor());
    cluster.run();
    dies(&mut cluster, 1);
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert!(!cluster.disk.levels.contains_key(&MONITOR), "the registry forgets a level with its last user (T-14)");
    cluster.boot(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
}

/// Protocol T-18, T-19: a registration may form an empty mandatory level, and then recovers who is parked there.
#[test]
fn t18_a_registration_forms_the_level_at_which_a_victim_is_parked() {
    let mandatory = || level(MONITOR, "monitor", 1, 1, 1);
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(1, mandatory());
    cluster.run();
    dies(&mut cluster, 1);
    assert_eq!(cluster.state(1), NodeState::ForcedLeaving, "parked");
    cluster.log.clear();
    cluster.register(0, mandatory());
    cluster.run();
    assert_eq!(cluster.log, lines("N0 monitor: N0 joining\nN0 monitor: N1 forced-leaving"));
    assert_eq!(cluster.state(1), NodeState::Inactive);
}

/// Protocol §3.6, §5.6: a new master goes on with a registration that the old one had begun.
#[test]
fn s56_a_new_master_goes_on_with_a_registration() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    cluster.register(1, monitor());
    cluster.run();
    cluster.hung.insert((n(1), MONITOR));
    cluster.register(2, monitor());
    cluster.run();
    cluster.log.clear();
    cluster.kill(0, false);
    cluster.take_over(Some(FenceMethod::OwnWord));
    cluster.hung.clear();
    cluster.run_until(|cluster| cluster.level_state(2, MONITOR) == LevelState::Joined);
    let told = |line: &&String| line.contains("monitor: N2 joining");
    assert_eq!(cluster.log.iter().filter(told).count(), 0, "nobody is notified twice: {:#?}", cluster.log);
}

/// Protocol T-24: the newcomer is a level, and costs no node.
#[test]
fn t24_a_level_that_cannot_join_goes_alone() {
    for refusing in [0, 1] {
        let mut cluster = Cluster::joined(2, 2, &spec_levels());
        cluster.register(0, monitor());
        cluster.run();
        cluster.failing.insert((n(refusing), MONITOR), if refusing == 0 { u32::MAX } else { 1 });
        cluster.register(1, monitor());
        cluster.run();
        for _ in 0..130 {
            cluster.tick(1_000);
            let draft = &cluster.master.as_ref().unwrap().1.draft().nodes[&n(1)];
            if draft.step.as_ref().is_some_and(|step| step.kind == TransitionKind::Leaving) {
                cluster.failing.clear(); // It refuses the join, not the leave.
            }
            cluster.run();
        }
        assert_eq!([0, 1].map(|id| cluster.state(id)), [NodeState::Joined; 2], "node {refusing} refuses");
        assert_eq!(cluster.level_state(1, MONITOR), LevelState::Inactive);
        assert!(!cluster.disk.nodes[&n(1)].levels.contains(&MONITOR) && !cluster.disk.nodes[&n(1)].withdrawing);
        let told: Vec<_> = cluster.log.iter().filter(|line| line.contains("monitor: N1 leaving")).collect();
        assert_eq!(told.len(), 2, "{:#?}", cluster.log);
        cluster.failing.clear();
        cluster.register(1, monitor());
        cluster.run();
        assert_eq!(cluster.level_state(1, MONITOR), LevelState::Joined, "it may try again");
    }
}

/// Protocol T-16: a node that leaves takes its run-time levels along; its user subsystem hears nothing after its own leave.
#[test]
fn t16_a_run_time_level_leaves_first_and_is_deregistered() {
    let mut cluster = monitored(2);
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.log[..2], lines("N0 monitor: N1 leaving\nN1 monitor: N1 leaving"));
    assert_eq!((cluster.state(1), cluster.log.len()), (NodeState::Inactive, 10));
}

/// Protocol T-17: a subsystem that comes back in time goes on where the dead one was, with the numbers it had.
#[test]
fn t17_a_subsystem_that_registers_again_in_time_resumes() {
    let mut cluster = monitored(2);
    cluster.kill_subsystem(0, MONITOR, DeathPolicy::DropLevel);
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.log, lines("N1 monitor: N1 leaving"), "nobody answers for the dead one");
    for _ in 0..9 {
        cluster.tick(1_000);
        cluster.run();
    }
    assert_eq!(cluster.state(1), NodeState::Leaving);
    cluster.register(0, monitor());
    cluster.run();
    assert_eq!(cluster.log[1..3], lines("N0 level 1100: resumes\nN0 monitor: N1 leaving"));
    assert_eq!(cluster.state(1), NodeState::Inactive);
    let kinds = cluster.disk.nodes[&n(0)].step.as_ref().map(|step| step.kind);
    assert_eq!((kinds, cluster.level_state(0, MONITOR)), (None, LevelState::Joined));
}

/// Protocol T-17: what the dead one had acknowledged is so for its successor, although the record still waits for others.
#[test]
fn t17_a_successor_does_not_see_what_its_predecessor_has_let_go() {
    let mut cluster = monitored(3);
    cluster.hung.insert((n(1), MONITOR));
    cluster.leave(2);
    cluster.run();
    assert_eq!(cluster.level_state(2, MONITOR), LevelState::Leaving, "N1 has not acknowledged");
    cluster.kill_subsystem(0, MONITOR, DeathPolicy::DropLevel);
    cluster.register(0, monitor());
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
    let views = &cluster.nodes[&n(0)].views;
    assert_eq!(views.get(&(MONITOR, cluster.incarnation(n(2)))), Some(&View::Inactive));
    assert_eq!(views.get(&(MONITOR, cluster.incarnation(n(1)))), Some(&View::Joined));
}

/// Protocol T-17, `DropLevel`: the level leaves alone, without an answer of the dead subsystem; it may come again later.
#[test]
fn t17_a_level_that_only_watched_is_dropped() {
    let mut cluster = monitored(2);
    cluster.register(1, reporter());
    cluster.run();
    cluster.log.clear();
    cluster.kill_subsystem(1, REPORTER, DeathPolicy::DropLevel);
    cluster.kill_subsystem(1, MONITOR, DeathPolicy::DropLevel);
    for _ in 0..12 {
        cluster.tick(1_000);
        cluster.run();
    }
    assert_eq!(cluster.state(1), NodeState::Joined);
    assert_eq!(cluster.disk.nodes[&n(1)].levels.last(), Some(&Level::EVENT_MANAGER), "one after the other (T-4)");
    assert_eq!(cluster.log, lines("N0 monitor: N1 leaving"), "the dead are told nothing");
    cluster.register(1, monitor());
    cluster.run();
    assert_eq!(cluster.log[1..], lines("N0 monitor: N1 joining\nN1 monitor: N1 joining"));
}

/// Protocol T-17: until its level is given up nothing goes on, afterwards nothing waits for the dead one.
#[test]
fn t17_what_waits_for_a_dropped_subsystem_goes_on() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    for id in 0..2 {
        cluster.register(id, monitor());
        cluster.run();
    }
    cluster.kill_subsystem(1, MONITOR, DeathPolicy::DropLevel);
    cluster.register(2, monitor());
    cluster.run();
    assert_eq!(cluster.level_state(2, MONITOR), LevelState::Joining);
    for _ in 0..12 {
        cluster.tick(1_000);
        cluster.run();
    }
    assert_eq!([0, 1, 2].map(|id| cluster.level_state(id, MONITOR) == LevelState::Joined), [true, false, true]);
}

/// Protocol T-17: whatever may have held something costs its node, the built-in levels always.
#[test]
fn t17_a_dead_subsystem_that_does_not_come_back_forces_its_node() {
    for (at, policy) in [(MONITOR, DeathPolicy::ForceNode), (Level::SFS, DeathPolicy::DropLevel)] {
        let mut cluster = monitored(2);
        cluster.kill_subsystem(1, at, policy);
        for _ in 0..10 {
            cluster.tick(1_000);
            cluster.run();
            assert!(cluster.nodes[&n(1)].alive, "not before its time");
        }
        cluster.tick(1_000);
        assert!(!cluster.nodes[&n(1)].alive, "level {at}");
        cluster.detect(Some(FenceMethod::OwnWord));
        cluster.run();
        assert_eq!(cluster.state(1), NodeState::Inactive);
        assert_eq!(cluster.log.last().unwrap(), "N0 monitor: N1 forced-leaving");
    }
}

/// Protocol T-12, T-17: a leave of the node that is asked for while one level leaves alone begins when that has ended.
#[test]
fn t12_a_leave_during_the_leave_of_one_level_follows_it() {
    let mut cluster = monitored(2);
    cluster.hung.insert((n(0), MONITOR));
    cluster.kill_subsystem(1, MONITOR, DeathPolicy::DropLevel);
    for _ in 0..12 {
        cluster.tick(1_000);
        cluster.run();
    }
    let step = cluster.disk.nodes[&n(1)].step.as_ref().map(|step| (step.kind, step.level));
    assert_eq!(step, Some((TransitionKind::Leaving, MONITOR)));
    assert_eq!((cluster.state(1), cluster.level_state(1, MONITOR)), (NodeState::Joined, LevelState::Leaving));
    cluster.leave(1);
    cluster.run();
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert_eq!(cluster.log[..2], lines("N0 monitor: N1 leaving\nN0 event manager: N1 leaving"));
}

/// A late copy of a request must not undo what came after it: the network repeats and delays (protocol §1.1, N1).
#[test]
fn late_copies_of_requests_change_nothing() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(1, monitor());
    let ask = cluster.wire.back().unwrap().clone();
    cluster.run();
    cluster.kill_subsystem(1, MONITOR, DeathPolicy::DropLevel);
    let mut give_up = None;
    for _ in 0..12 {
        cluster.tick(1_000);
        give_up =
            give_up.or(cluster.wire.iter().find(|envelope| matches!(envelope.packet, Packet::Withdraw(..))).cloned());
        cluster.run();
    }
    cluster.deliver(ask);
    cluster.run();
    assert_eq!(cluster.level_state(1, MONITOR), LevelState::Inactive, "it does not come back by itself");
    cluster.register(1, monitor());
    cluster.run();
    cluster.deliver(give_up.expect("the level was given up"));
    cluster.run();
    assert_eq!(cluster.level_state(1, MONITOR), LevelState::Joined, "its successor stays");
}

/// One that registers again while its level is being given up joins anew, also if another one died meanwhile.
#[test]
fn t17_whoever_comes_after_its_level_was_given_up_joins_anew() {
    let mut cluster = monitored(2);
    cluster.hung.insert((n(0), MONITOR));
    cluster.kill_subsystem(1, MONITOR, DeathPolicy::DropLevel);
    for _ in 0..12 {
        cluster.tick(1_000);
        cluster.run();
    }
    for _ in 0..2 {
        cluster.register(1, monitor());
        cluster.run();
        assert_eq!(cluster.level_state(1, MONITOR), LevelState::Leaving);
        cluster.kill_subsystem(1, MONITOR, DeathPolicy::DropLevel);
    }
    cluster.register(1, monitor());
    cluster.hung.clear();
    cluster.run();
    let expected = "N0 monitor: N1 leaving
        N0 monitor: N1 joining
        N1 monitor: N1 joining";
    assert_eq!(cluster.log, lines(expected));
}
