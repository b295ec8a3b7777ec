//! How hard a node is pressed, as one small number that others compare (spec, "2. Choosing Parameters": "recent performance").
//!
//! Pure: whoever reads `/proc` gives what it read. Smoothed, so that a short burst changes nothing; with hysteresis, so that a
//! node at the border between two scores does not move services to and fro.

use phalanx_messages::Instant;

/// Scores lie in 0 ..= this.
const SCORE_MAX: f64 = 10.0;
/// After this time two thirds of a change are seen, in milliseconds.
const SMOOTHING_MS: f64 = 30_000.0;
/// A score is left only when the smoothed pressure is so far beyond its border, in scores.
const HYSTERESIS: f64 = 0.25;

/// Shares of time, in percent, in which something waited for a processor, for memory and for a disk (`/proc/pressure`, `some
/// avg10`).
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Pressures {
    /// Processors.
    pub cpu: f64,
    /// Memory.
    pub memory: f64,
    /// Disks.
    pub io: f64,
}

impl Pressures {
    /// The highest of the three, 0 to 100; anything that is no such number counts as 0.
    #[must_use]
    pub fn highest(self) -> f64 {
        let sane = |share: f64| if share.is_finite() { share.clamp(0.0, 100.0) } else { 0.0 };
        sane(self.cpu).max(sane(self.memory)).max(sane(self.io))
    }
}

/// The share of `some avg10` in the text of a file of `/proc/pressure`.
#[must_use]
pub fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// See the module.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct LoadScore {
    smoothed: Option<(Instant, f64)>,
    score: u8,
}

impl LoadScore {
    /// Takes one reading and gives the score: 0 = idle, 10 = something waits all the time.
    pub fn sample(&mut self, now: Instant, pressures: Pressures) -> u8 {
        let pressed = pressures.highest() / 100.0 * SCORE_MAX;
        let (smoothed, first) = match self.smoothed {
            None => (pressed, true),
            Some((then, before)) => {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds between two readings are few")]
                let passed = now.since(then) as f64;
                (pressed + (before - pressed) * (-passed / SMOOTHING_MS).exp(), false)
            }
        };
        self.smoothed = Some((now, smoothed));
        if first || (smoothed - f64::from(self.score)).abs() > 0.5 + HYSTERESIS {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies in 0 ..= 10")]
            let rounded = smoothed.round().clamp(0.0, SCORE_MAX) as u8;
            self.score = rounded;
        }
        self.score
    }

    /// The newest score.
    #[must_use]
    pub const fn score(&self) -> u8 {
        self.score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Pressures = Pressures { cpu: 90.0, memory: 3.0, io: 1.0 };
    const IDLE: Pressures = Pressures { cpu: 0.0, memory: 0.0, io: 0.0 };

    #[test]
    fn a_short_burst_changes_nothing_and_a_long_one_is_followed_both_ways() {
        let mut load = LoadScore::default();
        assert_eq!(load.sample(Instant(0), IDLE), 0);
        assert_eq!(load.sample(Instant(1_000), BUSY), 0, "a second of nine tenths");
        let after = |load: &mut LoadScore, from: u64, pressures| {
            (1..=120).map(|s| load.sample(Instant(from + s * 1_000), pressures)).last()
        };
        assert_eq!(after(&mut load, 1_000, BUSY), Some(9));
        assert_eq!(after(&mut load, 121_000, IDLE), Some(0));
    }

    #[test]
    fn a_pressure_that_swings_about_a_border_keeps_its_score() {
        let at = |cpu| Pressures { cpu, ..IDLE };
        let mut load = LoadScore::default();
        load.sample(Instant(0), at(44.0));
        let scores: Vec<u8> = (1..100)
            .map(|n: u64| load.sample(Instant(n * 100_000), at(if n.is_multiple_of(2) { 44.0 } else { 46.0 })))
            .collect();
        assert!(scores.iter().all(|score| *score == 4), "{scores:?}");
        assert_eq!(load.sample(Instant(20_000_000), at(60.0)), 6, "a real change is taken");
    }

    #[test]
    fn the_file_of_the_kernel_is_read_and_what_is_no_number_counts_as_nothing() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.10 total=9\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(parse_pressure(text), Some(12.5));
        assert_eq!(parse_pressure("full avg10=3.00\n"), None);
        assert_eq!(Pressures { cpu: f64::NAN, memory: 7.0, io: 900.0 }.highest(), 100.0);
    }
}
