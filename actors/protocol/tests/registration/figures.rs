//! Spec, Figs. 18 to 20: how a client service is launched, and the states that it goes through.

use phalanx_messages::order::ServiceOrder;
use phalanx_messages::registration::{CommandKind, Presence, RunState};
use phalanx_messages::service::{AutoRegister, NodePreferences, ServiceDefinition, StopFailure};
use phalanx_messages::{Instant, NodeId, Term};
use phalanx_protocol::registration::{TimerLimits, Timers};

use crate::cluster::{Cluster, command, definition};

/// Fig. 18: auto-start (66) or external start (68), the best node (64), awaiting maturity (70), notification (72), launch (74).
#[test]
fn fig_18_a_service_is_launched_by_itself_or_by_request_after_maturity() {
    let choosing = |name: &str, auto_register| ServiceDefinition {
        auto_register,
        node_preferences: NodePreferences::Unordered(vec![NodeId(1)]),
        maturity_time_ms: Some(5_000),
        notify_command: command("notify"),
        ..definition(name)
    };
    let services = [
        choosing("auto", AutoRegister::PowerUp),
        choosing("external", AutoRegister::Manual),
        ServiceDefinition { node_preferences: NodePreferences::None, ..choosing("waits", AutoRegister::Always) },
    ];
    let mut cluster = Cluster::of(services);
    // Matured by (a): its primary node is available.
    assert_eq!(cluster.at("auto"), (RunState::Starting, 1));
    assert_eq!(cluster.at("external").0, RunState::DeRegistered);
    cluster.of_service("external", ServiceOrder::Register).unwrap();
    assert_eq!(cluster.at("external"), (RunState::Starting, 1));
    assert_eq!(cluster.at("waits").0, RunState::AwaitMaturity);
    // Matured by (c): "enough time has gone by".
    let mut timers = Timers::new(TimerLimits { kill_ms: 1, margin_ms: 60_000, backoff_ms: 1 });
    assert_eq!(timers.observe(&cluster.record, Instant(7)), []);
    let matured = timers.observe(&cluster.record, Instant(5_007));
    cluster.decide(&matured);
    assert_eq!(cluster.at("waits").0, RunState::Starting);
    // "the notification is pended until successful start"
    assert!(cluster.commands.iter().all(|command| command.kind != CommandKind::Notify));
    cluster.succeeds("auto");
    let notified: Vec<(CommandKind, u16)> =
        cluster.commands.iter().map(|command| (command.kind, command.target.node.0)).collect();
    assert_eq!(notified, [(CommandKind::Notify, 0), (CommandKind::Notify, 2)]);
}

/// Fig. 19: starting (82), registered (84), stopping (86), de-registered (88), recovering (90).
#[test]
fn fig_19_the_states_of_a_service_and_every_way_between_them() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    assert_eq!(cluster.story(), "s:Starting@0 s:Registered@0");
    // "transfers to stopping state 86 if the transfer intent flag is set": a graceful leave of its node ...
    cluster.sight(0, Presence::Leaving);
    assert!(cluster.run("s").transfer_intent);
    cluster.succeeds("s");
    cluster.succeeds("s");
    assert_eq!(
        cluster.story(),
        "s:Stopping@0 s:DeRegistered@0 s:Starting@1 s:Registered@1",
        "a service being transferred proceeds immediately from de-registered to starting"
    );
    // ... "or as part of an external de-register".
    cluster.of_service("s", ServiceOrder::Deregister).unwrap();
    assert!(!cluster.run("s").transfer_intent);
    cluster.succeeds("s");
    assert_eq!(cluster.story(), "s:Stopping@1 s:DeRegistered@1");
    // "Recovering state 90 only occurs if a node ungracefully leaves the cluster while the service was in the registered state 84
    // or in the stopping state 86."
    for stopping in [false, true] {
        cluster.of_service("s", ServiceOrder::Register).unwrap();
        cluster.succeeds("s");
        let node = cluster.at("s").1;
        if stopping {
            cluster.of_service("s", ServiceOrder::Transfer { to: None }).unwrap();
        }
        cluster.story();
        cluster.sight(node, Presence::Forced);
        let recovering = cluster.at("s").1;
        assert_eq!(cluster.story(), format!("s:PendRecovery@{node} s:Recovering@{recovering}"));
        cluster.succeeds("s");
        assert!(cluster.story().starts_with(&format!("s:DeRegistered@{recovering} s:Starting@")));
        cluster.succeeds("s");
        cluster.of_service("s", ServiceOrder::Deregister).unwrap();
        cluster.succeeds("s");
        cluster.sight(node, Presence::Joined);
        cluster.story();
    }
    cluster.of_service("s", ServiceOrder::Register).unwrap();
    let node = cluster.at("s").1;
    cluster.story();
    cluster.sight(node, Presence::Forced);
    assert!(cluster.story().starts_with(&format!("s:DeRegistered@{node} s:Starting@")), "not while it was starting");
}

/// Fig. 19: "Each of the stopping, starting, and recovering states will be skipped if their respective command does not exist."
#[test]
fn fig_19_states_without_a_command_are_skipped() {
    let mut cluster = Cluster::of([ServiceDefinition::new("s")]);
    assert_eq!((cluster.at("s"), cluster.commands.len()), ((RunState::Registered, 0), 0));
    cluster.sight(0, Presence::Forced);
    assert_eq!((cluster.at("s"), cluster.commands.len()), ((RunState::Registered, 1), 0));
    // Without a stop command it is killed, so that nothing of it is left when it starts elsewhere.
    cluster.of_service("s", ServiceOrder::Transfer { to: Some(NodeId(2)) }).unwrap();
    assert_eq!(cluster.at("s"), (RunState::StopKill, 1));
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Registered, 2));
}

/// Fig. 20: the intermediate states, each shown as the state of Fig. 19 that it belongs to (architecture §5).
#[test]
fn fig_20_intermediate_states_clean_up_before_anything_else_begins() {
    let strict = ServiceDefinition { stop_failure: StopFailure::Fence, ..definition("s") };
    let mut cluster = Cluster::of([strict]);
    cluster.fails("s");
    assert_eq!(cluster.story(), "s:Starting@0 s:StartCleanup@0");
    cluster.succeeds("s");
    assert_eq!(cluster.story(), "s:DeRegistered@0 s:Starting@1", "the next node, when the first is clean");
    cluster.succeeds("s");
    cluster.of_service("s", ServiceOrder::Transfer { to: Some(NodeId(2)) }).unwrap();
    cluster.fails("s");
    cluster.fails("s");
    assert_eq!(cluster.story(), "s:Registered@1 s:Stopping@1 s:StopKill@1 s:FenceStop@1");
    cluster.sight(1, Presence::Forced);
    cluster.fails("s");
    let node = cluster.at("s").1;
    assert_eq!(cluster.story(), format!("s:PendRecovery@1 s:Recovering@{node} s:RecoveryCleanup@{node}"));
    cluster.fails("s");
    assert_eq!(cluster.story(), format!("s:FenceRecovery@{node}"));
    cluster.sight(node, Presence::Forced);
    let last = cluster.at("s").1;
    assert_eq!(cluster.story(), format!("s:PendRecovery@{node} s:Recovering@{last}"));
    // The only member is not forced out: the kill is tried again (RL-8).
    cluster.fails("s");
    cluster.fails("s");
    assert_eq!(cluster.at("s"), (RunState::FenceRecovery, last));
    let again = phalanx_protocol::registration::Event::CleanAgain { instance: crate::cluster::instance("s") };
    cluster.decide(&[again]);
    assert_eq!(cluster.at("s"), (RunState::RecoveryCleanup, last));
}

/// A cluster that forms anew wants what `power-up` and `always` say (protocol §6.2), and what an administrator had registered.
#[test]
fn fig_18_auto_start_is_of_the_cluster_that_forms() {
    let manual = ServiceDefinition { auto_register: AutoRegister::Manual, ..definition("manual") };
    let never = ServiceDefinition { auto_register: AutoRegister::Manual, ..definition("never") };
    let mut cluster = Cluster::of([manual, definition("auto"), never]);
    cluster.of_service("manual", ServiceOrder::Register).unwrap();
    cluster.of_service("auto", ServiceOrder::Deregister).unwrap();
    cluster.succeeds("auto");
    cluster.view.formation = Term(2);
    for node in 0..3 {
        cluster.sight(node, Presence::Joined);
    }
    let wanted = ["manual", "auto", "never"].map(|service| cluster.run(service).want);
    assert_eq!(wanted, [true, true, false], "a power failure registers and deregisters nothing by hand");
}
