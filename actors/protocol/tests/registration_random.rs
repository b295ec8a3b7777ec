//! Random runs of registration and launch: nodes boot, leave and die, messages are late, repeated and lost, commands fail,
//! leases are judged wrongly. The invariants of protocol §6.6 hold after every step, and when the faults end everything comes to
//! rest (I-R20). One seed is one run; a failure prints it.

mod registration_world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use registration_world::World;

const STEPS: usize = 3_000;
const CALM_ROUNDS: usize = 400;

fn run(seed: u64) -> BTreeMap<&'static str, usize> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.faults = false;
    for _ in 0..CALM_ROUNDS {
        world.calm_round();
    }
    world.check_rest();
    let commits = world.seen["commit"];
    for _ in 0..40 {
        world.calm_round();
    }
    assert_eq!(world.seen["commit"], commits, "I-R20: decisions go on though nothing happens\n{}", world.read());
    world.seen
}

#[test]
fn the_invariants_hold_and_everything_comes_to_rest() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let run = result.unwrap_or_else(|failure| {
            eprintln!("seed {seed}");
            resume_unwind(failure)
        });
        run.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
    }
    eprintln!("{seen:?}");
    let expected = [
        "boot",
        "leave",
        "left",
        "doomed",
        "died",
        "command failed",
        "request",
        "apply",
        "remove",
        "standby",
        "lease judged wrongly",
        "executor panicked",
        "Starting",
        "StartCleanup",
        "Registered",
        "Stopping",
        "StopKill",
        "Recovering",
        "RecoveryCleanup",
        "FenceStart",
        "FenceStop",
        "FenceRecovery",
        "AwaitMaturity",
        "Failed",
        "PendRecovery",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|what| !seen.contains_key(what)).collect();
    assert!(missing.is_empty(), "the runs never reached {missing:?}");
}
