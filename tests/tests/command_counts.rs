//! How often commands run: at least once for each operation, and exactly once if neither that daemon nor the decision maker dies
//! between run and record. The production machines, one step after the other ([`LauncherCluster`]).
//!
//! An operation never runs twice at all: who runs it keeps its result, and whoever decides sends the same operation again. What runs a
//! second time is a new operation for the same purpose, because the node that ran the first one is dead.

use phalanx_messages::NodeId;
use phalanx_messages::order::ServiceOrder;
use phalanx_messages::registration::{CommandKind, RunState};
use phalanx_messages::service::{AllowableNodes, AutoRegister, NodePreferences, PlacementPolicy, ServiceDefinition};
use phalanx_tests::launcher_cluster::{LauncherCluster, Weather, command};
use phalanx_tests::simulation::random::Random;

const NODES: u16 = 4;
const SEEDS: u64 = 60;

/// Runs anywhere but on node 0, which decides; rather on node 1, then on node 2.
fn service(name: &str) -> ServiceDefinition {
    ServiceDefinition {
        allowable_nodes: AllowableNodes::Listed((1..NODES).map(NodeId).collect()),
        node_preferences: NodePreferences::Ordered((1..NODES).map(NodeId).collect()),
        auto_register: AutoRegister::Manual,
        start_command: command("start"),
        stop_command: command("stop"),
        notify_command: command("notify"),
        recovery_command: command("recover"),
        ..ServiceDefinition::new(name)
    }
}

/// A service with a child, one that starts by itself anywhere, one on every node.
fn services() -> Vec<ServiceDefinition> {
    let child =
        ServiceDefinition { parent: Some("web".to_owned()), notify_command: None, ..ServiceDefinition::new("child") };
    let child = ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        ..child
    };
    let everywhere = ServiceDefinition {
        allowable_nodes: AllowableNodes::Any,
        node_preferences: NodePreferences::None,
        auto_register: AutoRegister::Always,
        notify_command: None,
        ..service("everywhere")
    };
    let all = ServiceDefinition { placement_policy: PlacementPolicy::RegisterOnAll, ..everywhere.clone() };
    vec![service("web"), child, everywhere, ServiceDefinition { name: "cache".to_owned(), ..all }]
}

/// Asks something at some node.
fn ask_something(cluster: &mut LauncherCluster, random: &mut Random, nodes: &[u16]) {
    let service = *random.pick(&["web", "everywhere", "cache"]).expect("some");
    let order = match random.below(4) {
        0 => ServiceOrder::Deregister,
        1 => ServiceOrder::Transfer { to: None },
        _ => ServiceOrder::Register,
    };
    let node = *random.pick(nodes).expect("somebody lives");
    cluster.ask_service(node, service, order);
}

fn steps(cluster: &mut LauncherCluster, count: u64) {
    (0..count).for_each(|_| cluster.step());
}

/// Messages are lost, doubled, overtaken and late; nobody dies.
#[test]
fn each_operation_runs_exactly_once_whatever_becomes_of_messages() {
    let mut ran = 0;
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut cluster = LauncherCluster::in_weather(NODES, services(), Weather::rough(seed));
        for _ in 0..8 {
            ask_something(&mut cluster, &mut random, &[0, 1, 2, 3]);
            steps(&mut cluster, random.below(200));
        }
        cluster.until(&format!("seed {seed}: everything rests"), LauncherCluster::is_at_rest);
        for (operation, count) in cluster.counts() {
            assert!(
                count == 1 || operation.kind == CommandKind::Notify,
                "seed {seed}: {operation:?} ran {count} times"
            );
        }
        cluster.assert_each_ran_once();
        assert!(cluster.mishaps() > 0, "seed {seed}: nothing was lost or doubled");
        ran += cluster.ran().len();
    }
    assert!(ran as u64 > 8 * SEEDS, "{ran} commands in {SEEDS} runs");
}

/// The actors of the services on node 1 begin anew before each of all steps: the warden knows what has run.
#[test]
fn an_actor_that_begins_anew_runs_nothing_again() {
    for count in 0.. {
        let mut cluster = LauncherCluster::joined(NODES, vec![service("web")]);
        cluster.ask_service(0, "web", ServiceOrder::Register);
        steps(&mut cluster, count);
        let ended = cluster.is_at_rest();
        cluster.forget_executors(1);
        cluster.until("the service runs", LauncherCluster::is_at_rest);
        assert_eq!(cluster.at("web"), (RunState::Registered, 1), "after {count} steps");
        assert_eq!(cluster.runs("web", CommandKind::Start), 1, "after {count} steps");
        cluster.assert_each_ran_once();
        if ended {
            break;
        }
    }
}

/// The decision maker dies before each of all steps, also between run and record: still once.
#[test]
fn the_death_of_the_decision_maker_repeats_no_command() {
    let mut between = 0;
    for count in 0.. {
        let mut cluster = LauncherCluster::joined(NODES, vec![service("web")]);
        cluster.ask_service(3, "web", ServiceOrder::Register);
        steps(&mut cluster, count);
        let ended = cluster.is_at_rest();
        let recorded = cluster.at("web").0 == RunState::Registered;
        between += usize::from(cluster.runs("web", CommandKind::Start) == 1 && !recorded);
        cluster.crash(0);
        cluster.force_out(0);
        cluster.until("the service runs", LauncherCluster::is_at_rest);
        assert_eq!(cluster.at("web"), (RunState::Registered, 1), "after {count} steps");
        assert_eq!(cluster.runs("web", CommandKind::Start), 1, "after {count} steps");
        cluster.assert_each_ran_once();
        if ended {
            break;
        }
    }
    assert!(between > 2, "{between} deaths between run and record");
}

/// The daemon that starts the service dies before each of all steps. Between run and record its start is repeated elsewhere, by another
/// operation: at least once, and twice at most.
#[test]
fn the_death_of_the_daemon_between_run_and_record_runs_the_command_again_elsewhere() {
    let mut between = 0;
    for count in 0.. {
        let mut cluster = LauncherCluster::joined(NODES, vec![service("web")]);
        cluster.ask_service(3, "web", ServiceOrder::Register);
        steps(&mut cluster, count);
        let ended = cluster.is_at_rest();
        let ran = cluster.runs("web", CommandKind::Start);
        let recorded = cluster.at("web").0 == RunState::Registered;
        between += usize::from(ran == 1 && !recorded);
        cluster.crash(1);
        cluster.force_out(1);
        cluster.until("the service runs elsewhere", LauncherCluster::is_at_rest);
        assert_eq!(cluster.at("web"), (RunState::Registered, 2), "after {count} steps");
        let recoveries = usize::from(recorded || cluster.runs("web", CommandKind::Recovery) == 1);
        assert_eq!(cluster.runs("web", CommandKind::Start), ran + 1, "after {count} steps");
        assert_eq!(cluster.runs("web", CommandKind::Recovery), recoveries, "after {count} steps");
        cluster.assert_each_ran_once();
        if ended {
            break;
        }
    }
    assert!(between > 2, "{between} deaths between run and record");
}

/// The node that recovers a lost service dies: before its command runs, it runs once in all; between run and record, twice; after
/// that, once for each victim.
#[test]
fn a_recovery_runs_at_least_once_and_twice_only_if_its_daemon_dies_between_run_and_record() {
    let mut between = 0;
    for count in 0.. {
        let mut cluster = LauncherCluster::joined(NODES, vec![service("web")]);
        cluster.ask_service(3, "web", ServiceOrder::Register);
        cluster.until("the service runs", LauncherCluster::is_at_rest);
        cluster.crash(1);
        cluster.force_out(1);
        steps(&mut cluster, count);
        let ended = cluster.is_at_rest();
        let ran = cluster.runs("web", CommandKind::Recovery);
        let state = cluster.at("web").0;
        cluster.crash(2);
        cluster.force_out(2);
        cluster.until("the service runs on the last node", LauncherCluster::is_at_rest);
        assert_eq!(cluster.at("web"), (RunState::Registered, 3), "after {count} steps");
        let recoveries = cluster.runs("web", CommandKind::Recovery);
        let expected = match (ran, state) {
            (0, _) => 1..=1,
            (_, RunState::Registered) => 2..=2, // one for each of two victims
            (_, _) => 1..=2,                    // its result may have been on its way
        };
        assert!(expected.contains(&recoveries), "after {count} steps, {ran} before, {state:?}: {recoveries}");
        between += usize::from(recoveries == 2 && state == RunState::Recovering);
        cluster.assert_each_ran_once();
        if ended {
            break;
        }
    }
    assert!(between > 2, "{between} deaths between run and record");
}

/// Both kinds of death at drawn moments, in rough weather, with restarts: no operation runs twice, and everything comes to rest.
#[test]
fn no_operation_runs_twice_whoever_dies_in_rough_weather() {
    for seed in 0..SEEDS {
        let mut random = Random::new(1_000 + seed);
        let mut cluster = LauncherCluster::in_weather(NODES, services(), Weather::rough(seed));
        for _ in 0..4 {
            ask_something(&mut cluster, &mut random, &[0, 1, 2, 3]);
            steps(&mut cluster, random.below(150));
            let decides = cluster.decision_makers().first().copied().unwrap_or(0);
            let victim = if random.coin() { decides } else { *random.pick(&[1, 2, 3]).expect("some") };
            cluster.crash(victim);
            let rest: Vec<u16> = (0..NODES).filter(|node| *node != victim).collect();
            ask_something(&mut cluster, &mut random, &rest);
            steps(&mut cluster, random.below(100));
            cluster.force_out(victim);
            steps(&mut cluster, random.below(150));
            cluster.until("the forced step is adopted", |cluster| cluster.has_adopted());
            cluster.restart(victim);
            steps(&mut cluster, random.below(150));
        }
        cluster.calm_down();
        cluster.until(&format!("seed {seed}: everything rests"), LauncherCluster::is_at_rest);
        cluster.assert_each_ran_once();
    }
}
