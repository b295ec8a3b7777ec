//! True time, and what the clock of one node makes of it (protocol §1.1, C1).

use phalanx_messages::Instant;

/// True time in microseconds since the world began. Only the world and its checks know it.
pub type Micros = u64;

/// Microseconds in a millisecond.
pub const MS: Micros = 1_000;
/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;

/// The clock of one node: begins somewhere and runs a little too fast or too slow, always by the same rate.
#[derive(Debug, Clone, Copy)]
pub struct NodeClock {
    offset_ms: u64,
    rate_ppm: i64,
}

impl NodeClock {
    /// A clock that shows `offset_ms` at the beginning and errs by `rate_ppm`.
    #[must_use]
    pub const fn new(offset_ms: u64, rate_ppm: i64) -> Self {
        Self { offset_ms, rate_ppm }
    }

    /// The same that errs by another rate.
    #[must_use]
    pub const fn with_rate(self, rate_ppm: i64) -> Self {
        Self { rate_ppm, ..self }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self, at: Micros) -> Instant {
        let error = i128::from(at) * i128::from(self.rate_ppm) / 1_000_000;
        let shown = u64::try_from(i128::from(at) + error).unwrap_or(0);
        Instant(self.offset_ms + shown / MS)
    }

    /// True time that certainly passes until the clock has advanced by `ms`.
    #[must_use]
    pub fn until_passed(&self, ms: u64) -> Micros {
        let million = 1_000_000_i128;
        let true_us = i128::from(ms) * i128::from(MS) * million / (million + i128::from(self.rate_ppm));
        u64::try_from(true_us).unwrap_or(0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_needs_less_time() {
        let clock = NodeClock::new(1_000, 1_000);
        assert_eq!(clock.now(1_000 * SECOND), Instant(1_000 + 1_001_000));
        assert!(clock.until_passed(1_001_000) >= 1_000 * SECOND && clock.until_passed(1_001_000) < 1_001 * SECOND);
    }
}
