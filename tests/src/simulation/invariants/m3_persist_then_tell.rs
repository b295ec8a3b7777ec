//! I-M3: no message and no pill before the record that it depends on is on the disk.

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::Pill;
use phalanx_messages::{NodeId, NodeIncarnation};

use crate::simulation::truth::Truth;

/// A record is sent to others.
pub fn check_record(node: NodeId, record: &MembershipRecord, truth: &Truth) -> Vec<String> {
    let mut found = check_seen(record, truth);
    if !truth.is_committed(record.revision) {
        found.push(format!("I-M3: node {node} tells record {} before it is committed", record.revision));
    }
    found
}

/// A record is held for committed.
pub fn check_seen(record: &MembershipRecord, truth: &Truth) -> Vec<String> {
    let revision = record.revision;
    let text = match truth.written.get(&revision) {
        None => format!("I-M3: record {revision} was never written"),
        Some(written) if !written.completed => format!("I-M3: the write of record {revision} has not completed"),
        Some(written) if *written.record != *record => format!("I-M3: record {revision} differs from what was written"),
        Some(_) => return Vec::new(),
    };
    vec![text]
}

/// A death order is published.
pub fn check_pill(node: NodeId, pill: &Pill, truth: &Truth) -> Vec<String> {
    let victim = NodeIncarnation { node: pill.target, incarnation: pill.incarnation };
    let marks = |record: &MembershipRecord| {
        let entry = record.nodes.get(&victim.node).filter(|entry| entry.incarnation == victim.incarnation);
        let ghost = record.ghosts.get(&victim.node).filter(|ghost| ghost.incarnation == victim.incarnation);
        entry.is_some_and(|entry| entry.fence.marked) || ghost.is_some()
    };
    let written =
        truth.written.iter().rev().filter(|(revision, written)| revision.term == pill.term && written.completed);
    if written.into_iter().any(|(_, written)| marks(&written.record)) {
        return Vec::new();
    }
    vec![format!("I-M3: node {node} orders the death of {victim}, which no record of term {} marks", pill.term)]
}
