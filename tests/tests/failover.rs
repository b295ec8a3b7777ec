//! Deaths of every kind in clusters of real processes: the service moves once, safely, and is recovered once.

use phalanx_messages::register::{Containment, ProcessIdentity};
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, signal_process, wait_for};
use phalanx_tests::requirement::{Requirement, available};
use rustix::process::Signal;

fn kills() -> usize {
    std::env::var("PHALANX_FAULT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Kills a daemon, waits until others lead and serve, and starts the node again.
fn kill_and_start(cluster: &DevCluster, victim: &str) {
    let (_, daemon) = cluster.processes_of(victim);
    signal_process(daemon, Signal::KILL);
    cluster.wait_status("others that lead and serve", |status| {
        let moved = phalanx_tests::process_cluster::find(status, "services", "licences")
            .is_some_and(|service| service["state"] == "registered" && service["node"] != victim);
        moved && status["master"].is_string() && status["master"] != victim
    });
    wait_for("the victim's next start", PATIENCE, || cluster.run(&["start", victim]).status.success().then_some(()));
    cluster.wait_joined(3);
}

/// Whoever is there first leads; the service starts on the lowest id. Kills the one of both with the higher id until they are
/// one node, as they stay from then on: the lowest joined id takes both over.
fn bring_together(cluster: &DevCluster) {
    loop {
        let runner = cluster.wait_registered("licences");
        let status = cluster.wait_joined(3);
        let master = status["master"].as_str().expect("a master").to_owned();
        if runner == master {
            return;
        }
        kill_and_start(cluster, &runner.max(master));
    }
}

/// Twenty times in a row the node that is master *and* runs the service loses its daemon.
#[test]
fn fault_01_twenty_kills_of_the_node_that_is_master_and_runs_the_service() {
    let cluster = DevCluster::start(3, &[]);
    bring_together(&cluster);
    let before = cluster.licence_journal().recovered.len();
    let mut victims = Vec::new();
    for _ in 0..kills() {
        let victim = cluster.wait_registered("licences");
        assert_eq!(cluster.wait_joined(3)["master"], victim.as_str(), "one node leads and runs the service");
        kill_and_start(&cluster, &victim);
        assert_ne!(cluster.take_licence(), victim);
        victims.push(victim);
    }
    let journal = cluster.licence_journal();
    assert_eq!(journal.overlaps, 0, "{journal:?}");
    assert_eq!(journal.recovered[before..], victims, "one successful recovery run for each victim");
    let last = victims.last().expect("there were kills");
    let witness = ["n0", "n1", "n2"].into_iter().find(|node| node != last).expect("two others");
    let status = cluster.status_at(witness).expect("it answers");
    let deaths = &phalanx_tests::process_cluster::find(&status, "nodes", last).expect("it is a member")["deaths"];
    assert!(deaths.as_u64() >= Some(1), "who saw it die counts it: {status:#}");
    cluster.check_order();
}

fn identity(cluster: &DevCluster, node: &str) -> (ProcessIdentity, ProcessIdentity, Containment) {
    let disk = phalanx_node::daemon::open_disk(&cluster.dir().join("cluster.disk")).expect("the disk");
    let id = disk.configurations().newest().expect("readable").expect("formatted").id_of(node).expect("a node");
    let fence = disk.registers().read(id).expect("readable").expect("valid").fence;
    (fence.warden, fence.daemon, fence.containment)
}

fn moves_safely(cluster: &DevCluster, victim: &str) {
    let after = wait_for("the service elsewhere", PATIENCE, || {
        let node = cluster.wait_registered("licences");
        (node != victim).then_some(node)
    });
    assert_eq!(cluster.take_licence(), after);
    let journal = cluster.licence_journal();
    assert_eq!(journal.overlaps, 0, "{journal:?}");
    assert_eq!(journal.recovered, [victim], "{journal:?}");
}

/// Nobody speaks for the node: a survivor kills what is left and sees it dead (fence method F3).
#[test]
fn daemon_and_warden_killed_in_one_instant() {
    if !available(&[Requirement::Root, Requirement::Cgroup]) {
        return;
    }
    let cluster = DevCluster::start(3, &[]);
    let victim = cluster.wait_registered("licences");
    let (warden, daemon, _) = identity(&cluster, &victim);
    signal_process(warden.pid, Signal::STOP); // so that it cannot speak between the two kills
    signal_process(daemon.pid, Signal::KILL);
    signal_process(warden.pid, Signal::KILL);
    moves_safely(&cluster, &victim);
}

/// The warden misses its food and kills the daemon.
#[test]
fn a_frozen_daemon_is_killed_by_its_warden() {
    let cluster = DevCluster::start(3, &[]);
    let victim = cluster.wait_registered("licences");
    let (_, daemon) = cluster.processes_of(&victim);
    signal_process(daemon, Signal::STOP);
    moves_safely(&cluster, &victim);
}

/// Both frozen, and thawed after the take-over: nothing that they had in flight is believed.
#[test]
fn frozen_daemon_and_warden_find_themselves_out_when_they_wake() {
    if !available(&[Requirement::Root, Requirement::Cgroup]) {
        return;
    }
    let cluster = DevCluster::start(3, &[]);
    let victim = cluster.wait_registered("licences");
    let (warden, daemon) = cluster.processes_of(&victim);
    signal_process(warden, Signal::STOP);
    signal_process(daemon, Signal::STOP);
    moves_safely(&cluster, &victim);
    signal_process(warden, Signal::CONT);
    signal_process(daemon, Signal::CONT);
    cluster.wait_joined(2);
    moves_safely(&cluster, &victim);
}

/// A daemon that loses its warden panics at once.
#[test]
fn a_daemon_without_its_warden_ends() {
    if !available(&[Requirement::Root, Requirement::Cgroup]) {
        return;
    }
    let cluster = DevCluster::start(3, &[]);
    let victim = cluster.wait_registered("licences");
    let (warden, _) = cluster.processes_of(&victim);
    signal_process(warden, Signal::KILL);
    moves_safely(&cluster, &victim);
}

/// Protocol §6.2, `want`: an administrator's word outlives the power.
#[test]
fn what_an_administrator_has_registered_is_wanted_after_a_power_failure() {
    let mut cluster = DevCluster::start(2, &["--no-demo-service", "--port", "7520"]);
    let file = cluster.dir().join("manual.services");
    let service = |name| {
        format!(
            "[[service]]\nname = \"{name}\"\nauto_register = \"manual\"\nstart_command = {{ shell = \"sleep 1000 &\" }}\n"
        )
    };
    std::fs::write(&file, service("asked") + &service("never")).expect("a file can be written");
    let _ = cluster.succeed(&["service", "apply", &file.to_string_lossy()]);
    let _ = cluster.succeed(&["service", "register", "asked"]);
    let status = cluster.status().expect("a node answers");
    let before = phalanx_tests::process_cluster::find(&status, "services", "asked").expect("it is defined").clone();
    for (pid, _) in cluster.processes() {
        signal_process(pid, Signal::KILL);
    }
    assert_eq!(cluster.wait_exit(), None, "killed");
    wait_for("the end of every process", PATIENCE, || cluster.processes().is_empty().then_some(()));
    cluster.restart();
    cluster.wait_joined(2);
    // Until somebody has decided, the database still says what was before.
    let status = cluster.wait_status("its next start", |status| {
        let asked = phalanx_tests::process_cluster::find(status, "services", "asked");
        asked.is_some_and(|asked| asked["state"] == "registered" && asked["generation"] != before["generation"])
    });
    let never = phalanx_tests::process_cluster::find(&status, "services", "never").expect("it is defined");
    assert_eq!((&never["wanted"], never["state"].as_str()), (&false.into(), Some("de-registered")));
}

/// Every process is killed, then the same directory is started again: it forms, recovers once, serves.
#[test]
fn a_cluster_that_lost_every_process_forms_again_and_recovers_once() {
    let mut cluster = DevCluster::start(3, &["--port", "7500"]);
    let victim = cluster.wait_registered("licences");
    for (pid, _) in cluster.processes() {
        signal_process(pid, Signal::KILL);
    }
    assert_eq!(cluster.wait_exit(), None, "killed");
    wait_for("the end of every process", PATIENCE, || cluster.processes().is_empty().then_some(()));
    cluster.restart();
    cluster.wait_joined(3);
    // Until somebody has decided, the database still says where the service was before.
    wait_for("the recovery", PATIENCE, || (!cluster.licence_journal().recovered.is_empty()).then_some(()));
    wait_for("the next instance", PATIENCE, || (cluster.licence_journal().ups.len() == 2).then_some(()));
    let node = cluster.take_licence();
    assert_eq!(cluster.wait_registered("licences"), node);
    let journal = cluster.licence_journal();
    assert_eq!((journal.overlaps, &journal.recovered), (0, &vec![victim]), "{journal:?}");
}
