//! The commands of client services: executor, warden, and what the commands really do (`phalanx_actors::client_service`,
//! `phalanx_node::warden`; protocol RL-4, RL-5).

use std::collections::BTreeSet;

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{CommandKind, Instance, OperationResult, Order};
use phalanx_messages::{NodeId, OperationId, Revision};
use phalanx_protocol::launcher::LauncherInput;
use phalanx_protocol::registration::{ExecutorInput, ExecutorOutput};

use super::{Event, World};
use crate::simulation::clock::{MS, Micros, SECOND};
use crate::simulation::invariants as own;

/// One command that a warden runs.
#[derive(Debug, Clone)]
pub(in crate::simulation) struct Running {
    instance: Instance,
    operation: OperationId,
    kind: CommandKind,
}

impl World {
    /// A command for this node. It is not taken without a lease: it will be sent again while it is wanted.
    pub(super) fn perform(&mut self, node: NodeId, order: Order) {
        if self.gate_is_open(node) {
            let service = order.command.instance.lane();
            self.execute(node, &service, ExecutorInput::Ordered(Box::new(order)));
        }
    }

    pub(super) fn database_seen(
        &mut self,
        node: NodeId,
        service: &str,
        revision: Revision,
        awaited: BTreeSet<(CommandKind, OperationId)>,
    ) {
        self.execute(node, service, ExecutorInput::Database { revision, awaited });
    }

    pub(super) fn repeat_reports(&mut self, node: NodeId) {
        let services = self.services(node).map(|services| services.executors.keys().cloned().collect::<Vec<_>>());
        for service in services.unwrap_or_default() {
            self.execute(node, &service, ExecutorInput::Repeat);
        }
    }

    fn gate_is_open(&self, node: NodeId) -> bool {
        self.process(node).is_some_and(|process| process.gate.is_open_for(0, self.clock(node)))
    }

    fn execute(&mut self, node: NodeId, service: &str, input: ExecutorInput) {
        let Some(services) = self.services_mut(node) else { return };
        let outputs = services.executors.entry(service.to_owned()).or_default().step(input);
        for output in outputs {
            match output {
                ExecutorOutput::Run(order) => self.run_command(node, &order),
                ExecutorOutput::Report(result) if self.gate_is_open(node) => {
                    self.tell_launcher(node, LauncherInput::Reported(result));
                }
                ExecutorOutput::Report(_) => {}
            }
        }
    }

    /// The warden refuses an operation that is older than one it has run, repeats the result of the same one, and ends what runs
    /// for a newer one.
    fn run_command(&mut self, node: NodeId, order: &Order) {
        let command = &order.command;
        let lane = command.instance.lane();
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let Some(services) = self.services_mut(node) else { return };
        let known = services.commands.entry(lane.clone()).or_default();
        if command.operation < known.last {
            let found = own::r8_never_an_older_operation::check(&lane, me, command.kind, command.operation, known.last);
            self.broken_all(found);
            let refused = failed(&command.instance, command.operation, command.kind, "older than what has run");
            return self.execute(node, &lane, ExecutorInput::Finished(refused));
        }
        if command.operation == known.last {
            if let Some(result) = known.result.clone() {
                self.execute(node, &lane, ExecutorInput::Finished(result));
            }
            return;
        }
        let aborted = known.running.map(|kind| failed(&command.instance, known.last, kind, "ended for a newer one"));
        (known.last, known.running, known.result) = (command.operation, Some(command.kind), None);
        self.log.event(self.now, Some(node), "runs", &[command.operation.revision.seq], || {
            format!("{:?} of {lane} on {me}", command.kind)
        });
        let found = self.truth.services.command_begins(command);
        self.broken_all(found);
        if let Some(aborted) = aborted {
            self.execute(node, &lane, ExecutorInput::Finished(aborted));
        }
        let takes = self.command_takes();
        let running = Running { instance: command.instance.clone(), operation: command.operation, kind: command.kind };
        if let Some(process) = self.process(node).map(|process| process.id) {
            self.queue.plan(self.now + takes, Event::CommandEnds(node, process, running));
        }
    }

    /// Some hang until their time is over.
    pub(super) fn command_takes(&mut self) -> Micros {
        if self.random.chance(self.setup.weather.command_hangs) {
            return 2 * SECOND;
        }
        self.random.magnitude(MS, self.setup.weather.command_max)
    }

    /// The command ends whether its daemon is stopped or not; the daemon hears of it when it goes on.
    pub(super) fn command_ends(&mut self, node: NodeId, process: u64, running: Running) {
        let Running { instance, operation, kind } = running;
        let lane = instance.lane();
        let Some(me) = self.process(node).filter(|running| running.id == process).map(|process| process.me) else {
            return;
        };
        let hung = self.random.chance(self.setup.weather.command_fails);
        let Some(services) = self.services_mut(node) else { return };
        let Some(known) = services.commands.get_mut(&lane).filter(|known| known.last == operation) else { return };
        if known.running.take().is_none() {
            return;
        }
        let mut result = failed(&instance, operation, kind, "drawn");
        if !hung {
            result.outcome = LaunchResult::Succeeded;
        }
        known.result = Some(result.clone());
        self.truth.services.command_ends(&lane, me, kind, !hung);
        if hung {
            self.coverage.reach(match kind {
                CommandKind::Start => "a start fails",
                CommandKind::Stop => "a stop fails",
                CommandKind::Recovery => "a recovery fails",
                CommandKind::Kill => "a kill fails",
                CommandKind::Notify => "a notification fails",
            });
        }
        self.plan(node, self.now, crate::simulation::process::ProcessEvent::CommandEnded(Box::new(result)));
    }

    pub(super) fn command_ended(&mut self, node: NodeId, result: OperationResult) {
        let lane = result.instance.lane();
        self.execute(node, &lane, ExecutorInput::Finished(result));
    }
}

fn failed(instance: &Instance, operation: OperationId, kind: CommandKind, why: &str) -> OperationResult {
    OperationResult {
        instance: instance.clone(),
        operation,
        kind,
        outcome: LaunchResult::Failed { text: why.to_owned() },
    }
}
