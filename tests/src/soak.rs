//! A cluster under churn for as long as asked: services defined, changed, moved and removed, nodes that leave, are killed and join. What
//! its daemons and wardens use must not grow: memory, descriptors, threads, disk.
//!
//! Two nodes are never disturbed, the master among them; they are measured after every cycle. The middle of the measurements is taken
//! early, after a warm-up in which caches and rings fill, and late. What is kept by design, the newest transitions, is
//! allowed for while it still fills. The rest may grow by less than a slow leak in each change of a service would make it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Output;

use phalanx_actors::clock::Clock;
use phalanx_messages::limits::TRACES_KEPT_MAX;

use crate::host_cluster::{Agent, HostCluster, nodes_in};
use crate::process_cluster::{files_below, list};

/// Hosts, of which the last two are disturbed.
const HOSTS: usize = 4;
/// Hosts whose processes are measured.
const MEASURED: usize = 2;
/// Changes of services in one cycle: each is defined, changed, moved, stopped and removed.
const SERVICES: usize = 8;
/// Memory that one kept transition of such a cluster takes at most, in KiB.
const TRACE_KIB: u64 = 3;
/// What the memory of a process may grow by without a leak, in KiB: pages that the allocator keeps, one way or the other.
const NOISE_KIB: u64 = 384;
/// The least leak in each change of a service that is found, in KiB, once there were enough changes for it to exceed the noise.
pub const LEAST_LEAK_KIB: u64 = 4;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Its own memory, in KiB.
    pub memory_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

/// What everything measured used at one moment.
#[derive(Debug, Clone)]
struct Sample {
    at_ms: u64,
    changes: u64,
    transitions: u64,
    processes: BTreeMap<String, Usage>,
    disk_kib: u64,
}

/// What a soak has found.
#[derive(Debug)]
pub struct Report {
    samples: Vec<Sample>,
}

impl Usage {
    /// Of a process that lives.
    ///
    /// # Errors
    /// What the system says, or a process that has ended.
    pub fn of(pid: u32) -> std::io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).ok_or(std::io::ErrorKind::NotFound)
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let descriptors = u64::try_from(descriptors).unwrap_or(u64::MAX);
        Ok(Self { memory_kib: value("RssAnon")?, descriptors, threads: value("Threads")? })
    }
}

impl Report {
    /// Samples of the part of the run from one hundredth to another.
    fn part(&self, from: u64, to: u64) -> Vec<&Sample> {
        let end_ms = self.samples.last().map_or(0, |sample| sample.at_ms);
        let within = |sample: &&Sample| (end_ms * from / 100..=end_ms * to / 100).contains(&sample.at_ms);
        self.samples.iter().filter(within).collect()
    }

    /// Everything that has grown by more than it may.
    #[must_use]
    pub fn growth(&self) -> Vec<String> {
        let (early, late) = (self.part(30, 50), self.part(80, 100));
        let (Some(first), Some(last)) = (early.first(), late.last()) else {
            return vec!["the time was too short for a measurement".to_owned()];
        };
        let kept = |sample: &Sample| sample.transitions.min(TRACES_KEPT_MAX as u64);
        let memory_kib = NOISE_KIB + TRACE_KIB * (kept(last) - kept(first));
        let mut grown = Vec::new();
        let mut compare = |what: String, of: &dyn Fn(&Sample) -> Option<u64>, allowed: u64| {
            let (before, after) = (middle(&early, of), middle(&late, of));
            if after > before + allowed {
                grown.push(format!("{what}: from {before} to {after}, {allowed} more are allowed"));
            }
        };
        for name in first.processes.keys() {
            let usage = |of: fn(&Usage) -> u64| move |sample: &Sample| sample.processes.get(name).map(of);
            compare(format!("memory of {name} in KiB"), &usage(|usage| usage.memory_kib), memory_kib);
            compare(format!("descriptors of {name}"), &usage(|usage| usage.descriptors), 2);
            compare(format!("threads of {name}"), &usage(|usage| usage.threads), 0);
        }
        compare("disk in KiB".to_owned(), &|sample| Some(sample.disk_kib), 64);
        grown
    }
}

/// The middle value.
fn middle(samples: &[&Sample], of: &dyn Fn(&Sample) -> Option<u64>) -> u64 {
    let mut values: Vec<u64> = samples.iter().filter_map(|sample| of(sample)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.samples.last() else { return write!(f, "no measurement") };
        writeln!(
            f,
            "{} s, {} cycles, {} changes of services, {} joins, leaves and deaths; the middle of each tenth of the time:",
            last.at_ms / 1_000,
            self.samples.len(),
            last.changes,
            last.transitions
        )?;
        let tenths = |of: &dyn Fn(&Sample) -> Option<u64>| {
            let values = (0..10).map(|tenth| middle(&self.part(10 * tenth, 10 * (tenth + 1)), of).to_string());
            values.collect::<Vec<_>>().join(" ")
        };
        for name in last.processes.keys() {
            let of = |of: fn(&Usage) -> u64| tenths(&|sample| sample.processes.get(name).map(of));
            writeln!(f, "  memory of {name} in KiB: {}", of(|usage| usage.memory_kib))?;
            writeln!(f, "  descriptors of {name}: {}", of(|usage| usage.descriptors))?;
            writeln!(f, "  threads of {name}: {}", of(|usage| usage.threads))?;
        }
        write!(f, "  disk in KiB: {}", tenths(&|sample| Some(sample.disk_kib)))
    }
}

/// Runs a cluster under churn for so many seconds.
///
/// # Panics
/// If the cluster does not form, or does not do what it is asked to.
#[must_use]
pub fn run(seconds: u64) -> Report {
    let mut churn = Churn::new();
    let (clock, begun) = (Clock::Boot, Clock::Boot.now());
    let mut report = Report { samples: Vec::new() };
    loop {
        churn.cycle(report.samples.len());
        let at_ms = clock.now().since(begun);
        report.samples.push(churn.sample(at_ms));
        if at_ms > seconds * 1_000 {
            let instances = churn.cluster.journals.instances("steady").unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(instances.len(), 1, "a service that nobody touches never moved");
            return report;
        }
    }
}

struct Churn {
    cluster: HostCluster,
    /// The measured processes by name.
    pids: BTreeMap<String, u32>,
    changes: u64,
    transitions: u64,
}

impl Churn {
    fn new() -> Self {
        let cluster = HostCluster::form_without_services(HOSTS, &[Agent::Good]);
        cluster.define("steady", 1.0);
        let pids = (0..MEASURED)
            .flat_map(|index| {
                let (warden, daemon) = cluster.warden_and_daemon(index);
                [(format!("warden of n{index}"), warden), (format!("daemon of n{index}"), daemon)]
            })
            .collect();
        Self { cluster, pids, changes: 0, transitions: 0 }
    }

    fn cycle(&mut self, number: usize) {
        for index in 0..SERVICES {
            self.change_service(index);
        }
        let (one, other) = (HOSTS - 1, HOSTS - 2);
        let disturbed = match number % 4 {
            0 => {
                self.cluster.leave(one);
                one
            }
            1 => {
                self.cluster.kill_daemon(other);
                other
            }
            2 => {
                self.cluster.kill_node(one);
                one
            }
            _ => {
                self.cluster.power_off(other);
                other
            }
        };
        let _ = self.cluster.wait_exit(disturbed);
        self.cluster.start_again(disturbed);
        self.transitions += 2;
        let all: Vec<usize> = (0..HOSTS).collect();
        let _ = self
            .cluster
            .wait("all nodes", |status| nodes_in(status, "joined") == all && list(status, "transitions").is_empty());
    }

    /// A life of a service, from its definition to its removal.
    fn change_service(&mut self, index: usize) {
        let name = format!("s{index}");
        let file = self.cluster.directory().join("churn.txt");
        for timeout in ["5s", "6s"] {
            let text = format!(
                "[[service]]\nname = \"{name}\"\nallowable_nodes = [\"n0\", \"n1\"]\nleaves = \"processes\"\n\
                 start_command = {{ shell = \"sleep 1000 & echo started\" }}\nstart_timeout = \"{timeout}\"\n"
            );
            fs::write(&file, text).expect("written");
            succeeded(&self.cluster.run(&["service", "apply", &file.display().to_string()]));
        }
        for order in ["transfer", "deregister", "remove"] {
            succeeded(&self.cluster.run(&["service", order, &name]));
        }
        self.changes += 1;
    }

    fn sample(&self, at_ms: u64) -> Sample {
        let usage = |(name, pid): (&String, &u32)| {
            let usage = Usage::of(*pid).unwrap_or_else(|why| panic!("{name} has ended: {why}"));
            (name.clone(), usage)
        };
        let processes = self.pids.iter().map(usage).collect();
        let (changes, transitions) = (self.changes, self.transitions);
        Sample { at_ms, changes, transitions, processes, disk_kib: disk_kib(&self.cluster.directory()) }
    }
}

/// Blocks of all files that the nodes of a cluster have, and of its disk. What the tests write there themselves does not count.
fn disk_kib(directory: &Path) -> u64 {
    let state = files_below(&directory.join("state"));
    let blocks = state.iter().filter_map(|path| fs::metadata(path).ok()).map(|data| data.blocks()).sum::<u64>();
    let disk = fs::metadata(directory.with_extension("disk")).map_or(0, |data| data.blocks());
    (blocks + disk) / 2
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute of measurements, one a second, of a process whose memory is `memory_kib(second)`.
    fn soak(memory_kib: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Report {
        let sample = |second: u64| Sample {
            at_ms: second * 1_000,
            changes: SERVICES as u64 * second,
            transitions: 2 * second,
            processes: [(
                "daemon of n0".to_owned(),
                Usage { memory_kib: memory_kib(second), descriptors: descriptors(second), threads: 9 },
            )]
            .into(),
            disk_kib: 4_000,
        };
        Report { samples: (1..=60).map(sample).collect() }
    }

    #[test]
    fn a_leak_of_few_kib_in_each_change_and_one_of_a_descriptor_in_each_cycle_are_found() {
        let quiet = |second: u64| 20_000 + second % 7 * 20;
        assert_eq!(soak(quiet, |second| 30 + second % 2).growth(), Vec::<String>::new());
        let warms_up = |second: u64| 20_000 + 200 * second.min(15);
        assert_eq!(soak(warms_up, |_| 30).growth(), Vec::<String>::new());
        let leak_kib = LEAST_LEAK_KIB * SERVICES as u64;
        let found = soak(|second| 20_000 + leak_kib * second, |_| 30).growth();
        assert!(matches!(&found[..], [text] if text.starts_with("memory of daemon of n0")), "{found:?}");
        let found = soak(quiet, |second| 30 + second / 2).growth();
        assert!(matches!(&found[..], [text] if text.starts_with("descriptors of daemon of n0")), "{found:?}");
    }
}
