//! `phalanx disk repair / backup / restore` on disks that real nodes have used.

use std::os::unix::fs::FileExt;
use std::path::Path;

use phalanx_messages::NodeId;
use phalanx_node::builder::TEST_HOST_VARIABLE;
use phalanx_node::test_host::TEST_MINOR_VARIABLE;
use phalanx_storage::header::MINOR;
use phalanx_storage::newer::of_next_minor;
use phalanx_storage::{Access, BLOCK_BYTES, Block, BlockIndex, opening};
use phalanx_tests::command_line::Bench;
use phalanx_tests::init_cluster::InitCluster;
use phalanx_tests::process_cluster::{MachineLock, find};
use serde_json::Value;

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);

/// Changes one byte of that block, as a decayed one would have it.
fn rot(disk: &Path, block: BlockIndex) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(disk).expect("there");
    let at = block.0 * BLOCK_BYTES as u64 + 200;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("readable");
    file.write_all_at(&[byte[0] ^ 0x5a], at).expect("writable");
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).expect("JSON")
}

#[test]
fn what_can_be_written_from_what_is_left_is_and_what_cannot_is_named() {
    let bench = Bench::formatted();
    let path = bench.path("disk");
    let disk = opening::open(&path, Access::ReadOnly).expect("formatted");
    let (registers, memberships) = (disk.registers().region(), disk.memberships().region());
    drop(disk);
    bench.run(&["disk", "repair", "disk"]).succeeds();
    for block in
        [BlockIndex(1), registers.slot(N0, 0), registers.slot(N0, 1), registers.slot(N1, 1), memberships.slot(N1, 0)]
    {
        rot(&path, block);
    }
    let damaged = std::fs::read(&path).expect("there");
    bench.run(&["disk", "check", "disk"]).fails(74, &["is damaged"]);
    let told = bench.run(&["disk", "repair", "disk", "--dry-run"]);
    assert!(told.succeeds().out.contains("would write: NB of n0 from block 2: both slots"), "{}", told.out);
    assert!(std::fs::read(&path).expect("there") == damaged, "nothing was written");
    let told = bench.run(&["disk", "repair", "disk", "--output", "json"]);
    let report = json(&told.succeeds().out);
    assert_eq!((&report["sound"], report["lost"].as_array().map(Vec::len)), (&true.into(), Some(0)), "{report:#}");
    let regions: Vec<&str> =
        report["repaired"].as_array().expect("a list").iter().filter_map(|part| part["region"].as_str()).collect();
    assert_eq!(regions, ["SB", "NB", "NB", "MA"]);
    let checked = json(&bench.run(&["disk", "check", "disk", "--output", "json"]).succeeds().out);
    assert_eq!(checked["findings"].as_array().map(Vec::len), Some(0), "{checked:#}");

    // Every membership record is gone: nothing can take its place.
    for node in [N0, N1] {
        (0..2).for_each(|slot| rot(&path, memberships.slot(node, slot)));
    }
    let told = bench.run(&["disk", "repair", "disk", "--give-up-lost-records"]);
    told.fails(74, &["is not sound", "restore a backup"]);
    assert!(told.out.contains("lost: MA of n0: no record of any node is left"), "{}", told.out);
}

#[test]
fn a_disk_that_is_held_is_neither_repaired_nor_copied_nor_restored() {
    let bench = Bench::formatted();
    bench.run(&["disk", "backup", "disk", "copy"]).succeeds();
    bench.run(&["disk", "backup", "disk", "copy"]).fails(74, &["failed to write copy"]);
    let before = std::fs::read(bench.path("disk")).expect("there");
    let held = std::fs::File::open(bench.path("disk")).expect("there");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockShared).expect("locked as a node does");
    for command in [&["disk", "repair", "disk"][..], &["disk", "backup", "disk", "other"]] {
        bench.run(command).fails(107, &["is in use: another process has locked it", "every node must be down"]);
    }
    let told = bench.run(&["disk", "restore", "copy", "disk", "--force", "alpha"]);
    told.fails(107, &["is in use: another process has locked it"]);
    drop(held);
    bench.run(&["disk", "restore", "copy", "disk"]).fails(107, &["is the disk of cluster `alpha`"]);
    bench.run(&["disk", "restore", "copy", "disk", "--force", "beta"]).fails(107, &["--force names cluster `beta`"]);
    assert!(std::fs::read(bench.path("disk")).expect("there") == before);
    assert!(!bench.path("other").exists());
    std::fs::write(bench.path("text"), "no disk\n").expect("written");
    bench.run(&["disk", "restore", "text", "new"]).fails(74, &["text"]);
    assert!(!bench.path("new").exists());
}

/// Row 60 for a whole disk: every block written by a program of the next minor version, with more at the end of each record.
#[test]
fn fault_60_a_disk_of_the_next_minor_version_is_used() {
    let bench = Bench::formatted();
    let mut bytes = std::fs::read(bench.path("disk")).expect("there");
    let mut changed = 0;
    for (index, place) in (0..).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        let mut block = Block::default();
        block.0.copy_from_slice(place);
        let Some(newer) = of_next_minor(&block, BlockIndex(index)) else { continue };
        place.copy_from_slice(&newer.0);
        changed += 1;
    }
    assert!(changed > 10);
    std::fs::write(bench.path("disk"), &bytes).expect("written");
    let checked = json(&bench.run(&["disk", "check", "disk", "--output", "json"]).succeeds().out);
    assert_eq!(checked["findings"].as_array().map(Vec::len), Some(0), "{checked:#}");
    bench.run(&["disk", "show", "disk"]).succeeds();
}

/// Row 60 in a running cluster: one daemon writes the next minor version of every record beside two that do not know it. Each kind of node
/// leads, is recovered and takes the other's service; then they change places, as in an upgrade and a step back from it.
#[test]
fn fault_60_daemons_of_two_minor_versions_are_one_cluster() {
    const HOST: (&str, &str) = (TEST_HOST_VARIABLE, "of-two-minors");
    const NEWER: (&str, &str) = (TEST_MINOR_VARIABLE, "1");
    let _lock = MachineLock::take();
    let cluster = InitCluster::new(3);
    cluster.create_disk();
    let file = cluster.out().join("services.txt").display().to_string();
    let service =
        "[[service]]\nname = \"clock\"\nstart_command = { shell = \"sleep 1000 &\" }\nleaves = \"processes\"\n";
    std::fs::write(&file, service).expect("written");
    let minors = |node: u16| {
        let disk = opening::open(&cluster.disk(), Access::ReadOnly).expect("it is formatted");
        let slots = disk.registers().inspect(NodeId(node)).expect("a file can be read");
        slots.into_iter().flatten().map(|slot| slot.header.minor).max()
    };
    let start = |newer: usize, node: usize| {
        let environment = if node == newer { vec![HOST, NEWER] } else { vec![HOST] };
        cluster.start_with(&format!("n{node}"), &environment)
    };
    let mut nodes: Vec<_> = (0..3).map(|node| start(1, node)).collect();
    let _ = cluster.wait_joined(3);
    assert!(cluster.run(&["service", "apply", &file]).status.success());
    assert_eq!([0, 1, 2].map(minors), [Some(MINOR), Some(MINOR + 1), Some(MINOR)]);
    for newer in [1, 0] {
        // Every node leaves and comes back once, so that each leads and serves; on the second round the other one is the newer.
        for node in 0..3 {
            let status = cluster.wait_joined(3);
            let leads = status["master"].as_str().expect("a master").trim_start_matches('n').parse().unwrap_or(node);
            for leaver in [leads, node] {
                nodes[leaver].terminate();
                assert_eq!(nodes[leaver].wait_exit(), Some(0), "n{leaver} leaves");
                nodes[leaver] = start(newer, leaver);
                let _ = cluster.wait_joined(3);
            }
        }
        cluster.wait_status("the service", |status| {
            find(status, "services", "clock").is_some_and(|clock| clock["state"] == "registered")
        });
        let expected = [0_u16, 1, 2].map(|node| Some(if usize::from(node) == newer { MINOR + 1 } else { MINOR }));
        assert_eq!([0, 1, 2].map(minors), expected);
    }
}

/// A cluster is copied, goes on, loses registers while it is down, is repaired and forms; then the copy is restored, and the cluster
/// of then forms with terms and generations that were never used.
#[test]
fn a_cluster_forms_on_a_repaired_disk_and_on_a_restored_one() {
    let _lock = MachineLock::take();
    let cluster = InitCluster::new(2);
    cluster.create_disk();
    let file = cluster.out().join("services.txt").display().to_string();
    let service =
        "[[service]]\nname = \"clock\"\nstart_command = { shell = \"sleep 1000 &\" }\nleaves = \"processes\"\n";
    std::fs::write(&file, service).expect("written");
    let (disk, copy) = (cluster.disk().display().to_string(), cluster.out().join("copy").display().to_string());
    let succeeds = |arguments: &[&str]| {
        let output = cluster.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let run = |first: bool| -> Value {
        let mut nodes = ["n0", "n1"].map(|node| cluster.start(node, &[], None));
        let _ = cluster.wait_joined(2);
        if first {
            succeeds(&["service", "apply", &file]);
        }
        let status = cluster.wait_status("the service", |status| {
            find(status, "services", "clock").is_some_and(|clock| clock["state"] == "registered")
        });
        nodes.iter().for_each(phalanx_tests::init_cluster::NodeProcess::terminate);
        for node in &mut nodes {
            assert_eq!(node.wait_exit(), Some(0), "{}", node.said());
        }
        status
    };
    let term = |status: &Value| status["term"].as_u64().expect("a term");
    let generation = |status: &Value| -> u64 {
        let clock = find(status, "services", "clock").expect("there");
        clock["generation"]
            .as_str()
            .and_then(|text| text.split('.').next())
            .and_then(|text| text.parse().ok())
            .expect("one")
    };

    let first = run(true);
    succeeds(&["disk", "backup", &disk, &copy]);
    let second = run(false);
    assert!(term(&second) > term(&first) && generation(&second) > generation(&first));

    let (registers, decisions) = {
        let disk = opening::open(&cluster.disk(), Access::ReadOnly).expect("the disk");
        (disk.registers().region(), disk.decisions().region())
    };
    for slot in 0..2 {
        rot(&cluster.disk(), registers.slot(N1, slot));
        rot(&cluster.disk(), decisions.slot(N0, slot));
    }
    assert_eq!(cluster.run(&["disk", "check", &disk]).status.code(), Some(74));
    succeeds(&["disk", "repair", &disk]);
    succeeds(&["disk", "check", &disk]);
    let third = run(false);
    assert!(term(&third) > term(&second) && generation(&third) > generation(&second), "{third:#}");

    succeeds(&["disk", "restore", &copy, &disk, "--force", "alpha"]);
    succeeds(&["disk", "check", &disk]);
    let fourth = run(false);
    assert!(term(&fourth) > term(&third) && generation(&fourth) > generation(&third), "{fourth:#}");
}
