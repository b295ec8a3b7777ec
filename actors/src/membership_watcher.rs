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
