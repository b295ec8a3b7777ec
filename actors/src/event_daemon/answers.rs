//! What the local socket asks.

use std::collections::BTreeMap;

use actix::prelude::*;
use phalanx_messages::event_report::{EventsReport, OccurrenceReport};
use phalanx_protocol::events::{DeskInput, RunId};
use tokio::sync::oneshot;

use super::{EventDaemon, OccurrenceRing, PendingTest, report};

/// Sent by the local API: every event and event group, and which of them this node watches.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "EventsReport")]
pub struct GetEvents;

/// Sent by the local API: where occurrences are kept.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "OccurrenceRing")]
pub struct GetOccurrences;

/// Sent by the local API: let an event, or every event of a group, occur. Answered when its action functions have ended; the text
/// of an error is what the administrator reads.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<OccurrenceReport>, String>")]
pub struct TestEvent {
    /// The event or event group.
    pub name: String,
    /// OUT parameters as texts.
    pub out: BTreeMap<String, String>,
    /// Run nothing.
    pub dry_run: bool,
}

impl EventDaemon {
    /// The desk has answered a test; its occurrences are told next.
    pub(super) fn tested(&mut self, ticket: u64, answer: Result<Vec<RunId>, String>) {
        let Some(asked) = self.asked.remove(&ticket) else { return };
        match answer {
            Ok(awaited) if awaited.is_empty() => drop(asked.send(Ok(Vec::new()))),
            Ok(awaited) => self.tests.push(PendingTest { awaited, ended: Vec::new(), answer: asked }),
            Err(text) => drop(asked.send(Err(text))),
        }
    }

    /// One occurrence of a test has come to its end.
    pub(super) fn test_ended(&mut self, id: RunId, report: &OccurrenceReport) {
        let Some(at) = self.tests.iter().position(|test| test.awaited.contains(&id)) else { return };
        let test = &mut self.tests[at];
        test.awaited.retain(|awaited| *awaited != id);
        test.ended.push(report.clone());
        if test.awaited.is_empty() {
            let PendingTest { ended, answer, .. } = self.tests.remove(at);
            answer.send(Ok(ended)).ok(); // whoever asked may have gone
        }
    }
}

impl Handler<GetEvents> for EventDaemon {
    type Result = MessageResult<GetEvents>;

    fn handle(&mut self, _: GetEvents, _: &mut Self::Context) -> Self::Result {
        let off =
            self.restarts.is_exhausted().then_some("the event manager daemon panicked too often; restart the node");
        let names = self.names.borrow().clone();
        let node = &self.settings.surroundings.node;
        MessageResult(report::events(&self.desk, &self.ring, node, &names, off))
    }
}

impl Handler<GetOccurrences> for EventDaemon {
    type Result = MessageResult<GetOccurrences>;

    fn handle(&mut self, _: GetOccurrences, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.ring.clone())
    }
}

impl Handler<TestEvent> for EventDaemon {
    type Result = ResponseFuture<Result<Vec<OccurrenceReport>, String>>;

    fn handle(&mut self, TestEvent { name, out, dry_run }: TestEvent, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.asked.insert(ticket, answer);
        self.give(DeskInput::Test { ticket, name, out, dry_run }, ctx);
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| Err("the event manager daemon has begun anew; try again".to_owned()))
        })
    }
}
