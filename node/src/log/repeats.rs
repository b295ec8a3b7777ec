//! A repeated log line is said at once, then as a count every 10 s (architecture §4, "Start and stop").
//!
//! Pure: time is given. A line that was not repeated within its 10 s is forgotten, so that it is said at once the next time.

use std::collections::BTreeMap;

use phalanx_messages::Instant;
use phalanx_messages::limits::LOG_REPEATS_MAX;

/// Between two counts of the same line, in milliseconds.
const COUNT_MS: u64 = 10_000;

/// What makes two lines the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Its level, as text.
    pub level: &'static str,
    /// Who says it.
    pub source: String,
    /// What is said.
    pub text: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Repeats {
    /// When its time is over, and how often it was said again.
    said: BTreeMap<Line, (Instant, u64)>,
}

impl Repeats {
    /// Gives what must be said now that `line` was logged.
    pub fn line(&mut self, now: Instant, line: Line) -> Vec<Line> {
        let mut out = self.counts(now);
        if let Some((_, again)) = self.said.get_mut(&line) {
            *again += 1;
            return out;
        }
        if self.said.len() >= LOG_REPEATS_MAX {
            out.extend(self.forget_first_to_end());
        }
        self.said.insert(line.clone(), (now.plus(COUNT_MS), 0));
        out.push(line);
        out
    }

    /// The counts whose time is over.
    pub fn counts(&mut self, now: Instant) -> Vec<Line> {
        let mut out = Vec::new();
        self.said.retain(|line, (until, again)| {
            if now < *until {
                return true;
            }
            let was_repeated = *again > 0;
            out.extend(count(line, *again));
            (*until, *again) = (now.plus(COUNT_MS), 0);
            was_repeated
        });
        out
    }

    fn forget_first_to_end(&mut self) -> Option<Line> {
        let first = self.said.iter().min_by_key(|(_, (until, _))| *until).map(|(line, _)| line.clone())?;
        let (_, again) = self.said.remove(&first)?;
        count(&first, again)
    }
}

fn count(line: &Line, again: u64) -> Option<Line> {
    let text = format!("{} (said {again} more times)", line.text);
    (again > 0).then(|| Line { text, ..line.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { level: "INFO", source: "test".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_line_is_said_at_once_then_counted_every_ten_seconds_then_forgotten() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.line(Instant(0), line("a")), [line("a")]);
        assert_eq!(repeats.line(Instant(1), line("a")), []);
        assert_eq!(repeats.line(Instant(2), line("b")), [line("b")], "another line is not a repeat");
        assert_eq!(repeats.line(Instant(9_999), line("a")), []);
        assert_eq!(repeats.counts(Instant(10_000)), [line("a (said 2 more times)")]);
        assert_eq!(repeats.line(Instant(10_001), line("a")), [], "still counted");
        assert_eq!(repeats.counts(Instant(20_000)), [line("a (said 1 more times)")]);
        assert_eq!(repeats.counts(Instant(30_000)), []);
        assert_eq!(repeats.line(Instant(30_001), line("a")), [line("a")], "forgotten, so said at once");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_no_count_is_lost() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.line(Instant(0), line("first")), [line("first")]);
        assert_eq!(repeats.line(Instant(0), line("first")), []);
        for number in 1..LOG_REPEATS_MAX {
            repeats.line(Instant(1), line(&number.to_string()));
        }
        assert_eq!(repeats.line(Instant(2), line("one more")), [line("first (said 1 more times)"), line("one more")]);
        assert_eq!(repeats.said.len(), LOG_REPEATS_MAX);
    }
}
