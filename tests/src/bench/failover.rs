//! How long the service of a killed daemon is away, beside the launch of one command.

use std::process::Command;

use rustix::process::Signal;

use super::{Aim, Row, Spread, Stage, now_ns};
use crate::process_cluster::{DevCluster, signal_process};

/// A killed daemon's service answers elsewhere within this.
const MOST_US: f64 = 50_000.0;

/// Kills, and starts again, as often as asked for.
///
/// # Errors
/// If no shell can be started.
pub fn run(stage: &Stage) -> anyhow::Result<()> {
    stage.progress("fail-over of three nodes");
    let cluster = DevCluster::start(3, &[]);
    let (mut gaps, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..stage.options.runs {
        floors.push(command()?);
        gaps.push(gap(&cluster));
        if stage.is_over() {
            break;
        }
    }
    let (Some(gaps), Some(floors)) = (Spread::of_ns(&gaps), Spread::of_ns(&floors)) else { return Ok(()) };
    let row = Row::new("SIGKILL of a daemon, service elsewhere", "us", gaps).aim(Aim::Most(MOST_US));
    stage.report(row.floor("one shell command", floors));
    Ok(())
}

/// Launching a command and waiting for it: what every step of every level costs at least.
///
/// # Errors
/// If no shell can be started.
pub(super) fn command() -> anyhow::Result<u64> {
    let begun_ns = now_ns();
    Command::new("/bin/sh").args(["-c", "true"]).status()?;
    Ok(now_ns() - begun_ns)
}

fn gap(cluster: &DevCluster) -> u64 {
    let victim = cluster.wait_registered("licences");
    cluster.wait_joined(3);
    let before = cluster.take_licence();
    assert_eq!(before, victim);
    let (_, daemon) = cluster.processes_of(&victim);
    let begun_ns = now_ns();
    signal_process(daemon, Signal::KILL);
    let mut after = victim.clone();
    while after == victim {
        after = cluster.take_licence(); // answers of the dying instance do not count
    }
    let gap_ns = now_ns() - begun_ns;
    assert!(cluster.run(&["start", &victim]).status.success());
    gap_ns
}
