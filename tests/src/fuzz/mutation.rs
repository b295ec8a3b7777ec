//! Mutations of a corpus. One seed, one sequence.

use crate::draw::Draw;

/// Values that lengths and counters go wrong at.
const INTERESTING: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
/// Mutations of one input at most.
const STEPS_MAX: usize = 6;
/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    draw: Draw,
}

impl Mutator {
    /// Mutates these inputs.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        assert!(!corpus.is_empty(), "nothing to mutate");
        Self { corpus, draw: Draw::new(seed) }
    }

    /// The next input.
    pub fn draw_input(&mut self) -> Vec<u8> {
        let mut bytes = self.pick();
        for _ in 0..=self.draw.below(STEPS_MAX) {
            self.mutate(&mut bytes);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn pick(&mut self) -> Vec<u8> {
        self.corpus[self.draw.below(self.corpus.len())].clone()
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.draw.below(bytes.len() + 1);
        let end = (at + 1 + self.draw.below(16)).min(bytes.len());
        match self.draw.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.draw.below(8),
            1 if at < bytes.len() => bytes[at] = self.byte(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end.max(at))),
            4 => {
                let more: Vec<u8> = (0..=self.draw.below(16)).map(|_| self.byte()).collect();
                bytes.splice(at..at, more);
            }
            5 => {
                let copy = bytes[at..end.max(at)].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = self.pick();
                let from = self.draw.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => self.number(bytes, at),
        }
    }

    /// A number of some width, in either order of bytes, becomes one at which something may go wrong.
    fn number(&mut self, bytes: &mut [u8], at: usize) {
        let width = [1, 2, 4, 8][self.draw.below(4)];
        let value = INTERESTING[self.draw.below(INTERESTING.len())];
        let number = if self.draw.below(2) == 0 { value.to_le_bytes() } else { value.rotate_right(8).to_be_bytes() };
        for (byte, new) in bytes.iter_mut().skip(at).zip(&number[..width]) {
            *byte = *new;
        }
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.draw.below(256)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence_and_every_mutation_comes_up() {
        let run = |seed| {
            let mut mutator = Mutator::new(vec![vec![7; 40], Vec::new()], seed);
            (0..2_000).map(|_| mutator.draw_input()).collect::<Vec<_>>()
        };
        let inputs = run(1);
        assert_eq!(inputs, run(1));
        assert_ne!(inputs, run(2));
        assert!(inputs.iter().any(Vec::is_empty) && inputs.iter().any(|input| input.len() > 45));
        assert!(inputs.iter().any(|input| input.windows(8).any(|window| window == [0xff; 8])));
    }
}
