//! The crash points can fail: a rule of "persist, then tell" is taken out of the machines, and what a crash leaves shows it.
//!
//! All nodes of a simulation run on the test's thread, so a bug of that thread is a bug of every node.
#![cfg(feature = "deliberate-bugs")]

use phalanx_protocol::bugs::{Bug, with};
use phalanx_tests::crash_points::check::check;
use phalanx_tests::crash_points::scenario::record;

#[test]
fn a_step_that_is_told_before_it_is_committed_is_missed_after_a_crash() {
    let recording = with(Some(Bug::NotifiedBeforeCommit), || record(0));
    let wrong = with(None, || check(&recording, |_, _| false).wrong);
    assert!(wrong.iter().any(|text| text.contains("I-M3: told of")), "{:?}", wrong.first());
}
