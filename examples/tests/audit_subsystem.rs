//! The Rust example as a process, attached to a cluster of real processes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use phalanx_node::dev::node_socket;
use phalanx_tests::process_cluster::{DevCluster, find, list};
use serde_json::Value;

fn level_of<'a>(status: &'a Value, node: &str) -> &'a Value {
    find(status, "nodes", node).map_or(&Value::Null, |node| &node["levels"]["500"])
}

#[test]
fn the_rust_example_attaches_prints_every_step_and_costs_its_level_when_it_dies() {
    let cluster = DevCluster::start(2, &["--no-demo-service"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_audit_subsystem"));
    let mut example =
        command.arg(node_socket(cluster.dir(), "n0")).stdout(Stdio::piped()).spawn().expect("it can be started");
    cluster.wait_status("level 500 joined on n0", |status| level_of(status, "n0") == "joined");
    let mut lines = BufReader::new(example.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "attached to n0 of cluster dev");
    assert_eq!([next(), next()], ["JoinExtending of n0, barrier 0", "JoinExtending of n0, barrier 1"]);
    example.kill().expect("a child can be killed");
    example.wait().expect("a child can be waited for");
    let status = cluster.wait_status("the level gone", |status| {
        *level_of(status, "n0") == Value::Null && list(status, "transitions").is_empty()
    });
    assert_eq!(find(&status, "nodes", "n0").expect("a node")["state"], "joined");
}
