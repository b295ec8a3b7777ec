//! What a node process costs that has nothing to do: CPU and private memory, daemon and warden together.
//!
//! Private bytes, because the resident set counts touched pages of the shared disk file. Processor time from the scheduler's own
//! count of each thread, in nanoseconds: `utime` counts in hundredths of a second, which is as much as an idle node uses in seconds.

use std::time::Duration;

use super::boot::ProcessCluster;
use super::{Aim, Row, Spread, Stage, now_ns};

/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(10);
/// What §9 allows, warden included, in MB.
const MEMORY_MB_MOST: f64 = 30.0;
/// What issue 5 allows of a core, in percent.
const CPU_PERCENT_MOST: f64 = 0.5;
/// Sizes.
const SIZES: [usize; 3] = [3, 16, 64];

/// Every size.
///
/// # Errors
/// If a cluster does not form.
pub fn run(stage: &Stage) -> anyhow::Result<()> {
    for nodes in SIZES {
        if stage.is_over() {
            stage.progress(format!("{nodes} idle nodes: left out, the time is over"));
            continue;
        }
        stage.progress(format!("{nodes} idle nodes"));
        let mut cluster = ProcessCluster::new(nodes);
        cluster.start_all();
        cluster.wait_joined(nodes)?;
        of_cluster(stage, &cluster, nodes)?;
    }
    Ok(())
}

/// Watches a cluster that has formed.
///
/// # Errors
/// If its disk cannot be read.
pub fn of_cluster(stage: &Stage, cluster: &ProcessCluster, nodes: usize) -> anyhow::Result<()> {
    let processes = cluster.processes()?;
    pause(Duration::from_secs(2)); // what a join leaves to be done
    let used = || -> Vec<u64> { processes.iter().map(|(warden, daemon)| cpu_ns(*warden) + cpu_ns(*daemon)).collect() };
    let (begun_ns, before) = (now_ns(), used());
    pause(WATCHED);
    let (took_ns, after) = (now_ns() - begun_ns, used());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let percent = |(after, before): (&u64, &u64)| after.saturating_sub(*before) as f64 * 100.0 / took_ns as f64;
    let cpu: Vec<f64> = after.iter().zip(&before).map(percent).collect();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let memory =
        processes.iter().map(|(warden, daemon)| (private_kib(*warden) + private_kib(*daemon)) as f64 / 1_024.0);
    let cpu = Spread::of(cpu).map(|cpu| {
        Row::new(format!("idle node of {nodes}, share of a core"), "%", cpu).aim(Aim::Most(CPU_PERCENT_MOST))
    });
    let memory = Spread::of(memory.collect()).map(|memory| {
        Row::new(format!("idle node of {nodes}, private memory"), "MB", memory).aim(Aim::Most(MEMORY_MB_MOST))
    });
    cpu.into_iter().chain(memory).for_each(|row| stage.report(row));
    Ok(())
}

/// Private bytes of a process, in KiB.
#[must_use]
pub fn private_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    text.lines().filter(|line| line.starts_with("Private_")).map(kib).sum()
}

/// Processor time of all threads of a process.
fn cpu_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ran = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    threads.map(ran).sum()
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured here; nothing is waited for")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_of_its_own_and_uses_its_processor() {
        let me = std::process::id();
        assert!(private_kib(me) > 100, "{}", private_kib(me));
        let before = cpu_ns(me);
        let mut sum = 0_u64;
        while cpu_ns(me) < before + 1_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!((private_kib(u32::MAX), cpu_ns(u32::MAX)), (0, 0), "one that is not there");
    }
}
