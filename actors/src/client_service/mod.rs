//! One client service on this node: runs the commands that registration-and-launch has committed (spec, "4. Action Functions";
//! protocol RL-4, RL-5).
//!
//! Nothing is begun unless the gate is open. The warden runs the commands and remembers them for the life of the incarnation, so
//! a panic here is survived: the owner of the decisions sends again, and the warden repeats the result.
//!
//! While the service is registered here, its monitor runs and the end of its processes is heard of; a failure is told as anybody
//! may tell it, and decided where everything is.

mod environment;
mod health;
mod invoke;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::admin::MonitorStatus;
use phalanx_messages::launch::WardenRequest;
use phalanx_messages::registration::{Command, CommandKind, Instance, OperationResult, Order};
use phalanx_messages::{OperationId, Revision};
use phalanx_protocol::registration::{Executor, ExecutorInput, ExecutorOutput, Health, refused};

pub use environment::{CommandSurroundings, fencing_token};
pub use health::{Registered, RegisteredHere};
pub(crate) use invoke::monitor_owner;

use crate::gate::Gate;
use crate::ports::{CarryOut, InjectPanic};
use crate::restart::Restarts;
use crate::service_actor::ServiceActors;

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

/// Sent by a client service to registration-and-launch whenever it has changed: what the monitor of an instance that is registered
/// here has found, for whoever shows status. None = it is not registered here any more, or is not monitored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Monitored {
    /// The instance.
    pub instance: Instance,
    /// What was found.
    pub monitor: Option<MonitorStatus>,
}

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
    /// Actors of the application that perform services.
    pub actors: ServiceActors,
    /// Hears of results.
    pub reported: Recipient<Reported>,
    /// Hears what monitors find.
    pub monitored: Recipient<Monitored>,
    /// Takes requests as from an administrator: a failure is one.
    pub orders: Recipient<CarryOut>,
}

/// See the module.
pub struct ClientService {
    settings: ClientServiceSettings,
    executor: Executor,
    /// What is registered here.
    here: Option<Box<RegisteredHere>>,
    health: Health,
    /// What was said last of its monitor, and of which instance.
    shown: Option<(Instance, MonitorStatus)>,
    /// When the health machine needs to look next.
    alarm: Option<SpawnHandle>,
}

impl ClientService {
    /// A service that has run nothing on this node yet.
    #[must_use]
    pub fn new(settings: ClientServiceSettings) -> Self {
        let (executor, health) = (Executor::default(), Health::default());
        Self { settings, executor, here: None, health, shown: None, alarm: None }
    }

    fn step(&mut self, input: ExecutorInput, victim: Option<String>, ctx: &mut Context<Self>) {
        let executor = &mut self.executor;
        let Some(outputs) = self.settings.restarts.run(|| executor.step(input)) else {
            return self.begin_anew(ctx);
        };
        for output in outputs {
            match output {
                ExecutorOutput::Run(order) => self.launch(&order, victim.as_deref(), ctx),
                // A node without lease says nothing; it will be asked, or says it again.
                ExecutorOutput::Report(result) if self.settings.gate.is_open() => {
                    self.settings.reported.do_send(Reported(result));
                }
                ExecutorOutput::Report(_) => {}
            }
        }
    }

    /// After a panic: the machines remember nothing. The owner of the decisions sends again, and what is registered here is known.
    fn begin_anew(&mut self, ctx: &mut Context<Self>) {
        self.executor = Executor::default();
        self.health = Health::default();
        ctx.run_later(REPEAT, |actor, ctx| actor.look_after(true, ctx));
    }

    fn launch(&mut self, order: &Order, victim: Option<&str>, ctx: &mut Context<Self>) {
        let Command { instance, operation, kind, .. } = order.command.clone();
        let service = instance.service.clone();
        let Some(outcome) = self.begin(order, victim) else {
            let result = refused(order, "the service has no such command".to_owned());
            return self.step(ExecutorInput::Finished(result), None, ctx);
        };
        tracing::info!(service, ?kind, %operation, "running a command of a service");
        ctx.spawn(outcome.into_actor(self).map(move |outcome, actor, ctx| {
            tracing::info!(service, ?kind, %operation, ?outcome, "a command of a service has ended");
            let result = OperationResult { instance, operation, kind, outcome };
            actor.step(ExecutorInput::Finished(result), None, ctx);
        }));
    }
}

impl Actor for ClientService {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(REPEAT, |actor, ctx| {
            if ctx.connected() {
                actor.step(ExecutorInput::Repeat, None, ctx);
                actor.look_again(ctx);
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

impl Handler<Registered> for ClientService {
    type Result = ();

    fn handle(&mut self, Registered(here): Registered, ctx: &mut Self::Context) {
        self.registered(here, ctx);
    }
}

impl Handler<InjectPanic> for ClientService {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, ctx: &mut Self::Context) {
        if self.settings.restarts.run(|| panic!("injected")).is_none() {
            self.begin_anew(ctx);
        }
    }
}
