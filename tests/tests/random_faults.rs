//! Random faults in clusters of several hosts. `PHALANX_FAULT_RUNS` says how many runs, `PHALANX_SEED` which seed is the first.

use phalanx_tests::random_faults;
use phalanx_tests::requirement::{Requirement, available};

/// Runs of the test command.
const RUNS: u64 = 5;

#[test]
fn no_service_runs_twice_and_nothing_confirmed_is_lost_whatever_happens() {
    if !available(&[Requirement::Root, Requirement::Namespaces]) {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, runs) = (number("PHALANX_SEED").unwrap_or(0), number("PHALANX_FAULT_RUNS").unwrap_or(RUNS));
    let failed = random_faults::run_many(first, runs, |report| println!("{report}"));
    let told: Vec<String> = failed.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{} of {runs} runs failed:\n{}", told.len(), told.join("\n"));
}
