//! The event manager: the highest level (spec, "B. Event Manager"; protocol §5.1, level 1000).
//!
//! Keeps the state of every node at its level and tells each watcher of every change. A notification is acknowledged when all
//! watchers have answered it, so that a watcher decides when this node has adopted a change (protocol RL-2, RL-6, RL-7).
//!
//! The event manager daemon is its child: it is told of the committed databases and of the level, and never waited for.
//!
//! Its death is the node's: a node that does not hear of membership must not run services.

use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::join_all;
use phalanx_messages::Level;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};

use crate::event_daemon::{EventDaemon, LevelHeard};
use crate::guard::PanicGuard;
use crate::ports::{DatabaseCommitted, InjectPanic};

/// Sent by the event manager to each watcher: the level has changed. Answered when the watcher has processed it; may be repeated.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct LevelChanged(pub Arc<SubsystemNotification>);

/// Sent to the event manager: tell this watcher of every change from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Watch(pub Recipient<LevelChanged>);

/// See the module.
pub struct EventManager {
    guard: PanicGuard,
    acknowledged: Recipient<SubsystemAcknowledged>,
    watchers: Vec<Recipient<LevelChanged>>,
    daemon: Option<Addr<EventDaemon>>,
}

impl EventManager {
    /// An event manager with these watchers; acknowledgements go to the membership manager.
    #[must_use]
    pub const fn new(
        guard: PanicGuard,
        acknowledged: Recipient<SubsystemAcknowledged>,
        watchers: Vec<Recipient<LevelChanged>>,
    ) -> Self {
        Self { guard, acknowledged, watchers, daemon: None }
    }

    /// With this event manager daemon.
    #[must_use]
    pub fn with_daemon(self, daemon: Addr<EventDaemon>) -> Self {
        Self { daemon: Some(daemon), ..self }
    }

    /// What it registers with the membership manager. Two barriers of a leave: first everybody knows of it, then the leaver
    /// lets go (protocol RL-6).
    #[must_use]
    pub fn registration() -> LevelRegistration {
        LevelRegistration {
            level: Level::EVENT_MANAGER,
            name: "em".to_owned(),
            barriers: BarrierCounts { joining: 1, leaving: 2, forced_leaving: 1 },
            needs: Certainty::Death,
            optional: false,
        }
    }

    fn notify(
        &self,
        notification: Arc<SubsystemNotification>,
    ) -> impl Future<Output = Vec<SubsystemAcknowledged>> + use<> {
        tracing::debug!(notices = notification.batch.len(), "event-manager level notified");
        if let Some(daemon) = &self.daemon {
            daemon.do_send(LevelHeard(notification.clone()));
        }
        let told = self.watchers.iter().map(|watcher| watcher.send(LevelChanged(notification.clone())));
        let told = join_all(told.collect::<Vec<_>>());
        async move {
            let mut answers =
                told.await.into_iter().map(|answer| answer.unwrap_or_else(|closed| Err(closed.to_string())));
            let answer = match answers.find_map(Result::err) {
                None => SubsystemAnswer::Acknowledged,
                Some(text) => SubsystemAnswer::Failed { text },
            };
            acknowledgements(&notification, &answer)
        }
    }
}

fn acknowledgements(notification: &SubsystemNotification, answer: &SubsystemAnswer) -> Vec<SubsystemAcknowledged> {
    let acknowledge = |notice: &phalanx_messages::notification::TransitionNotice| SubsystemAcknowledged {
        subject: NodeIncarnation { node: notice.node, incarnation: notice.incarnation },
        id: notice.id,
        answer: answer.clone(),
    };
    notification.batch.iter().map(acknowledge).collect()
}

impl Actor for EventManager {
    type Context = Context<Self>;
}

impl Handler<SubsystemNotification> for EventManager {
    type Result = ();

    fn handle(&mut self, notification: SubsystemNotification, ctx: &mut Self::Context) {
        let guard = self.guard.clone();
        let answered = guard.run(|| self.notify(Arc::new(notification)));
        ctx.spawn(answered.into_actor(self).map(|acknowledgements, actor, _| {
            for acknowledgement in acknowledgements {
                actor.acknowledged.do_send(acknowledgement);
            }
        }));
    }
}

impl Handler<DatabaseCommitted> for EventManager {
    type Result = ();

    fn handle(&mut self, committed: DatabaseCommitted, _: &mut Self::Context) {
        self.guard.run(|| {
            if let Some(daemon) = &self.daemon {
                daemon.do_send(committed);
            }
        });
    }
}

impl Handler<Watch> for EventManager {
    type Result = ();

    fn handle(&mut self, Watch(watcher): Watch, _: &mut Self::Context) {
        self.guard.clone().run(|| self.watchers.push(watcher));
    }
}

impl Handler<InjectPanic> for EventManager {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.guard.run(|| panic!("injected"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::gate::Gate;
    use crate::ports::NodePanic;
    use phalanx_messages::membership::TransitionKind;
    use phalanx_messages::notification::TransitionNotice;
    use phalanx_messages::set::NodeSet;
    use phalanx_messages::{Incarnation, NodeId, NotificationId, Term, TransitionId};
    use tokio::sync::{mpsc, oneshot};

    type Heard = (Arc<SubsystemNotification>, oneshot::Sender<Result<(), String>>);

    /// Hands out what it hears of; its answer is whatever the test says later.
    struct Ears(mpsc::UnboundedSender<Heard>);

    impl Actor for Ears {
        type Context = Context<Self>;
    }

    impl Handler<LevelChanged> for Ears {
        type Result = ResponseFuture<Result<(), String>>;

        fn handle(&mut self, LevelChanged(notification): LevelChanged, _: &mut Self::Context) -> Self::Result {
            let (answer, answered) = oneshot::channel();
            self.0.send((notification, answer)).unwrap();
            Box::pin(async move { answered.await.unwrap() })
        }
    }

    struct Listener(mpsc::UnboundedSender<SubsystemAcknowledged>, mpsc::UnboundedSender<String>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<SubsystemAcknowledged> for Listener {
        type Result = ();

        fn handle(&mut self, message: SubsystemAcknowledged, _: &mut Self::Context) {
            self.0.send(message).unwrap();
        }
    }

    impl Handler<NodePanic> for Listener {
        type Result = ();

        fn handle(&mut self, message: NodePanic, _: &mut Self::Context) {
            self.1.send(message.reason).unwrap();
        }
    }

    fn notification() -> SubsystemNotification {
        let notice = |node: u16, kind| {
            let transition = TransitionId { term: Term(1), counter: u64::from(node) };
            let id = NotificationId { transition, level: Level::EVENT_MANAGER, barrier: 0, restart: 0 };
            let (node, incarnation) = (NodeId(node), Incarnation(4));
            TransitionNotice { id, node, incarnation, kind, renotification: false }
        };
        SubsystemNotification {
            level: Level::EVENT_MANAGER,
            batch: vec![notice(1, TransitionKind::Joining), notice(2, TransitionKind::Leaving)],
            states: [].into(),
            participants: NodeSet::EMPTY,
            formation: Term(1),
        }
    }

    struct Bench {
        events: Addr<EventManager>,
        acknowledged: mpsc::UnboundedReceiver<SubsystemAcknowledged>,
        panics: mpsc::UnboundedReceiver<String>,
        gate: Gate,
    }

    fn bench() -> Bench {
        let (answers, acknowledged) = mpsc::unbounded_channel();
        let (reasons, panics) = mpsc::unbounded_channel();
        let listener = Listener(answers, reasons).start();
        let gate = Gate::new(Clock::Boot);
        let guard = PanicGuard::new("event manager", gate.clone(), listener.clone().recipient());
        let events = EventManager::new(guard, listener.recipient(), Vec::new()).start();
        Bench { events, acknowledged, panics, gate }
    }

    #[actix_rt::test]
    async fn a_batch_is_acknowledged_notice_by_notice_when_every_watcher_has_answered() {
        let mut bench = bench();
        let (sender, mut heard) = mpsc::unbounded_channel();
        for _ in 0..2 {
            bench.events.send(Watch(Ears(sender.clone()).start().recipient())).await.unwrap();
        }
        bench.events.send(notification()).await.unwrap();
        let (first, second) = (heard.recv().await.unwrap(), heard.recv().await.unwrap());
        assert_eq!(*first.0, notification());
        first.1.send(Ok(())).unwrap();
        tokio::task::yield_now().await;
        assert!(bench.acknowledged.try_recv().is_err(), "the second watcher has not answered");
        second.1.send(Ok(())).unwrap();
        for notice in notification().batch {
            let answer = bench.acknowledged.recv().await.unwrap();
            assert_eq!((answer.id, answer.subject.node), (notice.id, notice.node));
            assert_eq!(answer.answer, SubsystemAnswer::Acknowledged);
        }
    }

    #[actix_rt::test]
    async fn a_watcher_that_fails_is_reported_by_its_words() {
        let mut bench = bench();
        let (sender, mut heard) = mpsc::unbounded_channel();
        bench.events.send(Watch(Ears(sender).start().recipient())).await.unwrap();
        bench.events.send(notification()).await.unwrap();
        heard.recv().await.unwrap().1.send(Err("no view".to_owned())).unwrap();
        let answer = bench.acknowledged.recv().await.unwrap().answer;
        assert_eq!(answer, SubsystemAnswer::Failed { text: "no view".to_owned() });
    }

    #[actix_rt::test]
    async fn its_panic_is_the_nodes() {
        let mut bench = bench();
        assert!(bench.events.send(InjectPanic).await.is_err());
        assert_eq!(bench.panics.recv().await.unwrap(), "actor event manager panicked: injected");
        assert!(bench.gate.is_panicking());
    }
}
