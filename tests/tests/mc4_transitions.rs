//! MC4: the transition engine under every interleaving (protocol §5.9, §8.2; docs/design/model-checking.md).
//!
//! The large configurations need time and memory: set `PHALANX_MODEL=full`, and `PHALANX_STATES` to stop after so many.

use std::collections::BTreeMap;
use std::time::Duration;

use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::{Level, NodeId};
use phalanx_tests::transition_model::{Budget, Start, TransitionModel};
use stateright::report::{ReportData, ReportDiscovery, Reporter};
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
    TransitionModel::new(nodes, start, levels(1, 1, 1), budget)
}

const fn joined(joined: u16, joining: u16) -> Start {
    Start::Joined { joined, joining }
}

const NONE: Budget = Budget { crashes: 0, boots: 0, leaves: 0, registrations: 0, suspicions: 0 };

/// Explores everything: every invariant holds, nothing waits for ever.
fn holds(model: TransitionModel) {
    check(model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join(), usize::MAX);
}

fn check(checker: impl Checker<TransitionModel>, states_max: usize) {
    let model = checker.model();
    let what = format!("{} nodes, {:?}, {:?}", model.nodes, model.start, model.budget);
    // The limit counts every state as often as it is reached.
    let all = if checker.state_count() >= states_max { "NOT exhaustive, " } else { "" };
    println!("{what}: {all}{} states, depth {}", checker.unique_state_count(), checker.max_depth());
    for (name, path) in checker.discoveries() {
        if name != "everything ends" {
            let last = path.last_state().violation.clone();
            panic!("{name}: {last:?} after\n{:?}", path.into_actions());
        }
    }
    checker.assert_properties();
}

/// Says now and then how far a long run has come.
struct Progress;

impl Reporter<TransitionModel> for Progress {
    fn report_checking(&mut self, data: ReportData) {
        let ReportData { unique_states, max_depth, duration, .. } = data;
        println!("... {unique_states} states, depth {max_depth}, after {} s", duration.as_secs());
    }

    fn report_discoveries(&mut self, _: &TransitionModel, _: BTreeMap<&'static str, ReportDiscovery<TransitionModel>>) {
        // `check` looks at them.
    }

    fn delay(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// The same depth first, which needs little memory besides one number a state.
fn holds_if_full(model: TransitionModel) {
    if std::env::var("PHALANX_MODEL").is_ok_and(|model| model == "full") {
        let states_max = std::env::var("PHALANX_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
        check(checker.target_state_count(states_max).spawn_dfs().report(&mut Progress), states_max);
    } else {
        println!("{} nodes, {:?}, {:?}: only with PHALANX_MODEL=full", model.nodes, model.start, model.budget);
    }
}

fn crashes(crashes: u8) -> Budget {
    Budget { crashes, ..NONE }
}

#[test]
fn two_joined_and_one_joining() {
    holds(model(3, joined(2, 1), NONE));
    holds(model(3, joined(2, 1), crashes(1)));
    holds(model(3, joined(2, 1), Budget { leaves: 1, ..NONE }));
    holds_if_full(model(3, joined(2, 1), crashes(2)));
    holds_if_full(model(3, joined(2, 1), Budget { suspicions: 1, ..crashes(1) }));
    holds_if_full(model(3, joined(2, 1), Budget { leaves: 1, ..crashes(1) }));
}

#[test]
fn two_joined_and_one_joining_with_every_fault() {
    holds_if_full(model(3, joined(2, 1), Budget { leaves: 1, suspicions: 1, ..crashes(1) }));
}

#[test]
fn three_joined() {
    holds(model(3, joined(3, 0), crashes(2)));
    holds(model(3, joined(3, 0), Budget { leaves: 1, ..crashes(1) }));
    holds(model(3, joined(3, 0), Budget { suspicions: 1, ..crashes(1) }));
}

/// Formation, and levels that are parked because nobody is left at them (T-18).
#[test]
fn one_joined_and_two_joining() {
    holds(model(2, joined(1, 1), Budget { boots: 1, ..crashes(1) }));
    holds_if_full(model(3, joined(1, 2), crashes(1)));
}

/// Protocol §5.9: not exhaustive there.
#[test]
fn one_joined_and_two_joining_and_two_leaves() {
    holds_if_full(model(3, joined(1, 2), Budget { leaves: 2, ..crashes(1) }));
}

/// Early rejoin (T-13).
#[test]
fn a_node_that_starts_again_before_its_loss_is_recovered() {
    holds(model(2, joined(2, 0), Budget { boots: 2, ..crashes(2) }));
    holds_if_full(model(3, joined(3, 0), Budget { boots: 1, leaves: 1, ..crashes(1) }));
}

#[test]
fn two_nodes_that_start_again_while_one_joins() {
    holds_if_full(model(3, joined(2, 1), Budget { boots: 2, ..crashes(2) }));
}

/// T-18: nobody of the old cluster is left.
#[test]
fn a_cold_start() {
    holds(model(3, Start::Cold { booted: 2 }, NONE));
    holds(model(3, Start::Cold { booted: 2 }, crashes(1)));
    holds_if_full(model(3, Start::Cold { booted: 2 }, Budget { boots: 1, ..crashes(1) }));
}

#[test]
fn a_cold_start_of_three() {
    holds_if_full(model(3, Start::Cold { booted: 3 }, crashes(2)));
}

/// Ghosts are inherited, and merge.
#[test]
fn the_loss_of_all_and_then_a_cold_start() {
    holds_if_full(model(3, joined(3, 0), Budget { boots: 2, ..crashes(3) }));
}

fn two_barriers(start: Start, budget: Budget) -> TransitionModel {
    TransitionModel { levels: levels(2, 1, 2), ..model(3, start, budget) }
}

#[test]
fn two_barriers_and_one_fault() {
    holds(two_barriers(joined(3, 0), crashes(1)));
    holds(two_barriers(joined(2, 1), crashes(1)));
    holds(two_barriers(joined(2, 1), Budget { leaves: 1, ..NONE }));
}

#[test]
fn two_barriers_two_crashes_and_a_leave() {
    holds_if_full(two_barriers(joined(2, 1), Budget { leaves: 1, ..crashes(2) }));
}

#[test]
fn three_levels() {
    let three = |budget| {
        let mut model = model(3, joined(2, 1), budget);
        model.levels.push(LevelRegistration { level: Level::SFS, name: "SFS".to_owned(), ..model.levels[0].clone() });
        model
    };
    holds(three(NONE));
    holds_if_full(three(crashes(2)));
    holds_if_full(three(Budget { leaves: 1, ..crashes(1) }));
}

/// An optional level whose last user dies is skipped (T-18).
#[test]
fn an_optional_level_with_one_user() {
    let optional = |budget| {
        let mut model = model(3, joined(3, 0), budget);
        model.levels[1].optional = true;
        TransitionModel { users: [NodeId(1)].into_iter().collect(), ..model }
    };
    holds(optional(Budget { boots: 1, ..crashes(1) }));
    holds(optional(Budget { leaves: 1, ..crashes(1) }));
}

/// Protocol §5.9 argues that T-23 makes the delivery of older records harmless.
#[test]
fn older_records_may_be_delivered_too() {
    let older = |model| TransitionModel { older_records: true, ..model };
    holds(older(model(3, joined(2, 1), NONE)));
    holds(older(model(2, joined(1, 1), crashes(1))));
    holds_if_full(older(model(3, joined(2, 1), crashes(1))));
    holds_if_full(older(model(3, joined(2, 1), Budget { leaves: 1, ..NONE })));
}

/// The deadlock of the first version of T-9 needs three victims and one survivor (protocol §5.9).
#[test]
fn four_joined_and_three_crashes() {
    holds_if_full(model(4, joined(4, 0), crashes(3)));
}

#[test]
fn three_joined_one_joining_and_two_crashes() {
    holds_if_full(model(4, joined(3, 1), crashes(2)));
}

/// Protocol §5.9: not exhaustive there.
#[test]
fn four_joined_two_crashes_and_a_leave() {
    holds_if_full(model(4, joined(4, 0), Budget { leaves: 1, ..crashes(2) }));
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
