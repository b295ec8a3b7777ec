//! I-T23: no join enters a level above one that a lost incarnation used and that nobody has recovered, or that T-18 has skipped.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::membership::{LevelState, MembershipRecord, NodeState, Step, StepPhase, TransitionKind};
use phalanx_messages::{Level, NodeId};
use phalanx_protocol::coordinator::level_states::{entry_state, members_at, step_of};

use super::{running, subjects};

/// Levels at which a lost incarnation of a node left state that nobody has recovered: the ground truth.
pub type Unrecovered = BTreeMap<NodeId, BTreeSet<Level>>;

/// What a commit loses and recovers: a mark, or a cold start, leaves state at every level that knew the node; a forced step that
/// completes a level recovers it there, and an optional level without members has none.
fn soil(unrecovered: &mut Unrecovered, before: &MembershipRecord, after: &MembershipRecord) {
    for (node, entry) in &before.nodes {
        let marked = |now: &phalanx_messages::membership::MemberEntry| {
            now.incarnation == entry.incarnation && now.state == NodeState::ForcedLeaving
        };
        let was_member = matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
        let lost = after.nodes.get(node).is_some_and(marked) || before.formation != after.formation;
        if was_member && lost {
            let knew = |level: &&Level| entry_state(entry, **level) != LevelState::Inactive;
            unrecovered.entry(*node).or_default().extend(entry.levels.iter().filter(knew));
        }
    }
    for (subject, step) in subjects(before).filter(|(_, step)| step.kind == TransitionKind::ForcedLeaving) {
        let now = step_of(after, subject);
        let done = now.is_none_or(|now| now.transition != step.transition || now.level > step.level);
        let ran = step.phase == StepPhase::Notifying;
        let skipped = before.levels.get(&step.level).is_some_and(|level| level.optional);
        let recovered = done && (ran || skipped) && before.formation == after.formation;
        // One commit may pass several optional levels that nobody has.
        let passed = |level: Level| {
            let optional = before.levels.get(&level).is_some_and(|registration| registration.optional);
            let beyond = now.is_none_or(|now| now.transition != step.transition || now.level > level);
            level > step.level && beyond && optional && members_at(after, level).is_empty()
        };
        if let Some(levels) = unrecovered.get_mut(&subject.node()).filter(|_| recovered) {
            levels.retain(|level| *level != step.level && !passed(*level));
        }
    }
    unrecovered.retain(|_, levels| !levels.is_empty());
}

const fn joins(kind: TransitionKind) -> bool {
    matches!(kind, TransitionKind::Joining | TransitionKind::JoinExtending)
}

/// What is wrong with the joins that one commit lets enter a level, or restart there. One that runs already when a node is lost at a
/// lower level goes on: T-9 holds whatever the lost one took part in, and no other level but the lower one ever heard of it.
///
/// If a commit may carry several decisions, joins are judged by what was unrecovered before it: a join that entered and a mark that
/// came after it share a commit if another one was being written meanwhile, and nobody can tell that from two commits. The model
/// checker, where each decision is a commit, judges a mark that comes first.
#[must_use]
pub fn t23_no_join_above_unrecovered(
    unrecovered: &mut Unrecovered,
    before: &MembershipRecord,
    after: &MembershipRecord,
    one_decision: bool,
) -> Vec<String> {
    let lost_before: BTreeSet<NodeId> = unrecovered.keys().copied().collect();
    soil(unrecovered, before, after);
    let judged = unrecovered.iter().filter(|(node, _)| one_decision || lost_before.contains(node));
    let ran = |subject, step: &Step| {
        let place = |step: &Step| (step.transition, step.level, step.restart);
        running(before).any(|(other, known)| other == subject && place(known) == place(step))
    };
    let entering = running(after).filter(|(_, step)| joins(step.kind)).filter(|(subject, step)| !ran(*subject, step));
    let mut found = Vec::new();
    for (_, step) in entering {
        for (node, levels) in judged.clone() {
            if let Some(level) = levels.iter().find(|level| **level < step.level) {
                found.push(format!("I-T23: {step:?} enters above level {level}, where node {node} is unrecovered"));
            }
        }
    }
    found
}
