//! Real nodes on a disk for direct I/O: a block device, as several hosts would share it, and a file.

use std::path::Path;

use phalanx_tests::command_line::Bench;
use phalanx_tests::init_cluster::{InitCluster, NodeProcess};
use phalanx_tests::loop_device::LoopDevice;
use phalanx_tests::process_cluster::{MachineLock, find, processes_naming, signal_process};
use phalanx_tests::requirement::{Requirement, available};
use rustix::process::Signal;
use serde_json::Value;

const NODES: [&str; 3] = ["n0", "n1", "n2"];

/// Three nodes on that disk, and a service that rather runs on n2.
fn formed(disk: &Path) -> (InitCluster, Vec<NodeProcess>) {
    let cluster = InitCluster::new(NODES.len());
    let (before, after) = (cluster.disk().display().to_string(), disk.display().to_string());
    cluster.edit(|text| text.replace(&before, &after).replace("backend = \"mmap\"", "backend = \"direct\""));
    cluster.create_disk();
    let nodes = NODES.map(|node| cluster.start(node, &[], None)).into();
    let _ = cluster.wait_joined(NODES.len());
    let file = cluster.out().join("services.txt").display().to_string();
    let journal = cluster.out().join("clock.journal").display().to_string();
    let service = format!(
        "[[service]]\nname = \"clock\"\nnode_preferences = {{ ordered = [\"n2\"] }}\nleaves = \"processes\"\n\
         start_command = {{ shell = \"echo start $PHALANX_NODE >> {journal}; sleep 1000 &\" }}\n\
         recovery_command = {{ shell = \"echo recover $PHALANX_VICTIM >> {journal}\" }}\n"
    );
    std::fs::write(&file, service).expect("written");
    let applied = cluster.run(&["service", "apply", &file]);
    assert!(applied.status.success(), "{applied:?}");
    (cluster, nodes)
}

fn runs_on(status: &Value, node: Option<&str>) -> bool {
    let clock = find(status, "services", "clock").cloned().unwrap_or_default();
    clock["state"] == "registered" && node.is_none_or(|node| clock["node"] == node)
}

/// Forms, loses the daemon of the node with the service, recovers it once, takes the node back, and leaves a sound disk.
fn forms_loses_a_node_and_recovers(disk: &Path) {
    let (cluster, mut nodes) = formed(disk);
    cluster.wait_status("the service on n2", |status| runs_on(status, Some("n2")));
    let config = cluster.config("n2").display().to_string();
    let daemons: Vec<u32> = processes_naming(&config)
        .into_iter()
        .filter(|(_, line)| line.contains(" node daemon "))
        .map(|(pid, _)| pid)
        .collect();
    let [daemon] = daemons[..] else { panic!("{daemons:?}") };
    signal_process(daemon, Signal::KILL);
    assert_eq!(nodes[2].wait_exit(), Some(90));
    cluster.wait_status("the service elsewhere", |status| runs_on(status, None) && !runs_on(status, Some("n2")));
    let journal = std::fs::read_to_string(cluster.out().join("clock.journal")).expect("there");
    let lines: Vec<&str> = journal.lines().collect();
    assert!(matches!(lines[..], ["start n2", "recover n2", third] if third != "start n2"), "{journal}");

    nodes[2] = cluster.start("n2", &[], None);
    let _ = cluster.wait_joined(NODES.len());
    let disk = disk.display().to_string();
    let shown = cluster.run(&["disk", "show", &disk, "--output", "json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["superblock"]["backend"], "direct");
    let checked = cluster.run(&["disk", "check", &disk, "--output", "json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!((&report["sound"], &report["alive"]), (&true.into(), &serde_json::json!(NODES)), "{report:#}");
    let create = cluster.run(&["disk", "create", "--config", &config, "--force", "alpha"]);
    assert_eq!(create.status.code(), Some(107), "a live disk is never overwritten: {create:?}");

    nodes.iter().for_each(NodeProcess::terminate);
    for node in &mut nodes {
        assert_eq!(node.wait_exit(), Some(0), "{}", node.said());
    }
    let status = cluster.run(&["status", "--disk", &disk, "--output", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert!(NODES.iter().all(|node| find(&status, "nodes", node).is_some_and(|node| node["state"] == "inactive")));
}

#[test]
fn three_nodes_on_a_block_device_form_lose_one_and_recover_its_service() {
    if !available(&[Requirement::Root, Requirement::Mount, Requirement::Loop]) {
        return;
    }
    let _lock = MachineLock::take();
    let device = LoopDevice::new(64 << 20, 512);
    forms_loses_a_node_and_recovers(device.path());
}

#[test]
fn three_nodes_on_a_direct_file_form_lose_one_and_recover_its_service() {
    let _lock = MachineLock::take();
    let dir = tempfile::tempdir().expect("a directory");
    forms_loses_a_node_and_recovers(&dir.path().join("disk"));
}

/// Two nodes that reached one disk in two ways would not see each other in time.
#[test]
fn a_disk_is_used_only_in_the_way_it_was_formatted_for() {
    let bench = Bench::formatted();
    let file = std::fs::read_to_string(bench.path("n0.toml")).expect("there");
    std::fs::write(bench.path("n0.toml"), file.replace("\"mmap\"", "\"direct\"")).expect("written");
    let said = "is \"direct\", and ";
    let run = ["node", "run", "--config", "n0.toml", "--no-wait"];
    bench.run(&run).fails(78, &[said, "was formatted for \"mmap\""]);
    bench.create(&["--force", "alpha"]).succeeds();
    std::fs::write(bench.path("n0.toml"), &file).expect("written");
    bench.run(&run).fails(78, &["is \"mmap\", and ", "was formatted for \"direct\""]);
}

#[test]
fn a_block_device_is_no_mmap_disk_and_one_that_is_too_small_is_left_alone() {
    if !available(&[Requirement::Root, Requirement::Mount, Requirement::Loop]) {
        return;
    }
    let device = LoopDevice::new(64 * 4096, 512);
    let bench = Bench::new();
    let file = std::fs::read_to_string(bench.path("n0.toml")).expect("there");
    let file = file.replace("path = \"disk\"", &format!("path = \"{}\"", device.path().display()));
    std::fs::write(bench.path("n0.toml"), &file).expect("written");
    bench
        .create(&[])
        .fails(74, &["is a block device, and an mmap disk must be a regular file", "backend = \"direct\""]);
    std::fs::write(bench.path("n0.toml"), file.replace("\"mmap\"", "\"direct\"")).expect("written");
    let whole = bench.run(&["disk", "create", "--config", "n0.toml"]);
    whole.fails(74, &["the device has 262144"]);
    bench.create(&[]).succeeds();
    let path = device.path().display().to_string();
    bench.run(&["disk", "check", &path]).succeeds();
}

/// A write of a dead host may land late: only a profile that says how late proves a death by time, and none may say "never".
#[test]
fn a_direct_disk_needs_a_profile_with_late_writes() {
    let bench = Bench::new();
    bench.configure("alpha", "\"local-mmap\"");
    let file = std::fs::read_to_string(bench.path("n0.toml")).expect("there");
    std::fs::write(bench.path("n0.toml"), file.replace("\"mmap\"", "\"direct\"")).expect("written");
    let told = bench.run(&["config", "check", "n0.toml"]);
    assert_eq!(told.code, Some(78), "{}", told.err);
    let flat = told.err.replace(['\n', '│'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("disk.timing is `local-mmap` with a `late_write` of 0 ms"), "{}", told.err);
    std::fs::write(
        bench.path("n0.toml"),
        file.replace("\"mmap\"", "\"direct\"").replace("\"local-mmap\"", "\"san-fast\""),
    )
    .expect("written");
    bench.run(&["config", "check", "n0.toml"]).succeeds();
}
