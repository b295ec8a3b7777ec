//! How long the rules take to place many services on many nodes, and to take in one change of one of them.
//!
//! The floor of both is the copy of a database that every decision begins with.

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{
    CommandKind, Instance, OperationResult, Presence, RegistrationRecord, Sight, View,
};
use phalanx_messages::service::{AllowableNodes, NodePreferences, ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, Term};
use phalanx_protocol::registration::{Decided, Decision, Event};

use super::{Aim, Row, Spread, Stage, now_ns};

const SERVICES: u32 = 10_000;
const NODES: u16 = 64;
/// Planning all of them from nothing (architecture §9), and one change.
const ALL_US: f64 = 100_000.0;
const ONE_US: f64 = 1_000.0;

fn definition(index: u32) -> ServiceDefinition {
    let node = |offset: u32| NodeId(u16::try_from((index + offset) % u32::from(NODES)).unwrap_or_default());
    let command = |text: &str| Some(ServiceCommand::shell(text, 10_000));
    ServiceDefinition {
        allowable_nodes: if index.is_multiple_of(3) {
            AllowableNodes::Any
        } else {
            AllowableNodes::Listed((0..8).map(node).collect())
        },
        node_preferences: match index % 4 {
            0 => NodePreferences::Ordered((0..3).map(node).collect()),
            1 => NodePreferences::Unordered((0..3).map(node).collect()),
            _ => NodePreferences::None,
        },
        start_command: command("/usr/bin/service start"),
        stop_command: command("/usr/bin/service stop"),
        ..ServiceDefinition::new(format!("service-{index:05}"))
    }
}

fn one_change(placed: &Decided, view: &View, which: u32) -> (u64, Decided) {
    let name = format!("service-{which:05}");
    let run = &placed.record.services[&name].run;
    let result = OperationResult {
        instance: Instance::only(name),
        operation: run.operation,
        kind: CommandKind::Start,
        outcome: LaunchResult::Succeeded,
    };
    let event = Event::Finished { from: run.node, result };
    let begun_ns = now_ns();
    let mut decision = Decision::with_index(&placed.record, view, placed.index.clone()).only_what_changes();
    decision.absorb(&event);
    let decided = decision.settle();
    (now_ns() - begun_ns, decided)
}

/// Both figures, as often as asked for.
///
/// # Errors
/// If a rule left a service without a node.
pub fn run(stage: &Stage) -> anyhow::Result<()> {
    stage.progress(format!("{SERVICES} services on {NODES} nodes"));
    let sight = |node| (NodeId(node), Sight { incarnation: Incarnation(1), presence: Presence::Joined });
    let view = View { formation: Term(1), nodes: (0..NODES).map(sight).collect() };
    let record = RegistrationRecord::of_definitions((0..SERVICES).map(definition));
    let (mut all, mut one, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    let mut which = 0;
    for _ in 0..stage.options.runs {
        let begun_ns = now_ns();
        let placed = Decision::new(&record, &view).settle();
        all.push(now_ns() - begun_ns);
        anyhow::ensure!(placed.commands.len() == SERVICES as usize, "{} starts", placed.commands.len());
        for _ in 0..10 {
            let (change_ns, changed) = one_change(&placed, &view, which % SERVICES);
            anyhow::ensure!(changed.changed, "the change was taken in");
            one.push(change_ns);
            which += 997;
        }
        let begun_ns = now_ns();
        let copies: Vec<ServiceDefinition> =
            record.services.values().map(|service| service.definition.clone()).collect();
        floors.push(now_ns() - begun_ns);
        drop(copies);
        if stage.is_over() {
            break;
        }
    }
    let floor = Spread::of_ns(&floors);
    let rows =
        [("10,000 services on 64 nodes from nothing", all, ALL_US), ("one change of 10,000 services", one, ONE_US)];
    for (what, values, most) in rows {
        if let (Some(spread), Some(floor)) = (Spread::of_ns(&values), floor) {
            stage.report(Row::new(what, "us", spread).floor("one copy of all definitions", floor).aim(Aim::Most(most)));
        }
    }
    Ok(())
}
