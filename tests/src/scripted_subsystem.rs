//! A subsystem of an embedding application, as an actor that answers when the test says so.

use actix::prelude::*;
use phalanx_messages::Level;
use phalanx_messages::membership::{BarrierCounts, TransitionKind};
use phalanx_node::builder::{Notification, Subsystem, SubsystemEvent};
use tokio::sync::{mpsc, oneshot};

use crate::process_cluster::PATIENCE;

/// What the subsystem has heard.
#[derive(Debug)]
pub enum Heard {
    /// A notification that waits for its answer.
    Told(Told),
    /// Something else.
    Event(SubsystemEvent),
}

/// A notification that waits for its answer.
#[derive(Debug)]
pub struct Told {
    /// What it is told.
    pub notification: Notification,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Told {
    /// The value that the handler returns.
    pub fn answer(self, answer: Result<(), String>) {
        self.answer.send(answer).ok(); // it may be gone
    }

    /// Its transitions: node, kind and barrier.
    #[must_use]
    pub fn batch(&self) -> Vec<(u16, TransitionKind, u8)> {
        self.notification.batch.iter().map(|notice| (notice.node.0, notice.kind, notice.id.barrier)).collect()
    }
}

/// Sent by a test: end, as an actor does that has panicked.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Die;

/// The actor.
#[derive(Debug)]
pub struct ScriptedSubsystem(mpsc::UnboundedSender<Heard>);

/// The test's side.
#[derive(Debug)]
pub struct Script {
    heard: mpsc::UnboundedReceiver<Heard>,
    /// The actor.
    pub actor: Addr<ScriptedSubsystem>,
}

impl Script {
    /// Starts the actor.
    #[must_use]
    pub fn start() -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        Self { heard, actor: ScriptedSubsystem(sender).start() }
    }

    /// It, to be registered.
    #[must_use]
    pub fn subsystem(&self, level: Level, barriers: BarrierCounts) -> Subsystem {
        let subsystem = Subsystem::new("scripted", level, barriers, self.actor.clone().recipient());
        subsystem.events(self.actor.clone().recipient())
    }

    /// Waits for the next thing.
    ///
    /// # Panics
    /// If the actor ends, or hears nothing for long.
    pub async fn next(&mut self) -> Heard {
        let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
        next.expect("the subsystem hears something in time").expect("the subsystem lives")
    }

    /// Waits for the next notification.
    ///
    /// # Panics
    /// If it hears anything else.
    pub async fn told(&mut self) -> Told {
        match self.next().await {
            Heard::Told(told) => told,
            Heard::Event(event) => panic!("{event:?} instead of a notification"),
        }
    }

    /// Waits for the next event.
    ///
    /// # Panics
    /// If it is a notification.
    pub async fn event(&mut self) -> SubsystemEvent {
        match self.next().await {
            Heard::Event(event) => event,
            Heard::Told(told) => panic!("{told:?} instead of an event"),
        }
    }

    /// Acknowledges so many notifications; gives their transitions: node, kind and barrier.
    ///
    /// # Panics
    /// If it hears anything else.
    pub async fn acknowledge(&mut self, times: usize) -> Vec<(u16, TransitionKind, u8)> {
        let mut batches = Vec::new();
        for _ in 0..times {
            let told = self.told().await;
            batches.extend(told.batch());
            told.answer(Ok(()));
        }
        batches
    }

    /// It has heard nothing more.
    pub fn is_quiet(&mut self) -> bool {
        self.heard.try_recv().is_err()
    }
}

impl Actor for ScriptedSubsystem {
    type Context = Context<Self>;
}

impl Handler<Notification> for ScriptedSubsystem {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, notification: Notification, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.0.send(Heard::Told(Told { notification, answer })).ok(); // the test has ended
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err("nobody answered".to_owned())) })
    }
}

impl Handler<SubsystemEvent> for ScriptedSubsystem {
    type Result = ();

    fn handle(&mut self, event: SubsystemEvent, _: &mut Self::Context) {
        self.0.send(Heard::Event(event)).ok(); // the test has ended
    }
}

impl Handler<Die> for ScriptedSubsystem {
    type Result = ();

    fn handle(&mut self, _: Die, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
