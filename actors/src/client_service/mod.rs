//! One client service on this node: runs the commands that registration-and-launch has committed (spec, "4. Action Functions";
//! protocol RL-4, RL-5).
//!
//! Nothing is begun unless the gate is open. The warden runs the commands and remembers them for the life of the incarnation, so
//! a panic here is survived: the owner of the decisions sends again, and the warden repeats the result.

mod environment;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, WardenRequest};
use phalanx_messages::registration::{Command, CommandKind, OperationResult, Order};
use phalanx_messages::service::{Invocation, ServiceCommand, ServiceDefinition};
use phalanx_messages::{OperationId, Revision};
use phalanx_protocol::registration::{Executor, ExecutorInput, ExecutorOutput, refused};

pub use environment::{CommandSurroundings, fencing_token};

use crate::gate::Gate;
use crate::ports::InjectPanic;
use crate::restart::Restarts;

/// A result that nobody has consumed is told again this often.
const REPEAT: Duration = Duration::from_secs(1);

/// Sent by registration-and-launch: carry this out. It was committed, and it is for this incarnation.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Perform {
    /// What to do.
    pub order: Order,
    /// Name of the node whose loss is recovered.
    pub victim: Option<String>,
}

/// Sent by registration-and-launch when it has seen a newer database.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct DatabaseSeen {
    /// Its revision.
    pub revision: Revision,
    /// Results that it waits for.
    pub awaited: BTreeSet<(CommandKind, OperationId)>,
}

/// Sent by a client service to registration-and-launch: tell the owner of the decisions. Repeated until consumed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Reported(pub OperationResult);

/// What a client service is given.
#[derive(Debug, Clone)]
pub struct ClientServiceSettings {
    /// What its commands are told.
    pub surroundings: CommandSurroundings,
    /// A kill gives up after this long (`T_kill`).
    pub kill_ms: u64,
    /// Asked before anything is begun or reported.
    pub gate: Gate,
    /// Bears its panics.
    pub restarts: Restarts,
    /// Runs the commands.
    pub warden: Recipient<WardenRequest>,
    /// Hears of results.
    pub reported: Recipient<Reported>,
}

/// See the module.
pub struct ClientService {
    settings: ClientServiceSettings,
    executor: Executor,
}

impl ClientService {
    /// A service that has run nothing on this node yet.
    #[must_use]
    pub fn new(settings: ClientServiceSettings) -> Self {
        Self { settings, executor: Executor::default() }
    }

    fn step(&mut self, input: ExecutorInput, victim: Option<String>, ctx: &mut Context<Self>) {
        let executor = &mut self.executor;
        let Some(outputs) = self.settings.restarts.run(|| executor.step(input)) else {
            self.executor = Executor::default();
            return;
        };
        for output in outputs {
            match output {
                ExecutorOutput::Run(order) => self.launch(*order, victim.as_deref(), ctx),
                // A node without lease says nothing; it will be asked, or says it again.
                ExecutorOutput::Report(result) if self.settings.gate.is_open() => {
                    self.settings.reported.do_send(Reported(result));
                }
                ExecutorOutput::Report(_) => {}
            }
        }
    }

    fn launch(&mut self, order: Order, victim: Option<&str>, ctx: &mut Context<Self>) {
        let Command { instance, operation, kind, .. } = order.command.clone();
        let service = instance.service.clone();
        let Some(request) = self.request(&order, victim) else {
            let result = refused(&order, "the service has no such command".to_owned());
            return self.step(ExecutorInput::Finished(result), None, ctx);
        };
        tracing::info!(service, ?kind, %operation, "running a command of a service");
        let answer = self.settings.warden.send(request);
        ctx.spawn(answer.into_actor(self).map(move |answer, actor, ctx| {
            let outcome = answer.unwrap_or_else(|closed| LaunchResult::Failed { text: closed.to_string() });
            tracing::info!(service, ?kind, %operation, ?outcome, "a command of a service has ended");
            let result = OperationResult { instance, operation, kind, outcome };
            actor.step(ExecutorInput::Finished(result), None, ctx);
        }));
    }

    fn request(&self, order: &Order, victim: Option<&str>) -> Option<WardenRequest> {
        let Order { command, definition } = order;
        let owner = Owner::Service(command.instance.lane());
        let Some(action) = action_of(command.kind) else {
            let timeout_ms = self.settings.kill_ms;
            return Some(WardenRequest::Kill { owner, operation: Some(command.operation), timeout_ms });
        };
        let run = command_of(definition, action)?;
        let cleans = definition.leaves == Leaves::State && action != Action::Notify;
        let clean_up = definition.stop_command.as_ref().filter(|_| cleans).and_then(|stop| text_of(&stop.run));
        Some(WardenRequest::Launch(LaunchRequest {
            owner,
            operation: Some(command.operation),
            action,
            command: text_of(&run.run)?,
            environment: environment::environment(&self.settings.surroundings, order, action, victim),
            timeout_ms: run.timeout_ms,
            leaves: definition.leaves,
            clean_up,
        }))
    }
}

fn text_of(run: &Invocation) -> Option<String> {
    match run {
        Invocation::Shell(command) => Some(command.clone()),
        Invocation::Arguments(_) | Invocation::Agent => None,
    }
}

/// `None` = no command runs: it is a kill.
const fn action_of(kind: CommandKind) -> Option<Action> {
    match kind {
        CommandKind::Start => Some(Action::Start),
        CommandKind::Stop => Some(Action::Stop),
        CommandKind::Recovery => Some(Action::Recovery),
        CommandKind::Notify => Some(Action::Notify),
        CommandKind::Kill => None,
    }
}

const fn command_of(definition: &ServiceDefinition, action: Action) -> Option<&ServiceCommand> {
    match action {
        Action::Start => definition.start_command.as_ref(),
        Action::Stop => definition.stop_command.as_ref(),
        Action::Notify => definition.notify_command.as_ref(),
        Action::Recovery => definition.recovery_command.as_ref(),
        Action::Transition | Action::Event => None,
    }
}

impl Actor for ClientService {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(REPEAT, |actor, ctx| {
            if ctx.connected() {
                actor.step(ExecutorInput::Repeat, None, ctx);
            } else {
                ctx.stop(); // its definition was removed; the interval alone would keep it for ever
            }
        });
    }
}

impl Handler<Perform> for ClientService {
    type Result = ();

    fn handle(&mut self, Perform { order, victim }: Perform, ctx: &mut Self::Context) {
        // Not taken at all: it will be sent again while it is wanted.
        if self.settings.gate.is_open() {
            self.step(ExecutorInput::Ordered(Box::new(order)), victim, ctx);
        }
    }
}

impl Handler<DatabaseSeen> for ClientService {
    type Result = ();

    fn handle(&mut self, DatabaseSeen { revision, awaited }: DatabaseSeen, ctx: &mut Self::Context) {
        self.step(ExecutorInput::Database { revision, awaited }, None, ctx);
    }
}

impl Handler<InjectPanic> for ClientService {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        if self.settings.restarts.run(|| panic!("injected")).is_none() {
            self.executor = Executor::default();
        }
    }
}
