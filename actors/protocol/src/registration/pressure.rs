//! How hard a node is pressed, as one number that does not flicker (spec, "2. Choosing": "recent performance statistics").

/// Share of the newest sample in the smoothed value, in percent.
const NEWEST_PERCENT: u32 = 30;
/// The smoothed value must lie this far outside a step before the step changes, in percent.
const HYSTERESIS_PERCENT: u32 = 3;
/// Width of a step, in percent.
const STEP_PERCENT: u32 = 10;

/// Smooths samples and holds the step, 0 to 10, that they lie in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// In hundredths of a percent, so that small samples are not rounded away.
    smoothed: u32,
    step: u8,
}

impl Pressure {
    /// Takes a sample, 0 to 100 percent of time in which something waited, and gives the step.
    pub fn sample(&mut self, percent: u32) -> u8 {
        let newest = percent.min(100) * 100;
        self.smoothed = (self.smoothed * (100 - NEWEST_PERCENT) + newest * NEWEST_PERCENT) / 100;
        let (low, high) = (u32::from(self.step) * STEP_PERCENT, (u32::from(self.step) + 1) * STEP_PERCENT);
        let (below, above) = (low.saturating_sub(HYSTERESIS_PERCENT) * 100, (high + HYSTERESIS_PERCENT) * 100);
        if self.smoothed < below || self.smoothed >= above {
            self.step = u8::try_from(self.smoothed / (100 * STEP_PERCENT)).unwrap_or(10).min(10);
        }
        self.step
    }
}

/// The percentage of a line of `/proc/pressure/*`: `some avg10=1.53 avg60=...`; none if it is no such line.
#[must_use]
pub fn percent_of(line: &str) -> Option<u32> {
    let mut words = line.split_whitespace();
    let average = words.find_map(|word| word.strip_prefix("avg10="))?;
    average.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_reached_slowly_and_held_against_small_changes() {
        let mut pressure = Pressure::default();
        assert_eq!(pressure.sample(100), 3, "one sample is not everything");
        for _ in 0..30 {
            pressure.sample(100);
        }
        assert_eq!(pressure.sample(100), 9);
        for _ in 0..40 {
            pressure.sample(41);
        }
        assert_eq!(pressure.sample(41), 4);
        for percent in [38, 51, 39, 52, 41] {
            assert_eq!(pressure.sample(percent), 4, "{percent}");
        }
        for _ in 0..40 {
            pressure.sample(0);
        }
        assert_eq!(pressure.sample(0), 0);
    }

    #[test]
    fn a_line_of_the_kernel_is_read() {
        assert_eq!(percent_of("some avg10=98.58 avg60=99.14 avg300=94.50 total=1095649701"), Some(98));
        assert_eq!(percent_of("full total=1"), None);
    }
}
