//! A bounded fuzzer for everything that is decoded from outside: the wire, the shared disk, the local socket.
//!
//! There is no libFuzzer on a stable toolchain, so this one is a program like any other: it mutates a committed corpus
//! (`tests/corpus`, written by the binary `corpus`) with one seed, for as long as [`budget`] says. It has no feedback from coverage; the
//! corpus is there to begin in every corner.
//!
//! What must hold for every input: nothing panics, nothing allocates out of proportion, what decodes is encoded and decoded to the
//! same value, and a block with a wrong checksum, address or cluster is refused.

pub mod corpus;
mod disk_targets;
mod mutation;
mod targets;

use std::time::Duration;

use phalanx_actors::clock::Clock;

pub use disk_targets::DISK_TARGETS;
pub use mutation::Mutator;
pub use targets::{Target, WIRE_TARGETS};

/// What an input may make a decoder allocate at most, beside [`BYTES_PER_BYTE`] for each of its own bytes: containers are made for
/// as many elements as a length says, up to a megabyte each, before the first element turns out not to be there.
pub const BYTES_FLAT: usize = 4 << 20;
/// See [`BYTES_FLAT`].
pub const BYTES_PER_BYTE: usize = 64;

/// How long each target is fuzzed: `PHALANX_FUZZ_SECONDS`, else one second.
#[must_use]
pub fn budget() -> Duration {
    let wanted = std::env::var("PHALANX_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(wanted.unwrap_or(1))
}

/// Every target.
pub fn all() -> impl Iterator<Item = &'static Target> {
    WIRE_TARGETS.iter().chain(&DISK_TARGETS)
}

/// Gives the target its corpus and then mutations of it, as long as the budget lasts; each to `run`. How many there were.
pub fn fuzz(target: &Target, budget: Duration, mut run: impl FnMut(&[u8])) -> u64 {
    let corpus: Vec<Vec<u8>> = corpus::read(target).into_values().collect();
    corpus.iter().for_each(|input| run(input));
    let mut mutator = Mutator::new(corpus, 0x5eed);
    let begun = Clock::Boot.now();
    let mut inputs = 0;
    while u128::from(Clock::Boot.now().since(begun)) < budget.as_millis() {
        for _ in 0..32 {
            let input = (target.mend)(mutator.draw_input());
            run(&input);
            inputs += 1;
        }
    }
    inputs
}
