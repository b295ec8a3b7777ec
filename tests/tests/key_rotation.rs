//! Another cluster key in a running cluster (docs/operations.md, "Another cluster key"): no transition, no node out, and the old key opens
//! nothing afterwards.

use std::path::PathBuf;
use std::process::Output;

use phalanx_tests::init_cluster::InitCluster;
use phalanx_tests::process_cluster::MachineLock;
use serde_json::Value;

const NODES: [&str; 3] = ["n0", "n1", "n2"];

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Each node has a key file of its own, as on hosts of their own.
fn with_key_files(cluster: &InitCluster) {
    for node in NODES {
        let file = cluster.config(node);
        let text = std::fs::read_to_string(&file).expect("init wrote it");
        let own = text.replace("key_file = \"cluster.key\"", &format!("key_file = \"{node}.key\""));
        assert_ne!(own, text);
        std::fs::write(&file, own).expect("it can be written");
        std::fs::copy(cluster.out().join("cluster.key"), key_file(cluster, node)).expect("a copy with the same mode");
    }
}

fn key_file(cluster: &InitCluster, node: &str) -> PathBuf {
    cluster.out().join(format!("{node}.key"))
}

fn keys(cluster: &InitCluster, node: &str) -> Value {
    let text = said(&cluster.run(&["key", "status", "--node", node, "--output", "json"]));
    serde_json::from_str(&text).expect("JSON")
}

fn step(cluster: &InitCluster, node: &str, words: &[&str]) -> Output {
    let config = cluster.config(node).display().to_string();
    cluster.run(&[&["key"], words, &["--config", &config]].concat())
}

/// Whatever would differ if anything had happened to the membership.
fn membership(cluster: &InitCluster) -> (Value, Value, Vec<Value>) {
    let status = cluster.wait_joined(3);
    let trace: Value = serde_json::from_str(&said(&cluster.run(&["trace", "last", "--output", "json"]))).expect("JSON");
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    (status["term"].clone(), trace["id"].clone(), nodes.map(|node| node["incarnation"].clone()).collect())
}

#[test]
fn the_key_of_a_running_cluster_changes_and_nothing_else_does() {
    let _lock = MachineLock::take();
    let cluster = InitCluster::new(3);
    with_key_files(&cluster);
    cluster.create_disk();
    let mut running: Vec<_> = NODES.map(|node| cluster.start(node, &[], None)).into();
    let _ = cluster.wait_joined(3);
    let before = membership(&cluster);
    assert!(before.1.is_string(), "{before:?}");
    let old = keys(&cluster, "n0")["spoken"].clone();

    let new_file = cluster.out().join("new.key").display().to_string();
    let made = said(&cluster.run(&["key", "new", "--out", &new_file]));
    assert!(made.contains("phalanx key add"), "{made}");
    let too_early = step(&cluster, "n0", &["use"]);
    assert!(!too_early.status.success() && String::from_utf8_lossy(&too_early.stderr).contains("one key only"));

    for node in NODES {
        said(&step(&cluster, node, &["add", &new_file]));
        let keys = keys(&cluster, node);
        assert_eq!((&keys["spoken"], keys["accepted"].as_array().map(Vec::len)), (&old, Some(2)), "{keys}");
    }
    // The first node speaks the new key; its links stand on the old one, so that the old one may not go.
    said(&step(&cluster, "n0", &["use"]));
    let refused = step(&cluster, "n0", &["drop"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(107) && why.contains("n1") && why.contains("phalanx key use"), "{why}");
    for node in ["n1", "n2"] {
        said(&step(&cluster, node, &["use"]));
    }
    let new = keys(&cluster, "n0")["spoken"].clone();
    assert_ne!(new, old);
    for node in NODES {
        let on_new = || {
            let keys = keys(&cluster, node);
            let links = keys["links"].as_object().expect("links");
            links.len() == 2 && links.values().all(|key| *key == new)
        };
        phalanx_tests::process_cluster::wait_for(
            "links on the new key",
            phalanx_tests::process_cluster::PATIENCE,
            || on_new().then_some(()),
        );
    }
    for node in NODES {
        said(&step(&cluster, node, &["drop"]));
        assert_eq!(keys(&cluster, node)["accepted"], Value::Array(vec![new.clone()]));
    }
    assert_eq!(membership(&cluster), before, "no election, no transition, no restart");

    // Whoever has the old key only is heard by nobody; with the new one it is back.
    running.pop().expect("n2").terminate();
    cluster.wait_status("n2 gone", |status| status["nodes"][2]["state"] == "inactive");
    let current = std::fs::read(key_file(&cluster, "n2")).expect("its key");
    std::fs::copy(cluster.out().join("cluster.key"), key_file(&cluster, "n2")).expect("the old key");
    let mut stranger = cluster.start("n2", &[], None);
    running[0].wait_said("NotAuthentic");
    let status = cluster.wait_status("an answer", |_| true);
    assert_ne!(status["nodes"][2]["state"], "joined");
    std::fs::write(key_file(&cluster, "n2"), current).expect("the new key");
    stranger.terminate();
    stranger.wait_exit();
    let _again = cluster.start("n2", &[], None);
    let _ = cluster.wait_joined(3);
}
