//! Actors of an embedding application as subsystems: registered at run time and with the node, with whole nodes in one process
//! (spec, Figs. 7a to 7c and 10; protocol T-8, T-9, T-15 to T-17).

use phalanx_actors::local_api::Ask;
use phalanx_actors::membership_manager::MembershipEnded;
use phalanx_actors::ports::DeathProved;
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::membership::{BarrierCounts, FenceMethod, LevelState, NodeState, TransitionKind};
use phalanx_messages::peer::LevelRefusal;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{Level, NodeId};
use phalanx_node::builder::{DeathPolicy, RegisterError, SubsystemEvent};
use phalanx_protocol::coordinator::level_states::entry_state;
use phalanx_tests::node_cluster::{TestCluster, TestNode, state};
use phalanx_tests::scripted_subsystem::{Die, Script};

use TransitionKind::{ForcedLeaving, JoinExtending, Joining, Leaving};

const USER: Level = Level(500);
const TWO_JOINING: BarrierCounts = BarrierCounts { joining: 2, leaving: 1, forced_leaving: 1 };
/// A subsystem that is dead for this long does not come back, in milliseconds.
const RESTART_MS: u64 = 400;

/// State of a node at a level, as `at` knows it.
async fn level_state(at: &TestNode, node: u16, level: Level) -> LevelState {
    let status = at.handle.membership().await.expect("the membership manager lives");
    status.record.nodes.get(&NodeId(node)).map_or(LevelState::Inactive, |entry| entry_state(entry, level))
}

async fn wait_for_level(at: &TestNode, node: u16, level: Level, wanted: LevelState) {
    while level_state(at, node, level).await != wanted {
        tokio::task::yield_now().await;
    }
}

/// That many nodes, joined one after the other, so that the first is the master.
async fn joined(count: u16) -> (TestCluster, Vec<TestNode>) {
    let profile = TimingProfile { restart_ms: RESTART_MS, ..TimingProfile::DEV };
    let mut cluster = TestCluster::timed(count, Vec::new(), profile).await;
    let mut nodes = Vec::new();
    for id in 0..count {
        let node = cluster.start(id);
        assert!(node.handle.joined().await);
        nodes.push(node);
    }
    (cluster, nodes)
}

/// Scripts registered at the user level of each node, in order, and joined.
async fn registered(nodes: &[TestNode]) -> Vec<Script> {
    let mut scripts: Vec<Script> = Vec::new();
    for (id, node) in (0..).zip(nodes) {
        let script = Script::start();
        node.handle.register(script.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
        scripts.push(script);
        for barrier in 0..2 {
            for script in &mut scripts {
                assert_eq!(script.acknowledge(1).await, [(id, JoinExtending, barrier)]);
            }
        }
        wait_for_level(node, id, USER, LevelState::Joined).await;
    }
    scripts
}

/// Forces the last node out, and proves its death to the master.
async fn force_out_last(nodes: &[TestNode]) {
    let victim = nodes.last().expect("a node");
    let name = format!("n{}", nodes.len() - 1);
    let fence = AdminRequest::Fence { node: name, reason: "test".to_owned() };
    assert_eq!(nodes[0].handle.actors().local_api.send(Ask(fence)).await.expect("it lives"), AdminAnswer::Done);
    victim.panicked().await;
    let proof = DeathProved { victim: victim.handle.me(), method: FenceMethod::Local };
    nodes[0].handle.actors().membership.send(proof).await.expect("it lives");
}

/// Spec, Fig. 7a: the node has joined at the kernel level; a subsystem registers, and its call returns at once, because it has not
/// processed its node's join.
#[actix_rt::test]
async fn fig_7a_a_registration_returns_at_once() {
    let (_cluster, nodes) = joined(1).await;
    let mut script = Script::start();
    nodes[0].handle.register(script.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
    // It has returned although nobody has processed anything yet; the node is displayed as before.
    assert_eq!(state(&nodes[0], 0).await, NodeState::Joined);
    assert_ne!(level_state(&nodes[0], 0, USER).await, LevelState::Joined);
    assert_eq!(script.told().await.batch(), [(0, JoinExtending, 0)]);
}

/// Spec, Fig. 7b: it is notified of its own node's join, and until it has processed it the node is joining at that level only.
#[actix_rt::test]
async fn fig_7b_its_first_notification_is_the_join_of_its_own_node() {
    let (_cluster, nodes) = joined(1).await;
    let mut script = Script::start();
    nodes[0].handle.register(script.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
    let first = script.told().await;
    assert_eq!(first.batch(), [(0, JoinExtending, 0)]);
    assert_eq!(first.notification.participants.iter().collect::<Vec<_>>(), [NodeId(0)]);
    wait_for_level(&nodes[0], 0, USER, LevelState::Joining).await;
    assert_eq!(level_state(&nodes[0], 0, Level::EVENT_MANAGER).await, LevelState::Joined);
    assert!(script.is_quiet(), "the next barrier waits for this one");
    first.answer(Ok(()));
    assert_eq!(script.told().await.batch(), [(0, JoinExtending, 1)]);
}

/// Spec, Fig. 7c: it has processed the join, and the node is joined at its level too.
#[actix_rt::test]
async fn fig_7c_what_its_handler_returns_completes_the_join() {
    let (_cluster, nodes) = joined(1).await;
    let mut scripts = registered(&nodes).await;
    assert_eq!(level_state(&nodes[0], 0, USER).await, LevelState::Joined);
    assert!(scripts[0].is_quiet());
}

/// Spec, Fig. 10: the subsystems of both nodes process the join of the second one, and it is joined when both have.
#[actix_rt::test]
async fn fig_10_both_subsystems_process_the_join_of_the_second_node() {
    let (_cluster, nodes) = joined(2).await;
    let mut first = registered(&nodes[..1]).await.remove(0);
    let mut second = Script::start();
    nodes[1].handle.register(second.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
    for barrier in 0..2 {
        let (there, here) = (first.told().await, second.told().await);
        assert_eq!(
            (there.batch(), here.batch()),
            (vec![(1, JoinExtending, barrier)], vec![(1, JoinExtending, barrier)])
        );
        assert_eq!(here.notification.states[&NodeId(0)].1, LevelState::Joined, "the state vector is its context");
        here.answer(Ok(()));
        assert_eq!(level_state(&nodes[0], 1, USER).await, LevelState::Joining);
        assert!(second.is_quiet(), "barrier {barrier} is not passed before both have acknowledged it");
        there.answer(Ok(()));
    }
    wait_for_level(&nodes[0], 1, USER, LevelState::Joined).await;
    assert!(first.is_quiet() && second.is_quiet());
}

/// Protocol T-8: the mark of the joining node aborts its join; what the handler then returns counts for nobody.
#[actix_rt::test]
async fn the_abort_token_fires_when_a_forced_leave_overtakes_a_join() {
    let (_cluster, nodes) = joined(2).await;
    let mut first = registered(&nodes[..1]).await.remove(0);
    let second = Script::start();
    nodes[1].handle.register(second.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
    let overtaken = first.told().await;
    assert!(!overtaken.notification.abort.is_cancelled());
    force_out_last(&nodes).await;
    let abort = overtaken.notification.abort.clone();
    abort.cancelled().await;
    overtaken.answer(Ok(()));
    let recovery = first.told().await;
    assert_eq!(recovery.batch(), [(1, ForcedLeaving, 0)]);
    assert!(recovery.notification.batch[0].renotification, "spec, Table 1");
    assert!(!recovery.notification.abort.is_cancelled());
    assert_eq!(state(&nodes[0], 1).await, NodeState::ForcedLeaving, "it waits for the recovery");
    recovery.answer(Ok(()));
    while state(&nodes[0], 1).await != NodeState::Inactive {
        tokio::task::yield_now().await;
    }
}

/// Protocol T-9: a participant is lost; the leave that waits for it is aborted, and comes again after the recovery.
#[actix_rt::test]
async fn the_abort_token_fires_when_a_restart_overtakes_a_leave() {
    let (_cluster, nodes) = joined(3).await;
    let mut scripts = registered(&nodes).await;
    nodes[1].handle.withdraw(USER).await.expect("it is registered");
    let overtaken = scripts[0].told().await;
    assert_eq!(overtaken.batch(), [(1, Leaving, 0)]);
    let at_leaver = scripts[1].told().await;
    force_out_last(&nodes).await;
    overtaken.notification.abort.cancelled().await;
    at_leaver.notification.abort.cancelled().await;
    drop((overtaken, at_leaver));
    for expected in [(2, ForcedLeaving, 0), (1, Leaving, 0)] {
        for script in &mut scripts[..2] {
            assert_eq!(script.acknowledge(1).await, [expected], "recovery, then the restart");
        }
    }
    assert_eq!(scripts[1].event().await, SubsystemEvent::Withdrawn);
    assert_eq!(state(&nodes[0], 1).await, NodeState::Joined, "only the level has left");
}

/// Protocol T-24: an error that the handler returns is told, and the notification comes again.
#[actix_rt::test]
async fn an_error_that_the_handler_returns_is_a_failure_and_is_tried_again() {
    let (_cluster, nodes) = joined(2).await;
    let mut first = registered(&nodes[..1]).await.remove(0);
    let mut second = Script::start();
    nodes[1].handle.register(second.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
    first.told().await.answer(Err("the volume is busy".to_owned()));
    second.acknowledge(1).await;
    assert_eq!(first.acknowledge(2).await, [(1, JoinExtending, 0), (1, JoinExtending, 1)]);
    second.acknowledge(1).await;
    wait_for_level(&nodes[0], 1, USER, LevelState::Joined).await;
}

/// Protocol T-24: a subsystem that refuses its own join costs its level, not its node.
#[actix_rt::test]
async fn a_subsystem_that_cannot_join_is_withdrawn_alone() {
    let (_cluster, nodes) = joined(1).await;
    let mut script = Script::start();
    nodes[0].handle.register(script.subsystem(USER, TWO_JOINING)).await.expect("the level is free");
    script.told().await.answer(Err("no licence".to_owned()));
    let rest = script.acknowledge(2).await;
    assert_eq!(rest, [(0, JoinExtending, 1), (0, Leaving, 0)], "every barrier that is left is gone through");
    assert_eq!(script.event().await, SubsystemEvent::Withdrawn);
    assert_eq!(state(&nodes[0], 0).await, NodeState::Joined);
}

#[actix_rt::test]
async fn what_may_not_register_is_told_at_once_or_by_the_cluster() {
    let (_cluster, nodes) = joined(2).await;
    let _first = registered(&nodes[..1]).await;
    let mut script = Script::start();
    let built_in = script.subsystem(Level::EVENT_MANAGER, TWO_JOINING);
    let answer = nodes[1].handle.register(built_in).await;
    assert_eq!(answer, Err(RegisterError::BuiltIn(Level::EVENT_MANAGER)));
    let answer = nodes[0].handle.register(script.subsystem(USER, TWO_JOINING)).await;
    assert_eq!(answer, Err(RegisterError::InUse { level: USER, name: "scripted".to_owned() }));
    assert_eq!(nodes[1].handle.withdraw(USER).await, Err(RegisterError::NotRegistered(USER)));

    let other = BarrierCounts { joining: 3, ..TWO_JOINING };
    nodes[1].handle.register(script.subsystem(USER, other)).await.expect("only the cluster knows better");
    let SubsystemEvent::Refused { refusal, text } = script.event().await else { panic!("it is refused") };
    assert!(matches!(refusal, LevelRefusal::BarrierMismatch { .. }));
    let both = ["joining=2,leaving=1,forced_leaving=1", "joining=3,leaving=1,forced_leaving=1"];
    assert!(both.iter().all(|counts| text.contains(counts)), "{text}");
    let again = nodes[1].handle.register(script.subsystem(USER, TWO_JOINING)).await;
    assert_eq!(again, Ok(()), "the level is free again");
}

/// Protocol T-17: a mailbox that closes is a death; a successor goes on with what was not answered.
#[actix_rt::test]
async fn the_successor_of_a_dead_actor_goes_on_where_it_was() {
    let (_cluster, nodes) = joined(2).await;
    let mut scripts = registered(&nodes).await;
    nodes[1].handle.withdraw(USER).await.expect("it is registered");
    let lost = scripts[0].told().await;
    scripts[0].actor.send(Die).await.expect("it lives");
    scripts[1].acknowledge(1).await;
    let mut successor = Script::start();
    nodes[0].handle.register(successor.subsystem(USER, TWO_JOINING)).await.expect("nobody living has the level");
    let SubsystemEvent::Resumed(states) = successor.event().await else { panic!("it resumes") };
    assert_eq!(states[&NodeId(0)].1, LevelState::Joined);
    let repeated = successor.told().await;
    assert_eq!(repeated.notification.batch[0].id, lost.notification.batch[0].id, "the number it had");
    repeated.answer(Ok(()));
    assert_eq!(scripts[1].event().await, SubsystemEvent::Withdrawn);
}

/// Protocol T-17, `ForceNode`: the subsystem may have held something.
#[actix_rt::test]
async fn a_dead_actor_that_nobody_replaces_costs_its_node() {
    let (_cluster, nodes) = joined(1).await;
    let scripts = registered(&nodes).await;
    scripts[0].actor.send(Die).await.expect("it lives");
    let reason = nodes[0].panicked().await;
    assert!(reason.contains("level 500 died"), "{reason}");
    assert!(!nodes[0].handle.gate().is_open());
}

/// Protocol T-17, `DropLevel`: it only watched.
#[actix_rt::test]
async fn a_dead_actor_that_only_watched_costs_its_level() {
    let (_cluster, nodes) = joined(2).await;
    let mut first = registered(&nodes[..1]).await.remove(0);
    let mut second = Script::start();
    let watcher = second.subsystem(USER, TWO_JOINING).on_death(DeathPolicy::DropLevel);
    nodes[1].handle.register(watcher).await.expect("the level is free");
    second.actor.send(Die).await.expect("it lives");
    let told = first.acknowledge(3).await;
    assert_eq!(told, [(1, JoinExtending, 0), (1, JoinExtending, 1), (1, Leaving, 0)], "nothing waits for the dead");
    wait_for_level(&nodes[0], 1, USER, LevelState::Inactive).await;
    assert_eq!(state(&nodes[0], 1).await, NodeState::Joined);
    assert!(nodes[1].handle.gate().is_open());
    assert!(second.is_quiet());
}

/// Spec: "Before a node joins a cluster, interested subsystems of that node register."
#[actix_rt::test]
async fn a_subsystem_that_is_built_in_joins_and_leaves_with_its_node() {
    let mut cluster = TestCluster::new(1, Vec::new()).await;
    let mut script = Script::start();
    let node = cluster.start_with(0, |builder| builder.subsystem(script.subsystem(USER, TWO_JOINING)));
    assert_eq!(script.acknowledge(2).await, [(0, Joining, 0), (0, Joining, 1)]);
    assert!(node.handle.joined().await);
    node.handle.leave().await;
    assert_eq!(script.acknowledge(1).await, [(0, Leaving, 0)]);
    assert_eq!(script.event().await, SubsystemEvent::Withdrawn, "protocol T-16");
    assert_eq!(node.handle.ended().await, MembershipEnded::Left);
}
