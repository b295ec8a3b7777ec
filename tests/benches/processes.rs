//! Figures of clusters of real processes: how long a killed node's service is away, how long clusters take to form, and what a
//! node weighs. Each beside a floor of the same run; minimum, median and maximum.
//!
//! `cargo build --release && cargo bench -p phalanx-tests --bench processes`; `PHALANX_FAULT_RUNS` says how many kills.

use std::process::Command;

use phalanx_actors::clock::Clock;
use phalanx_tests::process_cluster::{DevCluster, signal_process};
use rustix::process::Signal;

fn runs() -> usize {
    std::env::var("PHALANX_FAULT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn figures(what: &str, unit: &str, mut values: Vec<u64>) {
    values.sort_unstable();
    let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    println!("{what:<56} min {least:>6}  median {median:>6}  max {most:>6} {unit}  ({} runs)", values.len());
}

fn micros() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000
}

/// Launching a command and waiting for it: what every step of every level costs at least.
fn floor_of_a_command() {
    let launch = || {
        let begun = micros();
        Command::new("/bin/sh").args(["-c", "true"]).status().expect("a shell");
        micros() - begun
    };
    figures("floor: one shell command", "us", (0..20).map(|_| launch()).collect());
}

fn gap_of_kills() {
    let cluster = DevCluster::start(3, &[]);
    let gap = || {
        let victim = cluster.wait_registered("licences");
        cluster.wait_joined(3);
        let before = cluster.take_licence();
        assert_eq!(before, victim);
        let (_, daemon) = cluster.processes_of(&victim);
        let begun = micros();
        signal_process(daemon, Signal::KILL);
        let mut after = victim.clone();
        while after == victim {
            after = cluster.take_licence(); // answers of the dying instance do not count
        }
        let gap = micros() - begun;
        assert!(cluster.run(&["start", &victim]).status.success());
        gap
    };
    let gaps = (0..runs()).map(|_| gap()).collect();
    figures("SIGKILL of a daemon until its service answers elsewhere", "us", gaps);
}

fn formation(nodes: usize) {
    let begun = Clock::Boot.now();
    let cluster = DevCluster::start(nodes, &["--no-demo-service"]);
    println!("{nodes:>2} nodes joined after {} ms, process start and format included", Clock::Boot.now().since(begun));
    let mut private_kib = Vec::new();
    for index in 0..nodes {
        let (warden, daemon) = cluster.processes_of(&format!("n{index}"));
        private_kib.push([warden, daemon].into_iter().map(private).sum());
    }
    figures(&format!("private memory of a node of {nodes}, warden included"), "KiB", private_kib);
}

/// Private bytes of a process, in KiB; RSS would count touched pages of the shared file.
fn private(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    text.lines().filter(|line| line.starts_with("Private_")).map(kib).sum()
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return; // `cargo test --benches` only wants to see that it runs
    }
    floor_of_a_command();
    gap_of_kills();
    for nodes in [3, 8, 32] {
        formation(nodes);
    }
}
