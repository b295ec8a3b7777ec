//! The rules of protocol §6.7, "Negative runs", one taken out at a time: the model must miss each. The same configuration without
//! the bug holds.
//!
//! Needs the feature `deliberate-bugs`: `cargo test -p phalanx-tests --features deliberate-bugs --test mc6_bugs`.
#![cfg(feature = "deliberate-bugs")]

use phalanx_messages::NodeId;
use phalanx_messages::order::ServiceOrder;
use phalanx_messages::service::{AllowableNodes, NodePreferences, ServiceDefinition};
use phalanx_protocol::bugs::Bug;
use phalanx_tests::registration_model::configurations::{
    CHILD, NONE, ROOT, child, failing_the_group, free, model, order, service,
};
use phalanx_tests::registration_model::{Budget, RegistrationModel, Variant, explore};

/// One rule taken out.
struct Row {
    name: &'static str,
    taken_out: RegistrationModel,
    violates: &'static str,
    steps: usize,
}

/// The bug in a configuration, the invariant that breaks, and the length of the shortest counterexample.
fn row(name: &'static str, taken_out: RegistrationModel, violates: &'static str, steps: usize) -> Row {
    Row { name, taken_out, violates, steps }
}

fn check_all(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for Row { name, taken_out, violates, steps } in rows {
        let explored = explore(&taken_out, usize::MAX);
        match &explored.violation {
            Some((what, found)) => {
                println!("{name}: {what}, {} steps, {} states", found.len(), explored.states);
                if !what.starts_with(violates) || found.len() != steps {
                    wrong.push(format!("{name}: {what}, {} steps:\n{}", found.len(), found.join("\n")));
                }
            }
            None => wrong.push(format!("{name}: nothing is missed in {} states", explored.states)),
        }
        let whole = RegistrationModel { bug: None, variant: None, ..taken_out };
        explore(&whole, usize::MAX).assert_holds(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn bug(bug: Bug, model: RegistrationModel) -> RegistrationModel {
    RegistrationModel { bug: Some(bug), ..model }
}

fn variant(variant: Variant, model: RegistrationModel) -> RegistrationModel {
    RegistrationModel { variant: Some(variant), ..model }
}

fn preferring(nodes: &[u16], definition: ServiceDefinition) -> ServiceDefinition {
    let nodes = nodes.iter().copied().map(NodeId).collect();
    ServiceDefinition { node_preferences: NodePreferences::Ordered(nodes), ..definition }
}

/// One service on two nodes that are up.
fn one(budget: Budget) -> RegistrationModel {
    model("one service", 2, &[0, 1], vec![service(ROOT)], budget)
}

fn pair(budget: Budget) -> RegistrationModel {
    model("parent and child", 2, &[0, 1], vec![service(ROOT), child(CHILD, ROOT)], budget)
}

#[test]
fn commands_and_results() {
    let reboot = Budget { boots: 1, deaths: 1, ..NONE };
    let late = Budget { timeouts: 1, start_failures: 1, ..NONE };
    check_all(vec![
        row("command without target incarnation", bug(Bug::CommandsForAnyIncarnation, one(reboot)), "I-R2", 7),
        row(
            "executor memory lost with the event manager",
            variant(Variant::WardenForgets, one(Budget { restarts: 1, ..late })),
            "I-R1",
            8,
        ),
        row("executor without order of operations", bug(Bug::OperationsOutOfOrder, one(late)), "I-R1", 7),
        row("result matched by node", bug(Bug::ResultsOfAnyOperation, one(late)), "I-R2", 5),
        row("placement without incarnation", bug(Bug::PlacementWithoutIncarnation, one(reboot)), "I-R20", 7),
    ]);
}

#[test]
fn views() {
    let newcomer = |budget| model("one service, a newcomer", 2, &[0], vec![service(ROOT)], budget);
    let boot = Budget { boots: 1, ..NONE };
    let preferred = model("a preferred newcomer", 2, &[0], vec![preferring(&[1], service(ROOT))], boot);
    check_all(vec![
        row("not in my list counts as lost", bug(Bug::AbsentIsLost, preferred), "I-R2", 4),
        row(
            "an older view decides",
            bug(Bug::OlderViewDecides, newcomer(Budget { leaves: 1, ..boot })),
            "I-R20: steps that must happen lead round",
            5,
        ),
        row(
            "acknowledged while deciding",
            variant(Variant::AcknowledgedWhileDeciding, one(Budget { leaves: 1, ..NONE })),
            "I-R14",
            5,
        ),
    ]);
}

#[test]
fn leaves() {
    let leave = Budget { leaves: 1, ..NONE };
    check_all(vec![
        row("leave looks at processes", variant(Variant::LeaveLooksAtProcesses, one(leave)), "I-R14", 6),
        row("leave with one barrier", variant(Variant::LeaveWithOneBarrier, one(leave)), "I-R14", 4),
        row("leave noticed once", bug(Bug::LeaveNoticedOnce, one(leave)), "I-R18", 8),
    ]);
}

#[test]
fn recoveries() {
    let loss = Budget { deaths: 1, boots: 1, ..NONE };
    let failing = Budget { deaths: 1, recovery_failures: 1, ..NONE };
    let only_here = ServiceDefinition { allowable_nodes: AllowableNodes::Listed(vec![NodeId(0)]), ..service(ROOT) };
    let only_here = model("allowable on one node", 2, &[0, 1], vec![only_here], loss);
    let three = |budget| model("one service, three nodes", 3, &[0, 1, 2], vec![service(ROOT)], budget);
    check_all(vec![
        row("failed recovery without clean-up", bug(Bug::RecoveryWithoutCleanUp, three(failing)), "I-R2", 10),
        row("no candidate for recovery: forgotten", bug(Bug::UnrecoverableForgotten, only_here), "I-R17", 10),
        row("parent recovers before its child", bug(Bug::RecoveryInAnyOrder, pair(failing)), "leaf to root", 10),
    ]);
}

/// Protocol §6.3: the default is the spec's, which recovers only what was registered or stopping.
#[test]
fn a_lost_start_that_really_happened_is_recovered_only_with_recover_lost_start() {
    let strict = |recover_lost_start| {
        let definitions = vec![ServiceDefinition { recover_lost_start, ..service(ROOT) }];
        let loss = Budget { deaths: 1, ..NONE };
        RegistrationModel { strict_starts: true, ..model("a lost start", 2, &[0, 1], definitions, loss) }
    };
    explore(&strict(true), usize::MAX).assert_holds("with recover_lost_start");
    let (what, steps) = explore(&strict(false), usize::MAX).violation.expect("the start is not recovered");
    assert!(what.starts_with("I-R17") && steps.len() == 7, "{what}\n{}", steps.join("\n"));
}

#[test]
fn states_of_one_service() {
    let held_and_cleared = RegistrationModel {
        orders: vec![order(ROOT, ServiceOrder::Hold), order(ROOT, ServiceOrder::Clear { skip_recovery: false })],
        ..one(Budget { orders: 2, ..NONE })
    };
    let deregister =
        RegistrationModel { orders: vec![order(ROOT, ServiceOrder::Deregister)], ..one(Budget { orders: 1, ..NONE }) };
    let unclean = Budget { start_failures: 1, kill_failures: 1, ..NONE };
    let alone = model("one service, one node", 1, &[0], vec![service(ROOT)], unclean);
    let mature = vec![ServiceDefinition { maturity_count: Some(2), ..service(ROOT) }];
    let matured = model("latched maturity", 2, &[0, 1], mature, Budget { deaths: 1, ..NONE });
    let leaves = Budget { leaves: 2, ..NONE };
    let moved = RegistrationModel {
        orders: vec![order(ROOT, ServiceOrder::Transfer { to: Some(NodeId(1)) })],
        ..one(Budget { orders: 1, deaths: 1, ..NONE })
    };
    check_all(vec![
        row("hold as a state", bug(Bug::HoldIsAState, held_and_cleared), "I-R2", 4),
        row("an unclean start stays", bug(Bug::UncleanStartStays, one(unclean)), "I-R20", 6),
        row("the only member waits", bug(Bug::OnlyMemberWaits, alone), "I-R20", 7),
        row("T waits for a candidate", bug(Bug::TransferWaitsForCandidate, one(leaves)), "I-R10", 10),
        row("T kept into recovery", bug(Bug::TransferKeptInRecovery, moved), "I-R10", 8),
        row("restarted if auto or T", bug(Bug::RestartedWithoutWant, deregister), "I-R20: steps", 10),
        row("maturity not latched", bug(Bug::MaturityNotLatched, matured), "I-R9", 4),
    ]);
}

#[test]
fn groups_and_free_transfers() {
    let leave = Budget { leaves: 1, ..NONE };
    let freely =
        |definitions, broken| RegistrationModel { broken, ..model("free transfer", 2, &[0, 1], definitions, NONE) };
    let fail_group = || vec![service(ROOT), failing_the_group(child(CHILD, ROOT))];
    let everywhere = RegistrationModel {
        broken: vec![(CHILD, 0), (CHILD, 1)],
        ..model("fail_group", 2, &[0, 1], fail_group(), NONE)
    };
    check_all(vec![
        row("stop beside a starting child", bug(Bug::StopBesideStartingChild, pair(leave)), "I-R3", 8),
        row(
            "free transfer to whoever failed",
            bug(Bug::FreeTransferToWhoeverFailed, freely(vec![free(&[0], service(ROOT))], vec![(ROOT, 0)])),
            "I-R20: steps",
            24,
        ),
        row("exclusions end with the start", bug(Bug::ExclusionsEndWithStart, everywhere), "I-R20: steps", 47),
    ]);
}
