//! The newest occurrences on this node, in memory: what `phalanx event tail` shows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_messages::event_report::OccurrenceReport;
use phalanx_messages::limits::OCCURRENCES_KEPT_MAX;
use tokio::sync::broadcast;

/// Occurrences a slow follower may be behind.
const FOLLOWED_MAX: usize = 1_024;

/// A bounded memory of occurrences; cheap to clone. The oldest go first.
#[derive(Debug, Clone)]
pub struct OccurrenceRing(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    occurrences: VecDeque<OccurrenceReport>,
    followers: broadcast::Sender<OccurrenceReport>,
}

impl Default for OccurrenceRing {
    fn default() -> Self {
        let followers = broadcast::Sender::new(FOLLOWED_MAX);
        Self(Arc::new(Mutex::new(Kept { occurrences: VecDeque::new(), followers })))
    }
}

impl OccurrenceRing {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // An occurrence is put whole or not at all, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an occurrence, or replaces the one of that number, which keeps its time. Gives it as it is kept.
    pub fn put(&self, mut report: OccurrenceReport) -> OccurrenceReport {
        let mut kept = self.kept();
        let known = kept.occurrences.iter_mut().rev().find(|known| known.number == report.number);
        if let Some(known) = known {
            report.at_ms = known.at_ms;
            *known = report.clone();
        } else {
            kept.occurrences.push_back(report.clone());
            if kept.occurrences.len() > OCCURRENCES_KEPT_MAX {
                kept.occurrences.pop_front();
            }
        }
        kept.followers.send(report.clone()).ok(); // nobody may be listening
        report
    }

    /// The last `count` occurrences, oldest first.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<OccurrenceReport> {
        let kept = self.kept();
        kept.occurrences.iter().skip(kept.occurrences.len().saturating_sub(count)).cloned().collect()
    }

    /// The last `count` occurrences, and every one from then on.
    #[must_use]
    pub fn follow(&self, count: usize) -> (Vec<OccurrenceReport>, broadcast::Receiver<OccurrenceReport>) {
        let kept = self.kept();
        let tail = kept.occurrences.iter().skip(kept.occurrences.len().saturating_sub(count)).cloned().collect();
        (tail, kept.followers.subscribe())
    }

    /// When that event occurred last, tests apart.
    #[must_use]
    pub fn last_of(&self, event: &str) -> Option<u64> {
        let kept = self.kept();
        kept.occurrences.iter().rev().find(|known| known.event == event && !known.test).map(|known| known.at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u64, done: &str) -> OccurrenceReport {
        OccurrenceReport { number, at_ms: number, done: done.to_owned(), ..OccurrenceReport::default() }
    }

    #[test]
    fn the_oldest_go_and_a_later_word_replaces_an_earlier_one_in_its_place() {
        let ring = OccurrenceRing::default();
        let last = OCCURRENCES_KEPT_MAX as u64 + 1;
        for number in 1..=last {
            ring.put(report(number, "running"));
        }
        assert_eq!(ring.tail(usize::MAX).len(), OCCURRENCES_KEPT_MAX);
        assert_eq!(ring.tail(usize::MAX)[0].number, 2);
        let (tail, mut news) = ring.follow(1);
        assert_eq!(tail, [report(last, "running")]);
        ring.put(OccurrenceReport { at_ms: 99_999, ..report(last, "succeeded") });
        assert_eq!(ring.tail(1), [report(last, "succeeded")], "it keeps its time");
        assert_eq!(news.try_recv().unwrap().done, "succeeded");
    }
}
