//! Administrators' orders: what each does, when it is refused, and how the result is explained.

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::order::{DefinitionChange, OrderRefusal, RegistrationOrder, ServiceOrder, Unfit};
use phalanx_messages::registration::{Presence, RunState};
use phalanx_messages::service::{AllowableNodes, AutoRegister, NodePreferences, ServiceDefinition, TransferCost};
use phalanx_messages::service_report::ServiceExplanation;
use phalanx_protocol::registration::{
    Event, Flaps, NodeLoads, TimerLimits, Timers, Waits, explain, service_statuses, tell_refusal,
};

use crate::cluster::{Cluster, command, definition};

#[test]
fn deregister_stops_a_service_for_good_and_register_starts_it_again() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Registered, 0));
    cluster.of_service("s", ServiceOrder::Deregister).unwrap();
    assert_eq!(cluster.at("s").0, RunState::Stopping);
    cluster.succeeds("s");
    cluster.sight(1, Presence::Forced);
    assert_eq!(cluster.at("s").0, RunState::DeRegistered, "an event does not start it");
    cluster.of_service("s", ServiceOrder::Register).unwrap();
    assert_eq!(cluster.at("s").0, RunState::Starting);
}

#[test]
fn a_request_is_consumed_once_and_keeps_its_answer() {
    let mut cluster = Cluster::of([definition("s")]);
    let deregister = RegistrationOrder::Service { service: "s".to_owned(), order: ServiceOrder::Deregister };
    let request = cluster.request(deregister);
    cluster.decide(&[Event::Requested(request.clone())]);
    cluster.of_service("s", ServiceOrder::Register).unwrap();
    let before = cluster.record.clone();
    cluster.decide(&[Event::Requested(request)]);
    assert_eq!(cluster.record, before, "RL-10: an older request is dropped");
}

#[test]
fn an_order_about_an_unknown_service_is_refused() {
    let mut cluster = Cluster::of([]);
    let refusal = cluster.of_service("x", ServiceOrder::Register).unwrap_err();
    assert_eq!(refusal, OrderRefusal::UnknownService { service: "x".to_owned() });
    let (code, text) = tell_refusal(&refusal, &ConfigurationRecord::default());
    assert_eq!((code, text.as_str()), (105, "there is no service `x`; `phalanx service list` lists them"));
}

#[test]
fn a_transfer_goes_to_its_target_or_to_the_best_other_node() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    cluster.of_service("s", ServiceOrder::Transfer { to: Some(NodeId(2)) }).unwrap();
    cluster.succeeds("s");
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Registered, 2));
    assert!(!cluster.run("s").transfer_intent, "T ends with the transfer");
    cluster.of_service("s", ServiceOrder::Transfer { to: None }).unwrap();
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Starting, 0));
}

#[test]
fn a_transfer_is_refused_by_name() {
    let listed = ServiceDefinition {
        allowable_nodes: AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]),
        disallowable_nodes: vec![NodeId(1)],
        ..definition("s")
    };
    let mut cluster = Cluster::of([listed]);
    let to = |node| ServiceOrder::Transfer { to: Some(NodeId(node)) };
    let service = || "s".to_owned();
    let refused = cluster.of_service("s", to(1)).unwrap_err();
    assert_eq!(refused, OrderRefusal::NotSettled { service: service(), state: RunState::Starting });
    cluster.succeeds("s");
    let unfit = |node, why| OrderRefusal::Unfit { service: service(), node: NodeId(node), why };
    assert_eq!(cluster.of_service("s", to(2)), Err(unfit(2, Unfit::NotAllowable)));
    assert_eq!(cluster.of_service("s", to(1)), Err(unfit(1, Unfit::Disallowed)));
    let there = OrderRefusal::AlreadyThere { service: service(), node: NodeId(0) };
    assert_eq!(cluster.of_service("s", to(0)), Err(there));
    let nowhere = OrderRefusal::NowhereElse { service: service() };
    assert_eq!(cluster.of_service("s", ServiceOrder::Transfer { to: None }), Err(nowhere));
    cluster.apply(definition("s")).unwrap();
    cluster.standby(1, true);
    assert_eq!(cluster.of_service("s", to(1)), Err(unfit(1, Unfit::Standby)));
    cluster.sight(2, Presence::Leaving);
    assert_eq!(cluster.of_service("s", to(2)), Err(unfit(2, Unfit::Leaving)));
    cluster.sight(2, Presence::Left);
    assert_eq!(cluster.of_service("s", to(2)), Err(unfit(2, Unfit::Down)));
    cluster.of_service("s", ServiceOrder::Hold).unwrap();
    assert_eq!(cluster.of_service("s", to(1)), Err(OrderRefusal::Held { service: service() }));
    assert_eq!(cluster.at("s"), (RunState::Registered, 0), "what is refused has changed nothing");
}

#[test]
fn hold_begins_nothing_and_clear_ends_it() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    cluster.of_service("s", ServiceOrder::Hold).unwrap();
    assert_eq!(cluster.at("s").0, RunState::Registered, "what runs goes on");
    cluster.standby(0, true);
    assert_eq!(cluster.at("s"), (RunState::Registered, 0), "no move is begun");
    cluster.sight(0, Presence::Forced);
    assert_eq!(cluster.at("s").0, RunState::PendRecovery, "no recovery is begun");
    cluster.of_service("s", ServiceOrder::Clear { skip_recovery: false }).unwrap();
    assert_eq!(cluster.at("s"), (RunState::Recovering, 1));
}

/// The end of a hold adopts what is registered: whoever looks after it says what is not there any more. It is stopped before it is
/// started again, so that there is never a second instance (protocol I-R1).
#[test]
fn the_end_of_a_hold_begins_nothing_and_what_is_found_dead_then_is_stopped_before_it_starts() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    let generation = cluster.run("s").generation;
    cluster.of_service("s", ServiceOrder::Hold).unwrap();
    cluster.reported_failed("s").unwrap();
    assert_eq!((cluster.run("s").failing, cluster.commands.as_slice()), (true, [].as_slice()), "shown, and left alone");
    cluster.story();
    cluster.of_service("s", ServiceOrder::Clear { skip_recovery: false }).unwrap();
    assert_eq!((cluster.run("s").failing, cluster.commands.as_slice()), (false, [].as_slice()));
    assert_eq!((cluster.at("s"), cluster.run("s").generation), ((RunState::Registered, 0), generation));
    cluster.reported_failed("s").unwrap();
    cluster.succeeds("s");
    let generation = cluster.run("s").generation;
    cluster.decide(&[Event::RestOver { instance: crate::cluster::instance("s"), generation }]);
    assert_eq!(cluster.story(), "s:Stopping@0 s:DeRegistered@0 s:Starting@0");
}

#[test]
fn clear_tries_a_failed_service_again_and_by_force_skips_its_recovery() {
    let mut cluster = Cluster::of([definition("s")]);
    for _ in 0..3 {
        cluster.fails("s");
        cluster.succeeds("s"); // cleaned
    }
    assert_eq!(cluster.at("s").0, RunState::Failed);
    cluster.of_service("s", ServiceOrder::Clear { skip_recovery: false }).unwrap();
    assert_eq!(cluster.at("s"), (RunState::Starting, 0));
    cluster.succeeds("s");
    cluster.sight(0, Presence::Forced);
    for _ in 0..2 {
        cluster.fails("s");
        cluster.succeeds("s"); // cleaned
    }
    assert_eq!(cluster.at("s").0, RunState::FailedRecovery);
    let victim = cluster.run("s").victim.unwrap();
    let refused = cluster.of_service("s", ServiceOrder::Remove { skip_recovery: false }).unwrap_err();
    assert_eq!(refused, OrderRefusal::Unrecovered { service: "s".to_owned(), victim });
    assert_eq!(tell_refusal(&refused, &ConfigurationRecord::default()).0, 107);
    cluster.of_service("s", ServiceOrder::Clear { skip_recovery: true }).unwrap();
    assert_eq!(cluster.at("s"), (RunState::Starting, 1));
    assert_eq!(cluster.run("s").victim, None);
}

#[test]
fn only_a_service_that_does_not_run_can_be_removed() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    let refused = cluster.of_service("s", ServiceOrder::Remove { skip_recovery: true }).unwrap_err();
    assert_eq!(refused, OrderRefusal::NotIdle { service: "s".to_owned(), state: RunState::Registered });
    cluster.of_service("s", ServiceOrder::Deregister).unwrap();
    cluster.succeeds("s");
    cluster.of_service("s", ServiceOrder::Remove { skip_recovery: false }).unwrap();
    assert!(cluster.record.services.is_empty());
}

#[test]
fn a_node_on_standby_gives_up_its_services_and_takes_none_until_it_is_withdrawn() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    cluster.standby(0, true);
    assert_eq!(cluster.at("s"), (RunState::Stopping, 0));
    cluster.succeeds("s");
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Registered, 1));
    cluster.standby(1, true);
    cluster.succeeds("s");
    cluster.succeeds("s");
    cluster.standby(2, true);
    cluster.succeeds("s");
    assert_eq!(cluster.at("s").0, RunState::DeRegistered, "nobody takes it");
    assert!(cluster.run("s").want);
    cluster.sight(1, Presence::Forced);
    cluster.sight(1, Presence::Joined);
    assert_eq!(cluster.at("s").0, RunState::DeRegistered, "standby outlives the start of a node");
    cluster.standby(1, false);
    assert_eq!(cluster.at("s"), (RunState::Starting, 1));
}

#[test]
fn an_applied_definition_starts_a_new_service_and_never_stops_one() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    let elsewhere = ServiceDefinition {
        allowable_nodes: AllowableNodes::Listed(vec![NodeId(2)]),
        disallowable_nodes: vec![NodeId(0)],
        ..definition("s")
    };
    cluster.apply(elsewhere).unwrap();
    assert_eq!(cluster.at("s"), (RunState::Registered, 0), "protocol §6.2: editing never starts a transfer");
    cluster.apply(definition("t")).unwrap();
    assert_eq!(cluster.at("t").0, RunState::Starting);
    cluster.apply(ServiceDefinition { auto_register: AutoRegister::Manual, ..definition("u") }).unwrap();
    cluster.apply(ServiceDefinition { auto_register: AutoRegister::PowerUp, ..definition("v") }).unwrap();
    assert_eq!((cluster.at("u").0, cluster.at("v").0), (RunState::DeRegistered, RunState::DeRegistered));
    cluster
        .apply(ServiceDefinition { start_retries: 5, auto_register: AutoRegister::Manual, ..definition("u") })
        .unwrap();
    assert_eq!(cluster.at("u").0, RunState::DeRegistered, "another key does not start what is not wanted");
    cluster.apply(ServiceDefinition { start_retries: 5, ..definition("u") }).unwrap();
    assert_eq!(cluster.at("u").0, RunState::Starting, "auto_register became always");
}

#[test]
fn auto_register_counts_when_the_cluster_forms() {
    let of = |name, auto_register| ServiceDefinition { auto_register, ..definition(name) };
    let services = [of("a", AutoRegister::Always), of("m", AutoRegister::Manual), of("p", AutoRegister::PowerUp)];
    let cluster = Cluster::of(services);
    let states = ["a", "m", "p"].map(|service| cluster.at(service).0);
    assert_eq!(states, [RunState::Starting, RunState::DeRegistered, RunState::Starting]);
}

#[test]
fn a_definition_that_somebody_else_has_changed_is_refused_and_all_of_the_order_with_it() {
    let mut cluster = Cluster::of([definition("s")]);
    let stale = DefinitionChange { before: None, after: definition("s") };
    let new = DefinitionChange { before: None, after: definition("t") };
    let refused = cluster.order(RegistrationOrder::Apply([new, stale].into_iter().collect())).unwrap_err();
    assert_eq!(refused, OrderRefusal::ChangedMeanwhile { service: "s".to_owned() });
    assert!(!cluster.record.services.contains_key("t"), "all or none");
}

#[test]
fn the_command_that_runs_cannot_be_taken_away() {
    let mut cluster = Cluster::of([definition("s")]);
    let refused = cluster.apply(ServiceDefinition { start_command: None, ..definition("s") }).unwrap_err();
    assert_eq!(refused, OrderRefusal::CommandRuns { service: "s".to_owned(), state: RunState::Starting });
    cluster.succeeds("s");
    cluster.sight(0, Presence::Forced);
    assert_eq!(cluster.at("s").0, RunState::Recovering);
    cluster.fails("s");
    cluster.apply(ServiceDefinition { recovery_command: None, ..definition("s") }).unwrap();
    cluster.succeeds("s"); // cleaned
    assert_eq!(cluster.at("s"), (RunState::Starting, 1), "nothing to recover it with: passed through");
}

#[test]
fn a_changed_definition_is_reason_enough_to_try_a_failed_service_again() {
    let mut cluster = Cluster::of([definition("s")]);
    for _ in 0..3 {
        cluster.fails("s");
        cluster.succeeds("s"); // cleaned
    }
    assert_eq!(cluster.at("s").0, RunState::Failed);
    cluster.apply(ServiceDefinition { start_command: command("better"), ..definition("s") }).unwrap();
    assert_eq!(cluster.at("s").0, RunState::Starting);
}

#[test]
fn definitions_that_do_not_fit_the_disk_are_refused() {
    let mut cluster = Cluster::of([definition("s")]);
    let long = "x".repeat(4_000);
    let large = |index: u32| DefinitionChange {
        before: None,
        after: ServiceDefinition { start_command: command(&long), ..definition(&format!("s{index}")) },
    };
    let refused = cluster.order(RegistrationOrder::Apply((0..10).map(large).collect())).unwrap_err();
    assert!(
        matches!(refused, OrderRefusal::DatabaseFull { services: 11, bytes_max: 39_000..=40_000, .. }),
        "{refused:?}"
    );
    let (code, text) = tell_refusal(&refused, &ConfigurationRecord::default());
    assert!(code == 1 && text.contains("--services-max"), "{text}");
    assert_eq!(cluster.record.services.len(), 1);
    let small = |index: u32| DefinitionChange { before: None, after: definition(&format!("s{index}")) };
    let refused = cluster.order(RegistrationOrder::Apply((0..20).map(small).collect())).unwrap_err();
    assert!(matches!(refused, OrderRefusal::DatabaseFull { services: 21, services_max: 20, .. }), "{refused:?}");
}

#[test]
fn maturity_is_reached_by_count_by_time_or_by_the_preferred_node_and_counts_down_in_sight() {
    let waits = |preferred| ServiceDefinition {
        maturity_count: Some(4),
        maturity_time_ms: Some(5_000),
        node_preferences: NodePreferences::Ordered(vec![NodeId(preferred)]),
        ..definition("s")
    };
    let cluster = Cluster::of([waits(2)]);
    assert_eq!(cluster.at("s"), (RunState::Starting, 2), "(c) the preferred node is up");
    let by_count = ServiceDefinition { maturity_count: Some(3), ..waits(7) };
    assert_eq!(Cluster::of([by_count]).at("s").0, RunState::Starting, "(a) enough nodes are up");
    let mut cluster = Cluster::of([waits(7)]);
    assert_eq!(cluster.at("s").0, RunState::AwaitMaturity);
    let mut timers = Timers::new(TimerLimits { kill_ms: 1, margin_ms: 1, backoff_ms: 1 });
    let at = |ms: u64| phalanx_messages::Instant(1_000_000 + ms);
    timers.observe(&cluster.record, at(0));
    let left_ms = timers.maturity_left_ms(&definition_of(&cluster), at(1_800));
    assert_eq!(left_ms, Some(3_200));
    let status =
        service_statuses(&cluster.record, &cluster.view, &ConfigurationRecord::default(), |_| left_ms).remove(0);
    let reason = "waits for 4 allowable nodes (3 up) or a preferred one, for another 3.2 s at most";
    assert_eq!((status.reason.as_deref(), status.maturity_ms), (Some(reason), Some(3_200)));
    assert!(timers.observe(&cluster.record, at(4_999)).is_empty());
    let over = timers.observe(&cluster.record, at(5_000));
    cluster.decide(&over);
    assert_eq!(cluster.at("s").0, RunState::Starting, "(b) the time is over");
}

fn definition_of(cluster: &Cluster) -> ServiceDefinition {
    cluster.record.services["s"].definition.clone()
}

#[test]
fn an_explanation_names_the_factor_and_every_candidate() {
    let configuration = configuration();
    let factor = |cluster: &Cluster| {
        let explained = explained(cluster, &configuration, "s", &Flaps::default()).unwrap();
        let verdicts: Vec<String> = explained.candidates.into_iter().map(|candidate| candidate.verdict).collect();
        (explained.factor, verdicts)
    };
    let expect = |factor: &str, verdicts: [&str; 3]| (factor.to_owned(), verdicts.map(str::to_owned).to_vec());
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    assert_eq!(factor(&cluster), expect("load", ["here", "candidate", "candidate"]));
    cluster
        .apply(ServiceDefinition { node_preferences: NodePreferences::Ordered(vec![NodeId(1)]), ..definition("s") })
        .unwrap();
    assert_eq!(factor(&cluster).0, "stays");
    cluster.of_service("s", ServiceOrder::Transfer { to: Some(NodeId(1)) }).unwrap();
    cluster.succeeds("s");
    assert_eq!(factor(&cluster).0, "transfer-target");
    cluster.succeeds("s");
    assert_eq!(factor(&cluster), expect("ordered-preference", ["candidate", "here", "candidate"]));
    let unordered = NodePreferences::Unordered(vec![NodeId(1)]);
    let narrow =
        ServiceDefinition { node_preferences: unordered, disallowable_nodes: vec![NodeId(0)], ..definition("s") };
    cluster.apply(narrow).unwrap();
    assert_eq!(factor(&cluster), expect("unordered-preference", ["disallowed", "here", "candidate"]));
    cluster.standby(2, true);
    assert_eq!(factor(&cluster), expect("only-candidate", ["disallowed", "here", "standby"]));
    cluster.of_service("s", ServiceOrder::Deregister).unwrap();
    cluster.succeeds("s");
    assert_eq!(factor(&cluster).0, "not-wanted");
    assert!(explained(&cluster, &configuration, "t", &Flaps::default()).is_none());
}

fn explained(
    cluster: &Cluster,
    configuration: &ConfigurationRecord,
    service: &str,
    flaps: &Flaps,
) -> Option<ServiceExplanation> {
    let waits = Waits { maturity_ms: None, flaps };
    explain(&cluster.record, service, &cluster.view, configuration, &NodeLoads::default(), waits)
}

/// Issue 7: "flap protection of free transfers and of nodes".
#[test]
fn a_free_transfer_waits_longer_for_a_node_that_dies_again_and_again() {
    let mut cluster = Cluster::of([ServiceDefinition {
        node_preferences: NodePreferences::Ordered(vec![NodeId(0)]),
        transfer_cost: TransferCost::Free,
        stable_ms: 60_000,
        ..definition("s")
    }]);
    cluster.succeeds("s");
    let mut timers = Timers::new(TimerLimits { kill_ms: 1, margin_ms: 1, backoff_ms: 1 });
    let second = |seconds: u64| phalanx_messages::Instant(1_000_000 + seconds * 1_000);
    for death in 0..3 {
        timers.observe(&cluster.record, second(death));
        cluster.sight(0, Presence::Forced);
        timers.observe(&cluster.record, second(death));
        if death == 0 {
            cluster.succeeds("s"); // recovered
            cluster.succeeds("s"); // started
        }
        cluster.sight(0, Presence::Joined);
    }
    assert_eq!(cluster.at("s"), (RunState::Registered, 1));
    let stable = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Stable { .. }));
    assert!(!stable(&timers.observe(&cluster.record, second(10))), "up from now on");
    let because = explained(&cluster, &configuration(), "s", timers.flaps()).unwrap().candidates[0].reason.clone();
    let text = "it can take the service; number 1 of node_preferences.ordered; it has died 3 times within an hour, so nothing \
                moves to it freely before it has been up for 240 s";
    assert_eq!(because, text);
    assert!(!stable(&timers.observe(&cluster.record, second(10 + 239))));
    let mut forgiven = timers.clone();
    forgiven.forgive(NodeId(0));
    assert!(stable(&forgiven.observe(&cluster.record, second(10 + 239))), "by an administrator's word");
    let events = timers.observe(&cluster.record, second(10 + 240));
    assert!(stable(&events));
    cluster.decide(&events);
    assert_eq!(cluster.at("s"), (RunState::Stopping, 1));
}

fn configuration() -> ConfigurationRecord {
    let node = |id: u16| {
        let node = NodeConfiguration::new(format!("n{id}"), "");
        (NodeId(id), node)
    };
    ConfigurationRecord { nodes: (0..3).map(node).collect(), ..Default::default() }
}
