//! The membership watcher (spec, 60e): turns changes of the event-manager level into changes of the view that
//! registration-and-launch decides by.
//!
//! Has no memory, so that a restart after a panic loses nothing.

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::notification::SubsystemNotification;
use phalanx_protocol::registration::SightChange;

use crate::event_manager::LevelChanged;
use crate::ports::InjectPanic;
use crate::restart::Restarts;

/// Sent by the membership watcher to registration-and-launch: adopt this. Answered when it is adopted, and, for the second
/// barrier of this node's own leave, when nothing is placed here any more (protocol RL-6).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct AdoptView(pub SightChange);

/// See the module.
pub struct MembershipWatcher {
    me: NodeIncarnation,
    restarts: Restarts,
    view: Recipient<AdoptView>,
}

impl MembershipWatcher {
    /// A watcher on node `me` that tells `view`.
    #[must_use]
    pub const fn new(me: NodeIncarnation, restarts: Restarts, view: Recipient<AdoptView>) -> Self {
        Self { me, restarts, view }
    }

    /// A panic here is recorded and the same notification is read again; too many are the node's panic.
    fn read(&mut self, notification: &SubsystemNotification) -> Result<SightChange, String> {
        let me = self.me;
        for _ in 0..2 {
            if let Some(change) = self.restarts.run(|| SightChange::of(notification, me)) {
                return Ok(change);
            }
        }
        Err("the membership watcher panicked twice on one notification".to_owned())
    }
}

impl Actor for MembershipWatcher {
    type Context = Context<Self>;
}

impl Handler<LevelChanged> for MembershipWatcher {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, LevelChanged(notification): LevelChanged, _: &mut Self::Context) -> Self::Result {
        let change = self.read(&notification);
        let view = self.view.clone();
        Box::pin(async move {
            let adopted = view.send(AdoptView(change?)).await;
            adopted.unwrap_or_else(|closed| Err(format!("registration-and-launch is gone: {closed}")))
        })
    }
}

impl Handler<InjectPanic> for MembershipWatcher {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.restarts.run(|| panic!("injected"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::clock::Clock;
    use crate::gate::Gate;
    use crate::guard::PanicGuard;
    use crate::ports::NodePanic;
    use phalanx_messages::membership::{LevelState, TransitionKind};
    use phalanx_messages::notification::TransitionNotice;
    use phalanx_messages::set::NodeSet;
    use phalanx_messages::{Incarnation, Level, NodeId, NotificationId, Term, TransitionId};
    use phalanx_protocol::registration::Standing;
    use tokio::sync::mpsc;

    const N0: NodeIncarnation = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };
    const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };

    struct Listener(mpsc::UnboundedSender<SightChange>, mpsc::UnboundedSender<String>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<AdoptView> for Listener {
        type Result = Result<(), String>;

        fn handle(&mut self, AdoptView(change): AdoptView, _: &mut Self::Context) -> Self::Result {
            self.0.send(change).unwrap();
            Ok(())
        }
    }

    impl Handler<NodePanic> for Listener {
        type Result = ();

        fn handle(&mut self, message: NodePanic, _: &mut Self::Context) {
            self.1.send(message.reason).unwrap();
        }
    }

    fn leave(who: NodeIncarnation, barrier: u8) -> LevelChanged {
        let transition = TransitionId { term: Term(1), counter: 1 };
        let id = NotificationId { transition, level: Level::EVENT_MANAGER, barrier, restart: 0 };
        let (node, incarnation) = (who.node, who.incarnation);
        let notice = TransitionNotice { id, node, incarnation, kind: TransitionKind::Leaving, renotification: false };
        let states = [(N0, LevelState::Joined), (N1, LevelState::Leaving)];
        LevelChanged(Arc::new(SubsystemNotification {
            level: Level::EVENT_MANAGER,
            batch: vec![notice],
            states: states.map(|(who, state)| (who.node, (who.incarnation, state))).into(),
            participants: NodeSet::EMPTY,
            formation: Term(7),
        }))
    }

    fn start(
        me: NodeIncarnation,
    ) -> (Addr<MembershipWatcher>, mpsc::UnboundedReceiver<SightChange>, mpsc::UnboundedReceiver<String>) {
        let (sender, changes) = mpsc::unbounded_channel();
        let (reasons, panics) = mpsc::unbounded_channel();
        let listener = Listener(sender, reasons).start();
        let guard = PanicGuard::new("watcher", Gate::new(Clock::Boot), listener.clone().recipient());
        let restarts = Restarts::new(guard, Clock::Boot);
        (MembershipWatcher::new(me, restarts, listener.recipient()).start(), changes, panics)
    }

    /// Protocol RL-6: everybody adopts the first barrier; only the leaver is asked to let go, by the second.
    #[actix_rt::test]
    async fn only_the_leaver_is_asked_to_let_go_and_only_by_the_second_barrier() {
        for (me, barrier, draining) in [(N1, 0, false), (N1, 1, true), (N0, 1, false)] {
            let (watcher, mut changes, _panics) = start(me);
            watcher.send(leave(N1, barrier)).await.unwrap().unwrap();
            let change = changes.recv().await.unwrap();
            assert_eq!((change.draining, change.joining, change.formation), (draining, false, Term(7)));
            assert!(change.standings.contains(&(N1, Standing::Leaving)));
            assert!(change.standings.contains(&(N0, Standing::Joined)));
        }
    }

    #[actix_rt::test]
    async fn panics_are_borne_until_they_are_too_many() {
        let (watcher, mut changes, mut panics) = start(N0);
        for _ in 0..5 {
            watcher.send(InjectPanic).await.unwrap();
        }
        watcher.send(leave(N1, 0)).await.unwrap().unwrap();
        assert!(changes.recv().await.is_some() && panics.try_recv().is_err());
        watcher.send(InjectPanic).await.unwrap();
        assert_eq!(panics.recv().await.unwrap(), "an actor panicked too often to be restarted again");
    }
}
