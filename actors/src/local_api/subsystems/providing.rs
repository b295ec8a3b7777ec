//! A program that provides an event watcher (docs/watcher-protocol.md): the same connection, limits and permission as for
//! subsystems, another second line.

use actix::prelude::*;
use phalanx_messages::subsystem::{LineError, NodeLine};
use phalanx_messages::watcher::{PlainValue, PlainValues, Provision, from_plain};
use phalanx_protocol::events::WatchId;

use super::session::{Phase, Session};
use crate::event_daemon::{ExternalWatch, ProvideNoMore, ProvideWatcher};
use crate::watchers::{Detected, NoWatch, WatchFailed};

impl Session {
    pub(super) fn provide(&mut self, provision: &Provision, ctx: &mut Context<Self>) {
        let watcher = provision.watcher.clone();
        let name_is_good =
            watcher.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if watcher.is_empty() || !name_is_good {
            let text = "`watcher` must hold letters, digits, `-`, `_` and `.` alone";
            return self.fail(LineError::BadRegistration, text, ctx);
        }
        let program = ctx.address().recipient();
        let asked = self.point.events.send(ProvideWatcher { watcher, schema: provision.schema(), program });
        let watcher = provision.watcher.clone();
        // Nothing else is said before the answer.
        ctx.wait(asked.into_actor(self).map(move |answer, actor, ctx| match answer {
            Ok(Ok(())) => {
                actor.phase = Phase::Provides;
                actor.provides = Some(watcher);
                actor.say(NodeLine::Provided, ctx);
            }
            Ok(Err(text)) => actor.fail(LineError::BadRegistration, text, ctx),
            Err(closed) => actor.fail(LineError::NodeEnds, format!("the node is ending: {closed}"), ctx),
        }));
    }

    /// The program has seen an event. It is not heard again before the daemon has taken it.
    pub(super) fn occurred(&mut self, number: u64, out: PlainValues, ctx: &mut Context<Self>) {
        let Some(event) = self.event_of(number, ctx) else { return };
        let detected = Detected { event, watch: WatchId(number), out: from_plain(out) };
        ctx.wait(self.point.events.send(detected).into_actor(self).map(|taken, actor, ctx| {
            if taken.is_err() {
                actor.fail(LineError::NodeEnds, "the node is ending", ctx);
            }
        }));
    }

    /// The program can't watch for an event.
    pub(super) fn watches_not(&mut self, number: u64, text: String, ctx: &mut Context<Self>) {
        let Some(event) = self.event_of(number, ctx) else { return };
        self.point.events.do_send(WatchFailed { event, watch: WatchId(number), failure: NoWatch(text) });
    }

    fn event_of(&mut self, number: u64, ctx: &mut Context<Self>) -> Option<String> {
        let event = self.watched.get(&number).cloned();
        if event.is_none() {
            let text = format!("number {number} is not watched for: it was ended or never asked for");
            self.say(NodeLine::Error { error: LineError::NotOpen, text, fatal: false }, ctx);
        }
        event
    }

    /// The program is gone: its watcher too.
    pub(super) fn provide_no_more(&mut self, ctx: &Context<Self>) {
        if let Some(watcher) = self.provides.take() {
            let program = ctx.address().recipient();
            self.point.events.do_send(ProvideNoMore { watcher, program });
        }
    }
}

impl Handler<ExternalWatch> for Session {
    type Result = ();

    fn handle(&mut self, asked: ExternalWatch, ctx: &mut Self::Context) {
        match asked {
            ExternalWatch::Begin { watch, event, input } => {
                self.watched.insert(watch.0, event.clone());
                let input = input.into_iter().map(|(name, value)| (name, PlainValue::from(value))).collect();
                self.say(NodeLine::Watch { number: watch.0, event, input }, ctx);
            }
            ExternalWatch::End { watch } => {
                if self.watched.remove(&watch.0).is_some() {
                    self.say(NodeLine::Unwatch { number: watch.0 }, ctx);
                }
            }
        }
    }
}
