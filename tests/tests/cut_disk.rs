//! The file of an mmap disk is cut under a running node (protocol §1.3; §8.5 row 62): the node ends and says why, its warden proves
//! it dead, and nothing dumps core.

use std::collections::BTreeSet;
use std::fs::OpenOptions;

use phalanx_messages::NodeId;
use phalanx_messages::register::OwnState;
use phalanx_node::mapping_guard::LINE;
use phalanx_storage::{Access, BLOCK_BYTES, opening};
use phalanx_tests::init_cluster::{InitCluster, NodeProcess};
use phalanx_tests::process_cluster::{MachineLock, PATIENCE, find, wait_for};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const N0: NodeId = NodeId(0);

/// Files here that look like a core dump.
fn cores() -> BTreeSet<String> {
    let entries = std::fs::read_dir(".").expect("readable").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("core"))
        .collect()
}

/// Whoever is started from here on would dump core if it could.
fn allow_cores() {
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
}

/// One node with a service and a lease that is renewed every six seconds.
fn one_node() -> (InitCluster, NodeProcess) {
    let cluster = InitCluster::new(1);
    cluster.edit(|text| text.replace("timing = \"dev\"", "timing = { profile = \"dev\", io_timeout = \"3s\" }"));
    cluster.create_disk();
    let node = cluster.start("n0", &[], None);
    let _ = cluster.wait_joined(1);
    let file = cluster.out().join("services.txt").display().to_string();
    let service =
        "[[service]]\nname = \"clock\"\nstart_command = { shell = \"sleep 1000 &\" }\nleaves = \"processes\"\n";
    std::fs::write(&file, service).expect("written");
    assert!(cluster.run(&["service", "apply", &file]).status.success());
    cluster.wait_status("the service", |status| {
        find(status, "services", "clock").is_some_and(|clock| clock["state"] == "registered")
    });
    (cluster, node)
}

/// Waits until the node has just renewed, then leaves of its disk what a quiet node uses. Gives the length before.
fn cut_after_a_renewal(cluster: &InitCluster) -> u64 {
    let disk = opening::open(&cluster.disk(), Access::ReadOnly).expect("the disk");
    let heartbeat = || disk.registers().read(N0).expect("readable").expect("valid").heartbeat;
    let before = heartbeat();
    wait_for("a renewal", PATIENCE, || (heartbeat() != before).then_some(()));
    let left = disk.registrations().region().first.0 * BLOCK_BYTES as u64;
    drop(disk); // this process must not touch what is lost
    let file = OpenOptions::new().write(true).open(cluster.disk()).expect("there");
    let length = file.metadata().expect("there").len();
    file.set_len(left).expect("cut");
    length
}

/// The register as its warden has left it, once the file has its length again.
fn last_word(cluster: &InitCluster, length: u64) -> OwnState {
    OpenOptions::new().write(true).open(cluster.disk()).expect("there").set_len(length).expect("grown");
    let disk = opening::open(&cluster.disk(), Access::ReadOnly).expect("two copies of the superblock are left");
    disk.registers().read(N0).expect("readable").expect("valid").own_state
}

/// Nobody touches the disk before the next renewal, which looks first.
#[test]
fn fault_62_a_node_whose_disk_is_cut_ends_at_its_next_renewal_and_is_proved_dead() {
    let _lock = MachineLock::take();
    allow_cores();
    let (before, (cluster, mut node)) = (cores(), one_node());
    let length = cut_after_a_renewal(&cluster);
    let code = node.wait_exit();
    assert_eq!(code, Some(90), "{}", node.said());
    assert!(node.said().contains("was cut under a running node: "), "{}", node.said());
    assert_eq!(last_word(&cluster, length), OwnState::DeadDrained, "{}", node.said());
    assert_eq!(cores(), before);
}

/// A command makes the node write what is lost, between two renewals.
#[test]
fn fault_62_a_node_that_touches_what_was_cut_says_one_line_and_is_proved_dead() {
    let _lock = MachineLock::take();
    allow_cores();
    let (before, (cluster, mut node)) = (cores(), one_node());
    let length = cut_after_a_renewal(&cluster);
    let _ = cluster.run(&["service", "hold", "clock", "--no-wait"]);
    let code = node.wait_exit();
    assert_eq!(code, Some(74), "{}", node.said());
    assert_eq!(node.said().matches(LINE.trim_end()).count(), 1, "{}", node.said());
    assert_eq!(last_word(&cluster, length), OwnState::DeadDrained, "{}", node.said());
    assert_eq!(cores(), before);
}
