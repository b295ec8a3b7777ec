//! The relations that the inputs of a profile must keep (protocol §3.11, "Checks made at start").
//!
//! A profile that breaks one is refused wherever it comes from: a configuration, or the superblock of a disk.

use std::fmt;

use super::{TimingInput, TimingProfile};

/// Longest time-out that is accepted, in milliseconds: a day. Keeps every formula far from the end of its type.
const TIMEOUT_MAX_MS: u64 = 24 * 3_600_000;
/// Largest rate error of a clock that is accepted, in parts per million: ten percent.
const DRIFT_MAX_PPM: u64 = 100_000;
/// Heartbeats within `T_net`, and feeds within W: below this many milliseconds they would be 0.
const NET_MIN_MS: u64 = 6;
/// See [`NET_MIN_MS`].
const WATCHDOG_MIN_MS: u64 = 4;

/// How a value must stand to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Not below it.
    AtLeast,
    /// Not above it.
    AtMost,
}

/// One relation that does not hold. `Display` names both keys and both values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimingClash {
    /// The input that is wrong.
    pub input: TimingInput,
    /// Its value.
    pub found: u64,
    /// How it must stand to the limit.
    pub relation: Relation,
    /// The limit, in the unit of the input.
    pub limit: u64,
    /// What the limit is made of; empty if it is a plain number.
    pub formula: &'static str,
    /// The inputs in the formula, with their values.
    pub others: [Option<(TimingInput, u64)>; 2],
}

impl TimingClash {
    /// What to change.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self { input, limit, relation, .. } = self;
        let unit = if *input == TimingInput::Drift { "" } else { "ms" };
        let set = match relation {
            Relation::AtLeast => format!("raise `{input}` to {limit}{unit}"),
            Relation::AtMost => format!("lower `{input}` to {limit}{unit}"),
        };
        let other = self.others.iter().flatten().next();
        let other = match (other, relation) {
            (Some((other, _)), Relation::AtLeast) => format!(", or lower `{other}`"),
            (Some((other, _)), Relation::AtMost) => format!(", or raise `{other}`"),
            (None, Relation::AtLeast | Relation::AtMost) => String::new(),
        };
        let without = if input.formula().is_some() { "; left out, it follows from the others" } else { "" };
        format!("{set}{other}{without}")
    }
}

impl fmt::Display for TimingClash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, found, limit, formula, .. } = self;
        let relation = match self.relation {
            Relation::AtLeast => "at least",
            Relation::AtMost => "at most",
        };
        let unit = input.unit();
        write!(f, "`{input}` ({found} {unit}) must be {relation} ")?;
        if formula.is_empty() {
            return write!(f, "{limit} {unit}");
        }
        write!(f, "{formula} ({limit} {unit}")?;
        for (other, value) in self.others.iter().flatten() {
            write!(f, "; `{other}` is {value} {}", other.unit())?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for TimingClash {}

impl TimingProfile {
    /// Checks the relations between the inputs (protocol §3.11, "Checks made at start").
    ///
    /// # Errors
    /// The first relation that does not hold.
    pub fn check(&self) -> Result<(), TimingClash> {
        self.clashes().into_iter().next().map_or(Ok(()), Err)
    }

    /// Every relation that does not hold.
    #[must_use]
    pub fn clashes(&self) -> Vec<TimingClash> {
        let out_of_range = self.out_of_range();
        if !out_of_range.is_empty() {
            return out_of_range; // formulae over such numbers mean nothing
        }
        use Relation::{AtLeast, AtMost};
        use TimingInput::{Guard, IoTimeout, Lease, Net, Renewal, Settle, Stop, Warn, Watchdog};
        let least_lease = self.renewal_ms + 6 * self.io_timeout_ms;
        let least_settle = 4 * self.io_timeout_ms + self.net_ms / 3;
        let most_guard = self.lease_ms.saturating_sub(self.renewal_ms + 1);
        let rules = [
            (Lease, AtLeast, least_lease, "`renewal` + 6 `io_timeout`", [Some(Renewal), Some(IoTimeout)]),
            (Stop, AtMost, self.watchdog_ms, "`watchdog`", [Some(Watchdog), None]),
            (Guard, AtLeast, self.io_timeout_ms / 2, "half of `io_timeout`", [Some(IoTimeout), None]),
            (Guard, AtMost, most_guard, "what is left of `lease` after a `renewal`", [Some(Lease), Some(Renewal)]),
            (Warn, AtMost, self.lease_ms, "`lease`", [Some(Lease), None]),
            (Settle, AtLeast, least_settle, "4 `io_timeout` + `net` / 3", [Some(IoTimeout), Some(Net)]),
        ];
        let clash = |(input, relation, limit, formula, others): (TimingInput, Relation, u64, _, [Option<_>; 2])| {
            let found = input.of(self);
            let holds = match relation {
                AtLeast => found >= limit,
                AtMost => found <= limit,
            };
            let others = others.map(|other: Option<TimingInput>| other.map(|other| (other, other.of(self))));
            (!holds).then_some(TimingClash { input, found, relation, limit, formula, others })
        };
        let mut clashes: Vec<TimingClash> = rules.into_iter().filter_map(clash).collect();
        // What a lease that is too short drags along is told once.
        if clashes.first().is_some_and(|first| first.input == Lease) {
            clashes.retain(|clash| {
                clash.input == Lease || !clash.others.iter().flatten().any(|(other, _)| *other == Lease)
            });
        }
        clashes
    }

    fn out_of_range(&self) -> Vec<TimingClash> {
        let range = |input: TimingInput| {
            let least = match input {
                TimingInput::Net => NET_MIN_MS,
                TimingInput::Watchdog => WATCHDOG_MIN_MS,
                TimingInput::WatchdogDelta
                | TimingInput::LateWrite
                | TimingInput::Drift
                | TimingInput::Granularity
                | TimingInput::Guard => 0,
                TimingInput::IoTimeout
                | TimingInput::Renewal
                | TimingInput::Lease
                | TimingInput::Warn
                | TimingInput::Stop
                | TimingInput::Settle
                | TimingInput::Restart
                | TimingInput::Stable
                | TimingInput::Kill => 1,
            };
            (least, if input == TimingInput::Drift { DRIFT_MAX_PPM } else { TIMEOUT_MAX_MS })
        };
        let clash = |input: TimingInput| {
            let (found, (least, most)) = (input.of(self), range(input));
            let (relation, limit) = match found {
                low if low < least => (Relation::AtLeast, least),
                high if high > most => (Relation::AtMost, most),
                _ => return None,
            };
            Some(TimingClash { input, found, relation, limit, formula: "", others: [None, None] })
        };
        TimingInput::ALL.into_iter().filter_map(clash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_profile_keeps_every_relation() {
        for (name, profile) in TimingProfile::NAMED {
            assert_eq!(profile.clashes(), [], "{name}");
            assert!(profile.feed_ms() * 3 <= profile.watchdog_ms, "feed <= W / 3 in {name}");
        }
    }

    /// Protocol §3.11: each relation, broken by itself.
    #[test]
    fn each_broken_relation_names_both_keys_and_both_values() {
        let dev = TimingProfile::DEV;
        let first = |profile: TimingProfile| profile.check().unwrap_err().to_string();
        assert_eq!(
            first(TimingProfile { lease_ms: 1_999, ..dev }),
            "`lease` (1999 ms) must be at least `renewal` + 6 `io_timeout` (2000 ms; `renewal` is 500 ms; `io_timeout` is 250 ms)"
        );
        assert_eq!(
            first(TimingProfile { stop_ms: 1_001, ..dev }),
            "`stop` (1001 ms) must be at most `watchdog` (1000 ms; `watchdog` is 1000 ms)"
        );
        assert_eq!(
            first(TimingProfile { guard_ms: 100, ..dev }),
            "`guard` (100 ms) must be at least half of `io_timeout` (125 ms; `io_timeout` is 250 ms)"
        );
        assert!(
            first(TimingProfile { guard_ms: 1_500, ..dev }).starts_with("`guard` (1500 ms) must be at most what is")
        );
        assert!(first(TimingProfile { warn_ms: 2_001, ..dev }).starts_with("`warn` (2001 ms) must be at most `lease`"));
        assert!(first(TimingProfile { settle_ms: 1_249, ..dev }).contains("4 `io_timeout` + `net` / 3 (1250 ms"));
        assert_eq!(first(TimingProfile { watchdog_ms: 3, ..dev }), "`watchdog` (3 ms) must be at least 4 ms");
        assert_eq!(
            first(TimingProfile { drift_ppm: 1_000_000, ..dev }),
            "`drift_ppm` (1000000 ppm) must be at most 100000 ppm"
        );
        assert!(first(TimingProfile { lease_ms: u64::MAX, ..dev }).ends_with("must be at most 86400000 ms"));
    }

    #[test]
    fn the_hint_gives_the_number_to_write() {
        let clash = TimingProfile { lease_ms: 1_000, ..TimingProfile::DEV }.check().unwrap_err();
        let hint = "raise `lease` to 2000ms, or lower `renewal`; left out, it follows from the others";
        assert_eq!(clash.hint(), hint);
    }
}
