//! A majority cluster of real processes (protocol §4.4): a minority decides nothing, says so, and goes on when others are back.

use phalanx_tests::process_cluster::{DevCluster, find};
use serde_json::Value;

fn quorum(status: &Value) -> (Option<bool>, Option<u64>, Option<u64>) {
    let quorum = &status["quorum"];
    (quorum["reached"].as_bool(), quorum["votes"].as_u64(), quorum["needed"].as_u64())
}

fn state<'a>(status: &'a Value, node: &str) -> &'a str {
    find(status, "nodes", node).and_then(|node| node["state"].as_str()).unwrap_or_default()
}

#[test]
fn a_cluster_is_made_a_majority_cluster_and_its_last_node_waits_for_another() {
    let cluster = DevCluster::start(3, &[]);
    assert!(cluster.wait_joined(3)["quorum"].is_null(), "the disk decides alone");

    let shown = cluster.succeed(&["config", "show"]);
    assert!(shown.contains("disk_votes = \"alone\""), "{shown}");
    let file = cluster.dir().join("majority.toml").display().to_string();
    std::fs::write(&file, shown.replace("disk_votes = \"alone\"", "disk_votes = 0")).expect("written");
    let said = cluster.succeed(&["config", "apply", &file]);
    assert!(said.contains("disk_votes") && said.contains("\"alone\""), "{said}");
    cluster.wait_status("every vote is there", |status| quorum(status) == (Some(true), Some(3), Some(2)));
    assert!(cluster.succeed(&["config", "apply", &file]).contains("nothing to apply"));

    // Two of three go on.
    let _ = cluster.succeed(&["kill", "n2", "--what", "host"]);
    cluster.wait_status("n2 is out", |status| state(status, "n2") == "inactive");
    let _ = cluster.wait_registered("licences");

    // One does not: nobody is forced out, and nothing is started.
    let killed = cluster.run(&["kill", "n1", "--what", "host"]);
    let said = String::from_utf8_lossy(&killed.stderr).into_owned();
    assert!(killed.status.code() == Some(106) && said.contains("the others wait: 1 votes, 2 needed"), "{killed:?}");
    let waits = cluster.wait_status("n0 waits", |status| quorum(status) == (Some(false), Some(1), Some(2)));
    assert_eq!(state(&waits, "n1"), "joined", "{waits:#}");
    assert!(cluster.succeed(&["status"]).contains("1 votes, 2 needed: nobody is forced out"));

    cluster.start_node("n1").expect("started");
    cluster.wait_status("two of three go on again", |status| {
        quorum(status) == (Some(true), Some(2), Some(2)) && state(status, "n1") == "joined"
    });
    let _ = cluster.wait_registered("licences");
}
