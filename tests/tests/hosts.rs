//! Several hosts, each with processes and a network of its own, on one disk for direct I/O: what a cluster is judged by.

use phalanx_messages::profile::TimingProfile;
use phalanx_node::test_host::DiskPath;
use phalanx_node::warden::EXIT_FORCED_OUT;
use phalanx_tests::host_cluster::{Agent, HostCluster, master, nodes_in, ticker};
use phalanx_tests::process_cluster::{PATIENCE, find, list, wait_for};
use phalanx_tests::requirement::{Requirement, available};
use serde_json::Value;

const NEEDED: [Requirement; 2] = [Requirement::Root, Requirement::Namespaces];

fn is_in(status: &Value, node: usize, state: &str) -> bool {
    find(status, "nodes", &format!("n{node}")).is_some_and(|node| node["state"] == state)
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
fn fault_17_of_two_hosts_without_a_link_exactly_one_stays_and_the_other_is_dead_before_its_service_starts() {
    let Some((mut cluster, from)) = HostCluster::with_ticker(2, &[Agent::Good]) else { return };
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

/// The disk is lost as well, so the master cannot mark anybody: its lease ends, the other one takes over, and the agent's proof is
/// all that it waits for. No delay is configured anywhere.
#[test]
fn fault_18_of_two_hosts_a_master_without_link_and_disk_is_dead_before_the_other_starts_its_service() {
    let Some((mut cluster, from)) = HostCluster::with_ticker(2, &[Agent::Good]) else { return };
    let lost = master(&cluster.wait("a master", |status| master(status).is_some())).expect("there is one");
    assert_eq!(from, lost, "the first node leads and has the service");
    cluster.lan.cut(0, 1);
    cluster.set_path(lost, DiskPath::Lost);
    let status = cluster.wait("the service and one node", |status| {
        nodes_in(status, "joined") == [1 - lost] && ticker(status) == Some(1 - lost)
    });
    assert_eq!(master(&status), Some(1 - lost));
    assert_moved(&cluster, lost, 1 - lost);
    assert!(cluster.lan.processes(lost).is_empty(), "whoever was replaced is dead");
    // The one that was fenced comes back.
    let _ = cluster.wait_exit(lost);
    cluster.lan.heal();
    cluster.set_path(lost, DiskPath::Good);
    cluster.start_again(lost);
    let _ = cluster.wait("both", |status| nodes_in(status, "joined") == [0, 1]);
}

/// A host that was paused for less than it may be missed goes on as if nothing had been.
#[test]
fn fault_09_a_host_that_resumes_before_its_lease_ends_is_not_missed() {
    let Some((cluster, frozen)) = HostCluster::with_ticker(3, &[Agent::Good]) else { return };
    let incarnations = |status: &Value| -> Vec<Value> {
        list(status, "nodes").iter().map(|node| node["incarnation"].clone()).collect()
    };
    let before = cluster.wait("all", |status| nodes_in(status, "joined") == [0, 1, 2]);
    let ticks = || cluster.journals.ticks("ticker");
    cluster.freeze(frozen);
    let frozen_at = ticks();
    cluster.let_pass(TimingProfile::DEV.net_ms);
    assert_eq!(ticks(), frozen_at, "it was frozen");
    cluster.thaw(frozen);
    wait_for("its next tick", PATIENCE, || (ticks() > frozen_at).then_some(()));
    cluster.let_pass(TimingProfile::DEV.takeover_ms()); // by then whoever is missed is marked
    let after = cluster.wait("all", |status| nodes_in(status, "joined") == [0, 1, 2]);
    assert_eq!(incarnations(&after), incarnations(&before));
    assert_eq!((master(&after), ticker(&after)), (master(&before), Some(frozen)));
    assert_eq!(cluster.agent_calls(), Vec::<String>::new());
    assert_eq!(cluster.ticked(), [format!("n{frozen}")], "the instance is still the first");
}

/// Nobody can prove the death of a host that is only frozen, and no agent can switch it off: the cluster waits. When it wakes
/// it reads the mark before anything else, ends itself, and its own word is the proof.
#[test]
fn fault_10_a_host_that_resumes_after_its_mark_ends_itself_before_its_service_starts_elsewhere() {
    let Some((mut cluster, frozen)) = HostCluster::with_ticker(3, &[Agent::Failing]) else { return };
    cluster.freeze(frozen);
    let name = format!("n{frozen}");
    let _ = cluster.wait("its mark", |status| {
        is_in(status, frozen, "forced-leaving")
            && find(status, "nodes", &name).is_some_and(|node| node["fence"]["awaiting"].is_string())
    });
    assert_eq!(cluster.ticked(), [name.as_str()], "nobody has taken its service over");
    cluster.thaw(frozen);
    assert_eq!(cluster.wait_exit(frozen), Some(i32::from(EXIT_FORCED_OUT)), "{}", cluster.said(frozen));
    let status = cluster.wait("the service elsewhere", |status| {
        is_in(status, frozen, "inactive") && ticker(status).is_some_and(|node| node != frozen)
    });
    assert_moved(&cluster, frozen, ticker(&status).expect("it runs"));
}

#[test]
fn fault_21_a_master_that_has_lost_its_path_to_the_disk_is_replaced_and_fenced() {
    let Some((cluster, from)) = HostCluster::with_ticker(3, &[Agent::Good]) else { return };
    let lost = master(&cluster.wait("a master", |status| master(status).is_some())).expect("there is one");
    assert_eq!(from, lost, "the first node leads and has the service");
    cluster.set_path(lost, DiskPath::Hanging);
    let status = cluster.wait("another master", |status| {
        is_in(status, lost, "inactive")
            && master(status).is_some_and(|master| master != lost)
            && ticker(status).is_some_and(|node| node != lost)
    });
    assert_moved(&cluster, lost, ticker(&status).expect("it runs"));
}

/// The same file on a second host: the register of the node moves, so the second one refuses, and the first does not notice.
#[test]
fn fault_31_a_second_host_with_the_id_of_a_living_node_refuses_to_start() {
    let Some((cluster, _)) = HostCluster::with_ticker(2, &[Agent::Good]) else { return };
    let before = cluster.wait("both", |status| nodes_in(status, "joined") == [0, 1]);
    let file = cluster.copied_file(1);
    let refused = cluster.run_as_host("another", 0, &file);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    for part in ["node 1 runs on another host", "two hosts are configured as one node"] {
        assert!(said.contains(part), "{said}");
    }
    let after = cluster.wait("both", |status| nodes_in(status, "joined") == [0, 1]);
    assert_eq!(after["nodes"], before["nodes"]);
}

#[test]
fn fault_02_a_host_that_loses_power_is_recovered_when_an_agent_has_proved_it() {
    let Some((mut cluster, victim)) = HostCluster::with_ticker(3, &[Agent::Slow]) else { return };
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
    let Some((mut cluster, victim)) = HostCluster::with_ticker(2, &[Agent::Failing, Agent::Good]) else { return };
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
    let Some((cluster, victim)) = HostCluster::with_ticker(2, &[Agent::Lying, Agent::Good]) else { return };
    cluster.freeze(victim);
    let _ = cluster.wait("the service elsewhere", |status| ticker(status) == Some(1 - victim));
    assert_moved(&cluster, victim, 1 - victim);
    let calls = cluster.agent_calls();
    let at = |word: &str| calls.iter().position(|call| call.starts_with(word)).expect("it was called");
    assert!(at("fence_lying status") < at("fence_good off"), "{calls:?}");
    assert!(cluster.lan.processes(victim).is_empty(), "killed before the service started elsewhere");
}

/// What all these tests stand on: if two instances do live at once, the journal shows it.
#[test]
fn an_agent_that_deceives_makes_two_instances_live_at_once_and_that_is_seen() {
    let Some((cluster, victim)) = HostCluster::with_ticker(2, &[Agent::Deceiving]) else { return };
    cluster.freeze(victim);
    let _ = cluster.wait("the service elsewhere", |status| ticker(status) == Some(1 - victim));
    let seen = cluster.journals.instances("ticker").expect_err("the first instance is only frozen");
    assert!(seen.contains("overlap") && seen.contains("a process of another instance lives"), "{seen}");
}

#[test]
fn fault_38_without_any_proof_recovery_waits_and_says_for_what() {
    let Some((mut cluster, victim)) = HostCluster::with_ticker(2, &[Agent::Failing]) else { return };
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
