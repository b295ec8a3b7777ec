//! A cluster of three real nodes runs `configs/services.toml`: killing, leaving and rejoining nodes gives what the spec's tables say.

use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, wait_for};
use phalanx_tests::requirement::{Requirement, available};
use serde_json::Value;

/// The service of an agent comes last in the file, so that the rest can run where there is none.
const AGENT: &str = "# An OCF resource agent";

fn cluster() -> DevCluster {
    let whole = include_str!("../../configs/services.toml");
    let rest = whole.split(AGENT).next().unwrap_or(whole);
    let text = if available(&[Requirement::Agents]) { whole } else { rest };
    let config = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    std::fs::write(config.path(), text).expect("it can be written");
    DevCluster::start(3, &["--no-demo-service", "--config", &config.path().to_string_lossy()])
}

const GROUP: [&str; 3] = ["database", "application", "web"];

fn is_at(status: &Value, service: &str, node: &str) -> bool {
    find(status, "services", service).is_some_and(|it| it["state"] == "registered" && it["node"] == node)
}

fn group_at(cluster: &DevCluster, node: &str) -> Value {
    cluster
        .wait_status(&format!("the group on {node}"), |status| GROUP.iter().all(|service| is_at(status, service, node)))
}

/// Lines of the journal, one command each: service, action, node, and what it was given.
fn journal(cluster: &DevCluster) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(cluster.dir().join("journal")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// `service action` of the group since the first `after` lines, in order.
fn deeds(cluster: &DevCluster, after: usize, actions: &[&str]) -> Vec<String> {
    let lines = journal(cluster).into_iter().skip(after);
    let of_group = lines.filter(|line| GROUP.contains(&line[0].as_str()) && actions.contains(&line[1].as_str()));
    of_group.map(|line| format!("{} {}", line[0], line[1])).collect()
}

fn each(action: &str, services: &[&str]) -> Vec<String> {
    services.iter().map(|service| format!("{service} {action}")).collect()
}

/// Fig. 17 with real processes: root to leaf, leaf to root; row 53 of the fault table.
#[test]
fn fault_53_a_group_of_three_generations_starts_moves_and_is_recovered_in_order() {
    let cluster = cluster();
    cluster.wait_joined(3);
    // The preferred node may come last; the group is where it was first possible.
    let first = cluster.wait_status("the group", |status| {
        GROUP.iter().all(|service| find(status, "services", service).is_some_and(|it| it["state"] == "registered"))
    });
    let first = find(&first, "services", "database").expect("it is there")["node"].as_str().expect("a node").to_owned();
    assert_eq!(deeds(&cluster, 0, &["start"]), each("start", &GROUP));
    let status = group_at(&cluster, &first);
    assert_eq!(find(&status, "services", "web").expect("it is there")["parent"], "application");

    let second = if first == "n1" { "n2" } else { "n1" };
    let before = journal(&cluster).len();
    drop(cluster.succeed(&["service", "transfer", "database", "--to", second]));
    group_at(&cluster, second);
    let moved = [each("stop", &["web", "application", "database"]), each("start", &GROUP)].concat();
    assert_eq!(deeds(&cluster, before, &["start", "stop"]), moved);

    let before = journal(&cluster).len();
    drop(cluster.succeed(&["kill", second]));
    let status = cluster.wait_status("the group elsewhere", |status| {
        GROUP.iter().all(|service| {
            find(status, "services", service).is_some_and(|it| it["state"] == "registered" && it["node"] != second)
        })
    });
    let third =
        find(&status, "services", "database").expect("it is there")["node"].as_str().expect("a node").to_owned();
    let recovered = [each("recovery", &["web", "application", "database"]), each("start", &GROUP)].concat();
    assert_eq!(deeds(&cluster, before, &["start", "recovery"]), recovered);
    let victims: Vec<String> =
        journal(&cluster)[before..].iter().filter(|line| line[1] == "recovery").map(|line| line[3].clone()).collect();
    assert!(victims.iter().all(|victim| victim == second), "{victims:?}");
    group_at(&cluster, &third);
}

/// Spec, "Placement_Policy": an instance on every node; one that was lost is recovered once, and comes back with its node.
#[test]
fn a_service_on_all_nodes_comes_and_goes_with_them() {
    let cluster = cluster();
    let all = |status: &Value, nodes: &[&str]| {
        let cache = find(status, "services", "cache");
        let on = |node: &str| cache.is_some_and(|cache| cache["nodes"][node]["state"] == "registered");
        nodes.iter().all(|node| on(node)) && cache.is_some_and(|cache| cache["state"] == "registered")
    };
    cluster.wait_joined(3);
    cluster.wait_status("the cache everywhere", |status| all(status, &["n0", "n1", "n2"]));
    drop(cluster.succeed(&["kill", "n2"]));
    cluster.wait_status("the cache on two nodes", |status| {
        let gone = find(status, "services", "cache").is_some_and(|cache| cache["nodes"]["n2"]["state"] == "down");
        gone && all(status, &["n0", "n1"])
    });
    let recovered = || journal(&cluster).into_iter().filter(|line| line[0] == "cache" && line[1] == "recovery");
    let recovered: Vec<String> = wait_for("its recovery", PATIENCE, || {
        let victims: Vec<String> = recovered().map(|line| line[3].clone()).collect();
        (!victims.is_empty()).then_some(victims)
    });
    assert_eq!(recovered, ["n2"], "once, and for the node that died");
    wait_for("n2's next start", PATIENCE, || cluster.run(&["start", "n2"]).status.success().then_some(()));
    cluster.wait_joined(3);
    cluster.wait_status("the cache everywhere again", |status| all(status, &["n0", "n1", "n2"]));
}

/// Spec, Table 3: notified when it comes, and after a moment it takes the service over; row 52 of the fault table.
#[test]
fn fault_52_a_free_service_goes_back_to_its_preferred_node_when_that_is_stable() {
    let cluster = cluster();
    cluster.wait_joined(3);
    cluster.wait_status("the service where it prefers to be", |status| is_at(status, "reports", "n2"));
    // Its event is watched for where it is.
    let ticks = |node: &str| {
        let lines = journal(&cluster).into_iter();
        lines.filter(|line| line[..3] == ["reports", "tick", node]).count()
    };
    wait_for("an event on n2", PATIENCE, || (ticks("n2") > 0).then_some(()));
    drop(cluster.succeed(&["node", "leave", "n2"]));
    let status = cluster.wait_status("the service elsewhere", |status| {
        find(status, "services", "reports").is_some_and(|it| it["state"] == "registered" && it["node"] != "n2")
    });
    let elsewhere = find(&status, "services", "reports").expect("it is there").clone();
    wait_for("n2's next start", PATIENCE, || cluster.run(&["start", "n2"]).status.success().then_some(()));
    let joined = cluster.wait_joined(3);
    let now = find(&joined, "services", "reports").expect("it is there");
    assert_eq!(now["node"], elsewhere["node"], "not before it is stable");
    let explained = cluster.succeed(&["explain", "reports"]);
    assert!(explained.contains("[stays]") && explained.contains("transfer_cost is free"), "{explained}");
    let planned = cluster.succeed(&["simulate", "--leave", "n2"]);
    assert!(!planned.contains("reports"), "it is not there yet: {planned}");
    cluster.wait_status("the service back", |status| is_at(status, "reports", "n2"));
    let mut there = 0;
    for _ in 0..2 {
        there = ticks(elsewhere["node"].as_str().expect("a node"));
        let here = ticks("n2");
        wait_for("an event on n2 again", PATIENCE, || (ticks("n2") > here).then_some(()));
    }
    assert_eq!(ticks(elsewhere["node"].as_str().expect("a node")), there, "disabled where it was");
    let planned = cluster.succeed(&["simulate", "--fail", "n2"]);
    assert!(planned.contains("reports: start on n"), "{planned}");
}

/// A resource agent is a service like any other: it starts elsewhere when its node dies.
#[test]
fn a_resource_agent_of_the_sample_configuration_moves_with_its_nodes() {
    if !available(&[Requirement::Agents]) {
        return;
    }
    let cluster = cluster();
    cluster.wait_joined(3);
    let first = cluster.wait_registered("agent");
    drop(cluster.succeed(&["kill", &first]));
    cluster.wait_status("the agent elsewhere", |status| {
        find(status, "services", "agent").is_some_and(|it| it["state"] == "registered" && it["node"] != first.as_str())
    });
}
