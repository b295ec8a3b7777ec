//! User subsystems at run time between the kernel levels and the event manager, and their leave by their own wish (protocol
//! T-12, T-15, T-16; §5.1, "Run-time user subsystems pick any unused order above SFS").

mod common;

use common::{Cluster, Packet, level, n, spec_levels};
use phalanx_messages::Level;
use phalanx_messages::membership::{FenceMethod, LevelRegistration, LevelState, NodeState};
use phalanx_messages::peer::LevelRefusal;
use phalanx_protocol::agent::DeathPolicy;

const USER: Level = Level(500);
const LOWER: Level = Level(400);

fn user() -> LevelRegistration {
    LevelRegistration { optional: true, ..level(USER, "user", 2, 1, 1) }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// `count` nodes joined, with the user subsystem on each.
fn used(count: u16) -> Cluster {
    let mut cluster = Cluster::joined(count, count, &spec_levels());
    for id in 0..count {
        cluster.register(id, user());
        cluster.run();
    }
    cluster.log.clear();
    cluster
}

/// `count` nodes joined; node 0 has the user subsystem, and does not answer for it while that of node 1 joins.
fn with_a_join_under_way(count: u16) -> Cluster {
    let mut cluster = Cluster::joined(count, count, &spec_levels());
    cluster.register(0, user());
    cluster.run();
    cluster.hung.insert((n(0), USER));
    cluster.register(1, user());
    cluster.run();
    cluster
}

fn all_levels_joined(cluster: &Cluster, id: u16) -> bool {
    let levels = [Level::DLM, Level::VDM, Level::SFS, USER, Level::EVENT_MANAGER];
    levels.into_iter().all(|level| cluster.level_state(id, level) == LevelState::Joined)
}

#[test]
fn t15_a_level_below_the_event_manager_joins_alone_and_the_event_manager_stays_joined() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(0, user());
    cluster.run();
    cluster.log.clear();
    cluster.hung.insert((n(1), USER));
    cluster.register(1, user());
    cluster.run();
    assert_eq!(cluster.level_state(1, USER), LevelState::Joining);
    assert_eq!(cluster.level_state(1, Level::EVENT_MANAGER), LevelState::Joined, "only the level joins");
    cluster.hung.clear();
    cluster.run();
    let two_barriers = "N0 user: N1 joining barrier 0
        N1 user: N1 joining barrier 0
        N0 user: N1 joining barrier 1
        N1 user: N1 joining barrier 1";
    assert_eq!(cluster.log, lines(two_barriers), "and no other level is told");
    assert!(all_levels_joined(&cluster, 1));
}

#[test]
fn t15_two_levels_below_the_event_manager_register_in_their_order() {
    let mut cluster = used(1);
    cluster.register(0, level(LOWER, "lower", 1, 1, 1));
    cluster.run();
    assert_eq!(cluster.told_refusals, [(n(0), LOWER, LevelRefusal::BelowJoined { highest: USER })]);
}

/// Spec: a graceful leave goes down from the highest level.
#[test]
fn a_node_with_a_level_that_came_later_leaves_and_is_recovered_in_level_order() {
    let mut cluster = used(2);
    cluster.leave(1);
    cluster.run();
    let order = |cluster: &Cluster| {
        let of_n0 = cluster.log.iter().filter(|line| line.starts_with("N0"));
        let mut names: Vec<String> =
            of_n0.map(|line| line[3..].split(':').next().unwrap_or_default().to_owned()).collect();
        names.dedup();
        names
    };
    let up = ["lock manager", "volume manager", "file system", "user", "event manager"];
    let down: Vec<_> = up.into_iter().rev().collect();
    let kinds = order(&cluster);
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert_eq!((kinds[0].as_str(), kinds[1].as_str()), (down[0], down[1]));
    assert_eq!(cluster.state(1), NodeState::Inactive);

    let mut cluster = used(2);
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    let kinds = order(&cluster);
    assert_eq!((kinds[3].as_str(), kinds[4].as_str(), kinds.len()), (up[3], up[4], 5), "{kinds:?}");
    assert_eq!(cluster.state(1), NodeState::Inactive);
}

/// Protocol T-12, I-T17: the level is completed, then the leave begins at the highest level, not at the one that joined last.
#[test]
fn t12_a_leave_during_a_registration_below_the_event_manager_begins_at_the_top() {
    let mut cluster = with_a_join_under_way(2);
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined, "the level is not complete");
    cluster.log.clear();
    cluster.hung.clear();
    cluster.run();
    let of_n0 = cluster.log.iter().filter(|line| line.starts_with("N0"));
    let told: Vec<&str> = of_n0.map(|line| line.split(" barrier").next().unwrap_or_default()).collect();
    let order = ["N0 user: N1 joining", "N0 event manager: N1 leaving", "N0 user: N1 leaving", "N0 SFS: N1 leaving"];
    assert_eq!(told[..4], order, "{:#?}", cluster.log);
    assert_eq!(cluster.state(1), NodeState::Inactive);
}

/// Protocol T-12, between: a level that nobody was told of is told of no leave either.
#[test]
fn t12_a_leave_before_a_registration_below_the_event_manager_has_begun_forgets_it() {
    let mut cluster = with_a_join_under_way(3);
    cluster.register(2, user());
    cluster.run();
    cluster.log.clear();
    cluster.leave(2);
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
    assert!(!cluster.log.iter().any(|line| line.contains("user: N2")), "{:#?}", cluster.log);
    cluster.hung.clear();
    cluster.run();
    assert!(all_levels_joined(&cluster, 1));
}

/// Protocol T-7: a level that nobody was told of is not recovered.
#[test]
fn t7_a_node_that_dies_before_its_registration_has_begun_is_recovered_without_that_level() {
    let mut cluster = with_a_join_under_way(3);
    cluster.register(2, user());
    cluster.run();
    cluster.log.clear();
    cluster.kill(2, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
    assert!(!cluster.log.iter().any(|line| line.contains("user: N2")), "{:#?}", cluster.log);
}

#[test]
fn a_subsystem_that_wants_to_leave_is_told_of_its_leave_and_may_come_again() {
    let mut cluster = used(2);
    cluster.withdraw(1, USER);
    cluster.run();
    assert_eq!(cluster.log, lines("N0 user: N1 leaving\nN1 user: N1 leaving"));
    assert_eq!((cluster.level_state(1, USER), cluster.state(1)), (LevelState::Inactive, NodeState::Joined));
    cluster.register(1, user());
    cluster.run();
    assert!(all_levels_joined(&cluster, 1));
}

#[test]
fn a_subsystem_that_withdraws_while_it_joins_leaves_when_it_has_joined() {
    let mut cluster = with_a_join_under_way(2);
    cluster.withdraw(1, USER);
    cluster.run();
    assert_eq!(cluster.level_state(1, USER), LevelState::Joining);
    cluster.log.clear();
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.log.last().unwrap(), "N1 user: N1 leaving");
    assert_eq!(cluster.level_state(1, USER), LevelState::Inactive);
}

/// The request was on its way when the subsystem changed its mind: its node answers for a level that has nobody, and gives it up.
#[test]
fn a_subsystem_that_withdraws_before_it_is_let_in_leaves_nothing_behind() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.register(0, user());
    cluster.run();
    cluster.log.clear();
    cluster.register(1, user());
    cluster.withdraw(1, USER);
    cluster.nobody_is_there(1, USER);
    cluster.run();
    cluster.tick(1_000);
    cluster.run();
    assert_eq!(cluster.level_state(1, USER), LevelState::Inactive, "{:#?}", cluster.log);
    assert!(!cluster.log.iter().any(|line| line.starts_with("N1 user")), "nobody is there: {:#?}", cluster.log);
    cluster.register(1, user());
    cluster.run();
    assert!(all_levels_joined(&cluster, 1));
}

#[test]
fn a_built_in_level_does_not_leave_alone() {
    let mut cluster = used(1);
    cluster.withdraw(0, Level::EVENT_MANAGER);
    cluster.run();
    assert_eq!((cluster.level_state(0, Level::EVENT_MANAGER), cluster.log.len()), (LevelState::Joined, 0));
}

/// Protocol T-17: a successor with other barriers would give the level two meanings.
#[test]
fn t17_a_successor_that_registers_something_else_is_refused_and_the_right_one_still_resumes() {
    let mut cluster = used(2);
    cluster.kill_subsystem(1, USER, DeathPolicy::ForceNode);
    let other = level(USER, "user", 3, 1, 1);
    cluster.deliver_registration(1, other.clone());
    assert_eq!(cluster.told_refusals, [(n(1), USER, LevelRefusal::BarrierMismatch { have: user(), want: other })]);
    cluster.register(1, user());
    cluster.run();
    assert_eq!(cluster.log, lines("N1 level 500: resumes"));
}

/// A refusal that arrives twice is told once, and not to a successor that wants something else.
#[test]
fn a_late_copy_of_a_refusal_changes_nothing() {
    let mut cluster = used(2);
    cluster.withdraw(1, USER);
    cluster.run();
    let other = level(USER, "user", 3, 1, 1);
    cluster.register(1, other.clone());
    cluster.run();
    let refusal = LevelRefusal::BarrierMismatch { have: user(), want: other.clone() };
    assert_eq!(cluster.told_refusals, [(n(1), USER, refusal.clone())]);
    cluster.register(1, user());
    cluster.deliver_refusal(1, other, refusal);
    cluster.run();
    assert_eq!(cluster.told_refusals.len(), 1);
    assert!(all_levels_joined(&cluster, 1));
}

/// Protocol T-17 for a level in the middle: the others of the node stay.
#[test]
fn t17_a_level_below_the_event_manager_is_dropped_alone() {
    let mut cluster = used(2);
    cluster.kill_subsystem(1, USER, DeathPolicy::DropLevel);
    for _ in 0..12 {
        cluster.tick(1_000);
        cluster.run();
    }
    assert_eq!(cluster.log, lines("N0 user: N1 leaving"));
    assert_eq!((cluster.state(1), cluster.level_state(1, USER)), (NodeState::Joined, LevelState::Inactive));
    assert_eq!(cluster.level_state(1, Level::EVENT_MANAGER), LevelState::Joined);
    assert!(cluster.wire.iter().all(|envelope| !matches!(envelope.packet, Packet::Withdraw(..))), "asked enough");
}
