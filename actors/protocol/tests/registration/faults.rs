//! Rows 46 to 51 and 61 of the fault table (protocol §8.5), as far as the rules answer for them.

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{Command, CommandKind, Order, Presence, RunState};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{NodeId, Term};
use phalanx_protocol::registration::{
    Admission, Event, Executor, ExecutorInput, ExecutorOutput, effective, outstanding, victims_of_failure,
};

use crate::cluster::{Cluster, definition, instance};

fn order(cluster: &Cluster, command: &Command) -> Box<Order> {
    let definition = effective(&cluster.record.services, &command.instance.service).expect("it is defined");
    Box::new(Order { command: command.clone(), definition })
}

fn runs(outputs: &[ExecutorOutput]) -> usize {
    outputs.iter().filter(|output| matches!(output, ExecutorOutput::Run(_))).count()
}

/// The next decision maker knows nothing but the database: it sends the same operation, and the executor runs it once.
#[test]
fn fault_46_the_next_decision_maker_repeats_the_operation_and_it_runs_once() {
    let cluster = Cluster::of([definition("s")]);
    let sent = cluster.commands.clone();
    assert_eq!(sent.len(), 1);
    let repeated = outstanding(&cluster.record);
    assert_eq!(repeated, sent, "the same operation");
    let mut executor = Executor::default();
    assert_eq!(runs(&executor.step(ExecutorInput::Ordered(order(&cluster, &sent[0])))), 1);
    assert_eq!(runs(&executor.step(ExecutorInput::Ordered(order(&cluster, &repeated[0])))), 0);
    // The second decision maker has a higher depoch; the dead one is not listened to any more.
    let mut admission = Admission::new(sent[0].target);
    admission.accept(true);
    assert!(admission.admit(Term(2), &repeated[0]) && !admission.admit(Term(1), &sent[0]));
}

/// Also after the kill has ended and the service has started elsewhere.
#[test]
fn fault_47_a_start_that_arrives_after_its_cancellation_is_refused_by_its_order() {
    let mut cluster = Cluster::of([definition("s")]);
    let late = cluster.commands[0].clone();
    let operation = cluster.run("s").operation;
    cluster.decide(&[Event::TimedOut { instance: instance("s"), operation }]);
    let kill = cluster.commands[0].clone();
    assert_eq!((kill.kind, kill.target), (CommandKind::Kill, late.target));
    let mut executor = Executor::default();
    assert_eq!(runs(&executor.step(ExecutorInput::Ordered(order(&cluster, &kill)))), 1);
    assert_eq!(runs(&executor.step(ExecutorInput::Ordered(order(&cluster, &late)))), 0, "the kill was newer");
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Starting, 1));
    assert_eq!(runs(&executor.step(ExecutorInput::Ordered(order(&cluster, &late)))), 0);
}

/// Killed, not gone, so the node goes; the service starts elsewhere only then.
#[test]
fn fault_49_a_service_that_cannot_be_stopped_or_killed_costs_its_node() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    cluster.of_service("s", ServiceOrder::Transfer { to: Some(NodeId(1)) }).unwrap();
    cluster.fails("s");
    assert_eq!(cluster.at("s"), (RunState::StopKill, 0));
    cluster.fails("s");
    assert_eq!(cluster.at("s"), (RunState::FenceStop, 0));
    let victims = victims_of_failure(&cluster.record);
    let victims: Vec<u16> = victims.iter().map(|(victim, _)| victim.node.0).collect();
    assert_eq!(victims, [0]);
    assert!(cluster.commands.is_empty(), "nothing is started while it may run");
    cluster.sight(0, Presence::Forced);
    assert_eq!(cluster.at("s").0, RunState::Recovering);
    assert_eq!(victims_of_failure(&cluster.record).len(), 0);
}

/// Once more, elsewhere, for the same victim.
#[test]
fn fault_51_a_recovery_whose_node_dies_is_run_elsewhere_for_the_same_victim() {
    let mut cluster = Cluster::of([definition("s")]);
    cluster.succeeds("s");
    cluster.sight(0, Presence::Forced);
    let (first, victim) = (cluster.at("s").1, cluster.run("s").victim);
    assert_eq!(cluster.commands[0].kind, CommandKind::Recovery);
    cluster.sight(first, Presence::Forced);
    let second = cluster.at("s");
    assert_eq!((second.0, cluster.run("s").victim), (RunState::Recovering, victim));
    assert!(second.1 != first && second.1 != 0);
    assert_eq!(cluster.commands[0].victim, victim);
    cluster.succeeds("s");
    assert_eq!(cluster.at("s"), (RunState::Starting, second.1));
}

/// The definition is refused with the numbers; what runs is neither stopped nor changed.
#[test]
fn fault_61_a_full_database_refuses_the_definition_and_harms_nothing_that_runs() {
    let mut cluster = Cluster::of([definition("s"), definition("t")]);
    cluster.succeeds("s");
    let before = (cluster.run("s").clone(), cluster.run("t").clone(), cluster.record.services.len());
    let new = |index: usize| phalanx_messages::order::DefinitionChange {
        before: None,
        after: ServiceDefinition::new(format!("x{index}")),
    };
    let refused = cluster.order(RegistrationOrder::Apply((0..19).map(new).collect())).unwrap_err();
    assert!(matches!(refused, OrderRefusal::DatabaseFull { services: 21, services_max: 20, .. }), "{refused:?}");
    let after = (cluster.run("s").clone(), cluster.run("t").clone(), cluster.record.services.len());
    assert_eq!(after, before);
    assert!(cluster.commands.is_empty());
    cluster.ends("t", LaunchResult::Succeeded);
    assert_eq!(cluster.at("t").0, RunState::Registered, "what was under way goes on");
}
