//! Random faults in a cluster of several hosts, drawn from one seed: daemons and wardens killed, hosts frozen and switched off, links cut one
//! way and both ways and flapping, paths to the disk that hang, fail or are slow, while services are defined and moved.
//!
//! Whatever happens, no two instances of a service live at the same time, no generation comes back, no definition that the cluster
//! has confirmed is lost, and when the faults end everybody joins again and each service runs once.

mod definer;
mod plan;

use std::fmt;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use phalanx_actors::clock::Clock;
use phalanx_messages::profile::TimingProfile;
use phalanx_node::test_host::DiskPath;
use serde_json::Value;

use crate::host_cluster::{HostCluster, runs_on};
use crate::process_cluster::list;

pub use definer::Confirmed;
pub use plan::{Act, Plan};

/// Services that run and keep journals.
const SERVICES: [&str; 2] = ["mail", "web"];
/// Between two of their ticks.
const TICK_SECONDS: f32 = 0.1;
/// Longer than any take-over and the grace that a ghost's host has.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Runs beside each other: a cluster waits for most of its time.
const BESIDE: u64 = 5;

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Where the choices come from.
    pub seed: u64,
    /// Hosts.
    pub nodes: usize,
    /// What was done, with its time.
    pub acts: Vec<String>,
    /// The nodes on which each service ran, one after the other.
    pub ran_on: Vec<String>,
    /// What the cluster has confirmed.
    pub confirmed: Confirmed,
    /// From the last fault to a cluster that is whole, in milliseconds.
    pub healed_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, acts, ran_on, confirmed, healed_ms } = self;
        let Confirmed { changes, refused, .. } = confirmed;
        write!(
            f,
            "seed {seed}: {nodes} nodes, {} acts, ran on {}; {changes} changes confirmed, {refused} not; whole after {healed_ms} ms",
            acts.len(),
            ran_on.join(" and "),
        )
    }
}

/// What does not hold, with everything that is needed to look for the cause.
#[derive(Debug)]
pub struct Failure {
    seed: u64,
    acts: Vec<String>,
    why: String,
    /// None if the cluster did not form: then its logs were printed.
    files: Option<PathBuf>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, acts, why, files } = self;
        writeln!(f, "seed {seed} fails: {why}")?;
        acts.iter().try_for_each(|act| writeln!(f, "  {act}"))?;
        files.iter().try_for_each(|files| writeln!(f, "logs and journals: {}", files.display()))?;
        write!(f, "again: cargo run -p phalanx-tests --bin faults -- --seed {seed} --runs 1")
    }
}

/// Runs so many clusters through the faults of seeds from `first` on, some beside each other, and tells each that ends. Gives
/// those that failed.
///
/// # Panics
/// If it is broken itself; a run that panics is one that failed.
#[must_use]
pub fn run_many(first: u64, count: u64, tell: impl Fn(&Report) + Sync) -> Vec<Failure> {
    let next = AtomicU64::new(first);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(count) {
                return failed;
            }
            let ran = catch_unwind(|| run(seed)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                let (why, acts) = (format!("it panicked: {text}"), Vec::new());
                Err(Failure { seed, acts, why, files: None })
            });
            match ran {
                Ok(report) => tell(&report),
                Err(failure) => {
                    eprintln!("{failure}");
                    failed.push(failure);
                }
            }
        }
    };
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..BESIDE.min(count)).map(|_| threads.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it catches panics")).collect()
    })
}

/// Runs one cluster through the faults of a seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// If the cluster does not form.
pub fn run(seed: u64) -> Result<Report, Failure> {
    let plan = Plan::of(seed, &TimingProfile::DEV);
    let mut cluster = HostCluster::form_without_services(plan.nodes, &plan.agents);
    SERVICES.iter().for_each(|service| cluster.define(service, TICK_SECONDS));
    let mut acts = Vec::new();
    let mut confirmed = Confirmed::default();
    let outcome = disturb(&mut cluster, seed, &plan, &mut acts, &mut confirmed)
        .and_then(|()| settle(&mut cluster, plan.nodes, &confirmed));
    let healed_ms = match outcome {
        Ok(healed_ms) => healed_ms,
        Err(why) => return Err(Failure { seed, acts, why, files: Some(cluster.keep_files()) }),
    };
    let ran_on = |service: &&str| {
        let nodes = cluster.journals.instances(service).unwrap_or_default().into_iter().map(|(_, node)| node);
        nodes.collect::<Vec<_>>().join(" ")
    };
    let ran_on = SERVICES.iter().map(ran_on).collect();
    Ok(Report { seed, nodes: plan.nodes, acts, ran_on, confirmed, healed_ms })
}

/// Does what is planned while services are defined, and mends everything.
fn disturb(
    cluster: &mut HostCluster,
    seed: u64,
    plan: &Plan,
    acts: &mut Vec<String>,
    confirmed: &mut Confirmed,
) -> Result<(), String> {
    let (stop, directory) = (AtomicBool::new(false), cluster.directory());
    let (clock, begun) = (Clock::Boot, Clock::Boot.now());
    let mut undisturbed = Ok(());
    std::thread::scope(|threads| {
        let definer = threads.spawn(|| Confirmed::gather(&directory, plan.nodes, seed, &stop));
        let stopped = Stop(&stop);
        for (at_ms, act) in &plan.acts {
            pass(at_ms.saturating_sub(clock.now().since(begun)));
            let told = perform(cluster, plan.nodes, *act);
            acts.push(format!("{:>6} ms: {act}{told}", clock.now().since(begun)));
            undisturbed = no_overlap(cluster);
            if undisturbed.is_err() {
                break;
            }
        }
        drop(stopped);
        *confirmed = definer.join().expect("it only writes files and runs commands");
    });
    cluster.lan.heal();
    (0..plan.nodes).for_each(|host| cluster.set_path(host, DiskPath::Good));
    (0..plan.nodes).for_each(|host| cluster.thaw(host));
    acts.push(format!("{:>6} ms: everything is mended", clock.now().since(begun)));
    undisturbed
}

/// Tells a thread to stop, also if the one that it works for panics: the scope of both would wait for it for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn perform(cluster: &mut HostCluster, nodes: usize, act: Act) -> String {
    match act {
        Act::KillDaemon(host) => cluster.kill_daemon(host),
        Act::KillNode(host) => cluster.kill_node(host),
        Act::PowerOff(host) => cluster.power_off(host),
        Act::EveryPowerOff => (0..nodes).for_each(|host| cluster.power_off(host)),
        Act::StartEnded => return format!(": {:?}", cluster.start_ended()),
        Act::Freeze(host) => cluster.freeze(host),
        Act::Thaw(host) => cluster.thaw(host),
        Act::Cut(one, other) => cluster.lan.cut(one, other),
        Act::CutOneWay(from, to) => cluster.lan.cut_one_way(from, to),
        Act::Mend(one, other) => cluster.lan.mend(one, other),
        Act::Path(host, path) => cluster.set_path(host, path),
        Act::EveryPath(path) => (0..nodes).for_each(|host| cluster.set_path(host, path)),
        Act::Leave(host) => cluster.leave(host),
        Act::Transfer => {
            let moved = cluster.run(&["service", "transfer", SERVICES[0], "--no-wait"]).status.success();
            return format!(": {}", if moved { "taken" } else { "refused" });
        }
    }
    String::new()
}

fn no_overlap(cluster: &HostCluster) -> Result<(), String> {
    SERVICES.iter().try_for_each(|service| cluster.journals.instances(service).map(drop))
}

/// Everybody comes back, each service runs once, and what was confirmed is there. Gives the milliseconds until then.
fn settle(cluster: &mut HostCluster, nodes: usize, confirmed: &Confirmed) -> Result<u64, String> {
    let whole_ms = wait_whole(cluster, nodes)?;
    // What the last faults have begun shows itself by then: whoever was missed is marked after a lease at the latest.
    pass(TimingProfile::DEV.takeover_ms());
    let again_ms = wait_whole(cluster, nodes)?;
    let lost = confirmed.lost(&cluster.configuration()?);
    if !lost.is_empty() {
        return Err(format!("confirmed and lost: {}", lost.join("; ")));
    }
    Ok(whole_ms + again_ms)
}

/// Waits until everybody has joined and each service runs once. Gives the milliseconds until then.
fn wait_whole(cluster: &mut HostCluster, nodes: usize) -> Result<u64, String> {
    let (clock, begun) = (Clock::Boot, Clock::Boot.now());
    loop {
        cluster.start_ended(); // whoever was forced out meanwhile
        no_overlap(cluster)?;
        let status = cluster.status().unwrap_or_default();
        let unsettled = unsettled(cluster, nodes, &status);
        let waited_ms = clock.now().since(begun);
        match unsettled {
            None => return Ok(waited_ms),
            Some(why) if u128::from(waited_ms) >= SETTLED_WITHIN.as_millis() => {
                return Err(format!("not whole after {waited_ms} ms: {why}\n{status:#}"));
            }
            Some(_) => pass(50),
        }
    }
}

/// What is still missing, if anything is.
fn unsettled(cluster: &HostCluster, nodes: usize, status: &Value) -> Option<String> {
    let joined = list(status, "nodes").iter().filter(|node| node["state"] == "joined").count();
    if joined != nodes || !list(status, "transitions").is_empty() {
        return Some(format!("{joined} of {nodes} nodes are joined"));
    }
    SERVICES.iter().find_map(|service| {
        let living = cluster.journals.living(service);
        let nodes: Vec<&str> = living.iter().map(|(_, node)| node.as_str()).collect();
        match runs_on(status, service) {
            None => Some(format!("{service} is not registered")),
            Some(node) if nodes == [format!("n{node}")] => None,
            Some(node) => Some(format!("{service} is registered on n{node} and lives as {living:?}")),
        }
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a fault is what is drawn; else a breath between two looks at a cluster"
)]
fn pass(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
