//! Several hosts, each with processes and a network of its own, on one disk for direct I/O: what a cluster is judged by.

use phalanx_tests::host_cluster::{Agent, HostCluster, ticker};
use phalanx_tests::process_cluster::{PATIENCE, find, wait_for};
use phalanx_tests::requirement::{Requirement, available};
use serde_json::Value;

const NEEDED: [Requirement; 2] = [Requirement::Root, Requirement::Namespaces];

fn is_in(status: &Value, node: usize, state: &str) -> bool {
    find(status, "nodes", &format!("n{node}")).is_some_and(|node| node["state"] == state)
}

/// A cluster of so many hosts with these fence agents, and where its ticker runs; none if this machine cannot have it.
fn formed(count: usize, agents: &[Agent]) -> Option<(HostCluster, usize)> {
    if !available(&NEEDED) {
        return None;
    }
    let cluster = HostCluster::form(count, agents);
    let status = cluster.wait("the ticker", |status| ticker(status).is_some());
    let node = ticker(&status).expect("it runs");
    Some((cluster, node))
}

/// The ticker ticked on `from`, then on `to`, and never on both at the same time. Its first tick comes after its start command has ended.
fn assert_moved(cluster: &HostCluster, from: usize, to: usize) {
    let last = format!("n{to}");
    wait_for("its first tick there", PATIENCE, || (cluster.ticked().last() == Some(&last)).then_some(()));
    assert_eq!(cluster.ticked(), [format!("n{from}"), format!("n{to}")], "\n{}\n{}", cluster.said(0), cluster.said(1));
}

#[test]
fn nodes_know_that_they_are_hosts_of_a_test() {
    if !available(&NEEDED) {
        return;
    }
    let cluster = HostCluster::form(2, &[]);
    let status = cluster.wait("two nodes", |status| is_in(status, 0, "joined") && is_in(status, 1, "joined"));
    let identities: Vec<&str> =
        (0..2).filter_map(|node| find(&status, "nodes", &format!("n{node}"))?["identity"].as_str()).collect();
    assert_eq!(identities, ["test", "test"]);
}

/// No delay is configured anywhere: the agent's proof is what the survivor waits for.
#[test]
fn of_two_hosts_without_a_link_exactly_one_stays_and_the_other_is_dead_before_its_service_starts() {
    let Some((mut cluster, from)) = formed(2, &[Agent::Good]) else { return };
    cluster.lan.cut(0, 1);
    let status = cluster.wait("the service and one node", |status| {
        let stays = |node| is_in(status, node, "joined") && is_in(status, 1 - node, "inactive");
        (stays(0) || stays(1)) && ticker(status).is_some_and(|node| is_in(status, node, "joined"))
    });
    let to = ticker(&status).expect("it runs");
    if from == to {
        assert_eq!(cluster.ticked(), [format!("n{from}")]);
    } else {
        assert_moved(&cluster, from, to);
    }
    // The one that was fenced comes back.
    let _ = cluster.wait_exit(1 - to);
    cluster.lan.heal();
    cluster.start_again(1 - to);
    let _ = cluster.wait("both", |status| is_in(status, 0, "joined") && is_in(status, 1, "joined"));
}

#[test]
fn fault_02_a_host_that_loses_power_is_recovered_when_an_agent_has_proved_it() {
    let Some((mut cluster, victim)) = formed(3, &[Agent::Slow]) else { return };
    cluster.power_off(victim);
    let status = cluster.wait("the service elsewhere", |status| {
        is_in(status, victim, "inactive") && ticker(status).is_some_and(|node| node != victim)
    });
    assert_moved(&cluster, victim, ticker(&status).expect("it runs"));
    let off = format!("fence_slow off {}", cluster.lan.host(victim));
    assert!(cluster.agent_calls().contains(&off), "{:?}", cluster.agent_calls());
}

#[test]
fn fault_37_an_agent_that_fails_is_followed_by_the_next_one() {
    let Some((mut cluster, victim)) = formed(2, &[Agent::Failing, Agent::Good]) else { return };
    cluster.power_off(victim);
    let _ = cluster.wait("the service elsewhere", |status| ticker(status) == Some(1 - victim));
    assert_moved(&cluster, victim, 1 - victim);
    let calls = cluster.agent_calls();
    let host = cluster.lan.host(victim);
    let expected =
        [format!("fence_failing off {host}"), format!("fence_good off {host}"), format!("fence_good status {host}")];
    assert_eq!(calls, expected);
}

/// The first agent says that the host is off, and its own `status` says that it is on: a frozen host is no dead one.
#[test]
fn fault_37_an_agent_that_lies_proves_nothing() {
    let Some((cluster, victim)) = formed(2, &[Agent::Lying, Agent::Good]) else { return };
    cluster.freeze(victim);
    let _ = cluster.wait("the service elsewhere", |status| ticker(status) == Some(1 - victim));
    assert_moved(&cluster, victim, 1 - victim);
    let calls = cluster.agent_calls();
    let at = |word: &str| calls.iter().position(|call| call.starts_with(word)).expect("it was called");
    assert!(at("fence_lying status") < at("fence_good off"), "{calls:?}");
    assert!(cluster.lan.processes(victim).is_empty(), "killed before the service started elsewhere");
}

#[test]
fn fault_38_without_any_proof_recovery_waits_and_says_for_what() {
    let Some((mut cluster, victim)) = formed(2, &[Agent::Failing]) else { return };
    cluster.power_off(victim);
    let name = format!("n{victim}");
    let awaited = |status: &Value| find(status, "nodes", &name)?["fence"]["awaiting"].as_str().map(str::to_owned);
    let status =
        cluster.wait("what is awaited", |status| awaited(status).is_some_and(|text| text.contains("failed 2 times")));
    let text = awaited(&status).expect("it waits");
    for part in ["no route to the power switch", "phalanx fence confirm"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(cluster.ticked().join(" "), name, "nobody has taken the service over");
    // The administrator's word ends it.
    let confirmed = cluster.run(&["fence", "confirm", &name, "--force"]);
    assert!(confirmed.status.success(), "{confirmed:?}");
    let _ = cluster.wait("the service elsewhere", |status| ticker(status) == Some(1 - victim));
    assert_moved(&cluster, victim, 1 - victim);
}
