//! The crash points can fail: a rule of "persist, then tell" is taken out of the machines, and what a crash leaves shows it.
//!
//! All nodes of a simulation run on the test's thread, so a bug of that thread is a bug of every node.
#![cfg(feature = "deliberate-bugs")]

use phalanx_protocol::bugs::{Bug, with};
use phalanx_tests::crash_points::check::check;
use phalanx_tests::crash_points::scenario::record;

/// What the images of the scenario lack that was told.
fn wrong(bug: Option<Bug>) -> Vec<String> {
    let recording = with(bug, || record(0));
    with(None, || check(&recording, |_, _| false).wrong)
}

#[test]
fn a_step_that_is_told_before_it_is_committed_is_missed_after_a_crash() {
    let wrong = wrong(Some(Bug::NotifiedBeforeCommit));
    assert!(wrong.iter().any(|text| text.contains("I-M3: told of")), "{:?}", wrong.first());
}

#[test]
fn a_command_that_is_given_before_it_is_committed_is_missed_after_a_crash() {
    let wrong = wrong(Some(Bug::SentBeforeCommit));
    assert!(wrong.iter().any(|text| text.contains("I-R7: a command")), "{:?}", wrong.first());
}
