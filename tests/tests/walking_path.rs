//! The whole path as a user walks it: `phalanx dev` and the command line (architecture §5).

use phalanx_tests::process_cluster::{DevCluster, find, list, processes_naming};
use phalanx_tests::requirement::Requirement;
use rustix::process::Signal;

/// Forms, kills, starts, leaves, ends: the service answers after each, and nothing is left behind.
#[test]
fn a_cluster_from_one_command_survives_a_kill_a_start_and_a_leave() {
    let mut cluster = DevCluster::start(3, &[]);
    let first = cluster.wait_registered("licences");
    assert_eq!(cluster.take_licence(), first);
    let status = cluster.status().expect("a node answers");
    let orders: Vec<_> = list(&status, "levels").iter().map(|level| level["order"].as_u64()).collect();
    assert_eq!(orders, [Some(100), Some(200), Some(1000)]);
    assert!(cluster.succeed(&["status"]).contains("licences"));

    let told = cluster.succeed(&["kill", &first]);
    assert!(told.contains(&format!("{first} is forced-leaving")), "{told}");
    let second = cluster.wait_registered("licences");
    assert_ne!(first, second);
    assert_eq!(cluster.take_licence(), second);
    let trace = cluster.succeed(&["trace", "last"]);
    assert!(trace.contains(&format!("{first} forced-leaving")), "{trace}");

    let started = cluster.succeed(&["start", &first]);
    assert!(started.contains("joined"), "{started}");
    cluster.wait_joined(3);
    let left = cluster.succeed(&["node", "leave", &second]);
    assert!(left.contains("has left"), "{left}");
    let third = cluster.wait_registered("licences");
    assert_ne!(second, third);
    assert_eq!(cluster.take_licence(), third);
    assert_eq!(find(&cluster.wait_joined(2), "nodes", &second).expect("configured")["state"], "inactive");

    let mut recovered = vec![first];
    if Requirement::Cgroup.missing().is_none() {
        // Nobody speaks for it: a survivor kills what is left and sees it dead.
        let told = cluster.succeed(&["kill", &third, "--what", "host"]);
        assert!(told.contains("killed and seen dead by a survivor"), "{told}");
        assert_ne!(cluster.take_licence(), third);
        recovered.push(third);
    }
    let journal = cluster.licence_journal();
    assert_eq!((journal.overlaps, &journal.recovered), (0, &recovered), "{journal:?}");
    cluster.check_order();
    let containments = cluster.containments();

    cluster.signal(Signal::INT);
    assert_eq!(cluster.wait_exit(), Some(0), "{}", cluster.logs());
    assert_eq!(cluster.processes(), [], "a process is left");
    let sockets: Vec<_> = phalanx_tests::process_cluster::files_below(cluster.dir())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "sock"))
        .collect();
    assert!(sockets.is_empty(), "{sockets:?}");
    assert!(containments.iter().all(|path| !path.exists()), "{containments:?}");
}

/// What a user gets without a cluster: exit codes of the contract, and a next step.
#[test]
fn a_command_without_a_daemon_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = std::process::Command::new(phalanx_tests::process_cluster::phalanx())
        .arg("--dir")
        .arg(directory.path())
        .arg("status")
        .output()
        .expect("phalanx can be started");
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("phalanx dev"));
    assert!(processes_naming(&directory.path().to_string_lossy()).is_empty());
}
