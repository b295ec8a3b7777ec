//! MC1: the Fenced Register Machine under every interleaving (protocol §3.10, §8.2; docs/design/model-checking.md).
//!
//! Three nodes and three terms need time and memory: set `PHALANX_MODEL=full`.

use phalanx_tests::frm_model::{Bounds, FrmModel};
use stateright::{Checker, HasDiscoveries, Model};

/// Explores everything within `bounds`: every invariant holds and every situation of interest occurs.
fn holds(bounds: Bounds) {
    let checker = FrmModel::of(bounds).checker().threads(2).spawn_bfs().join();
    println!("{bounds:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

fn holds_if_full(bounds: Bounds) {
    if std::env::var("PHALANX_MODEL").is_ok_and(|model| model == "full") {
        holds(bounds);
    } else {
        println!("{bounds:?}: only with PHALANX_MODEL=full");
    }
}

const TWO: Bounds = Bounds { nodes: 2, terms: 3, commits: 2, crashes: 1, survey: false, resign_any_time: false };
const THREE: Bounds = Bounds { nodes: 3, terms: 2, commits: 1, ..TWO };

#[test]
fn two_nodes_that_give_up_at_any_point() {
    holds(Bounds { resign_any_time: true, ..TWO });
}

#[test]
fn two_nodes_whose_elections_read_first() {
    holds(Bounds { survey: true, ..TWO });
}

#[test]
fn two_nodes_four_terms_and_two_crashes() {
    holds_if_full(Bounds { terms: 4, crashes: 2, ..TWO });
}

#[test]
fn three_nodes_two_terms_and_a_crash() {
    holds_if_full(THREE);
}

#[test]
fn three_nodes_two_terms_whose_elections_read_first() {
    holds_if_full(Bounds { survey: true, crashes: 0, ..THREE });
}

/// The first version of the protocol passed everything smaller than this (protocol §3.10).
#[test]
fn three_nodes_three_terms() {
    holds_if_full(Bounds { terms: 3, crashes: 0, ..THREE });
}

/// Protocol §3.7: "A new incarnation MUST NOT write its registers while a write of the old incarnation can still land."
#[test]
fn a_new_incarnation_that_does_not_wait_for_old_writes_breaks_i_m1() {
    let model = FrmModel { early_restart: true, ..FrmModel::of(TWO) };
    let finish = HasDiscoveries::AllOf(["I-M1 one owner a term"].into());
    let checker = model.checker().threads(2).finish_when(finish).spawn_bfs().join();
    let path = checker.assert_any_discovery("I-M1 one owner a term");
    println!("{} steps, {} states", path.into_actions().len(), checker.unique_state_count());
}
