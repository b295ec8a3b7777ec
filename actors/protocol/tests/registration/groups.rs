//! Groups of services (spec, "3. Grouping", Figs. 16 and 17; protocol §6.5, RL-11 to RL-14), services on all nodes, free transfer,
//! and what follows from a failure of a service that is registered.

use crate::cluster::{Cluster, command, definition, instance};
use phalanx_messages::order::{OrderRefusal, ServiceOrder};
use phalanx_messages::registration::{CommandKind, Presence, RunState};
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, ChildFailure, NodePreferences, PlacementPolicy, RestartPolicy, ServiceCommand,
    ServiceDefinition, TransferCost,
};
use phalanx_messages::{Instant, NodeId, NodeIncarnation};
use phalanx_protocol::registration::{Event, TimerLimits, Timers};

const LIMITS: TimerLimits = TimerLimits { kill_ms: 2_000, margin_ms: 1_000, backoff_ms: 5_000 };

fn child(name: &str, parent: &str) -> ServiceDefinition {
    ServiceDefinition { parent: Some(parent.to_owned()), ..definition(name) }
}

/// Fig. 17: a parent, two children, and two children of the first child.
fn three_generations() -> Cluster {
    let grandchildren = [child("c1", "b1"), child("c2", "b1")];
    let mut cluster =
        Cluster::of([definition("a"), child("b1", "a"), child("b2", "a")].into_iter().chain(grandchildren));
    cluster.story();
    cluster
}

fn start_all(cluster: &mut Cluster) {
    for service in ["a", "b1", "b2", "c1", "c2"] {
        cluster.succeeds(service);
    }
    cluster.story();
}

fn all_at(cluster: &Cluster, state: RunState, node: u16) -> bool {
    ["a", "b1", "b2", "c1", "c2"].iter().all(|service| cluster.at(service) == (state, node))
}

/// Spec, Fig. 16: "The child will be placed wherever the parent is placed", and is pended until the parent's start has completed.
#[test]
fn fig_16_a_child_starts_after_its_parent_and_where_it_is() {
    let prefers = NodePreferences::Ordered(vec![NodeId(2)]);
    let parent = ServiceDefinition { node_preferences: prefers, ..definition("parent") };
    let mut cluster = Cluster::of([parent, child("one", "parent"), child("two", "parent")]);
    assert_eq!(cluster.at("parent"), (RunState::Starting, 2));
    assert_eq!((cluster.at("one").0, cluster.at("two").0), (RunState::AwaitParent, RunState::AwaitParent));
    cluster.succeeds("parent");
    // Siblings in parallel.
    assert_eq!((cluster.at("one"), cluster.at("two")), ((RunState::Starting, 2), (RunState::Starting, 2)));
    cluster.succeeds("one");
    cluster.succeeds("two");
    cluster.story();
    // "Children are de-registered first with stop_commands invoked as appropriate."
    cluster.of_service("parent", ServiceOrder::Deregister).unwrap();
    assert_eq!(cluster.story(), "one:Stopping@2 two:Stopping@2");
    cluster.succeeds("two");
    assert_eq!(cluster.at("parent").0, RunState::Registered, "a child is not stopped yet");
    cluster.succeeds("one");
    assert_eq!(cluster.at("parent"), (RunState::Stopping, 2));
    cluster.succeeds("parent");
    assert_eq!(cluster.at("parent").0, RunState::DeRegistered);
}

/// Spec, Fig. 17: "all of the children (80 and 80') would be under the placement of parent service 78"; a transfer stops children
/// first and starts them last.
#[test]
fn fig_17_generations_move_together_leaf_to_root_and_root_to_leaf() {
    let mut cluster = three_generations();
    start_all(&mut cluster);
    assert!(all_at(&cluster, RunState::Registered, 0));
    let refused = cluster.of_service("c1", ServiceOrder::Transfer { to: Some(NodeId(1)) }).unwrap_err();
    assert_eq!(refused, OrderRefusal::Child { service: "c1".to_owned(), parent: "b1".to_owned() });
    cluster.of_service("a", ServiceOrder::Transfer { to: Some(NodeId(1)) }).unwrap();
    assert_eq!(cluster.story(), "b2:Stopping@0 c1:Stopping@0 c2:Stopping@0");
    assert!(cluster.run("a").transfer_intent);
    for service in ["c1", "b2", "c2"] {
        cluster.succeeds(service);
    }
    assert_eq!(cluster.at("b1"), (RunState::Stopping, 0), "both of its children are stopped");
    cluster.succeeds("b1");
    assert_eq!(cluster.at("a"), (RunState::Stopping, 0));
    cluster.story();
    cluster.succeeds("a");
    assert_eq!(cluster.story(), "a:DeRegistered@0 a:Starting@1");
    cluster.succeeds("a");
    assert!(cluster.run("a").transfer_intent, "T stays until every member is settled");
    cluster.succeeds("b1");
    cluster.succeeds("c1");
    cluster.succeeds("c2");
    assert!(cluster.run("a").transfer_intent);
    cluster.succeeds("b2");
    assert!(all_at(&cluster, RunState::Registered, 1) && !cluster.run("a").transfer_intent);
}

/// Protocol RL-14 and row 53 of §8.5: recovery goes from the leaves to the root, the start from the root to the leaves.
#[test]
fn fault_53_a_lost_group_is_recovered_leaf_to_root_and_started_root_to_leaf() {
    let mut cluster = three_generations();
    start_all(&mut cluster);
    cluster.sight(0, Presence::Forced);
    let recovering = |cluster: &Cluster| -> Vec<&'static str> {
        let all = ["a", "b1", "b2", "c1", "c2"];
        all.into_iter().filter(|service| cluster.at(service).0 == RunState::Recovering).collect()
    };
    assert_eq!(recovering(&cluster), ["b2", "c1", "c2"]);
    assert_eq!((cluster.at("a").0, cluster.at("b1").0), (RunState::PendRecovery, RunState::PendRecovery));
    cluster.succeeds("c1");
    cluster.succeeds("b2");
    assert_eq!(recovering(&cluster), ["c2"]);
    cluster.succeeds("c2");
    assert_eq!(recovering(&cluster), ["b1"]);
    cluster.succeeds("b1");
    assert_eq!(recovering(&cluster), ["a"]);
    cluster.succeeds("a");
    let node = cluster.at("a").1;
    assert_eq!(cluster.at("a").0, RunState::Starting);
    for service in ["a", "b1", "b2", "c1", "c2"] {
        assert_eq!(cluster.at(service).0, RunState::Starting, "{service} starts when its parent has");
        cluster.succeeds(service);
    }
    assert!(all_at(&cluster, RunState::Registered, node));
}

/// Protocol RL-13: `isolate`.
#[test]
fn a_child_that_cannot_start_is_alone_with_it() {
    let mut cluster = three_generations();
    cluster.succeeds("a");
    cluster.fails("b1");
    cluster.succeeds("b1");
    assert_eq!(cluster.at("b1").0, RunState::Failed);
    assert_eq!((cluster.at("a").0, cluster.at("c1").0), (RunState::Registered, RunState::AwaitParent));
    // It is tried again when the parent is next registered.
    cluster.succeeds("b2");
    cluster.of_service("a", ServiceOrder::Transfer { to: Some(NodeId(1)) }).unwrap();
    for service in ["b2", "a", "a"] {
        cluster.succeeds(service);
    }
    assert_eq!((cluster.at("a"), cluster.at("b1")), ((RunState::Registered, 1), (RunState::Starting, 1)));
}

/// Protocol RL-13: `fail_group` tries each node once; then the child is alone with its failure.
#[test]
fn a_child_that_fails_its_group_moves_it_once_to_every_node() {
    let fragile = ServiceDefinition { child_failure: ChildFailure::FailGroup, ..child("child", "root") };
    let mut cluster = Cluster::of([definition("root"), fragile]);
    for node in 0..3 {
        assert_eq!(cluster.at("root"), (RunState::Starting, node));
        cluster.succeeds("root");
        assert_eq!(cluster.at("child"), (RunState::Starting, node));
        cluster.fails("child");
        cluster.succeeds("child");
        if node < 2 {
            assert_eq!(cluster.at("root"), (RunState::Stopping, node));
            cluster.succeeds("root");
        }
    }
    assert_eq!((cluster.at("root"), cluster.at("child").0), ((RunState::Registered, 2), RunState::Failed));
    assert!(!cluster.run("root").transfer_intent);
    // A node that comes anew gets a try.
    cluster.sight(1, Presence::Left);
    cluster.sight(1, Presence::Joined);
    assert_eq!(cluster.at("root"), (RunState::Stopping, 2));
    cluster.succeeds("root");
    assert_eq!(cluster.at("root"), (RunState::Starting, 1));
}

/// Protocol RL-14: a child in `FailedRecovery` keeps a `fail_group` parent from running its recovery.
#[test]
fn a_recovery_that_fails_everywhere_fails_the_group_if_the_child_says_so() {
    for (child_failure, parent) in
        [(ChildFailure::Isolate, RunState::Recovering), (ChildFailure::FailGroup, RunState::FailedRecovery)]
    {
        let below = ServiceDefinition { child_failure, ..child("child", "root") };
        let mut cluster = Cluster::of([definition("root"), below]);
        cluster.succeeds("root");
        cluster.succeeds("child");
        cluster.sight(0, Presence::Forced);
        for _ in 0..2 {
            assert_eq!((cluster.at("child").0, cluster.at("root").0), (RunState::Recovering, RunState::PendRecovery));
            cluster.fails("child");
            cluster.succeeds("child");
        }
        assert_eq!((cluster.at("child").0, cluster.at("root").0), (RunState::FailedRecovery, parent));
        // `clear` is of the whole group.
        cluster.of_service("child", ServiceOrder::Clear { skip_recovery: false }).unwrap();
        assert_eq!(cluster.at("child").0, RunState::Recovering);
    }
}

/// Spec, claims 14 and 29: "launching grouped client services according to an action parameter included with the parent".
#[test]
fn children_inherit_the_actions_of_a_parent_that_says_so() {
    let root = ServiceDefinition { inherit_actions: true, ..definition("root") };
    let bare = |name: &str, parent: &str| ServiceDefinition {
        parent: Some(parent.to_owned()),
        ..ServiceDefinition::new(name)
    };
    let own = ServiceDefinition { start_command: command("its own"), ..bare("own", "root") };
    let mut cluster = Cluster::of([root, bare("child", "root"), own, bare("grandchild", "child")]);
    cluster.succeeds("root");
    assert_eq!(cluster.at("child").0, RunState::Starting, "it has the parent's start command");
    let effective = |name: &str| phalanx_protocol::registration::effective(&cluster.record.services, name).unwrap();
    assert_eq!(effective("child").start_command, command("start"));
    assert_eq!(effective("own").start_command, command("its own"));
    assert_eq!(effective("own").stop_command, command("stop"));
    assert_eq!(effective("grandchild").start_command, None, "its parent does not pass on what it inherits");
    cluster.succeeds("child");
    assert_eq!(cluster.at("grandchild").0, RunState::Registered, "states without a command are passed through");
}

#[test]
fn circles_unknown_parents_and_choosing_children_are_refused_with_their_path() {
    let mut cluster = Cluster::of([definition("root"), child("below", "root")]);
    let circle = cluster.apply(child("root", "below")).unwrap_err();
    let path = ["root", "below", "root"].map(str::to_owned).to_vec();
    assert_eq!(circle, OrderRefusal::Circle { path });
    let unknown = cluster.apply(child("new", "nobody")).unwrap_err();
    assert_eq!(unknown, OrderRefusal::UnknownParent { service: "new".to_owned(), parent: "nobody".to_owned() });
    let chooses = ServiceDefinition { maturity_count: Some(2), ..child("new", "root") };
    let (service, key) = ("new".to_owned(), "maturity_count".to_owned());
    assert_eq!(cluster.apply(chooses).unwrap_err(), OrderRefusal::NotInGroup { service, key });
    let before = cluster.record.services.clone();
    assert_eq!(before.len(), 2, "nothing was half applied");
    let removed = cluster.of_service("root", ServiceOrder::Remove { skip_recovery: false }).unwrap_err();
    assert_eq!(removed, OrderRefusal::HasChild { service: "root".to_owned(), child: "below".to_owned() });
    // A service that runs does not change its place.
    cluster.succeeds("root");
    let moved = cluster.apply(definition("below")).unwrap_err();
    assert!(matches!(moved, OrderRefusal::Regrouped { state: RunState::Starting, .. }), "{moved:?}");
}

/// Spec, "Placement_Policy": "registered and started on every allowable_node".
#[test]
fn a_service_on_all_nodes_has_an_instance_on_each_allowable_one() {
    let listed = AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]);
    let all = ServiceDefinition {
        allowable_nodes: listed,
        placement_policy: PlacementPolicy::RegisterOnAll,
        ..definition("all")
    };
    let mut cluster = Cluster::of([all, child("below", "all")]);
    assert_eq!(cluster.at("all@0"), (RunState::Starting, 0));
    assert_eq!(cluster.at("all@1"), (RunState::Starting, 1));
    assert!(cluster.record.services["all"].run_of(Some(NodeId(2))).is_none(), "n2 is not allowable");
    cluster.succeeds("all@0");
    assert_eq!((cluster.at("below@0").0, cluster.at("below@1").0), (RunState::Starting, RunState::AwaitParent));
    for lane in ["below@0", "all@1", "below@1"] {
        cluster.succeeds(lane);
    }
    let refused = cluster.of_service("all", ServiceOrder::Transfer { to: None }).unwrap_err();
    assert_eq!(refused, OrderRefusal::OnAllNodes { service: "all".to_owned() });
    // Lost with its node: recovered on another one, also beside an instance that runs there.
    cluster.sight(1, Presence::Forced);
    assert_eq!(cluster.at("below@1"), (RunState::Recovering, 0));
    assert_eq!(cluster.at("below@0"), (RunState::Registered, 0));
    cluster.sight(1, Presence::Joined);
    assert_eq!(cluster.at("all@1").0, RunState::PendRecovery, "a new incarnation waits for the recovery");
    cluster.succeeds("below@1");
    cluster.succeeds("all@1");
    assert_eq!(cluster.at("all@1"), (RunState::Starting, 1));
    for lane in ["all@1", "below@1"] {
        cluster.succeeds(lane);
    }
    cluster.of_service("all", ServiceOrder::Deregister).unwrap();
    for lane in ["below@0", "below@1", "all@0", "all@1"] {
        cluster.succeeds(lane);
    }
    assert_eq!((cluster.at("all@0").0, cluster.at("all@1").0), (RunState::DeRegistered, RunState::DeRegistered));
}

/// An instance without survivor waits until any allowable node is up, its own included (protocol §6.5).
#[test]
fn a_lost_instance_without_survivor_is_recovered_by_whoever_comes() {
    let listed = AllowableNodes::Listed(vec![NodeId(1)]);
    let all = ServiceDefinition {
        allowable_nodes: listed,
        placement_policy: PlacementPolicy::RegisterOnAll,
        ..definition("all")
    };
    let mut cluster = Cluster::of([all]);
    cluster.succeeds("all@1");
    cluster.sight(1, Presence::Forced);
    assert_eq!(cluster.at("all@1").0, RunState::PendRecovery);
    cluster.sight(1, Presence::Joined);
    assert_eq!(cluster.at("all@1"), (RunState::Recovering, 1));
    cluster.succeeds("all@1");
    assert_eq!(cluster.at("all@1"), (RunState::Starting, 1));
}

fn free() -> ServiceDefinition {
    ServiceDefinition {
        transfer_cost: TransferCost::Free,
        stable_ms: 30_000,
        node_preferences: NodePreferences::Ordered(vec![NodeId(0), NodeId(1)]),
        ..definition("free")
    }
}

/// Row 52 of §8.5: a preferred node that flaps takes the service only after it has been up for the stable time, which grows with its
/// deaths.
#[test]
fn fault_52_a_flapping_preferred_node_gets_a_free_transfer_only_when_it_is_stable() {
    let mut cluster = Cluster::of([free()]);
    let mut timers = Timers::new(LIMITS);
    let mut now = Instant(1_000);
    cluster.succeeds("free");
    assert_eq!(cluster.at("free"), (RunState::Registered, 0));
    timers.observe(&cluster.record, now);
    let mut transfers = 0;
    cluster.sight(0, Presence::Leaving);
    cluster.succeeds("free");
    cluster.succeeds("free");
    cluster.sight(0, Presence::Left);
    for _ in 0..10 {
        cluster.sight(0, Presence::Joined);
        assert_eq!(timers.observe(&cluster.record, now), [], "it has only just come");
        now = now.plus(20_000);
        let expired = timers.observe(&cluster.record, now);
        transfers += expired.len();
        cluster.decide(&expired);
        assert_eq!(cluster.at("free"), (RunState::Registered, 1));
        cluster.sight(0, Presence::Forced);
        timers.observe(&cluster.record, now);
    }
    assert_eq!(transfers, 0);
    cluster.sight(0, Presence::Joined);
    timers.observe(&cluster.record, now);
    assert_eq!(timers.observe(&cluster.record, now.plus(30_000)), [], "ten deaths within an hour count");
    let hour_ms = 3_600_000;
    assert_eq!(timers.observe(&cluster.record, now.plus(hour_ms - 170_000)), [], "nine of them");
    let expired = timers.observe(&cluster.record, now.plus(hour_ms));
    let node = NodeIncarnation { node: NodeId(0), incarnation: cluster.view.incarnation(NodeId(0)) };
    assert_eq!(expired, [Event::Stable { service: "free".to_owned(), node }]);
    cluster.decide(&expired);
    assert_eq!(cluster.at("free"), (RunState::Stopping, 1));
    assert!(cluster.run("free").transfer_intent);
    cluster.succeeds("free");
    cluster.succeeds("free");
    assert_eq!(cluster.at("free"), (RunState::Registered, 0));
    assert_eq!(timers.observe(&cluster.record, now.plus(hour_ms + 90_000)), [], "it is where it should be");
}

/// Protocol §6.7, "FreeTransfer without avoid": a preferred node that fails the start is not tried for ever.
#[test]
fn a_free_transfer_to_a_node_that_fails_is_made_once() {
    let mut cluster = Cluster::of([free()]);
    cluster.fails("free");
    cluster.succeeds("free");
    cluster.succeeds("free");
    assert_eq!(cluster.at("free"), (RunState::Registered, 1));
    let node = NodeIncarnation { node: NodeId(0), incarnation: cluster.view.incarnation(NodeId(0)) };
    cluster.decide(&[Event::Stable { service: "free".to_owned(), node }]);
    assert_eq!(cluster.at("free"), (RunState::Registered, 1), "it has failed there");
}

/// Restart in place within the window, then another node, then `failed`; the counters are cleared by `clear`.
#[test]
fn a_service_that_fails_is_restarted_in_place_then_elsewhere_then_failed() {
    let restart = RestartPolicy { limit: 1, window_ms: 60_000, backoff_ms: 1_000 };
    let listed = AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]);
    let mut cluster = Cluster::of([ServiceDefinition { restart, allowable_nodes: listed, ..definition("s") }]);
    let mut timers = Timers::new(LIMITS);
    let now = Instant(1_000);
    cluster.succeeds("s");
    for node in [0, 1] {
        cluster.reported_failed("s").unwrap();
        assert_eq!(cluster.at("s"), (RunState::Stopping, node));
        let generation = cluster.run("s").generation;
        cluster.succeeds("s");
        assert_eq!(cluster.at("s").0, RunState::DeRegistered, "it rests a moment");
        assert_eq!(timers.observe(&cluster.record, now), []);
        let over = Event::RestOver { instance: instance("s"), generation };
        assert_eq!(timers.observe(&cluster.record, now.plus(1_000)), std::slice::from_ref(&over));
        cluster.decide(&[over]);
        assert_eq!(cluster.at("s"), (RunState::Starting, node), "in place");
        cluster.succeeds("s");
        cluster.reported_failed("s").unwrap();
        cluster.succeeds("s");
        if node == 0 {
            assert_eq!(cluster.at("s"), (RunState::Starting, 1), "once in place is enough");
            cluster.succeeds("s");
        }
    }
    assert_eq!(cluster.at("s").0, RunState::Failed);
    cluster.of_service("s", ServiceOrder::Clear { skip_recovery: false }).unwrap();
    assert_eq!(cluster.at("s"), (RunState::Starting, 0));
}

/// Failures that are longer ago than the window do not count.
#[test]
fn failures_age_and_a_long_good_run_forgives_nodes() {
    let restart = RestartPolicy { limit: 1, window_ms: 60_000, backoff_ms: 0 };
    let mut cluster = Cluster::of([ServiceDefinition { restart, ..definition("s") }]);
    let mut timers = Timers::new(LIMITS);
    let now = Instant(1_000);
    cluster.succeeds("s");
    cluster.reported_failed("s").unwrap();
    cluster.succeeds("s");
    let over = timers.observe(&cluster.record, now);
    cluster.decide(&over);
    cluster.succeeds("s");
    assert_eq!(cluster.run("s").restarts.len(), 1);
    timers.observe(&cluster.record, now);
    let aged = timers.observe(&cluster.record, now.plus(60_000));
    assert!(matches!(aged[..], [Event::FailureAged { .. }]), "{aged:?}");
    cluster.decide(&aged);
    assert_eq!(cluster.run("s").restarts, []);
    for _ in 0..2 {
        cluster.reported_failed("s").unwrap();
        cluster.succeeds("s");
        let over = timers.observe(&cluster.record, now.plus(60_000));
        cluster.decide(&over);
        cluster.succeeds("s");
    }
    assert!(cluster.at("s").1 == 1 && cluster.run("s").exhausted.contains(NodeId(0)), "{:?}", cluster.run("s"));
    timers.observe(&cluster.record, now.plus(60_000));
    let forgotten = timers.observe(&cluster.record, now.plus(120_000));
    assert!(matches!(forgotten[..], [Event::FailuresForgotten { .. }]), "{forgotten:?}");
    cluster.decide(&forgotten);
    assert!(cluster.run("s").exhausted.is_empty());
}

/// Spec: "No direct communication will be returned to the registration and launch service": it is a request, and may be too late.
#[test]
fn a_failure_of_an_older_registration_is_refused() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    let old = cluster.run("s").generation.revision;
    cluster.of_service("s", ServiceOrder::Transfer { to: Some(NodeId(1)) }).unwrap();
    cluster.succeeds("s");
    cluster.succeeds("s");
    let order = ServiceOrder::Failed { generation: old, node: None, text: "late".to_owned() };
    let current = Some(cluster.run("s").generation.revision);
    let refusal = OrderRefusal::StaleGeneration { service: "s".to_owned(), current };
    assert_eq!(cluster.of_service("s", order), Err(refusal));
    assert_eq!(cluster.at("s"), (RunState::Registered, 1));
}

/// A child that fails in place is restarted alone; everything below it goes first.
#[test]
fn a_failed_child_is_restarted_without_its_parent() {
    let mut cluster = three_generations();
    start_all(&mut cluster);
    cluster.reported_failed("b1").unwrap();
    assert_eq!(cluster.story(), "c1:Stopping@0 c2:Stopping@0");
    for service in ["c1", "c2", "b1"] {
        cluster.succeeds(service);
    }
    let generation = *cluster.run("b1").restarts.last().unwrap();
    cluster.decide(&[Event::RestOver { instance: instance("b1"), generation }]);
    for service in ["b1", "c1", "c2"] {
        cluster.succeeds(service);
    }
    assert!(all_at(&cluster, RunState::Registered, 0));
    assert!(!cluster.run("a").transfer_intent);
}

#[test]
fn nodes_are_chosen_by_pressure_then_by_weight_and_capacity_limits() {
    let manual = |name: &str| ServiceDefinition { auto_register: AutoRegister::Manual, weight: 4, ..definition(name) };
    let mut cluster = Cluster::of(["a", "b", "c", "d"].map(manual));
    cluster.loads.pressure = [(NodeId(0), 7)].into();
    cluster.loads.capacity = [(NodeId(0), 4), (NodeId(1), 4), (NodeId(2), 5)].into();
    for (service, node) in [("a", 1), ("b", 2), ("c", 0)] {
        cluster.of_service(service, ServiceOrder::Register).unwrap();
        assert_eq!(cluster.at(service), (RunState::Starting, node), "{service}");
        cluster.succeeds(service);
    }
    cluster.of_service("d", ServiceOrder::Register).unwrap();
    assert_eq!(cluster.at("d").0, RunState::DeRegistered, "nobody has room");
    cluster.of_service("b", ServiceOrder::Deregister).unwrap();
    cluster.succeeds("b");
    assert_eq!(cluster.at("d"), (RunState::Starting, 2), "as soon as somebody has");
}

/// Spec: "Adding a node to a client service's disallowable node's field does not automatically initiate a transfer".
#[test]
fn a_node_that_becomes_disallowable_keeps_what_it_runs() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    let disallowed = ServiceDefinition { disallowable_nodes: vec![NodeId(0)], ..definition("s") };
    cluster.apply(disallowed).unwrap();
    assert_eq!(cluster.at("s"), (RunState::Registered, 0));
    assert!(cluster.commands.is_empty());
    cluster.sight(0, Presence::Leaving);
    cluster.succeeds("s");
    assert_ne!(cluster.at("s").1, 0);
}

/// A notification goes to every other allowable node, by the root's list, and once to each incarnation (spec, claims 17, 31).
#[test]
fn a_childs_notifications_go_to_the_nodes_of_its_root() {
    let listed = AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]);
    let root = ServiceDefinition { allowable_nodes: listed, ..definition("root") };
    let told = ServiceCommand::shell("notify", 1_000);
    let below = ServiceDefinition { notify_command: Some(told), ..child("child", "root") };
    let mut cluster = Cluster::of([root, below]);
    cluster.succeeds("root");
    cluster.succeeds("child");
    let notified: Vec<u16> = cluster.commands.iter().map(|command| command.target.node.0).collect();
    assert!(cluster.commands.iter().all(|command| command.kind == CommandKind::Notify));
    assert_eq!(notified, [1]);
}
