//! The hardware watchdog of a simulated host: it resets the host W after it was last fed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use phalanx_actors::ports::Watchdog;

/// See the module. Clones are one device.
#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedWatchdog(Arc<Device>);

#[derive(Debug, Default)]
struct Device {
    feeds: AtomicU64,
    /// Feeds that were seen, and when.
    seen: AtomicU64,
    seen_at_ms: AtomicU64,
    /// The whole host is paused, and its watchdog with it.
    paused: AtomicBool,
}

impl Watchdog for SimulatedWatchdog {
    fn feed(&mut self) -> io::Result<()> {
        self.0.feeds.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl SimulatedWatchdog {
    /// The host is powered up: nothing has armed it.
    pub fn reset(&self) {
        self.0.feeds.store(0, Ordering::Relaxed);
    }

    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::Relaxed);
    }

    /// Whether it fires now.
    pub fn fires(&self, now_ms: u64, watchdog_ms: u64) -> bool {
        let feeds = self.0.feeds.load(Ordering::Relaxed);
        if feeds != self.0.seen.swap(feeds, Ordering::Relaxed) {
            self.0.seen_at_ms.store(now_ms, Ordering::Relaxed);
        }
        let armed = feeds > 0 && !self.0.paused.load(Ordering::Relaxed);
        armed && now_ms - self.0.seen_at_ms.load(Ordering::Relaxed) >= watchdog_ms
    }
}
