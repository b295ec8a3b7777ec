//! The event manager daemon of this node (spec, "5. Event Manager Daemon", Fig. 21): the centre of control between watchers and
//! action functions.
//!
//! What is watched and what is done is decided by [`phalanx_protocol::events::EventDesk`]; this actor starts and stops one
//! [`Watcher`] for each event that is enabled here, and has the warden run action functions. Registration-and-launch is never told
//! anything. A panic here or in a watcher is recorded and costs the node nothing: it begins anew with the newest database.

mod action;
mod answers;
mod external;
mod report;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::event::EventDefinition;
use phalanx_messages::event_report::OccurrenceReport;
use phalanx_messages::launch::{LaunchResult, Owner, WardenRequest};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_protocol::events::{DeskInput, DeskOutput, EventDesk, Run, RunId, WatchId};
use phalanx_protocol::moment::Moment;
use tokio::sync::{broadcast, oneshot, watch};

pub(crate) use action::launch;
pub use answers::{GetEvents, GetOccurrences, TestEvent};
pub use external::{ExternalWatch, ProvideNoMore, ProvideWatcher};
pub use ring::OccurrenceRing;

use crate::client_service::CommandSurroundings;
use crate::clock::{Clock, wall_now_ms};
use crate::gate::Gate;
use crate::ports::{ConfigurationChanged, DatabaseCommitted, InjectPanic};
use crate::restart::Restarts;
use crate::watchers::{Detected, EndWatch, NoWatch, Surroundings, WatchFailed, Watcher, health_of};

/// How long it may take to look at the gate again while an occurrence waits for it.
const GATE_LOOK: Duration = Duration::from_millis(100);
/// Changes of the level that a membership watcher may be behind.
const LEVELS_BEHIND_MAX: usize = 256;

/// Sent by the event manager: its level was notified. Nothing is answered.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct LevelHeard(pub Arc<SubsystemNotification>);

/// What this actor is given.
#[derive(Debug, Clone)]
pub struct DaemonSettings {
    /// This node.
    pub me: NodeIncarnation,
    /// Time.
    pub clock: Clock,
    /// Closed = no action function is begun.
    pub gate: Gate,
    /// What action functions are told.
    pub surroundings: CommandSurroundings,
    /// A kill gives up after this long (`T_kill`), in milliseconds.
    pub kill_ms: u64,
    /// Runs action functions.
    pub warden: Recipient<WardenRequest>,
}

/// See the module.
pub struct EventDaemon {
    settings: DaemonSettings,
    restarts: Restarts,
    desk: EventDesk,
    watchers: BTreeMap<WatchId, Addr<Watcher>>,
    /// Programs that provide watchers, by the watcher's name with its prefix.
    providers: BTreeMap<String, external::Provider>,
    /// Watchings that such programs do.
    outside: BTreeMap<WatchId, String>,
    ring: OccurrenceRing,
    /// Tests whose action functions have not all ended.
    tests: Vec<PendingTest>,
    /// Answers to tests that the desk is deciding about.
    asked: BTreeMap<u64, oneshot::Sender<TestAnswer>>,
    last_ticket: u64,
    names: watch::Sender<Arc<ConfigurationRecord>>,
    levels: broadcast::Sender<Arc<SubsystemNotification>>,
    looks_at_gate: bool,
}

type TestAnswer = Result<Vec<OccurrenceReport>, String>;

struct PendingTest {
    awaited: Vec<RunId>,
    ended: Vec<OccurrenceReport>,
    answer: oneshot::Sender<TestAnswer>,
}

impl EventDaemon {
    /// A daemon that knows no database.
    #[must_use]
    pub fn new(settings: DaemonSettings) -> Self {
        Self {
            restarts: Restarts::contained(settings.clock),
            desk: EventDesk::new(settings.me),
            watchers: BTreeMap::new(),
            providers: BTreeMap::new(),
            outside: BTreeMap::new(),
            ring: OccurrenceRing::default(),
            tests: Vec::new(),
            asked: BTreeMap::new(),
            last_ticket: 0,
            names: watch::Sender::new(Arc::default()),
            levels: broadcast::Sender::new(LEVELS_BEHIND_MAX),
            looks_at_gate: false,
            settings,
        }
    }

    fn moment(&self) -> Moment {
        let open = self.settings.gate.is_open();
        Moment { now: self.settings.clock.now(), open, may_act: open }
    }

    fn give(&mut self, input: DeskInput, ctx: &mut Context<Self>) {
        if self.restarts.is_exhausted() {
            return; // it panicked too often; `event list` says so
        }
        let moment = self.moment();
        let desk = &mut self.desk;
        match self.restarts.run(|| desk.step(moment, input)) {
            Some(outputs) => outputs.into_iter().for_each(|output| self.perform(output, ctx)),
            None => self.begin_anew(ctx),
        }
        if self.desk.waits() && !std::mem::replace(&mut self.looks_at_gate, true) {
            ctx.run_later(GATE_LOOK, |actor, ctx| {
                actor.looks_at_gate = false;
                actor.give(DeskInput::Tick, ctx);
            });
        }
    }

    /// After a panic: nothing that was remembered is trusted, but the database.
    fn begin_anew(&mut self, ctx: &mut Context<Self>) {
        std::mem::take(&mut self.watchers).into_values().for_each(|watcher| watcher.do_send(EndWatch));
        let outside: Vec<WatchId> = self.outside.keys().copied().collect();
        outside.into_iter().for_each(|watch| self.end_outside(watch));
        let record = self.desk.record().clone();
        self.desk = EventDesk::after(&self.desk);
        self.tests.clear();
        self.asked.clear();
        self.give(DeskInput::Database(record), ctx);
    }

    fn perform(&mut self, output: DeskOutput, ctx: &mut Context<Self>) {
        match output {
            DeskOutput::Watch { watch, definition } => {
                let EventDefinition { name, watcher, parameters, .. } = definition.as_ref();
                tracing::info!(event = name, watcher, "watching for an event");
                if self.tell_program(watcher, watch, name, parameters) {
                    return;
                }
                let surroundings = Surroundings {
                    levels: self.levels.clone(),
                    names: self.names.subscribe(),
                    warden: self.settings.warden.clone(),
                    gate: self.settings.gate.clone(),
                    clock: self.settings.clock,
                    variables: action::surroundings(&self.settings.surroundings),
                };
                let heard = (ctx.address().recipient(), ctx.address().recipient());
                let watcher = Watcher::new(watch, *definition, surroundings, heard.0, heard.1).start();
                self.watchers.insert(watch, watcher);
            }
            DeskOutput::Unwatch { event, watch } => {
                tracing::info!(event, "not watching for an event any more");
                self.end_outside(watch);
                if let Some(watcher) = self.watchers.remove(&watch) {
                    watcher.do_send(EndWatch);
                }
            }
            DeskOutput::Run(run) => self.run(&run, ctx),
            DeskOutput::Forget { event } => {
                for owner in [Owner::Event(health_of(&event)), Owner::Event(event)] {
                    self.settings.warden.do_send(WardenRequest::Forget { owner });
                }
            }
            DeskOutput::Tell(occurrence) => {
                let report = report::occurrence(&occurrence, &self.settings.surroundings.node, wall_now_ms());
                let report = self.ring.put(report);
                if occurrence.done.is_final() {
                    self.test_ended(occurrence.id, &report);
                }
            }
            DeskOutput::Tested { ticket, answer } => self.tested(ticket, answer),
        }
    }

    fn run(&self, run: &Run, ctx: &mut Context<Self>) {
        let (launch, kill) = action::requests(run, &self.settings);
        let (id, event) = (run.id, run.event.clone());
        tracing::info!(event, run = id.0, "running the action function of an event");
        let answer = self.settings.warden.send(launch);
        let warden = self.settings.warden.clone();
        let ended = async move {
            let result = answer.await.unwrap_or_else(|closed| LaunchResult::Failed { text: closed.to_string() });
            // Nothing of an action function may stay behind it.
            let cleared = warden.send(kill).await;
            match (result, cleared) {
                (LaunchResult::Succeeded, Ok(LaunchResult::Failed { text })) => LaunchResult::Failed { text },
                (result, _) => result,
            }
        };
        ctx.spawn(ended.into_actor(self).map(move |result, actor, ctx| {
            tracing::info!(event, run = id.0, ?result, "the action function of an event has ended");
            actor.give(DeskInput::ActionEnded { run: id, result }, ctx);
        }));
    }
}

impl Actor for EventDaemon {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        std::mem::take(&mut self.watchers).into_values().for_each(|watcher| watcher.do_send(EndWatch));
    }
}

impl Handler<DatabaseCommitted> for EventDaemon {
    type Result = ();

    fn handle(&mut self, DatabaseCommitted(record): DatabaseCommitted, ctx: &mut Self::Context) {
        self.give(DeskInput::Database(record), ctx);
    }
}

impl Handler<LevelHeard> for EventDaemon {
    type Result = ();

    fn handle(&mut self, LevelHeard(notification): LevelHeard, _: &mut Self::Context) {
        self.levels.send(notification).ok(); // there may be no membership event
    }
}

impl Handler<ConfigurationChanged> for EventDaemon {
    type Result = ();

    fn handle(&mut self, ConfigurationChanged(configuration): ConfigurationChanged, _: &mut Self::Context) {
        self.names.send_replace(configuration);
    }
}

impl Handler<Detected> for EventDaemon {
    type Result = ();

    fn handle(&mut self, Detected { event, watch, out }: Detected, ctx: &mut Self::Context) {
        self.give(DeskInput::Occurred { event, watch, out }, ctx);
    }
}

impl Handler<WatchFailed> for EventDaemon {
    type Result = ();

    fn handle(&mut self, failed: WatchFailed, ctx: &mut Self::Context) {
        let WatchFailed { event, watch, failure: NoWatch(text) } = failed;
        tracing::warn!(event, text, "an event is not watched any more");
        self.give(DeskInput::WatchFailed { event, watch, text }, ctx);
    }
}

impl Handler<InjectPanic> for EventDaemon {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, ctx: &mut Self::Context) {
        if self.restarts.run(|| panic!("injected")).is_none() {
            self.begin_anew(ctx);
        }
    }
}
