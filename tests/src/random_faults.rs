//! Random faults in a cluster of several hosts, drawn from one seed: daemons and wardens killed, hosts frozen and switched off, links cut one
//! way and both ways, while services are defined.
//!
//! Whatever happens, no two instances of a service live at the same time, no definition that the cluster has confirmed is lost, and
//! when the faults end everybody joins again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::draw::Draw;
use crate::host_cluster::{Agent, HostCluster, ticker};
use crate::process_cluster::list;

/// Faults of one run.
const FAULTS: usize = 12;
/// The longest time between two of them, in milliseconds: some overlap, some do not.
const APART_MS: usize = 1_200;

/// What happened in a run.
#[derive(Debug)]
pub struct Report {
    /// Where the choices come from.
    pub seed: u64,
    /// The faults in their order.
    pub faults: Vec<String>,
    /// The nodes on which the service ran, one after the other.
    pub ran_on: Vec<String>,
    /// Definitions that the cluster has confirmed.
    pub confirmed: BTreeSet<String>,
}

/// Runs one cluster through the faults of a seed.
///
/// # Panics
/// If something does not hold, with the seed and the faults.
#[must_use]
pub fn run(seed: u64) -> Report {
    let mut draw = Draw::new(seed);
    let nodes = 3 + draw.below(3);
    let mut cluster = HostCluster::form(nodes, &[Agent::Good]);
    let mut report = Report { seed, faults: Vec::new(), ran_on: Vec::new(), confirmed: BTreeSet::new() };
    for _ in 0..FAULTS {
        let fault = disturb(&mut cluster, nodes, &mut draw, &mut report.confirmed);
        eprintln!("seed {seed}: {fault}");
        report.faults.push(fault);
        pass(draw.below(APART_MS));
        let _ = cluster.ticked(); // no instance beside another one
    }
    cluster.lan.heal();
    (0..nodes).for_each(|index| cluster.thaw(index));
    settle(&mut cluster, nodes, &report);
    report.ran_on = cluster.ticked();
    report
}

fn disturb(cluster: &mut HostCluster, nodes: usize, draw: &mut Draw, confirmed: &mut BTreeSet<String>) -> String {
    let host = draw.below(nodes);
    let other = (host + 1 + draw.below(nodes - 1)) % nodes;
    match draw.below(12) {
        0 | 1 => {
            cluster.kill(host, " node daemon ");
            format!("the daemon of n{host} is killed")
        }
        2 => {
            cluster.kill(host, " node run ");
            format!("the warden of n{host} is killed")
        }
        3 => {
            cluster.power_off(host);
            format!("n{host} loses power")
        }
        4 => {
            cluster.freeze(host);
            format!("n{host} is frozen")
        }
        5 => {
            cluster.thaw(host);
            format!("n{host} is thawed")
        }
        6 => {
            cluster.lan.cut(host, other);
            format!("the link between n{host} and n{other} is cut")
        }
        7 => {
            cluster.lan.cut_one_way(host, other);
            format!("nothing of n{host} arrives at n{other}")
        }
        8 => {
            cluster.lan.heal();
            "every link is healed".to_owned()
        }
        9 => {
            let name = format!("s{}", draw.below(1_000_000));
            let is_confirmed = cluster.define(&name);
            if is_confirmed {
                confirmed.insert(name.clone());
            }
            format!("service {name} is defined: {}", if is_confirmed { "confirmed" } else { "not confirmed" })
        }
        _ => {
            let ended: Vec<usize> = (0..nodes).filter(|index| cluster.has_ended(*index)).collect();
            ended.iter().for_each(|index| cluster.start_again(*index));
            format!("started again: {ended:?}")
        }
    }
}

/// Everybody comes back, the service runs, and what was confirmed is there.
fn settle(cluster: &mut HostCluster, nodes: usize, report: &Report) {
    let joined = |status: &Value| list(status, "nodes").iter().filter(|node| node["state"] == "joined").count();
    // Who is forced out meanwhile ends, and is started again.
    let clock = phalanx_actors::clock::Clock::Boot;
    let begun = clock.now();
    loop {
        (0..nodes).for_each(|index| {
            if cluster.has_ended(index) {
                cluster.start_again(index);
            }
        });
        let output = cluster.run(&["status", "--output", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let settled = status["source"] == "daemon"
            && joined(&status) == nodes
            && list(&status, "transitions").is_empty()
            && ticker(&status).is_some();
        if settled {
            let known: BTreeSet<&str> =
                list(&status, "services").iter().filter_map(|service| service["name"].as_str()).collect();
            let lost: Vec<&String> = report.confirmed.iter().filter(|name| !known.contains(name.as_str())).collect();
            assert!(
                lost.is_empty(),
                "seed {}: {lost:?} were confirmed and are lost after {:#?}",
                report.seed,
                report.faults
            );
            return;
        }
        let waited_ms = clock.now().since(begun);
        assert!(
            u128::from(waited_ms) < SETTLED_WITHIN.as_millis(),
            "seed {}: not settled after {:#?}\n{status:#}\n{}",
            report.seed,
            report.faults,
            (0..nodes).map(|index| format!("--- n{index}\n{}\n", cluster.said(index))).collect::<String>()
        );
        pass(100);
    }
}

/// Longer than any take-over and the grace that a ghost's host has.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

#[expect(
    clippy::disallowed_methods,
    reason = "the distance between two faults is what is drawn; else a breath between two looks"
)]
fn pass(ms: usize) {
    std::thread::sleep(Duration::from_millis(u64::try_from(ms).expect("a short time")));
}
