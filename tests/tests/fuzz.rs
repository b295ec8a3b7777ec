//! Everything that is decoded from outside is fuzzed for a bounded time: `PHALANX_FUZZ_SECONDS` for each target, else one second
//! (docs/design/fuzzing.md).
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only passes on to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use phalanx_tests::fuzz::{BYTES_FLAT, BYTES_PER_BYTE, Target, all, budget, corpus, fuzz};

/// Counts what the running thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn held(change: impl FnOnce(usize) -> usize) {
    // A thread that ends has no such cell any more, and is measured by nobody.
    let held = HELD.try_with(|held| {
        held.set(change(held.get()));
        held.get()
    });
    if let Ok(held) = held {
        MOST.try_with(|most| most.set(most.get().max(held))).ok();
    }
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        held(|held| held.wrapping_add(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        held(|held| held.saturating_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs one input; the most that was held beside what was held before.
fn measured(target: &Target, input: &[u8]) -> (bool, usize) {
    let before = HELD.get();
    MOST.set(before);
    let decoded = (target.run)(input);
    (decoded, MOST.get().saturating_sub(before))
}

/// Fuzzes one target. An input that breaks something is shown, ready to be kept in the corpus.
fn run(name: &str) {
    let target = all().find(|target| target.name == name).expect("a target");
    let (mut decoded, mut most) = (0_u64, 0);
    let inputs = fuzz(target, budget(), |input| {
        let result = std::panic::catch_unwind(|| measured(target, input));
        let Ok((is_decoded, bytes)) = result else { panic!("{name}: this input breaks it: {input:?}") };
        let allowed = BYTES_FLAT + BYTES_PER_BYTE * input.len();
        assert!(bytes <= allowed, "{name}: {bytes} bytes are held for an input of {}: {input:?}", input.len());
        decoded += u64::from(is_decoded);
        most = most.max(bytes);
    });
    println!("{name}: {inputs} inputs, {decoded} decoded, at most {most} bytes held");
    assert!(inputs > 0 && decoded > 0, "{name}: {decoded} of {inputs} inputs were decoded");
}

macro_rules! targets {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                run($name);
            }
        )*

        #[test]
        fn every_target_is_fuzzed() {
            let fuzzed: BTreeSet<&str> = [$($name),*].into();
            assert_eq!(fuzzed, all().map(|target| target.name).collect());
        }
    };
}
targets! {
    handshakes_of_strangers: "interconnect-handshake",
    frames_of_peers: "interconnect-frames",
    messages_of_peers: "interconnect-messages",
    requests_on_the_local_socket: "local-requests",
    answers_on_the_local_socket: "local-answers",
    superblocks: "superblock",
    node_registers: "node-register",
    membership_records: "membership-record",
    configuration_records: "configuration-record",
    decision_registers: "decision-register",
    registration_records: "registration-record",
    registration_redo_logs: "registration-redo",
}

/// The committed corpus is what the generator makes, every made input decodes, and what broke something once is kept.
#[test]
fn the_corpus_is_what_is_made_and_decodes() {
    let mut made = corpus::make();
    for target in all() {
        let mut kept = corpus::read(target);
        kept.retain(|name, _| !name.starts_with(corpus::FOUND));
        if let Some(made) = made.remove(target.name) {
            assert!(kept == made, "tests/corpus/{}: run `cargo run -p phalanx-tests --bin corpus`", target.name);
        }
        let decoded = kept.iter().filter(|(_, bytes)| (target.run)(bytes)).count();
        let expected = if target.name == "interconnect-frames" { kept.len() - 2 } else { kept.len() };
        assert_eq!(decoded, expected, "{}: {:?}", target.name, kept.keys());
    }
    assert!(made.is_empty(), "made for no target: {:?}", made.keys());
}

/// A checksum that is wrong, another address, another cluster: refused, whatever the rest says.
#[test]
fn a_block_of_another_place_or_cluster_is_refused_by_every_reader() {
    for target in phalanx_tests::fuzz::DISK_TARGETS {
        for (name, bytes) in corpus::read(&target) {
            assert!((target.run)(&bytes));
            for (field, at) in [("cluster", 8), ("address", 24), ("owner", 32), ("payload", 100)] {
                let mut changed = bytes.clone();
                changed.resize(changed.len().max(at + 1).next_multiple_of(16), 0); // of which every reader is asked
                changed[at] ^= 1;
                assert!(!(target.run)(&changed), "{}/{name}: {field}, with a wrong checksum", target.name);
            }
        }
    }
}
