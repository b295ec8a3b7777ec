//! One program outside the node: its lines as registration and answers, its notifications as lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::notification::LevelStates;
use phalanx_messages::subsystem::{
    ClientLine, LineError, NodeAtLevel, NodeLine, Notice, Notified, PROTOCOL_VERSION, Registration,
};
use phalanx_messages::{Level, NodeId};
use tokio::sync::oneshot;

use super::AttachPoint;
use super::lines::{Line, Outgoing};
use crate::subsystem::{Notification, RegisterError, RegisterSubsystem, Subsystem, SubsystemEvent, WithdrawSubsystem};

/// A program says hello and registers within this time.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connected,
    Greeted,
    Registered(Level),
    /// It provides an event watcher.
    Provides,
    Ended,
}

/// Sent by the connection: the program is gone.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct HungUp;

/// Sent by the connection, or by the session to itself: say this and end.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(super) struct Fatal {
    pub error: LineError,
    pub text: String,
}

/// The program has answered.
type Answer = Result<(), String>;

/// See the module. Its mailbox is the subsystem's: its end is the subsystem's death.
pub(super) struct Session {
    pub(super) point: AttachPoint,
    outgoing: Outgoing,
    pub(super) phase: Phase,
    answer_within: Duration,
    /// Notifications that have no answer.
    open: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// The event watcher that it provides.
    pub(super) provides: Option<String>,
    /// Events that it watches for, by number.
    pub(super) watched: BTreeMap<u64, String>,
}

impl Session {
    pub fn new(point: AttachPoint, outgoing: Outgoing) -> Self {
        let answer_within = Duration::ZERO; // set by the registration
        let (phase, open, watched) = (Phase::Connected, BTreeMap::new(), BTreeMap::new());
        Self { point, outgoing, phase, answer_within, open, provides: None, watched }
    }

    pub(super) fn say(&mut self, line: NodeLine, ctx: &mut Context<Self>) {
        if self.phase != Phase::Ended && self.outgoing.say(line).is_err() {
            tracing::warn!(phase = ?self.phase, "a subsystem does not read what it is told");
            self.end(ctx);
        }
    }

    fn end(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Ended;
        self.provide_no_more(ctx);
        self.outgoing.close();
        ctx.stop();
    }

    pub(super) fn fail(&mut self, error: LineError, text: impl Into<String>, ctx: &mut Context<Self>) {
        let text = text.into();
        if self.phase != Phase::Ended {
            tracing::warn!(?error, %text, phase = ?self.phase, "the connection of a subsystem ends");
        }
        self.say(NodeLine::Error { error, text, fatal: true }, ctx);
        self.end(ctx);
    }

    fn heard(&mut self, line: ClientLine, ctx: &mut Context<Self>) {
        match (line, self.phase) {
            (_, Phase::Ended) => {}
            (ClientLine::Ping { token }, _) => self.say(NodeLine::Pong { token }, ctx),
            (ClientLine::Hello { version }, Phase::Connected) => self.greet(version, ctx),
            (ClientLine::Register(registration), Phase::Greeted) => self.register(registration, ctx),
            (ClientLine::Provide(provision), Phase::Greeted) => self.provide(&provision, ctx),
            (ClientLine::Occurred { number, out }, Phase::Provides) => self.occurred(number, out, ctx),
            (ClientLine::WatchFailed { number, text }, Phase::Provides) => self.watches_not(number, text, ctx),
            (ClientLine::Acknowledged { number }, Phase::Registered(_)) => self.answered(number, Ok(()), ctx),
            (ClientLine::Failed { number, text }, Phase::Registered(_)) => self.answered(number, Err(text), ctx),
            (ClientLine::Withdraw, Phase::Registered(level)) => self.withdraw(level, ctx),
            (_, Phase::Connected) => self.fail(LineError::NotUnderstood, "the first line is `hello`", ctx),
            (_, Phase::Greeted) => {
                self.fail(LineError::NotUnderstood, "the line after `hello` is `register` or `provide`", ctx);
            }
            (_, Phase::Provides) => self.fail(LineError::NotUnderstood, "this connection provides a watcher", ctx),
            (_, Phase::Registered(_)) => self.fail(LineError::NotUnderstood, "this connection has registered", ctx),
        }
    }

    fn greet(&mut self, version: u32, ctx: &mut Context<Self>) {
        if version != PROTOCOL_VERSION {
            let text = format!("version {version} of this protocol is not spoken here, but {PROTOCOL_VERSION}");
            return self.fail(LineError::Version, text, ctx);
        }
        self.phase = Phase::Greeted;
        let configuration = self.point.names.borrow().clone();
        let (cluster, node) = (configuration.cluster.clone(), configuration.name_of(self.point.own));
        self.say(NodeLine::Hello { version: PROTOCOL_VERSION, cluster, node }, ctx);
    }

    fn register(&mut self, registration: Registration, ctx: &mut Context<Self>) {
        let Registration { name, level, barriers, on_death, needs, answer_within_ms } = registration;
        if name.is_empty() || name.chars().any(char::is_control) {
            return self.fail(LineError::BadRegistration, "`name` is empty or has control characters", ctx);
        }
        if answer_within_ms == 0 {
            return self.fail(LineError::BadRegistration, "`answer_within_ms` is 0", ctx);
        }
        self.answer_within = Duration::from_millis(answer_within_ms);
        let me = ctx.address();
        let subsystem = Subsystem::new(name, level, barriers, me.clone().recipient())
            .on_death(on_death)
            .needs(needs)
            .events(me.recipient());
        // Nothing else is heard before the answer, so that it is the first line after the registration.
        let registered = self.point.register.send(RegisterSubsystem(subsystem));
        ctx.wait(registered.into_actor(self).map(move |answer, actor, ctx| match answer {
            Ok(Ok(())) => {
                actor.phase = Phase::Registered(level);
                actor.say(NodeLine::Registered, ctx);
            }
            Ok(Err(refused)) => actor.fail(error_of(&refused), refused.to_string(), ctx),
            Err(closed) => actor.fail(LineError::NodeEnds, format!("the node is ending: {closed}"), ctx),
        }));
    }

    fn withdraw(&mut self, level: Level, ctx: &mut Context<Self>) {
        let withdrawn = self.point.withdraw.send(WithdrawSubsystem(level));
        ctx.spawn(withdrawn.into_actor(self).map(|answer, actor, ctx| {
            if let Ok(Err(refused)) = answer {
                actor.fail(error_of(&refused), refused.to_string(), ctx);
            }
        }));
    }

    fn answered(&mut self, number: u64, answer: Answer, ctx: &mut Context<Self>) {
        match self.open.remove(&number) {
            Some(waiting) => drop(waiting.send(answer)), // whoever asked may have been overtaken in this moment
            None => {
                let text = format!("notification {number} is not open: it was answered, overtaken or never sent");
                self.say(NodeLine::Error { error: LineError::NotOpen, text, fatal: false }, ctx);
            }
        }
    }

    fn tell(&mut self, notification: Notification, ctx: &mut Context<Self>) -> ResponseFuture<Answer> {
        let (sender, answer) = oneshot::channel();
        let Notification { number, level, batch, states, participants, formation, abort } = notification;
        self.open.insert(number, sender);
        let configuration = self.point.names.borrow().clone();
        let name = |node: NodeId| configuration.name_of(node);
        let notified = Notified {
            number,
            level,
            batch: batch.iter().map(|notice| Notice::new(notice, name(notice.node))).collect(),
            states: named(&states, &configuration),
            participants: participants.iter().map(name).collect(),
            formation: formation.0,
        };
        self.say(NodeLine::Notification(notified), ctx);
        let (me, answer_within) = (ctx.address(), self.answer_within);
        Box::pin(async move {
            tokio::select! {
                answer = answer => answer.unwrap_or_else(|_| Err("the subsystem is gone".to_owned())),
                () = abort.cancelled() => {
                    me.do_send(Overtaken(number));
                    Err("overtaken".to_owned()) // counts for nobody
                }
                () = tokio::time::sleep(answer_within) => {
                    let text = format!("notification {number} has no answer after {} ms", answer_within.as_millis());
                    me.do_send(Fatal { error: LineError::TooSlow, text });
                    std::future::pending().await // ends with the session, as a death and not as an answer
                }
            }
        })
    }
}

fn named(states: &LevelStates, configuration: &Arc<ConfigurationRecord>) -> BTreeMap<String, NodeAtLevel> {
    let at_level = |(node, (incarnation, state)): (&NodeId, &(_, _))| {
        (configuration.name_of(*node), NodeAtLevel { incarnation: *incarnation, state: *state })
    };
    states.iter().map(at_level).collect()
}

const fn error_of(refused: &RegisterError) -> LineError {
    match refused {
        RegisterError::InUse { .. } => LineError::LevelInUse,
        RegisterError::BuiltIn(_) | RegisterError::NotRegistered(_) => LineError::BadRegistration,
        RegisterError::Ending => LineError::NodeEnds,
    }
}

/// Sent by a session to itself.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
struct Overtaken(u64);

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(REGISTER_WITHIN, |actor, ctx| {
            if matches!(actor.phase, Phase::Connected | Phase::Greeted) {
                let text = format!("nothing was registered within {} s", REGISTER_WITHIN.as_secs());
                actor.fail(LineError::TooSlow, text, ctx);
            }
        });
    }
}

impl Handler<Line> for Session {
    type Result = ();

    fn handle(&mut self, Line(line): Line, ctx: &mut Self::Context) {
        self.heard(line, ctx);
    }
}

impl Handler<Fatal> for Session {
    type Result = ();

    fn handle(&mut self, Fatal { error, text }: Fatal, ctx: &mut Self::Context) {
        self.fail(error, text, ctx);
    }
}

impl Handler<HungUp> for Session {
    type Result = ();

    fn handle(&mut self, _: HungUp, ctx: &mut Self::Context) {
        self.end(ctx);
    }
}

impl Handler<Notification> for Session {
    type Result = ResponseFuture<Answer>;

    fn handle(&mut self, notification: Notification, ctx: &mut Self::Context) -> Self::Result {
        self.tell(notification, ctx)
    }
}

impl Handler<Overtaken> for Session {
    type Result = ();

    fn handle(&mut self, Overtaken(number): Overtaken, ctx: &mut Self::Context) {
        if self.open.remove(&number).is_some() {
            self.say(NodeLine::Abort { number }, ctx);
        }
    }
}

impl Handler<SubsystemEvent> for Session {
    type Result = ();

    fn handle(&mut self, event: SubsystemEvent, ctx: &mut Self::Context) {
        match event {
            SubsystemEvent::Resumed(states) => {
                let configuration = self.point.names.borrow().clone();
                self.say(NodeLine::Resumed { states: named(&states, &configuration) }, ctx);
            }
            SubsystemEvent::Refused { text, .. } => self.fail(LineError::Refused, text, ctx),
            SubsystemEvent::Withdrawn => {
                self.say(NodeLine::Withdrawn, ctx);
                self.end(ctx);
            }
        }
    }
}
