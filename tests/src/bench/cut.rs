//! How long the service of a host is away whose links are cut, with a fence agent that answers at once.

use super::{Aim, Row, Spread, Stage, failover, now_ns};
use crate::host_cluster::{Agent, HostCluster, TICKER, ticker};
use crate::process_cluster::{PATIENCE, find, wait_for};
use crate::requirement::Requirement;

const HOSTS: usize = 3;
/// The profile for fast interconnects.
const TIMING: &str = "san-nvme";
const MOST_US: f64 = 1_500_000.0;
/// After this no member is a newcomer any more: 2 R + T_net and two operations on the disk, and as much again.
const SETTLED_MS: u64 = 1_800;

/// Cuts, and starts again, as often as asked for.
///
/// # Errors
/// If this machine cannot have hosts of its own.
pub fn run(stage: &Stage) -> anyhow::Result<()> {
    for needed in [Requirement::Root, Requirement::Namespaces] {
        if let Some(reason) = needed.missing() {
            anyhow::bail!("left out: {reason}");
        }
    }
    stage.progress(format!("cut host, {HOSTS} hosts, timing {TIMING}"));
    let mut cluster = HostCluster::form_with(HOSTS, &[Agent::Good], TIMING);
    cluster.define_ticker();
    let (mut gaps, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..stage.options.runs {
        floors.push(failover::command()?);
        gaps.push(gap(&mut cluster));
        if stage.is_over() {
            break;
        }
    }
    let (Some(gaps), Some(floors)) = (Spread::of_ns(&gaps), Spread::of_ns(&floors)) else { return Ok(()) };
    let row = Row::new(format!("cut host, service elsewhere ({TIMING})"), "us", gaps).aim(Aim::Most(MOST_US));
    stage.report(row.floor("one shell command", floors));
    Ok(())
}

fn gap(cluster: &mut HostCluster) -> u64 {
    let status = cluster.wait("all nodes and the service", |status| {
        let joined = |node: usize| find(status, "nodes", &format!("n{node}")).is_some_and(|it| it["state"] == "joined");
        (0..HOSTS).all(joined) && ticker(status).is_some()
    });
    // A cut right after a join waits for the newcomer's view, which is another figure.
    phalanx_node::containment::pause(SETTLED_MS);
    let victim = ticker(&status).expect("it runs");
    let others: Vec<usize> = (0..HOSTS).filter(|host| *host != victim).collect();
    let moved =
        |cluster: &HostCluster| cluster.journals.newest_tick(TICKER).is_some_and(|node| node != format!("n{victim}"));
    assert!(!moved(cluster), "its last tick is of another node");
    let begun_ns = now_ns();
    cluster.lan.part(&[victim], &others);
    wait_for("the service elsewhere", PATIENCE, || moved(cluster).then_some(()));
    let gap_ns = now_ns() - begun_ns;
    cluster.wait_exit(victim);
    cluster.lan.heal();
    cluster.start_again(victim);
    gap_ns
}
