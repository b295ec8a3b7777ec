//! The one place that reads a clock.

use phalanx_messages::Instant;

/// Where a node takes its time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Boot-time clock of this host; counts suspend (protocol §1.1, C1).
    Boot,
    /// tokio's clock, which tests pause and move.
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// A clock that follows tokio's paused or simulated time.
    #[must_use]
    pub fn tokio() -> Self {
        Self::Tokio(tokio::time::Instant::now())
    }

    /// Now, in milliseconds.
    #[must_use]
    pub fn now(&self) -> Instant {
        match self {
            Self::Boot => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                Instant(seconds * 1_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
            }
            // A day of head start, so that "long ago" never saturates.
            Self::Tokio(start) => {
                Instant(86_400_000 + u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX / 2))
            }
        }
    }
}

/// Wall-clock milliseconds since the Unix epoch: for people and logs only, never for a decision.
#[must_use]
pub fn wall_now_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}
