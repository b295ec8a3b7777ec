//! Hosts whose path to the shared disk hangs, or is shut by a storage fence, with real processes and services.

use phalanx_node::test_host::DiskPath;
use phalanx_tests::host_cluster::{Agent, HostCluster, TICKER, ticker};
use phalanx_tests::process_cluster::{PATIENCE, find, wait_for};
use serde_json::Value;

/// Many ticks of the ticker.
const LOOK_MS: u64 = 300;

fn fence(status: &Value, node: usize) -> &Value {
    find(status, "nodes", &format!("n{node}")).map_or(&Value::Null, |node| &node["fence"])
}

fn ticks_on(cluster: &HostCluster) -> bool {
    let before = cluster.journals.ticks(TICKER);
    phalanx_node::containment::pause(LOOK_MS);
    cluster.journals.ticks(TICKER) > before
}

/// Row 24: "all freeze, thaw after renewal; nobody expelled". The services too (protocol §4.7).
#[test]
fn fault_24_services_are_frozen_while_no_host_reaches_the_disk_and_go_on_afterwards() {
    let Some((cluster, node)) = HostCluster::with_ticker(2, &[]) else { return };
    let before = cluster.wait("all", |status| ticker(status) == Some(node));
    (0..2).for_each(|host| cluster.set_path(host, DiskPath::Hanging));
    wait_for("the freeze", PATIENCE, || cluster.said(node).contains("services are frozen").then_some(()));
    assert!(!ticks_on(&cluster), "{}", cluster.said(node));
    (0..2).for_each(|host| cluster.set_path(host, DiskPath::Good));
    wait_for("the thaw", PATIENCE, || cluster.said(node).contains("services go on").then_some(()));
    wait_for("a tick", PATIENCE, || ticks_on(&cluster).then_some(()));
    let after = cluster.wait("all", |status| ticker(status) == Some(node));
    let start = |status: &Value| find(status, "services", TICKER).map(|service| service["generation"].clone());
    assert_eq!(start(&before), start(&after), "it is the same instance");
    for host in 0..2 {
        let incarnation = |status: &Value| find(status, "nodes", &format!("n{host}"))?["incarnation"].as_u64();
        assert_eq!(incarnation(&before), incarnation(&after), "nobody was expelled");
    }
}

/// Row 13: "VM paused, storage fence: write rejected on resume; panics". Data may be recovered at once; a service may not start
/// elsewhere, because the paused host may wake and talk to its clients.
#[test]
fn fault_13_a_paused_host_is_shut_out_of_the_storage_and_its_services_wait_for_its_death() {
    let Some((mut cluster, victim)) = HostCluster::with_ticker(2, &[Agent::Storage]) else { return };
    let (name, heir) = (format!("n{victim}"), 1 - victim);
    cluster.freeze(victim);
    let status = cluster.wait("the storage fence", |status| fence(status, victim)["state"] == "io-certain");
    assert_eq!(fence(&status, victim)["method"], "storage");
    let awaiting = fence(&status, victim)["awaiting"].to_string();
    assert!(awaiting.contains(&format!("proof of death of {name}")), "{awaiting}");
    cluster.thaw(victim);
    cluster.wait_exit(victim);
    let said = cluster.said(victim);
    assert!(said.contains("failed to tell the cluster that this node is dead"), "its last word was refused: {said}");
    assert_eq!(cluster.ticked().join(" "), name, "nobody has taken the service over");
    let confirm = || cluster.run(&["fence", "confirm", &name, "--force"]).status.success();
    wait_for("the word of the administrator to be taken", PATIENCE, || confirm().then_some(()));
    let _ = cluster.wait("the service elsewhere", |status| ticker(status) == Some(heir));
    // A node that starts is let back in by its own agent.
    cluster.start_again(victim);
    let _ = cluster.wait("both", |status| {
        (0..2).all(|node| find(status, "nodes", &format!("n{node}")).is_some_and(|node| node["state"] == "joined"))
    });
    let calls = cluster.agent_calls();
    let host = cluster.lan.host(victim);
    let expected =
        [format!("fence_scsi off {host}"), format!("fence_scsi status {host}"), format!("fence_scsi on {host}")];
    assert!(calls.ends_with(&expected), "{calls:?}");
    assert_eq!(cluster.ticked(), [name, format!("n{heir}")]);
}
