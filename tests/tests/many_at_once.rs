//! Many transitions at once in a cluster of real processes: kills, a leave and starts that overlap at different levels.

use std::time::Duration;

use phalanx_actors::clock::Clock;
use phalanx_tests::draw::Draw;
use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, signal_process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

const NODES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];

fn rounds() -> usize {
    std::env::var("PHALANX_FAULT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Who does what in a round; the others stay.
struct Roles {
    killed: [&'static str; 2],
    leaver: &'static str,
    stays: [&'static str; 2],
}

/// The master is killed in one round of three, leaves in one, and stays in one; the rest is drawn.
fn roles(round: usize, master: &str, draw: &mut Draw) -> Roles {
    let (masters, others): (Vec<_>, Vec<_>) = NODES.into_iter().partition(|node| *node == master);
    let mut others = draw.shuffled(&others);
    others.insert([0, 2, 3][round % 3], masters[0]);
    let [first, second, leaver, third, fourth] = others[..] else { panic!("five nodes") };
    Roles { killed: [first, second], leaver, stays: [third, fourth] }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the distance between two faults is what is drawn; nothing is waited for"
)]
fn pass(ms: usize) {
    std::thread::sleep(Duration::from_millis(u64::try_from(ms).expect("a short time")));
}

fn incarnation(status: &Value, node: &str) -> u64 {
    find(status, "nodes", node).and_then(|node| node["incarnation"].as_u64()).expect("every node has an incarnation")
}

/// Kills two, lets one leave and starts the killed ones again, at drawn moments, then waits until all of it has ended. Gives the
/// time from the first kill to the second start, in milliseconds.
fn disturb(cluster: &DevCluster, roles: &Roles, before: &Value, draw: &mut Draw) -> u64 {
    let [first, second] = roles.killed.map(|node| cluster.processes_of(node).1);
    let (warden, _) = cluster.processes_of(roles.leaver);
    let signals = draw.shuffled(&[(first, Signal::KILL), (second, Signal::KILL), (warden, Signal::TERM)]);
    // In one round of two all at once, in the other at any distance that fits into the second.
    let apart_ms = 150 * draw.below(2) + 1;
    let mut pause = || pass(draw.below(apart_ms));
    let clock = Clock::Boot;
    let begun = clock.now();
    for (process, signal) in signals {
        signal_process(process, signal);
        pause();
    }
    for node in roles.killed {
        wait_for("the victim's next start", PATIENCE, || cluster.start_node(node).ok());
        pause();
    }
    let took_ms = clock.now().since(begun);
    cluster.wait_status("two that are back and one that is out", |status| {
        let back = |node: &str| {
            incarnation(status, node) > incarnation(before, node)
                && find(status, "nodes", node).is_some_and(|node| node["state"] == "joined")
        };
        let out = find(status, "nodes", roles.leaver).is_some_and(|node| node["state"] == "inactive");
        let stay = |node: &str| incarnation(status, node) == incarnation(before, node);
        let settled = status["transitions"] == Value::Array(Vec::new());
        roles.killed.into_iter().all(back) && roles.stays.into_iter().all(stay) && out && settled
    });
    took_ms
}

/// Two nodes are killed, one leaves and the two are started again within one second. A round that this machine was too slow
/// for does not count; it is checked all the same.
#[test]
fn five_nodes_settle_after_two_kills_a_leave_and_two_starts_within_one_second() {
    let seed = Draw::fresh_seed();
    eprintln!("PHALANX_SEED={seed}");
    let mut draw = Draw::new(seed);
    let cluster = DevCluster::start(5, &[]);
    let (mut counted, mut slowest_ms) = (0, 0);
    for round in 0..3 * rounds() {
        let before = cluster.wait_joined(5);
        let _ = cluster.wait_registered("licences");
        let master = before["master"].as_str().expect("a settled cluster has a master");
        let roles = roles(counted, master, &mut draw);
        let (killed, leaver) = (roles.killed, roles.leaver);
        eprintln!("round {round}: master {master}, {killed:?} killed and started again, {leaver} leaves");
        let took_ms = disturb(&cluster, &roles, &before, &mut draw);
        eprintln!("round {round}: {took_ms} ms");
        cluster.check_order();
        let [survivor, _] = roles.stays;
        assert!(cluster.check_traces(survivor) > 0, "{survivor} was there all the time and kept no trace");
        wait_for("the leaver's next start", PATIENCE, || cluster.start_node(leaver).ok());
        if took_ms < 1_000 {
            (counted, slowest_ms) = (counted + 1, slowest_ms.max(took_ms));
        }
        if counted == rounds() {
            break;
        }
    }
    assert_eq!(counted, rounds(), "too few rounds took less than a second");
    eprintln!("{counted} rounds, the slowest took {slowest_ms} ms");
    cluster.wait_joined(5);
    cluster.check_order();
    let journal = cluster.licence_journal();
    assert_eq!(journal.overlaps, 0, "{journal:?}");
}
