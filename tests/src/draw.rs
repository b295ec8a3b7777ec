//! Random choices of a test: one seed, one sequence. Whoever draws prints the seed.

/// See the module.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed in `PHALANX_SEED`, or one that no run before has had.
    ///
    /// # Panics
    /// If the variable is no number.
    #[must_use]
    pub fn fresh_seed() -> u64 {
        std::env::var("PHALANX_SEED").map_or_else(
            |_| phalanx_actors::clock::wall_now_ms(),
            |text| text.parse().expect("PHALANX_SEED is a number"),
        )
    }

    /// A number below `limit` (splitmix64).
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let limit = u64::try_from(limit).expect("a count");
        usize::try_from(mixed % limit).expect("below a count")
    }

    /// The same elements in a drawn order.
    #[must_use]
    pub fn shuffled<T: Clone>(&mut self, elements: &[T]) -> Vec<T> {
        let mut shuffled = elements.to_vec();
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, self.below(at + 1));
        }
        shuffled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence_and_every_order_comes_up() {
        let orders = |seed| {
            let mut draw = Draw::new(seed);
            (0..100).map(|_| draw.shuffled(&[0, 1, 2])).collect::<Vec<_>>()
        };
        assert_eq!(orders(7), orders(7));
        assert_ne!(orders(7), orders(8));
        assert_eq!(orders(7).into_iter().collect::<std::collections::BTreeSet<_>>().len(), 6);
    }
}
