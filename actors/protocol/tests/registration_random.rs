//! Random runs of registration and launch: nodes boot, leave and die, messages are late, repeated and lost, commands fail,
//! leases are judged wrongly. The invariants of protocol §6.6 hold after every step, and when the faults end everything comes to
//! rest (I-R20). One seed is one run; a failure prints it.

mod registration_world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{CommandKind, RunState, ServiceRun};
use phalanx_messages::service::PlacementPolicy;
use phalanx_protocol::registration::{DatabaseRoom, NodeLoads, Planning, StopReason, plan};
use registration_world::World;
use registration_world::checks::root_of;

const STEPS: usize = 3_000;
const CALM_ROUNDS: usize = 400;

fn run(seed: u64) -> BTreeMap<&'static str, usize> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.faults = false;
    for _ in 0..CALM_ROUNDS {
        world.calm_round();
    }
    world.check_rest();
    let commits = world.seen["commit"];
    for _ in 0..40 {
        world.calm_round();
    }
    assert_eq!(world.seen["commit"], commits, "I-R20: decisions go on though nothing happens\n{}", world.read());
    world.seen
}

#[test]
fn the_invariants_hold_and_everything_comes_to_rest() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let run = result.unwrap_or_else(|failure| {
            eprintln!("seed {seed}");
            resume_unwind(failure)
        });
        run.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
    }
    eprintln!("{seen:?}");
    let expected = [
        "boot",
        "leave",
        "left",
        "doomed",
        "died",
        "command failed",
        "request",
        "apply",
        "remove",
        "standby",
        "lease judged wrongly",
        "executor panicked",
        "service failed",
        "resting",
        "free transfer",
        "root",
        "child",
        "instance",
        "child of an instance",
        "AwaitParent",
        "Starting",
        "StartCleanup",
        "Registered",
        "Stopping",
        "StopKill",
        "Recovering",
        "RecoveryCleanup",
        "FenceStart",
        "FenceStop",
        "FenceRecovery",
        "AwaitMaturity",
        "Failed",
        "PendRecovery",
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|what| !seen.contains_key(what)).collect();
    assert!(missing.is_empty(), "the runs never reached {missing:?}");
}

/// A change that touches one service must leave the others alone.
#[test]
fn a_change_that_does_not_touch_a_service_plans_nothing_for_it_and_every_stop_has_a_reason() {
    let mut stops = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..(seed % 7) * 150 {
            world.step();
        }
        for _ in 0..(seed % 2) * 40 {
            world.calm_round();
        }
        for _ in 0..10 {
            let order = world.any_order();
            stops += check_plan(&world, &order, seed);
        }
    }
    assert!(stops > 100, "the plans stopped only {stops} services");
}

/// How many services the order would stop.
fn check_plan(world: &World, order: &RegistrationOrder, seed: u64) -> usize {
    let (record, view) = (world.committed.clone(), world.committed.seen());
    let loads = NodeLoads::default();
    let planning = Planning { view: &view, loads: &loads, room: DatabaseRoom::default() };
    let Ok(planned) = plan(&record, planning, order) else { return 0 };
    let mut stops = 0;
    let group = |named: &String, service: &String| {
        let root_before = root_of(&record, named) == root_of(&record, service);
        root_before || root_of(&planned.record, named) == root_of(&planned.record, service)
    };
    let touched = |service: &String| match order {
        RegistrationOrder::Service { service: named, .. } => group(named, service),
        RegistrationOrder::Apply(changes) => changes.services.iter().any(|change| group(&change.after.name, service)),
        RegistrationOrder::EnableGroup { .. } => false,
        RegistrationOrder::Standby { node, .. } => {
            let mut group = record.services.iter().filter(|(name, _)| group(name, service));
            let concerned = |run: &ServiceRun| run.state.is_idle() || run.node.node == *node;
            group.any(|(_, member)| {
                let everywhere = member.definition.placement_policy == PlacementPolicy::RegisterOnAll;
                everywhere || member.runs().any(|(_, run)| concerned(run))
            })
        }
    };
    for change in &planned.changes {
        assert!(
            touched(&change.instance.service),
            "seed {seed}: {order:?} changes {}: {:?}",
            change.instance.lane(),
            change.run
        );
    }
    for command in &planned.commands {
        assert!(touched(&command.instance.service), "seed {seed}: {order:?} commands {command:?}");
        assert!(!matches!(order, RegistrationOrder::Apply(_)) || command.kind != CommandKind::Stop, "seed {seed}");
    }
    for stop in planned.changes.iter().filter(|change| change.run.state == RunState::Stopping) {
        stops += 1;
        let expected = match order {
            RegistrationOrder::Service { order: ServiceOrder::Deregister, .. } => StopReason::Deregister,
            RegistrationOrder::Standby { .. } => StopReason::Standby,
            RegistrationOrder::Service { order: ServiceOrder::Failed { .. }, .. } => StopReason::Failure,
            RegistrationOrder::Service { .. } | RegistrationOrder::EnableGroup { .. } | RegistrationOrder::Apply(_) => {
                StopReason::Move
            }
        };
        assert_eq!(stop.reason, Some(expected), "seed {seed}: {order:?}");
    }
    for (service, before) in &record.services {
        let after = planned.record.services.get(service);
        let essence = |run: &ServiceRun| (run.state, run.node, run.operation, run.want, run.held, run.victim);
        let same = after
            .is_some_and(|after| after.definition == before.definition && essence(&after.run) == essence(&before.run));
        assert!(touched(service) || same, "seed {seed}: {order:?} touches {service}");
    }
    stops
}
