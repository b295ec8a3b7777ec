//! Stands between the membership manager and one subsystem: a notification out, its answer in, and the end of either.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_protocol::processing::{Begun, Processing};
use tokio_util::sync::CancellationToken;

use super::{Notification, Subsystem, SubsystemDied, SubsystemEvent};
use crate::guard::PanicGuard;

/// How often a mailbox that has nothing to answer is looked at.
const CHECK: Duration = Duration::from_millis(50);

/// Whom an adapter talks to beside its subsystem.
#[derive(Debug, Clone)]
pub(crate) struct AdapterEdges {
    /// The membership manager.
    pub answers: Recipient<SubsystemAcknowledged>,
    /// The membership manager.
    pub died: Recipient<SubsystemDied>,
    /// Its own panics are the node's.
    pub guard: PanicGuard,
}

/// Sent by the membership manager: the subsystem has this level no more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Detach;

/// See the module.
pub(crate) struct Adapter {
    subsystem: Subsystem,
    registered: u64,
    edges: AdapterEdges,
    processing: Processing,
    aborts: BTreeMap<u64, CancellationToken>,
}

impl Adapter {
    pub fn new(subsystem: Subsystem, registered: u64, edges: AdapterEdges) -> Self {
        Self { subsystem, registered, edges, processing: Processing::default(), aborts: BTreeMap::new() }
    }

    fn notified(&mut self, notification: SubsystemNotification, ctx: &mut Context<Self>) {
        let Begun { number, overtaken } = self.processing.begin(&notification);
        for old in overtaken {
            self.abort(old);
        }
        let abort = CancellationToken::new();
        self.aborts.insert(number, abort.clone());
        let SubsystemNotification { level, batch, states, participants, formation } = notification;
        let notification = Notification { number, level, batch, states, participants, formation, abort };
        let answer = self.subsystem.notifications.send(notification);
        ctx.spawn(answer.into_actor(self).map(move |answer, actor, ctx| {
            let guard = actor.edges.guard.clone();
            guard.run(|| match answer {
                Ok(answer) => actor.answered(number, answer),
                Err(MailboxError::Closed | MailboxError::Timeout) => actor.died(ctx),
            });
        }));
    }

    fn abort(&mut self, number: u64) {
        if let Some(abort) = self.aborts.remove(&number) {
            abort.cancel();
        }
    }

    fn answered(&mut self, number: u64, answer: Result<(), String>) {
        self.aborts.remove(&number);
        let answer = match answer {
            Ok(()) => SubsystemAnswer::Acknowledged,
            Err(text) => SubsystemAnswer::Failed { text },
        };
        for notice in self.processing.end(number) {
            let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            self.edges.answers.do_send(SubsystemAcknowledged { subject, id: notice.id, answer: answer.clone() });
        }
    }

    fn died(&mut self, ctx: &mut Context<Self>) {
        let level = self.subsystem.registration.level;
        self.edges.died.do_send(SubsystemDied { level, registered: self.registered });
        ctx.stop();
    }
}

impl Actor for Adapter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(CHECK, |actor, ctx| {
            if !actor.subsystem.notifications.connected() {
                actor.died(ctx);
            }
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let open: Vec<u64> = self.aborts.keys().copied().collect();
        open.into_iter().for_each(|number| self.abort(number)); // nobody waits for it any more
    }
}

impl Handler<SubsystemNotification> for Adapter {
    type Result = ();

    fn handle(&mut self, notification: SubsystemNotification, ctx: &mut Self::Context) {
        let guard = self.edges.guard.clone();
        guard.run(|| self.notified(notification, ctx));
    }
}

impl Handler<SubsystemEvent> for Adapter {
    type Result = ();

    fn handle(&mut self, event: SubsystemEvent, _: &mut Self::Context) {
        if let Some(events) = &self.subsystem.events {
            events.do_send(event);
        }
    }
}

impl Handler<Detach> for Adapter {
    type Result = ();

    fn handle(&mut self, _: Detach, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
