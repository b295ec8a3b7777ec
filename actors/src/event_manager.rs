//! The event manager: the highest level (spec, "B. Event Manager"; protocol §5.1, level 1000).
//!
//! Keeps the state of every node at its level and tells each watcher of every change. A notification is acknowledged when all
//! watchers have answered it, so that a watcher decides when this node has adopted a change (protocol RL-2, RL-6, RL-7).
//!
//! Its death is the node's: a node that does not hear of membership must not run services.

use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::join_all;
use phalanx_messages::Level;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};

use crate::guard::PanicGuard;
use crate::ports::InjectPanic;

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
}

impl EventManager {
    /// An event manager with these watchers; acknowledgements go to the membership manager.
    #[must_use]
    pub const fn new(
        guard: PanicGuard,
        acknowledged: Recipient<SubsystemAcknowledged>,
        watchers: Vec<Recipient<LevelChanged>>,
    ) -> Self {
        Self { guard, acknowledged, watchers }
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
