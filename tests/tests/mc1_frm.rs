//! MC1: the Fenced Register Machine under every interleaving (protocol §3.10, §8.2; docs/design/model-checking.md).
//!
//! The large runs need time and memory: `PHALANX_MODEL=full cargo test --release -p phalanx-tests --test mc1_frm`.

use phalanx_tests::frm_model::{Bounds, FrmModel};
use stateright::{Checker, Model};

const SMALL: Bounds = Bounds { nodes: 2, terms: 3, commits: 1, crashes: 1, survey: false, resign_any_time: false };

/// Explores everything within `bounds`; every invariant holds and every situation of interest occurs.
fn holds(bounds: Bounds) {
    let checker = FrmModel::of(bounds).checker().threads(2).spawn_bfs().join();
    println!("{bounds:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn two_nodes_three_terms_and_a_crash() {
    holds(SMALL);
}
