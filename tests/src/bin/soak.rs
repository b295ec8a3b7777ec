//! A cluster under churn for `PHALANX_SOAK_SECONDS` (60 if not set): nothing may grow. Needs root, network namespaces and nftables.

use anyhow::{Context as _, ensure};
use phalanx_tests::requirement::{Requirement, available};
use phalanx_tests::soak;

/// Long enough for a measurement.
const SECONDS: u64 = 60;

fn main() -> anyhow::Result<()> {
    let seconds = match std::env::var("PHALANX_SOAK_SECONDS") {
        Ok(text) => text.parse().context("PHALANX_SOAK_SECONDS is no number of seconds")?,
        Err(_) => SECONDS,
    };
    if !available(&[Requirement::Root, Requirement::Namespaces]) {
        return Ok(());
    }
    let report = soak::run(seconds);
    println!("{report}");
    let grown = report.growth();
    ensure!(grown.is_empty(), "something grows:\n{}", grown.join("\n"));
    Ok(())
}
