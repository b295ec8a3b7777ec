//! The newest log lines of this process, in memory: what `phalanx logs` shows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phalanx_messages::admin::LogLine;
use phalanx_messages::limits::{LOG_BYTES_KEPT_MAX, LOG_LINES_KEPT_MAX};
use tokio::sync::broadcast;

/// Lines a slow follower may be behind.
const FOLLOWED_MAX: usize = 1024;

/// A bounded memory of log lines; cheap to clone. The oldest go first. Never blocks longer than a line takes to copy.
#[derive(Debug, Clone)]
pub struct LogRing(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    followers: broadcast::Sender<LogLine>,
}

impl Default for LogRing {
    fn default() -> Self {
        let followers = broadcast::Sender::new(FOLLOWED_MAX);
        Self(Arc::new(Mutex::new(Kept { lines: VecDeque::new(), bytes: 0, followers })))
    }
}

impl LogRing {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A line is pushed whole or not at all, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn push(&self, line: LogLine) {
        let mut kept = self.kept();
        kept.bytes += line.text.len();
        kept.lines.push_back(line.clone());
        while kept.lines.len() > LOG_LINES_KEPT_MAX || kept.bytes > LOG_BYTES_KEPT_MAX {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.text.len();
        }
        kept.followers.send(line).ok(); // nobody may be listening
    }

    /// The last `count` lines, oldest first.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<LogLine> {
        let kept = self.kept();
        kept.lines.iter().skip(kept.lines.len().saturating_sub(count)).cloned().collect()
    }

    /// The last `count` lines, and every one from then on.
    #[must_use]
    pub fn follow(&self, count: usize) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let kept = self.kept();
        let tail = kept.lines.iter().skip(kept.lines.len().saturating_sub(count)).cloned().collect();
        (tail, kept.followers.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { at_ms: None, level: None, source: String::new(), text: text.to_owned() }
    }

    #[test]
    fn the_oldest_lines_go_and_a_follower_misses_none() {
        let ring = LogRing::default();
        for number in 0..=LOG_LINES_KEPT_MAX {
            ring.push(line(&number.to_string()));
        }
        assert_eq!(ring.tail(usize::MAX).len(), LOG_LINES_KEPT_MAX);
        assert_eq!(ring.tail(usize::MAX)[0].text, "1");
        let (tail, mut news) = ring.follow(1);
        assert_eq!(tail, [line(&LOG_LINES_KEPT_MAX.to_string())]);
        ring.push(line("news"));
        assert_eq!(news.try_recv().unwrap(), line("news"));

        ring.push(line(&"x".repeat(LOG_BYTES_KEPT_MAX - 3)));
        assert_eq!(ring.tail(usize::MAX).len(), 1, "bytes are bounded too");
    }
}
