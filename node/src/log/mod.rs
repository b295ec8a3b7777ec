//! Log lines of the daemon: on stderr, and in memory for `phalanx logs`.
//!
//! Whoever logs never waits for whoever reads: lines go through a bounded queue to a thread of their own, which alone writes to
//! stderr. A full queue drops new lines and counts them. `RUST_LOG` chooses what is logged, `info` if it is not set.

mod repeats;
mod utc;

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use phalanx_actors::clock::wall_now_ms;
use phalanx_actors::local_api::LogRing;
use phalanx_messages::admin::LogLine;
use phalanx_messages::limits::LOG_QUEUE_MAX;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use self::repeats::{Line, Repeats};
use crate::containment::now;

pub use utc::utc;

/// How often counts of repeated lines are looked for when nothing is logged.
const TICK: Duration = Duration::from_secs(1);
/// How long the end of the process waits for stderr to take the last lines.
const FLUSH: Duration = Duration::from_millis(200);

/// The log of this process; there is one, as there is one stderr.
static LOG: OnceLock<Log> = OnceLock::new();

enum Item {
    Text(String),
    /// Everything before it has been written.
    Flush(SyncSender<()>),
}

#[derive(Debug, Clone)]
struct Log {
    shared: Arc<Mutex<Shared>>,
    ring: LogRing,
    queue: SyncSender<Item>,
}

#[derive(Debug, Default)]
struct Shared {
    repeats: Repeats,
    dropped: u64,
}

/// Begins to log, panics included. Gives the lines that are kept.
///
/// # Panics
/// If no thread can be started.
pub fn start() -> LogRing {
    let (queue, items) = sync_channel(LOG_QUEUE_MAX);
    let log = Log { shared: Arc::default(), ring: LogRing::default(), queue };
    let ticking = log.clone();
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(move || write_out(&items, &ticking)).expect("a thread can be started");
    let ring = log.ring.clone();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let format = tracing_subscriber::fmt().without_time().with_level(false).with_target(false).with_ansi(false);
    format.with_env_filter(filter).with_writer(log.clone()).try_init().ok(); // somebody may have one already
    LOG.set(log).ok();
    // A panicking thread that waited for stderr would never reach the node's own panic.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    ring
}

/// Waits until stderr has taken what was logged, but not for long.
pub fn flush() {
    let Some(log) = LOG.get() else { return };
    let (done, written) = sync_channel(1);
    if log.queue.try_send(Item::Flush(done)).is_ok() {
        written.recv_timeout(FLUSH).ok();
    }
}

fn write_out(items: &Receiver<Item>, log: &Log) {
    let mut stderr = io::stderr();
    loop {
        match items.recv_timeout(TICK) {
            Ok(Item::Text(text)) => drop(stderr.write_all(text.as_bytes())),
            Ok(Item::Flush(done)) => done.send(()).unwrap_or_default(),
            Err(RecvTimeoutError::Timeout) => log.tick(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Log {
    fn line(&self, line: Line) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = shared.repeats.line(now(), line);
        self.say(&mut shared, lines);
    }

    fn tick(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = shared.repeats.counts(now());
        self.say(&mut shared, lines);
    }

    fn say(&self, shared: &mut Shared, lines: Vec<Line>) {
        if shared.dropped > 0 && !lines.is_empty() {
            let text = format!("{} log lines were dropped, because stderr did not take them\n", shared.dropped);
            if self.queue.try_send(Item::Text(text)).is_ok() {
                shared.dropped = 0;
            }
        }
        for Line { level, source, text } in lines {
            let at_ms = wall_now_ms();
            let written = format!("{} {level:>5} {source}: {text}\n", utc(at_ms));
            if self.queue.try_send(Item::Text(written)).is_err() {
                shared.dropped += 1;
            }
            self.ring.push(LogLine { at_ms: Some(at_ms), level: Some(level.to_owned()), source, text });
        }
    }
}

/// Collects one event.
struct Event<'a> {
    log: &'a Log,
    level: &'static str,
    source: String,
    bytes: Vec<u8>,
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes).trim().to_owned();
        if !text.is_empty() {
            self.log.line(Line { level: self.level, source: std::mem::take(&mut self.source), text });
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Event { log: self, level: "INFO", source: String::new(), bytes: Vec::new() }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        let source = event.target().to_owned();
        Event { log: self, level: event.level().as_str(), source, bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Line {
        Line { level: "INFO", source: "test".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_full_queue_drops_new_lines_and_tells_how_many_and_the_memory_has_them() {
        let (queue, items) = sync_channel(2);
        let log = Log { shared: Arc::default(), ring: LogRing::default(), queue };
        for text in ["one", "two", "three", "four"] {
            log.line(said(text)); // nobody reads: this must not wait
        }
        let written = || match items.try_recv() {
            Ok(Item::Text(text)) => text,
            Ok(Item::Flush(_)) | Err(_) => String::new(),
        };
        assert!(written().ends_with("INFO test: one\n"));
        assert!(written().ends_with("INFO test: two\n"));
        log.line(said("five"));
        assert_eq!(written(), "2 log lines were dropped, because stderr did not take them\n");
        assert!(written().ends_with("INFO test: five\n"));
        let kept: Vec<String> = log.ring.tail(9).into_iter().map(|line| line.text).collect();
        assert_eq!(kept, ["one", "two", "three", "four", "five"]);
    }
}
