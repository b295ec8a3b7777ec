//! MC1 must be able to fail: each rule of protocol §3.4, taken out of the production machine, is missed (§3.10, "variant").
//!
//! `cargo test -p phalanx-tests --features deliberate-bugs --test mc1_frm_bugs`
#![cfg(feature = "deliberate-bugs")]

use phalanx_messages::NodeId;
use phalanx_protocol::bugs::Bug;
use phalanx_tests::frm_model::{Action, Bounds, FrmModel, Values};
use stateright::{Checker, HasDiscoveries, Model};

const I_M1: &str = "I-M1 one owner a term";
const I_M2: &str = "I-M2 no committed decision is lost";

const SMALL: Bounds = Bounds { nodes: 2, terms: 2, commits: 1, crashes: 0, survey: false, resign_any_time: false };

/// `bug` breaks `property`, in `steps` steps at best; without it nothing does.
fn breaks(bug: Bug, property: &'static str, bounds: Bounds, steps: usize) {
    let look = |bug, depth_max| {
        let finish = HasDiscoveries::AllOf([property].into());
        let model = FrmModel { bug, ..FrmModel::of(bounds) };
        model.checker().finish_when(finish).target_max_depth(depth_max).spawn_bfs().join()
    };
    look(None, usize::MAX).assert_no_discovery(property);
    // The checker reports the last counterexample that it met, so the shortest is looked for.
    let shortest = (1..).map(|depth| look(Some(bug), depth)).find(|checker| checker.discovery(property).is_some());
    let shortest = shortest.map(|checker| checker.assert_any_discovery(property).into_actions());
    assert_eq!(shortest.as_ref().map(Vec::len), Some(steps), "{bug:?} breaks {property}: {shortest:#?}");
}

#[test]
fn a_commit_that_does_not_read_the_claims_again_loses_a_decision() {
    breaks(Bug::NoRereadInCommit, I_M2, SMALL, 16);
}

#[test]
fn claimants_that_neither_wait_nor_withdraw_own_one_term_twice() {
    breaks(Bug::NoWithdrawal, I_M1, SMALL, 6);
}

/// Trap 1.
#[test]
fn resigned_taken_for_withdrawn_gives_one_term_to_two() {
    breaks(Bug::ResignedLikeWithdrawn, I_M1, SMALL, 12);
}

/// Trap 2, by the checker: a claimant that may give up at any point needs only two nodes.
#[test]
fn without_owned_a_decision_is_lost() {
    breaks(Bug::NoOwned, I_M2, Bounds { terms: 3, commits: 2, resign_any_time: true, ..SMALL }, 24);
}

/// Trap 2 as the protocol tells it, with three nodes: c owns term 2, commits, claims term 3 and withdraws. Its register now
/// says `(3, Withdrawn)`, and the slow owner of term 1 would take that for "no newer owner".
#[test]
fn a_slow_owner_is_not_misled_by_a_newer_owner_that_has_withdrawn_since() {
    let [a, b, c] = [NodeId(0), NodeId(1), NodeId(2)];
    let read = |reader, times| vec![Action::Read { reader, value: Values::Completed, alive: false }; times];
    let own = |node, term| {
        let claim = [vec![Action::Elect(node, term), Action::Complete(node)], read(node, 2)].concat();
        let load = [read(node, 3), vec![Action::Complete(node), Action::Complete(node)], read(node, 2)].concat();
        [claim, load].concat()
    };
    let script = [
        own(a, 1),
        vec![Action::Commit(a)], // a freezes while its write is outstanding
        own(c, 2),
        [vec![Action::Commit(c), Action::Complete(c)], read(c, 2)].concat(),
        vec![Action::Resign(c), Action::Complete(c)],
        vec![Action::Elect(b, 3), Action::Complete(b)],
        [vec![Action::Elect(c, 3), Action::Complete(c)], read(c, 2), vec![Action::Complete(c)]].concat(),
        [vec![Action::Resign(b)], read(b, 2), vec![Action::Complete(b)]].concat(),
        [vec![Action::Complete(a)], read(a, 2)].concat(), // a thaws, and looks again
    ]
    .concat();
    let bounds = Bounds { nodes: 3, terms: 3, commits: 2, resign_any_time: true, ..SMALL };
    let with = |bug| FrmModel { bug, ..FrmModel::of(bounds) }.run(&script);
    assert!(!with(None).chain_broken);
    assert!(with(Some(Bug::NoOwned)).chain_broken);
}
