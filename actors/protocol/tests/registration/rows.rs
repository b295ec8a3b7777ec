//! Protocol §6.3 as one printed table: which row applies to every state in every situation, and what it waits for where none does.

use std::fmt::Write as _;

use phalanx_messages::registration::{Presence, RegistrationRecord, RunState, ServiceRun, Sight, View};
use phalanx_messages::service::{PlacementPolicy, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, OperationId, Revision, Term};
use phalanx_protocol::registration::{awaits, settle};

use crate::cluster::definition;

const SITUATIONS: [&str; 11] = [
    "as it should be",
    "not wanted",
    "held",
    "its node leaves",
    "its node is lost",
    "its node is on standby",
    "it has failed",
    "it moves to n1",
    "its target is gone",
    "nobody is up",
    "it was tried everywhere",
];

fn at(node: u16) -> NodeIncarnation {
    NodeIncarnation { node: NodeId(node), incarnation: Incarnation(1) }
}

fn view(situation: &str) -> View {
    let presence = |node: u16| match (situation, node) {
        ("its node leaves", 0) => Presence::Leaving,
        ("its node is lost", 0) => Presence::Forced,
        ("its target is gone", 1) | ("nobody is up", 1 | 2) => Presence::Left,
        ("nobody is up", 0) => Presence::Leaving,
        _ => Presence::Joined,
    };
    let sight = |node| (NodeId(node), Sight { incarnation: Incarnation(1), presence: presence(node) });
    View { formation: Term(1), nodes: (0..3).map(sight).collect() }
}

fn run(state: RunState, situation: &str) -> ServiceRun {
    let operation = OperationId { revision: Revision { term: Term(1), seq: 1 }, index: 0 };
    let everywhere = (0..3).map(NodeId).collect();
    let recovers = matches!(
        state,
        RunState::PendRecovery
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceRecovery
            | RunState::FailedRecovery
    );
    let tried = situation == "it was tried everywhere" || state == RunState::Failed;
    let moves = matches!(situation, "it moves to n1" | "its target is gone") && state == RunState::Registered;
    ServiceRun {
        state,
        node: at(0),
        operation,
        generation: operation,
        want: situation != "not wanted",
        held: situation == "held" || state == RunState::FailedRecovery,
        failing: situation == "it has failed",
        matured: state != RunState::AwaitMaturity,
        victim: recovers.then(|| at(9)),
        tried: if tried { everywhere } else { Default::default() },
        tried_recovery: if situation == "it was tried everywhere" { everywhere } else { Default::default() },
        moving: moves,
        transfer_intent: moves,
        target: moves.then_some(NodeId(1)),
        ..ServiceRun::default()
    }
}

/// The service, alone, as a child of a registered parent, or as the instance of n0.
fn table(kind: &str) -> String {
    let mut text = format!("{kind}\n");
    for state in RunState::ALL {
        writeln!(text, "  {state:?}").expect("a text takes everything");
        for situation in SITUATIONS {
            let mut own = ServiceDefinition { maturity_count: (kind == "alone").then_some(4), ..definition("s") };
            match kind {
                "a child" => own.parent = Some("p".to_owned()),
                "an instance" => own.placement_policy = PlacementPolicy::RegisterOnAll,
                _ => {}
            }
            let mut record =
                RegistrationRecord { formation: Term(1), ..RegistrationRecord::of_definitions([own, definition("p")]) };
            if situation == "its node is on standby" {
                record.standby.insert(NodeId(0));
            }
            let view = view(situation);
            record.view = view.nodes.clone();
            // Only the root of a group moves.
            let moves = matches!(situation, "it moves to n1" | "its target is gone");
            let before = run(state, if kind != "alone" && moves { "as it should be" } else { situation });
            let service = record.services.get_mut("s").expect("it was put there");
            if kind == "an instance" {
                service.run =
                    ServiceRun { want: before.want, held: situation == "held", matured: true, ..ServiceRun::default() };
                service.instances.insert(NodeId(0), before.clone());
            } else {
                service.run = before.clone();
            }
            let parent = run(RunState::Registered, if kind == "a child" { "as it should be" } else { "not wanted" });
            record.services.get_mut("p").expect("it was put there").run =
                if kind == "a child" { parent } else { ServiceRun::default() };
            let (after, commands) = settle(&record, &view);
            let of = (kind == "an instance").then_some(NodeId(0));
            let gone = ServiceRun::default();
            let run = after.services["s"].run_of(of).unwrap_or(&gone);
            let commands: Vec<String> = commands
                .iter()
                .filter(|command| command.instance.service == "s" && command.instance.of == of)
                .map(|command| format!("{:?}(n{})", command.kind, command.target.node))
                .collect();
            let changed = (run.state, run.node, run.transfer_intent) != (state, before.node, before.transfer_intent);
            let what = if changed {
                let place = if run.state.is_idle() { String::new() } else { format!("(n{})", run.node.node) };
                let intent = if run.transfer_intent { " T" } else { "" };
                format!("{:?}{place}{intent} {}", run.state, commands.join(" ")).trim_end().to_owned()
            } else {
                format!("none: waits for {}", awaits(state))
            };
            writeln!(text, "    {situation:<24} {what}").expect("a text takes everything");
        }
    }
    text
}

#[test]
fn every_state_has_a_row_or_a_reason_to_wait() {
    let stored = include_str!("rows.txt");
    let printed: String = ["alone", "a child", "an instance"].map(table).join("\n");
    assert!(printed == stored, "the table is now\n{printed}");
}
