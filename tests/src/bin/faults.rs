//! Random faults in clusters of several hosts: `faults --seed N --count N`. Needs root, network namespaces and nftables.

use phalanx_tests::random_faults;
use phalanx_tests::requirement::{Requirement, available};

fn main() -> anyhow::Result<()> {
    let (mut seed, mut count) = (0_u64, 200_u64);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--seed", Some(value)) => seed = value,
            ("--count", Some(value)) => count = value,
            _ => anyhow::bail!("usage: faults [--seed N] [--count N]; without them the seeds 0 to 199"),
        }
    }
    anyhow::ensure!(available(&[Requirement::Root, Requirement::Namespaces]), "this machine cannot run them");
    for seed in seed..seed + count {
        let report = random_faults::run(seed);
        println!(
            "seed {seed}: {} faults, ran on {}, {} definitions kept",
            report.faults.len(),
            report.ran_on.join(" "),
            report.confirmed.len()
        );
    }
    println!("{count} runs: no overlap, nothing lost");
    Ok(())
}
