//! MC4: the transition engine under every interleaving (protocol §5.9, §8.2; docs/design/model-checking.md).
//!
//! The large configurations need time and memory: set `PHALANX_MODEL=full`.

use phalanx_messages::Level;
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_tests::transition_model::{Budget, Start, TransitionModel};
use stateright::{Checker, HasDiscoveries, Model};

fn levels(joining: u8, leaving: u8, forced_leaving: u8) -> Vec<LevelRegistration> {
    let level = |level, name: &str| LevelRegistration {
        level,
        name: name.to_owned(),
        barriers: BarrierCounts { joining, leaving, forced_leaving },
        needs: Certainty::Io,
        optional: false,
    };
    vec![level(Level::DLM, "DLM"), level(Level::VDM, "VDM")]
}

fn model(nodes: u16, start: Start, budget: Budget) -> TransitionModel {
    TransitionModel { nodes, start, levels: levels(1, 1, 1), later: None, budget, bug: None }
}

const fn joined(joined: u16, joining: u16) -> Start {
    Start::Joined { joined, joining }
}

const NONE: Budget = Budget { crashes: 0, boots: 0, leaves: 0, registrations: 0, suspicions: 0 };

/// Explores everything: every invariant holds, nothing waits for ever.
fn holds(model: TransitionModel) {
    let (nodes, start, budget) = (model.nodes, model.start, model.budget);
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{nodes} nodes, {start:?}, {budget:?}: {} states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    for (name, path) in checker.discoveries() {
        if name != "everything ends" {
            let last = path.last_state().violation.clone();
            panic!("{name}: {last:?} after\n{:?}", path.into_actions());
        }
    }
    checker.assert_properties();
}

fn holds_if_full(model: TransitionModel) {
    if std::env::var("PHALANX_MODEL").is_ok_and(|model| model == "full") {
        holds(model);
    } else {
        println!("{} nodes, {:?}, {:?}: only with PHALANX_MODEL=full", model.nodes, model.start, model.budget);
    }
}

#[test]
fn two_joined_and_one_joining() {
    holds(model(3, joined(2, 1), NONE));
    holds(model(3, joined(2, 1), Budget { crashes: 1, ..NONE }));
    holds(model(3, joined(2, 1), Budget { leaves: 1, ..NONE }));
    holds_if_full(model(3, joined(2, 1), Budget { crashes: 2, ..NONE }));
    holds_if_full(model(3, joined(2, 1), Budget { crashes: 1, leaves: 1, ..NONE }));
    holds_if_full(model(3, joined(2, 1), Budget { crashes: 1, suspicions: 1, ..NONE }));
}

#[test]
fn three_joined() {
    holds(model(3, joined(3, 0), Budget { crashes: 2, ..NONE }));
    holds(model(3, joined(3, 0), Budget { crashes: 1, leaves: 1, ..NONE }));
    holds(model(3, joined(3, 0), Budget { crashes: 1, suspicions: 1, ..NONE }));
}

/// Formation, and levels that are parked because nobody is left at them (T-18).
#[test]
fn one_joined_and_two_joining() {
    holds_if_full(model(3, joined(1, 2), Budget { crashes: 1, ..NONE }));
    holds(model(2, joined(1, 1), Budget { crashes: 1, boots: 1, ..NONE }));
}

/// Early rejoin (T-13).
#[test]
fn a_node_that_starts_again_before_its_loss_is_recovered() {
    holds(model(2, joined(2, 0), Budget { crashes: 2, boots: 2, ..NONE }));
    holds_if_full(model(3, joined(3, 0), Budget { crashes: 1, boots: 1, leaves: 1, ..NONE }));
}

/// T-18: nobody of the old cluster is left.
#[test]
fn a_cold_start() {
    holds(model(3, Start::Cold { booted: 2 }, NONE));
    holds_if_full(model(3, Start::Cold { booted: 2 }, Budget { crashes: 1, ..NONE }));
    holds_if_full(model(3, Start::Cold { booted: 2 }, Budget { crashes: 1, boots: 1, ..NONE }));
    holds_if_full(model(3, joined(3, 0), Budget { crashes: 3, boots: 2, ..NONE }));
}

#[test]
fn two_barriers() {
    let two = |start, budget| TransitionModel { levels: levels(2, 1, 2), ..model(3, start, budget) };
    holds(two(joined(3, 0), Budget { crashes: 1, ..NONE }));
    holds_if_full(two(joined(2, 1), Budget { crashes: 1, ..NONE }));
    holds_if_full(two(joined(2, 1), Budget { leaves: 1, ..NONE }));
}

/// The deadlock of the first version of T-9 needs three victims and one survivor (protocol §5.9).
#[test]
fn four_nodes_and_three_crashes() {
    holds_if_full(model(4, joined(4, 0), Budget { crashes: 3, ..NONE }));
    holds_if_full(model(4, joined(3, 1), Budget { crashes: 2, ..NONE }));
}

/// A level that nodes register when they have joined (T-15); `optional` = it may be skipped where it has no user (T-18).
fn registering(optional: bool, nodes: u16, start: Start, budget: Budget) -> TransitionModel {
    let mut levels = levels(1, 1, 1);
    let later = levels.pop().map(|level| LevelRegistration { optional, ..level });
    let registrations = if optional { 2 } else { 0 };
    TransitionModel { levels, later, ..model(nodes, start, Budget { registrations, ..budget }) }
}

#[test]
fn an_optional_level_registered_at_run_time() {
    holds(registering(true, 2, joined(2, 0), Budget { crashes: 1, leaves: 1, ..NONE }));
    holds(registering(true, 2, joined(2, 0), Budget { crashes: 1, boots: 1, ..NONE }));
    holds(registering(true, 3, joined(3, 0), Budget { crashes: 1, ..NONE }));
    holds(registering(true, 3, joined(2, 1), NONE));
    holds_if_full(registering(true, 3, joined(2, 1), Budget { crashes: 1, ..NONE }));
    holds_if_full(registering(true, 3, joined(3, 0), Budget { crashes: 1, leaves: 1, ..NONE }));
}

/// A victim parked at a mandatory level waits for somebody to register there, and is then recovered (T-18, T-19).
#[test]
fn a_mandatory_level_registered_at_run_time() {
    holds(registering(false, 2, joined(2, 0), Budget { crashes: 1, leaves: 1, ..NONE }));
    holds(registering(false, 2, joined(2, 0), Budget { crashes: 1, boots: 1, ..NONE }));
    holds(registering(false, 2, joined(1, 1), Budget { crashes: 1, ..NONE }));
    holds_if_full(registering(false, 3, joined(3, 0), Budget { crashes: 1, ..NONE }));
    holds_if_full(registering(false, 3, joined(3, 0), Budget { crashes: 1, leaves: 1, ..NONE }));
    holds_if_full(registering(false, 3, joined(2, 1), Budget { crashes: 2, ..NONE }));
}
