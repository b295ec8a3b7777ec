//! The one source of chance of a simulation: SplitMix64. Equal seeds give equal draws on every machine.

/// See the module.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Draws that depend on nothing but the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A source of its own for one part of the world, so that more draws there do not change the others.
    #[must_use]
    pub fn part(&mut self) -> Self {
        Self(self.next())
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// A number from `low` up to, not including, `high`.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// A number from `low` to `high` whose magnitude is drawn first: small ones are as frequent as large ones.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let low = low.max(1);
        let doublings = self.below(u64::from((high / low).max(1).ilog2()) + 1);
        let begin = low << doublings;
        self.between(begin, (begin * 2).min(high + 1).max(begin + 1))
    }

    /// True with that probability.
    pub const fn chance(&mut self, per_thousand: u64) -> bool {
        self.below(1_000) < per_thousand
    }

    /// True half of the time.
    pub const fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(choices.len()).unwrap_or(u64::MAX);
        choices.get(usize::try_from(self.below(count)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_their_bounds_and_repeat_with_the_seed() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| random.magnitude(10, 5_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|drawn| (10..=5_000).contains(drawn)));
        assert!(draw(7).iter().any(|drawn| *drawn < 100) && draw(7).iter().any(|drawn| *drawn > 1_000));
        assert_eq!(Random::new(1).between(5, 5), 5);
    }
}
