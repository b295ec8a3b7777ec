//! What the disk alone decides, and that it is only ever touched through the mapping.

use std::process::{Command, Stdio};

use phalanx_tests::process_cluster::{DevCluster, list, signal_process};
use phalanx_tests::requirement::{Requirement, available};
use rustix::process::Signal;

/// With every connection refused exactly one node becomes master, by the disk alone; `disk show` prints the claims.
#[test]
fn with_every_connection_refused_one_node_is_master() {
    let cluster = DevCluster::start_alone(3, &["--no-demo-service"], &[("PHALANX_TEST_REFUSE_CONNECTIONS", "1")]);
    let disk = cluster.dir().join("cluster.disk");
    let path = disk.to_string_lossy().into_owned();
    let shown = cluster.succeed(&["disk", "show", &path, "--output", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let owners: Vec<_> =
        list(&shown, "registers").iter().filter(|register| register["claim"]["phase"] == "owner").collect();
    assert_eq!(owners.len(), 1, "{shown:#}");
    assert_eq!(owners[0]["claim"]["term"], owners[0]["claim"]["owned"]);
    let text = cluster.succeed(&["disk", "show", &path]);
    assert!(text.contains("CLAIM") && text.contains("owner"), "{text}");
    let alone = cluster.succeed(&["status", "--disk", &path]);
    assert!(alone.contains("read from the disk alone"), "{alone}");
}

/// The file is mapped, and in joined state no read or write call names it.
#[test]
fn a_joined_node_touches_the_disk_through_its_mapping_alone() {
    if !available(&[Requirement::Root, Requirement::Strace]) {
        return;
    }
    let cluster = DevCluster::start(3, &["--no-demo-service"]);
    let (_, daemon) = cluster.processes_of("n0");
    let disk = cluster.dir().join("cluster.disk");
    let maps = std::fs::read_to_string(format!("/proc/{daemon}/maps")).expect("the daemon lives");
    let disk = disk.canonicalize().expect("the disk").to_string_lossy().into_owned();
    assert!(maps.lines().any(|line| line.ends_with(&disk) && line.contains("rw-s")), "{maps}");

    let trace = cluster.dir().join("trace.txt");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=read,write,pread64,pwrite64,readv,writev,preadv,pwritev,preadv2,pwritev2"]);
    strace.args(["-p", &daemon.to_string(), "-o"]).arg(&trace);
    let mut strace = strace.stderr(Stdio::null()).spawn().expect("strace starts");
    let renewals = |cluster: &DevCluster| -> u64 {
        let text = cluster.succeed(&["disk", "show", &disk, "--output", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        list(&shown, "registers")[0]["heartbeat"].as_u64().expect("a number")
    };
    // Attached: some call was seen. Then several renewals, each of which writes and reads the disk.
    phalanx_tests::process_cluster::wait_for("a traced call", phalanx_tests::process_cluster::PATIENCE, || {
        std::fs::metadata(&trace).ok().filter(|file| file.len() > 0).map(drop)
    });
    let begun = renewals(&cluster);
    phalanx_tests::process_cluster::wait_for("four renewals", phalanx_tests::process_cluster::PATIENCE, || {
        (renewals(&cluster) >= begun + 4).then_some(())
    });
    signal_process(strace.id(), Signal::INT);
    strace.wait().expect("strace ends");
    let calls = std::fs::read_to_string(&trace).expect("a trace");
    assert!(calls.contains("write("), "the trace saw the daemon at work: {calls}");
    assert!(!calls.contains("cluster.disk"), "{calls}");
}
