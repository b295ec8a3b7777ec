//! Changes of the event-manager level, one after the other, and when each is answered (protocol RL-2, RL-6, RL-7).

use actix::prelude::*;
use phalanx_messages::registration::View;
use phalanx_protocol::registration::DeciderInput;

use super::{Adopted, ReadRegistration, RegistrationAndLaunch};
use crate::membership_watcher::AdoptView;

impl RegistrationAndLaunch {
    pub(super) fn enqueue(&mut self, change: AdoptView, answer: Adopted, ctx: &mut Context<Self>) {
        self.changes.push_back((change, answer));
        self.next_change(ctx);
    }

    fn next_change(&mut self, ctx: &mut Context<Self>) {
        while let Some((AdoptView(change), answer)) = self.changes.pop_front() {
            if change.joining && !self.starting_table_read {
                self.changes.push_front((AdoptView(change), answer));
                return self.read_starting_table(ctx);
            }
            if !self.joined && !change.joining {
                // Asked to take part in a recovery before its own join: there is nothing of it here.
                let _ = answer.send(Ok(()));
                continue;
            }
            let database = if change.joining { self.known.seen() } else { View::default() };
            self.level.adopt(&change, &database);
            self.starting_table_read = false;
            if change.joining {
                self.joined = true;
                self.admission.accept(true);
                let early = std::mem::take(&mut self.early);
                early.into_iter().for_each(|(depoch, order)| self.take(depoch, order));
            }
            self.next_token += 1;
            self.tokens.insert(self.next_token, (change.draining, answer));
            let view = self.level.view().clone();
            self.drive(DeciderInput::View { view, token: self.next_token }, ctx);
        }
    }

    /// Who was at the level when the last decision was made and is not there now, is gone: read before anything is adopted.
    fn read_starting_table(&mut self, ctx: &mut Context<Self>) {
        let read = self.edges.read_registration.send(ReadRegistration);
        ctx.spawn(read.into_actor(self).map(|answer, actor, ctx| {
            actor.guarded(|actor| {
                if let Ok(Ok(record)) = answer {
                    actor.starting_table_read = true;
                    actor.learn(record.unwrap_or_default().into(), ctx);
                    return actor.next_change(ctx);
                }
                tracing::warn!("the registration database cannot be read");
                ctx.run_later(actor.tau(), |actor, ctx| actor.guarded(|actor| actor.read_starting_table(ctx)));
            });
        }));
    }

    /// No decision made with an older view is undecided.
    pub(super) fn adopted(&mut self, token: u64, ctx: &mut Context<Self>) {
        match self.tokens.remove(&token) {
            Some((false, answer)) => {
                let _ = answer.send(Ok(()));
            }
            Some((true, answer)) => {
                self.draining.push((self.readings_begun, answer));
                self.refresh(ctx);
            }
            None => {}
        }
    }

    /// Looks at the newest database, which came by that reading. One that had begun before this node was asked to let go may
    /// miss a start that was committed by somebody who did not know yet (protocol RL-6). Nor is one believed that nobody has
    /// called committed: the next owner of the decisions may have loaded the one before it.
    pub(super) fn answer_if_drained(&mut self, reading: u64, ctx: &mut Context<Self>) {
        let drained = self.known.is_drained(self.settings.me) && self.known.revision == self.announced;
        let (fresh, stale) = std::mem::take(&mut self.draining).into_iter().partition(|(after, _)| *after < reading);
        self.draining = stale;
        if drained && !Vec::is_empty(&fresh) {
            self.admission.accept(false);
            for (_, answer) in fresh {
                let _ = answer.send(Ok(()));
            }
        } else {
            self.draining.extend(fresh);
        }
        if self.draining.iter().any(|(after, _)| *after >= reading) {
            self.refresh(ctx);
        }
    }
}
