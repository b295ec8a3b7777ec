//! Crash points of a whole scenario (protocol §8.3; docs/design/crash-points.md): from everything that a crash or a loss of power can
//! leave on the disk, what was told is still so, and a cluster forms.
//!
//! Every image is looked at. A cluster is started on a sample of them, on all with `PHALANX_CRASH_POINTS=all`.

use phalanx_storage::{Durability, Operation};
use phalanx_tests::crash_points::check::{check, distinct};
use phalanx_tests::crash_points::images::{Counts, Stop};
use phalanx_tests::crash_points::scenario::record;

/// Clusters started by default, for each kind of stop.
const RESTARTS: usize = 150;

/// Recordings of the whole run.
const SEEDS_ALL: u64 = 8;

/// Row 29, and protocol §8.3.
#[test]
fn fault_29_a_cluster_forms_from_whatever_a_crash_leaves_and_nothing_that_was_told_is_lost() {
    let all = std::env::var("PHALANX_CRASH_POINTS").is_ok_and(|wanted| wanted == "all");
    for seed in 0..if all { SEEDS_ALL } else { 1 } {
        let recording = record(seed);
        let distinct = distinct(&recording);
        let stride = |stop: Stop| if all { 1 } else { (distinct[stop as usize] / RESTARTS).max(1) };
        let report = check(&recording, |stop, number| number % stride(stop) == stride(stop) / 2);
        let Counts { writes, pairs, torn } = report.counts;
        println!(
            "seed {seed}: {} operations, {writes} writes, {pairs} pairs, {torn} torn blocks, {} images ({} distinct of a crash, {} of \
             a loss of power), {} clusters started",
            recording.operations.len(),
            report.images,
            report.distinct[0],
            report.distinct[1],
            report.restarts
        );
        assert!(report.wrong.is_empty(), "{}", report.first_wrong());
        assert!(writes > 100 && pairs > 0 && torn > 200 && report.restarts >= 2 * RESTARTS, "{report:?}");
    }
}

/// The same machines on a disk that says "durable" and means "perhaps": what was told is lost with power.
#[test]
fn a_disk_that_lies_about_durability_is_found_out() {
    let mut recording = record(0);
    for operation in &mut recording.operations[recording.formatted..] {
        if let Operation::Write { durability, .. } = operation {
            *durability = Durability::Volatile;
        }
    }
    let report = check(&recording, |_, _| false);
    let lost = |what: &str| report.wrong.iter().any(|text| text.contains(what));
    assert!(lost("told to be done") && lost("was told of"), "{}", report.first_wrong());
}
