//! Administrators' requests to the master, and the answers that come back.

use actix::prelude::*;
use phalanx_messages::peer::MasterAnswer;
use phalanx_protocol::manager::ManagerInput;
use tokio::sync::oneshot;

use super::MembershipManager;
use crate::ports::{AskMaster, TryChange};

impl Handler<AskMaster> for MembershipManager {
    type Result = ResponseFuture<MasterAnswer>;

    fn handle(&mut self, AskMaster(request): AskMaster, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.asked += 1;
        let counter = self.asked;
        self.asking.insert(counter, answer);
        self.take(ManagerInput::Ask { counter, request }, ctx);
        if self.machine.has_ended() {
            self.asking.clear(); // nobody will answer
        }
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| {
                let text = "the node is ending; ask another one".to_owned();
                MasterAnswer::Refused { code: EXIT_TRY_AGAIN, text }
            })
        })
    }
}

/// `EX_TEMPFAIL`.
const EXIT_TRY_AGAIN: u8 = 75;

impl Handler<TryChange> for MembershipManager {
    type Result = MessageResult<TryChange>;

    fn handle(&mut self, TryChange(changes): TryChange, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.machine.try_change(&changes))
    }
}
