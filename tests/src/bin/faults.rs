//! Random faults in clusters of several hosts: `faults --seed N --runs N`. Needs root, network namespaces and nftables.

use anyhow::ensure;
use clap::Parser;
use phalanx_tests::random_faults;
use phalanx_tests::requirement::{Requirement, available};

/// Random faults in clusters of several hosts.
#[derive(Debug, Parser)]
struct Options {
    /// The first seed; the other runs have those that follow.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs.
    #[arg(long, default_value_t = 200)]
    runs: u64,
}

fn main() -> anyhow::Result<()> {
    let Options { seed, runs } = Options::parse();
    ensure!(available(&[Requirement::Root, Requirement::Namespaces]), "this machine cannot run them");
    let failed = random_faults::run_many(seed, runs, |report| println!("{report}"));
    ensure!(failed.is_empty(), "{} of {runs} runs failed", failed.len());
    println!("{runs} runs: no overlap, nothing lost");
    Ok(())
}
