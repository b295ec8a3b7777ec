//! Spec, Tables 2 and 3 (protocol §6.4), row by row, as `status` shows them ([`crate::printed`]).

use phalanx_messages::admin::ServiceStatus;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{
    CommandKind, Instance, OperationResult, Presence, RegistrationRecord, RunState, ServiceRecord, ServiceRun, Sight,
    View,
};
use phalanx_messages::service::{AllowableNodes, NodePreferences, ServiceCommand, ServiceDefinition, TransferCost};
use phalanx_messages::{NodeId, NodeIncarnation, Term};
use phalanx_protocol::registration::{Change, Decision, Event, service_statuses, settle};

use crate::printed::{Row, TABLE_2, TABLE_3, cells};

fn definition() -> ServiceDefinition {
    let command = |command: &str| Some(ServiceCommand::shell(command.to_owned(), 1_000));
    ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        ..ServiceDefinition::new("service")
    }
}

/// A table in the making.
struct Table {
    record: RegistrationRecord,
    view: View,
    /// One line a row, `summary|flags|N0|N1|N2`; true = a decision has only passed it.
    rows: Vec<(String, bool)>,
    /// Table 3 prints `-` for a node that is up, and no I.
    like_table_3: bool,
}

impl Table {
    fn new(definition: ServiceDefinition, like_table_3: bool) -> Self {
        let mut record = RegistrationRecord::of_definitions([definition]);
        record.services.get_mut("service").expect("it was put there").run.want = true;
        record.formation = Term(1);
        let view = View { formation: Term(1), ..View::default() };
        let mut table = Self { record, view, rows: Vec::new(), like_table_3 };
        table.row();
        table
    }

    fn run(&self) -> &ServiceRun {
        &self.record.services["service"].run
    }

    fn status(&self, run: &ServiceRun) -> ServiceStatus {
        let entry = |node: u16| {
            let entry = NodeConfiguration::new(format!("n{node}"), "");
            (NodeId(node), entry)
        };
        let configuration = ConfigurationRecord { nodes: (0..3).map(entry).collect(), ..Default::default() };
        let definition = self.record.services["service"].definition.clone();
        let services = [("service".to_owned(), ServiceRecord::new(definition, run.clone()))].into_iter().collect();
        let record = RegistrationRecord { services, ..self.record.clone() };
        service_statuses(&record, &self.view, &configuration, |_| None).remove(0)
    }

    fn line(&self, run: &ServiceRun) -> String {
        let notified = run.notifying.iter().map(|node| format!("n{node}")).collect();
        cells(&self.status(run), &notified, self.like_table_3)
    }

    fn row(&mut self) {
        let line = self.line(&self.run().clone());
        self.rows.push((line, false));
    }

    /// A decision; a state that it only passes is a row of its own.
    fn decide(&mut self, events: &[Event]) {
        let base = self.record.clone();
        let view = self.view.clone();
        let mut decision = Decision::new(&base, &view);
        events.iter().for_each(|event| decision.absorb(event));
        let decided = decision.settle();
        let (again, commands) = settle(&decided.record, &self.view);
        assert_eq!((again, commands), (decided.record.clone(), Vec::new()), "settling again changes nothing");
        self.record = decided.record;
        for Change { run, .. } in decided.changes.iter().rev().skip(1).rev() {
            let line = self.line(run);
            self.rows.push((line, true));
        }
        self.row();
    }

    fn assert_is(&self, printed: &[Row]) {
        let printed: Vec<_> = printed.iter().map(|row| (row.event, row.cells.to_owned(), row.passed)).collect();
        let events = printed.iter().map(|(event, ..)| *event).chain(std::iter::repeat("nothing more"));
        let shown: Vec<_> =
            events.zip(&self.rows).map(|(event, (line, passed))| (event, line.clone(), *passed)).collect();
        assert_eq!(shown, printed);
    }

    fn sight(&mut self, node: u16, presence: Presence) {
        let known = self.view.incarnation(NodeId(node));
        let incarnation = if presence == Presence::Joined { known.next() } else { known };
        self.view.nodes.insert(NodeId(node), Sight { incarnation, presence });
        self.decide(&[]);
    }

    fn boots(&mut self, node: u16) {
        self.sight(node, Presence::Joined);
    }

    fn leaves(&mut self, node: u16) {
        self.sight(node, Presence::Leaving);
    }

    fn left(&mut self, node: u16) {
        self.sight(node, Presence::Left);
    }

    fn completes(&mut self, kind: CommandKind) {
        let run = self.run().clone();
        let result = OperationResult {
            instance: Instance::only("service"),
            operation: run.operation,
            kind,
            outcome: LaunchResult::Succeeded,
        };
        self.decide(&[Event::Finished { from: run.node, result }]);
    }

    /// The running notify commands end; not a row of the tables.
    fn notifications_end(&mut self) {
        let run = self.run().clone();
        let end = |node: NodeId| {
            let from = NodeIncarnation { node, incarnation: self.view.incarnation(node) };
            let result = OperationResult {
                instance: Instance::only("service"),
                operation: run.generation,
                kind: CommandKind::Notify,
                outcome: LaunchResult::Succeeded,
            };
            Event::Finished { from, result }
        };
        let events: Vec<Event> = run.notifying.iter().map(end).collect();
        self.decide(&events);
        self.rows.pop();
    }
}

#[test]
fn table_2() {
    let listed = AllowableNodes::Listed(vec![NodeId(0), NodeId(1)]);
    let definition = ServiceDefinition {
        allowable_nodes: listed,
        maturity_count: Some(2),
        maturity_time_ms: Some(300_000),
        ..definition()
    };
    let mut table = Table::new(definition, false);
    table.boots(2);
    table.boots(0);
    table.decide(&[Event::Matured { service: "service".to_owned() }]);
    table.completes(CommandKind::Start);
    table.boots(1);
    table.leaves(2);
    table.rows.pop();
    table.left(2);
    table.leaves(0);
    table.completes(CommandKind::Stop); // t8 and t9
    table.completes(CommandKind::Start);
    table.left(0);
    table.leaves(1);
    table.completes(CommandKind::Stop);
    table.assert_is(&TABLE_2);
}

#[test]
fn table_3() {
    let definition = ServiceDefinition {
        node_preferences: NodePreferences::Ordered(vec![NodeId(0)]),
        maturity_count: Some(2),
        maturity_time_ms: Some(300_000), // never elapses here
        transfer_cost: TransferCost::Free,
        notify_command: Some(ServiceCommand::shell("notify".to_owned(), 1_000)),
        ..definition()
    };
    let mut table = Table::new(definition, true);
    table.boots(0);
    table.completes(CommandKind::Start);
    table.boots(1);
    table.notifications_end();
    let begin = table.rows.len();
    table.leaves(0); // t4 to t7; only the last row is printed
    table.completes(CommandKind::Stop);
    table.completes(CommandKind::Start);
    table.left(0);
    let hidden: Vec<String> = table.rows.drain(begin..table.rows.len() - 1).map(|(line, _)| line).collect();
    let expected = [
        "Stopping|N,T|Stopping|-|down",
        "-|N,T|-|-|down",
        "Starting|N,T|-|Starting|down",
        "Registered|N|-|Registered|down",
    ];
    assert_eq!(hidden, expected);
    table.boots(2);
    table.notifications_end();
    table.boots(0);
    table.notifications_end();
    let node = NodeIncarnation { node: NodeId(0), incarnation: table.view.incarnation(NodeId(0)) };
    table.decide(&[Event::Stable { service: "service".to_owned(), node }]);
    table.completes(CommandKind::Stop);
    table.completes(CommandKind::Start);
    table.assert_is(&TABLE_3);
    table.notifications_end();
    assert!(!table.run().transfer_intent, "T ends with the notifications");
}

/// Choosing a node again after a loss does not wait for maturity a second time.
#[test]
fn a_fail_over_does_not_wait_for_maturity() {
    let mut table = Table::new(ServiceDefinition { maturity_count: Some(2), ..definition() }, false);
    table.boots(0);
    table.boots(1);
    table.completes(CommandKind::Start);
    table.sight(0, Presence::Forced);
    let run = table.run();
    assert_eq!((run.state, run.node.node, run.victim.unwrap().node), (RunState::Recovering, NodeId(1), NodeId(0)));
    table.completes(CommandKind::Recovery);
    assert_eq!((table.run().state, table.run().node.node), (RunState::Starting, NodeId(1)));
}

/// Unordered preferences: the primary is available once all of them are up.
#[test]
fn all_of_unordered_preferences_make_the_primary() {
    let preferences = NodePreferences::Unordered(vec![NodeId(0), NodeId(1)]);
    let definition = ServiceDefinition { node_preferences: preferences, maturity_count: Some(3), ..definition() };
    let mut table = Table::new(definition, false);
    for node in [2, 0] {
        table.boots(node);
        assert_eq!(table.run().state, RunState::AwaitMaturity);
    }
    table.sight(2, Presence::Forced);
    table.boots(1);
    assert_eq!(table.run().state, RunState::Starting);
}
