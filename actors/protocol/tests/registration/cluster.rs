//! A database under three nodes that are up, and an administrator at n0: decisions without disk, network and time.

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::{DefinitionChange, OrderRefusal, RegistrationOrder, RegistrationRequest, ServiceOrder};
use phalanx_messages::registration::{
    Command, CommandKind, Instance, OperationResult, Presence, RegistrationRecord, RunState, ServiceRun, Sight, View,
};
use phalanx_messages::service::{ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Term};
use phalanx_protocol::registration::{DatabaseRoom, Decided, Decision, Event, NodeLoads, settle};

pub fn command(text: &str) -> Option<ServiceCommand> {
    Some(ServiceCommand::shell(text.to_owned(), 1_000))
}

pub fn definition(name: &str) -> ServiceDefinition {
    ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        ..ServiceDefinition::new(name)
    }
}

/// A database under three nodes that are up, and an administrator at n0.
pub struct Cluster {
    pub record: RegistrationRecord,
    pub view: View,
    counter: u64,
    pub commands: Vec<Command>,
    pub loads: NodeLoads,
    /// Every state that an instance has gone through.
    pub passed: Vec<(String, RunState, u16)>,
}

impl Cluster {
    pub fn of(definitions: impl IntoIterator<Item = ServiceDefinition>) -> Self {
        let sight = |node| (NodeId(node), Sight { incarnation: Incarnation(1), presence: Presence::Joined });
        let view = View { formation: Term(1), nodes: (0..3).map(sight).collect() };
        let record = RegistrationRecord::of_definitions(definitions);
        let mut cluster =
            Self { record, view, counter: 0, commands: Vec::new(), loads: NodeLoads::default(), passed: Vec::new() };
        cluster.decide(&[]);
        cluster
    }

    pub fn decide(&mut self, events: &[Event]) -> Decided {
        let base = self.record.clone();
        let mut decision = Decision::new(&base, &self.view).within(DatabaseRoom { bytes: 40_000, services: 20 });
        decision = decision.loaded(&self.loads);
        events.iter().for_each(|event| decision.absorb(event));
        let decided = decision.settle();
        self.record = decided.record.clone();
        self.commands = decided.commands.clone();
        if self.loads == NodeLoads::default() {
            let (again, commands) = settle(&self.record, &self.view);
            assert!(
                again == self.record && commands.is_empty(),
                "I-R15: settling again changes something: {commands:?}"
            );
        }
        let passed = decided.changes.iter();
        self.passed.extend(passed.map(|it| (it.instance.lane(), it.run.state, it.run.node.node.0)));
        decided
    }

    pub fn request(&mut self, order: RegistrationOrder) -> RegistrationRequest {
        self.counter += 1;
        let source = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };
        RegistrationRequest { source, counter: self.counter, order }
    }

    pub fn order(&mut self, order: RegistrationOrder) -> Result<(), OrderRefusal> {
        let request = self.request(order);
        self.decide(&[Event::Requested(request)]);
        self.record.requests[&NodeId(0)].answer.clone()
    }

    pub fn of_service(&mut self, service: &str, order: ServiceOrder) -> Result<(), OrderRefusal> {
        self.order(RegistrationOrder::Service { service: service.to_owned(), order })
    }

    pub fn apply(&mut self, after: ServiceDefinition) -> Result<(), OrderRefusal> {
        let before = self.record.services.get(&after.name).map(|record| record.definition.clone());
        self.order(RegistrationOrder::Apply([DefinitionChange { before, after }].into_iter().collect()))
    }

    pub fn standby(&mut self, node: u16, standby: bool) {
        self.order(RegistrationOrder::Standby { node: NodeId(node), standby }).expect("standby is never refused");
    }

    /// A service, or `service@1`: its instance of n1.
    pub fn run(&self, lane: &str) -> &ServiceRun {
        let Instance { service, of } = instance(lane);
        self.record.services[&service].run_of(of).unwrap_or_else(|| panic!("{lane} is there"))
    }

    pub fn at(&self, lane: &str) -> (RunState, u16) {
        (self.run(lane).state, self.run(lane).node.node.0)
    }

    /// The current operation of the service ends.
    pub fn ends(&mut self, lane: &str, outcome: LaunchResult) {
        let run = self.run(lane);
        let kinds = [
            (RunState::Starting, CommandKind::Start),
            (RunState::Stopping, CommandKind::Stop),
            (RunState::Recovering, CommandKind::Recovery),
        ];
        let kind = kinds.iter().find(|(state, _)| *state == run.state).map_or(CommandKind::Kill, |(_, kind)| *kind);
        let result = OperationResult { instance: instance(lane), operation: run.operation, kind, outcome };
        let from = run.node;
        self.decide(&[Event::Finished { from, result }]);
    }

    pub fn succeeds(&mut self, lane: &str) {
        self.ends(lane, LaunchResult::Succeeded);
    }

    pub fn fails(&mut self, lane: &str) {
        self.ends(lane, LaunchResult::Failed { text: "no".to_owned() });
    }

    /// A monitor says that the present registration has failed.
    pub fn reported_failed(&mut self, service: &str) -> Result<(), OrderRefusal> {
        let generation = self.run(service).generation.revision;
        let order = ServiceOrder::Failed { generation, node: None, text: "bad".to_owned() };
        self.of_service(service, order)
    }

    /// What has been passed since the last call, one line.
    pub fn story(&mut self) -> String {
        let told = std::mem::take(&mut self.passed);
        let told: Vec<String> = told.iter().map(|(lane, state, node)| format!("{lane}:{state:?}@{node}")).collect();
        told.join(" ")
    }

    pub fn sight(&mut self, node: u16, presence: Presence) {
        let incarnation = self.view.incarnation(NodeId(node));
        let incarnation = if presence == Presence::Joined { incarnation.next() } else { incarnation };
        self.view.nodes.insert(NodeId(node), Sight { incarnation, presence });
        self.decide(&[]);
    }
}

/// `service` or `service@1`.
pub fn instance(lane: &str) -> Instance {
    match lane.split_once('@') {
        Some((service, node)) => Instance { service: service.to_owned(), of: node.parse().ok().map(NodeId) },
        None => Instance::only(lane),
    }
}
