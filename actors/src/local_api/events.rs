//! Serves `phalanx event`: what is defined, what this node watches, and what occurred on it.

use std::collections::BTreeMap;

use actix::prelude::*;
use futures_util::StreamExt;
use phalanx_messages::admin::AdminAnswer;
use phalanx_messages::event_report::OccurrenceReport;
use tokio::sync::broadcast::error::RecvError;

use super::answer::{Asked, EXIT_UNKNOWN, Refusal};
use super::serve::{Frames, say};
use super::{GetEventDaemon, LocalApi};
use crate::event_daemon::{GetEvents, GetOccurrences, TestEvent};
use crate::ports::GetEventDefinitions;

impl Asked {
    pub(super) async fn events(self) -> Result<AdminAnswer, Refusal> {
        let report = self.edges.events.send(GetEvents).await.map_err(Refusal::ending)?;
        Ok(AdminAnswer::Events(Box::new(report)))
    }

    pub(super) async fn event_definitions(self) -> Result<AdminAnswer, Refusal> {
        let (events, groups) = self.edges.services.send(GetEventDefinitions).await.map_err(Refusal::ending)?;
        Ok(AdminAnswer::EventDefinitions { events, groups })
    }

    pub(super) async fn occurrences(self, count: u32) -> Result<AdminAnswer, Refusal> {
        let ring = self.edges.events.send(GetOccurrences).await.map_err(Refusal::ending)?;
        Ok(AdminAnswer::Occurrences(ring.tail(usize::try_from(count).unwrap_or(usize::MAX))))
    }

    pub(super) async fn test_event(
        self,
        name: String,
        out: BTreeMap<String, String>,
        dry_run: bool,
    ) -> Result<AdminAnswer, Refusal> {
        let answer = self.edges.events.send(TestEvent { name, out, dry_run }).await.map_err(Refusal::ending)?;
        answer.map(AdminAnswer::Occurrences).map_err(|text| Refusal(EXIT_UNKNOWN, text))
    }
}

/// Says the last occurrences, then every one from then on, and what became of it, until either side closes.
pub(super) async fn follow(mut frames: Frames, api: Addr<LocalApi>, count: u32) {
    let Ok(daemon) = api.send(GetEventDaemon).await else { return };
    drop(api); // a follower does not keep the actor alive
    let Ok(ring) = daemon.send(GetOccurrences).await else { return };
    drop(daemon);
    let (tail, mut news) = ring.follow(usize::try_from(count).unwrap_or(usize::MAX));
    drop(ring);
    for report in tail {
        if !tell(&mut frames, report).await {
            return;
        }
    }
    loop {
        let report = tokio::select! {
            report = news.recv() => report,
            // Whatever a follower says, or its end, ends the stream.
            _ = frames.next() => return,
        };
        match report {
            Ok(report) => {
                if !tell(&mut frames, report).await {
                    return;
                }
            }
            Err(RecvError::Lagged(_)) => {} // the numbers show the gap
            Err(RecvError::Closed) => return,
        }
    }
}

async fn tell(frames: &mut Frames, report: OccurrenceReport) -> bool {
    say(frames, &AdminAnswer::Occurred(report)).await
}
