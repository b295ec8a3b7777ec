//! MC4 must be able to fail: every "first version" and "variant" of protocol §5.9, made in the production machines, is missed.
//!
//! `cargo test -p phalanx-tests --features deliberate-bugs --test mc4_bugs -- --nocapture`
#![cfg(feature = "deliberate-bugs")]

use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::{Level, NodeId};
use phalanx_protocol::bugs::Bug;
use phalanx_tests::transition_model::{Budget, Start, TransitionModel};
use stateright::{Checker, HasDiscoveries, Model, Path};

const INVARIANTS: &str = "every invariant holds";
const NOTHING_WAITS: &str = "I-T16 nothing waits for ever";
const NONE: Budget = Budget { crashes: 0, boots: 0, leaves: 0, registrations: 0, suspicions: 0 };
const CRASH: Budget = Budget { crashes: 1, ..NONE };

/// One line of the table.
struct Row {
    /// As protocol §5.9 calls it.
    name: &'static str,
    bug: Bug,
    model: TransitionModel,
    /// What must be violated: `I-T16`, or a part of the violation's text.
    violates: &'static str,
    /// Actions of the shortest counterexample.
    steps: usize,
}

const fn joined(joined: u16, joining: u16) -> Start {
    Start::Joined { joined, joining }
}

fn model(nodes: u16, start: Start, budget: Budget) -> TransitionModel {
    TransitionModel::new(nodes, start, levels(1, 1, 1), budget)
}

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

type Counterexample = Path<<TransitionModel as Model>::State, <TransitionModel as Model>::Action>;

/// A counterexample, of at most so many steps.
fn look(model: &TransitionModel, property: &'static str, steps_max: usize) -> Option<Counterexample> {
    let checker = model.clone().checker().finish_when(HasDiscoveries::AllOf([property].into()));
    // The state at the beginning has depth 1, and a state at the limit is not looked at.
    let checker = checker.target_max_depth(steps_max.saturating_add(2)).spawn_bfs().join();
    checker.discovery(property)
}

/// The shortest one. The checker gives the last that it met, so shorter ones are looked for until there is none.
fn shortest(model: &TransitionModel, property: &'static str) -> Option<Counterexample> {
    let mut found = look(model, property, usize::MAX - 2)?;
    while let Some(shorter) = look(model, property, found.clone().into_actions().len() - 1) {
        found = shorter;
    }
    Some(found)
}

/// Makes the bug, and finds it; with the rule in place nothing is found as far as that.
fn check(row: Row) -> Result<(), String> {
    let Row { name, bug, model, violates, steps } = row;
    let property = if violates == "I-T16" { NOTHING_WAITS } else { INVARIANTS };
    let buggy = TransitionModel { bug: Some(bug), ..model.clone() };
    let Some(found) = shortest(&buggy, property) else { return Err(format!("{name}: {bug:?} is not seen")) };
    let violation = found.last_state().violation.clone().unwrap_or_else(|| "I-T16".to_owned());
    let actions = found.into_actions();
    let text = format!(
        "{name} | {bug:?} | {} nodes, {:?}, {:?} | {violation} | {} steps",
        model.nodes,
        model.start,
        model.budget,
        actions.len()
    );
    println!("{text}");
    if look(&model, property, actions.len()).is_some() {
        return Err(format!("{name}: {property} is violated without {bug:?} too"));
    }
    let right = violation.contains(violates) && actions.len() == steps;
    if right { Ok(()) } else { Err(format!("{text}, expected {violates} in {steps}: {actions:?}")) }
}

fn check_all(rows: Vec<Row>) {
    let wrong: Vec<String> = rows.into_iter().filter_map(|row| check(row).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Protocol §5.9, rows "first version".
#[test]
fn the_first_versions_fail_as_they_should() {
    let cold = model(3, Start::Cold { booted: 2 }, CRASH);
    let one_user = |mut model: TransitionModel| {
        model.levels[1].optional = true;
        TransitionModel { users: [NodeId(1)].into_iter().collect(), ..model }
    };
    check_all(vec![
        Row {
            name: "Held join waits for a recovery that is parked",
            bug: Bug::HeldJoinWaitsForParked,
            model: model(2, joined(1, 1), CRASH),
            violates: "I-T16",
            steps: 7,
        },
        Row {
            name: "T-19 for joins only, a leave enters beside a pending recovery",
            bug: Bug::LeaveBesideRecovery,
            model: TransitionModel { ignored: &["I-T20"], ..model(3, joined(3, 0), Budget { leaves: 1, ..CRASH }) },
            violates: "I-T18",
            steps: 14,
        },
        Row {
            name: "tids of one batch advance alone",
            bug: Bug::BatchAdvancesAlone,
            model: TransitionModel {
                levels: levels(2, 1, 2),
                ignored: &["I-T22"],
                ..model(3, joined(1, 2), Budget { leaves: 1, ..NONE })
            },
            violates: "I-T18",
            steps: 24,
        },
        Row {
            name: "order by nid only, no T-23",
            bug: Bug::OrderByNumberOnly,
            model: TransitionModel { older_records: true, ..model(3, joined(2, 1), CRASH) },
            violates: "I-T19",
            steps: 14,
        },
        Row {
            name: "agent state per tid, not per node",
            bug: Bug::StatePerTransition,
            model: TransitionModel { older_records: true, ..model(2, joined(1, 1), CRASH) },
            violates: "(Table 1)",
            steps: 6,
        },
        Row {
            name: "Table 5.3 without Forced-Leaving in state Inactive",
            bug: Bug::NothingToRecover,
            model: model(3, joined(2, 1), CRASH),
            violates: "(Table 1)",
            steps: 5,
        },
        Row {
            name: "last user of an optional level dies",
            bug: Bug::EmptyLevelNotSkipped,
            model: one_user(model(2, joined(2, 0), Budget { boots: 1, ..CRASH })),
            violates: "I-T16",
            steps: 6,
        },
        Row {
            name: "ghosts without the panic rule for a live excluded node",
            bug: Bug::OutcastLivesOn,
            model: model(2, joined(2, 0), Budget { boots: 1, suspicions: 1, ..CRASH }),
            violates: "I-T16",
            steps: 8,
        },
        Row {
            name: "T-9 \"restart when the other victim has finished the level\", cold start",
            bug: Bug::RestartWhenFinished,
            model: TransitionModel { ignored: &["I-T20", "I-T22"], ..cold },
            violates: "I-T16",
            steps: 37,
        },
    ]);
}

/// The same deadlock without a cold start: three victims and one survivor (protocol §5.9).
#[test]
fn the_first_t9_deadlocks_with_four_nodes_and_three_crashes() {
    let row = Row {
        name: "T-9 \"restart when the other victim has finished the level\", 4 nodes",
        bug: Bug::RestartWhenFinished,
        model: TransitionModel {
            ignored: &["I-T20", "I-T22"],
            ..model(4, joined(4, 0), Budget { crashes: 3, ..NONE })
        },
        violates: "I-T16",
        steps: 15,
    };
    if std::env::var("PHALANX_MODEL").is_ok_and(|model| model == "full") {
        check_all(vec![row]);
    } else {
        println!("{}: only with PHALANX_MODEL=full", row.name);
    }
}

/// Protocol §5.9, rows "variant".
#[test]
fn the_variants_fail_as_they_should() {
    check_all(vec![
        Row {
            name: "a batch reaches a joiner in pieces",
            bug: Bug::BatchInPieces,
            model: model(3, joined(1, 2), Budget { leaves: 1, ..NONE }),
            violates: "(Table 1)",
            steps: 10,
        },
        Row {
            name: "dead node only leaves the awaited set (no Held)",
            bug: Bug::NoHold,
            model: TransitionModel { ignored: &["I-T20"], ..model(3, joined(2, 1), CRASH) },
            violates: "I-T16",
            steps: 15,
        },
        Row {
            name: "acks of an older rgen count",
            bug: Bug::OldRestartCounts,
            model: model(3, joined(2, 1), CRASH),
            violates: "I-T2",
            steps: 17,
        },
        Row {
            name: "recovery without certainty",
            bug: Bug::RecoveryBeforeProof,
            model: model(2, joined(2, 0), Budget { suspicions: 1, ..NONE }),
            violates: "I-T6",
            steps: 2,
        },
        Row {
            name: "early rejoin accepted",
            bug: Bug::EarlyRejoin,
            model: model(2, joined(2, 0), Budget { boots: 1, ..CRASH }),
            violates: "I-T7",
            steps: 4,
        },
        Row {
            name: "cold start overwrites its own entry (no own ghost)",
            bug: Bug::NoOwnGhost,
            model: model(3, Start::Cold { booted: 2 }, NONE),
            violates: "I-T23",
            steps: 12,
        },
        Row {
            name: "join waits only for recovery at its own level",
            bug: Bug::JoinAboveUnrecovered,
            model: model(3, joined(1, 2), Budget { leaves: 1, ..CRASH }),
            violates: "I-T23",
            steps: 10,
        },
        Row {
            name: "Forced steps overtake each other (no wave)",
            bug: Bug::NoWave,
            model: model(3, joined(3, 0), Budget { crashes: 2, ..NONE }),
            violates: "I-T20",
            steps: 5,
        },
    ]);
}

/// Rules of our own, not rows of the protocol.
#[test]
fn other_rules_that_the_model_sees_broken() {
    check_all(vec![
        Row {
            name: "a barrier is passed before all have acknowledged",
            bug: Bug::BarrierSkipped,
            model: model(3, joined(2, 1), NONE),
            violates: "I-T2",
            steps: 6,
        },
        Row {
            name: "acknowledged before the subsystem has answered",
            bug: Bug::AcknowledgedBeforeAnswer,
            model: model(3, joined(2, 1), NONE),
            violates: "I-T2",
            steps: 7,
        },
        Row {
            name: "a second restart has the number of the first",
            bug: Bug::RestartNumberReset,
            model: model(3, joined(2, 1), Budget { crashes: 2, ..NONE }),
            violates: "I-T16",
            steps: 15,
        },
        Row {
            name: "a second cold start forgets the ghosts of the first",
            bug: Bug::GhostsForgotten,
            model: model(2, Start::Cold { booted: 1 }, Budget { boots: 1, ..CRASH }),
            violates: "I-T23",
            steps: 8,
        },
    ]);
}

/// Explores everything, and misses nothing.
fn holds(model: TransitionModel) {
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for property in [INVARIANTS, NOTHING_WAITS] {
        let found = checker.discovery(property).map(|path| (path.last_state().violation.clone(), path.into_actions()));
        assert_eq!(found, None, "{property}");
    }
}

/// Protocol §5.9: "I-T20 is a choice that spares the subsystems work, not a consequence".
#[test]
fn without_the_wave_nothing_but_the_wave_is_missed() {
    let model = model(3, joined(3, 0), Budget { crashes: 2, ..NONE });
    holds(TransitionModel { bug: Some(Bug::NoWave), ignored: &["I-T20", "I-T22"], ..model });
}

/// Protocol §5.9: "not visible with 3 nodes and 2 crashes".
#[test]
fn three_nodes_and_two_crashes_do_not_show_the_deadlock_of_the_first_t9() {
    let model = model(3, joined(3, 0), Budget { crashes: 2, ..NONE });
    holds(TransitionModel { bug: Some(Bug::RestartWhenFinished), ignored: &["I-T20", "I-T22"], ..model });
}

/// A cold start leaves the entry of an excluded node `Inactive` with its incarnation, and an agent that finds itself so panics
/// too (§5.5): of the two rules each covers for the other.
#[test]
fn a_ghost_of_itself_need_not_make_an_agent_panic_as_long_as_its_inactive_entry_does() {
    let model = model(2, joined(2, 0), Budget { boots: 1, suspicions: 1, ..CRASH });
    holds(TransitionModel { bug: Some(Bug::GhostIgnored), ..model });
}

#[test]
fn the_page_on_deliberate_bugs_names_every_one_once() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/design/deliberate-bugs.md"));
    let page = page.expect("the page is there");
    let rows = |bug: &Bug| page.lines().filter(|line| line.starts_with(&format!("| `{bug:?}` |"))).count();
    let wrong: Vec<_> = Bug::ALL.iter().filter(|bug| rows(bug) != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), Bug::ALL.len(), "a row without a bug");
}
