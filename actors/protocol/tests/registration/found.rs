//! What the model check found (docs/design/model-checking.md, MC6), each as the shortest story.

use phalanx_messages::order::ServiceOrder;
use phalanx_messages::registration::{Presence, RunState};
use phalanx_messages::service::{AllowableNodes, PlacementPolicy, RestartPolicy, ServiceDefinition};
use phalanx_messages::{Instant, NodeId};
use phalanx_protocol::registration::{Event, TimerLimits, Timers, outstanding};

use super::cluster::{Cluster, definition, instance};

const LIMITS: TimerLimits = TimerLimits { kill_ms: 1_000, margin_ms: 1_000, backoff_ms: 1_000 };

/// An instance that was looked at before another one latched the maturity kept its own copy of it, and the next decision changed
/// the database though nothing had happened. `Cluster::decide` settles everything a second time (I-R15).
#[test]
fn an_instance_that_cannot_start_keeps_step_with_the_maturity_of_its_service() {
    let everywhere = ServiceDefinition { placement_policy: PlacementPolicy::RegisterOnAll, ..definition("s") };
    let mut cluster = Cluster::of([]);
    cluster.sight(0, Presence::Leaving);
    cluster.apply(everywhere).unwrap();
    assert_eq!(cluster.at("s@0").0, RunState::DeRegistered);
    assert_eq!(cluster.at("s@1"), (RunState::Starting, 1));
    assert_eq!(cluster.run("s@0").matured, cluster.run("s@1").matured);
}

/// The pause before a restart in place was ended by the failure that it is for; that may be forgotten before, and the service
/// rested for ever.
#[test]
fn a_pause_ends_though_its_failure_counts_no_more() {
    let restart = RestartPolicy { limit: 2, window_ms: 1_000, backoff_ms: 5_000 };
    let mut cluster = Cluster::of([ServiceDefinition { restart, ..definition("s") }]);
    let (mut timers, now) = (Timers::new(LIMITS), Instant(1_000));
    cluster.succeeds("s");
    cluster.reported_failed("s").unwrap();
    let generation = cluster.run("s").generation;
    cluster.succeeds("s");
    timers.observe(&cluster.record, now);
    let aged = timers.observe(&cluster.record, now.plus(1_000));
    assert_eq!(aged, [Event::FailureAged { instance: instance("s"), generation }]);
    cluster.decide(&aged);
    assert_eq!(cluster.at("s").0, RunState::DeRegistered, "it rests still");
    let over = timers.observe(&cluster.record, now.plus(5_000));
    assert_eq!(over, [Event::RestOver { instance: instance("s"), generation }]);
    cluster.decide(&over);
    assert_eq!(cluster.at("s"), (RunState::Starting, 0));
}

/// The instances of a child outlived the change of its parent to one node, and hid where the child was: no command for it was sent
/// again, and a node could leave with the child running on it.
#[test]
fn children_have_no_instances_any_more_when_their_parent_is_registered_on_one_node() {
    let everywhere = ServiceDefinition { placement_policy: PlacementPolicy::RegisterOnAll, ..definition("a") };
    let child = ServiceDefinition { parent: Some("a".to_owned()), ..definition("b") };
    let mut cluster = Cluster::of([everywhere, child]);
    cluster.of_service("a", ServiceOrder::Deregister).unwrap();
    for lane in ["a@0", "a@1", "a@2"] {
        cluster.succeeds(lane);
        cluster.succeeds(lane);
    }
    cluster.apply(definition("a")).unwrap();
    cluster.of_service("a", ServiceOrder::Register).unwrap();
    cluster.succeeds("a");
    assert_eq!(cluster.at("b"), (RunState::Starting, 0));
    let repeated: Vec<String> = outstanding(&cluster.record).iter().map(|command| command.instance.lane()).collect();
    assert_eq!(repeated, ["b"]);
    assert!(!cluster.record.is_drained(cluster.run("b").node));
}

/// The last member could not end its leave when a service could not be stopped: it was to be forced out, which nobody does with the
/// last one.
#[test]
fn the_last_member_that_leaves_lets_go_of_what_it_could_only_kill() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    for node in [1, 2] {
        cluster.sight(node, Presence::Leaving);
        cluster.sight(node, Presence::Left);
    }
    cluster.sight(0, Presence::Leaving);
    cluster.fails("s");
    assert_eq!(cluster.at("s"), (RunState::StopKill, 0));
    cluster.succeeds("s");
    assert_eq!(cluster.at("s").0, RunState::DeRegistered);
}

/// As long as a lost parent waited for somebody to recover it, every decision told anew that its child waits for it.
#[test]
fn a_child_of_an_instance_that_is_away_is_not_told_of_again_and_again() {
    let listed = AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]);
    let everywhere = ServiceDefinition { placement_policy: PlacementPolicy::RegisterOnAll, ..definition("a") };
    let child = ServiceDefinition { parent: Some("a".to_owned()), ..definition("b") };
    let mut cluster = Cluster::of([ServiceDefinition { allowable_nodes: listed, ..everywhere }, child]);
    cluster.succeeds("a@0");
    cluster.sight(1, Presence::Leaving);
    cluster.succeeds("a@1");
    cluster.succeeds("a@1");
    cluster.sight(1, Presence::Left);
    cluster.sight(0, Presence::Forced);
    assert_eq!(cluster.at("a@0").0, RunState::PendRecovery, "nobody is there to recover it");
    cluster.story();
    cluster.sight(2, Presence::Leaving);
    assert_eq!(cluster.story(), "");
}

/// The administrator is told of every state; the one in which the only member cleans again was left out.
#[test]
fn cleaning_again_is_told() {
    let mut cluster = Cluster::of([definition("s")]);
    for node in [1, 2] {
        cluster.sight(node, Presence::Leaving);
        cluster.sight(node, Presence::Left);
    }
    cluster.fails("s");
    cluster.fails("s");
    assert_eq!(cluster.at("s"), (RunState::FenceStart, 0));
    cluster.story();
    cluster.decide(&[Event::CleanAgain { instance: instance("s") }]);
    assert_eq!(cluster.story(), "s:StartCleanup@0");
}

/// Standby was a reason of every member by itself. Below a root that is held a child was stopped for it, and started again where its
/// parent still is, for ever (I-R20).
#[test]
fn a_child_stays_with_its_held_parent_on_a_node_on_standby() {
    let child = ServiceDefinition { parent: Some("a".to_owned()), ..definition("b") };
    let mut cluster = Cluster::of([definition("a"), child]);
    cluster.succeeds("a");
    cluster.succeeds("b");
    cluster.of_service("a", ServiceOrder::Hold).unwrap();
    cluster.standby(0, true);
    assert_eq!((cluster.at("a"), cluster.at("b")), ((RunState::Registered, 0), (RunState::Registered, 0)));
    cluster.of_service("a", ServiceOrder::Clear { skip_recovery: false }).unwrap();
    assert_eq!(cluster.at("b"), (RunState::Stopping, 0), "the group goes when it is held no more");
}
