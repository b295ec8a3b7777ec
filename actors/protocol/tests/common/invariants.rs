//! The invariants of protocol §5.7, judged from outside.

use phalanx_messages::NodeId;
use phalanx_messages::membership::{
    LevelState, MemberEntry, MembershipRecord, NodeState, Step, StepPhase, TransitionKind,
};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::{Level, NodeIncarnation};
use phalanx_protocol::coordinator::level_states::{
    Subject, entry_state, is_notified, joining_at, members_at, states, step_of, subjects, victims,
};

use super::{Cluster, View};

/// Steps of which participants are notified.
pub fn running(record: &MembershipRecord) -> impl Iterator<Item = (Subject, &Step)> {
    subjects(record).filter(|(_, step)| is_notified(record, step))
}

/// I-T1, I-T2, I-T3, I-T18, I-T20, I-T22 of one commit.
pub fn of_commit(cluster: &Cluster, before: &MembershipRecord, after: &MembershipRecord) -> Vec<String> {
    let mut found = Vec::new();
    if before.formation != after.formation {
        return found; // T-18: nobody of the old cluster is left to wait for.
    }
    for (subject, step) in running(before) {
        let now = step_of(after, subject);
        if !has_advanced(step, now) || is_skipped(before, after, step) {
            continue;
        }
        for node in step.participants.iter() {
            let incarnation = before.nodes[&node].incarnation;
            let who = NodeIncarnation { node, incarnation };
            // T-24: a refusal counts for a join that is given up.
            let gone = |entry: &MemberEntry| {
                entry.leave_requested
                    || entry.withdrawing
                    || entry.step.as_ref().is_some_and(|step| step.kind == TransitionKind::Leaving)
            };
            let given_up = super::joins(step.kind)
                && after.nodes.get(&subject.node()).is_some_and(gone)
                && cluster.refused.contains(&(who, step.notification()));
            if !given_up && !cluster.acknowledged.contains(&(who, step.notification())) {
                found.push(format!("I-T2: {step:?} advanced without the acknowledgement of node {node}"));
            }
        }
        if let Some(now) = now.filter(|now| now.transition == step.transition) {
            let wrong = match step.kind {
                TransitionKind::Leaving => now.level > step.level,
                TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::ForcedLeaving => {
                    now.level < step.level
                }
            };
            if wrong {
                found.push(format!("I-T3: {step:?} became {now:?}"));
            }
        }
    }
    found.extend(batches_complete_together(before, after));
    for (subject, step) in running(after) {
        for node in step.participants.iter() {
            let there = entry_state(&after.nodes[&node], step.level);
            if !matches!(there, LevelState::Joining | LevelState::Joined | LevelState::Leaving) {
                found.push(format!("I-T18: node {node} is {there:?} and awaited by {step:?}"));
            }
        }
        found.extend(victims_outside_the_batch(after, subject, step));
    }
    found
}

/// T-9 and T-18 in one commit: it marks the last users of an optional level, which holds what ran there and leaves nobody to
/// recover anything.
fn is_skipped(before: &MembershipRecord, after: &MembershipRecord, step: &Step) -> bool {
    let optional = before.levels.get(&step.level).is_some_and(|level| level.optional);
    let marked = |node: NodeId| after.nodes.get(&node).is_none_or(|entry| entry.state == NodeState::ForcedLeaving);
    let used = members_at(after, step.level).union(&joining_at(after, step.level));
    optional && used.is_empty() && step.kind == TransitionKind::ForcedLeaving && step.participants.iter().any(marked)
}

/// Neither unchanged, nor held, nor overtaken by a forced leave.
fn has_advanced(step: &Step, now: Option<&Step>) -> bool {
    now.is_none_or(|now| {
        let same = now.notification() == step.notification() && now.phase == StepPhase::Notifying;
        let held = now.transition == step.transition && now.phase == StepPhase::Held && now.level == step.level;
        let restarted = now.transition == step.transition && now.restart > step.restart && now.level == step.level;
        let marked = now.kind == TransitionKind::ForcedLeaving && now.transition != step.transition;
        !(same || held || restarted || marked)
    })
}

fn batches_complete_together(before: &MembershipRecord, after: &MembershipRecord) -> Vec<String> {
    let completed = |subject: Subject, step: &Step| {
        let now = step_of(after, subject);
        has_advanced(step, now) && now.is_none_or(|now| (now.transition, now.level) != (step.transition, step.level))
    };
    let of_batch = |step: &Step| (step.level, step.kind == TransitionKind::ForcedLeaving);
    let mut found = Vec::new();
    for (subject, step) in subjects(before).filter(|(_, step)| step.phase == StepPhase::Notifying) {
        if !completed(subject, step) {
            continue;
        }
        for (other, mate) in subjects(before).filter(|(_, mate)| mate.phase == StepPhase::Notifying) {
            let stays = step_of(after, other).is_some_and(|now| now.notification() == mate.notification());
            if of_batch(mate) == of_batch(step) && stays {
                found.push(format!("I-T22: {step:?} completed its level without {mate:?}"));
            }
        }
    }
    found
}

fn victims_outside_the_batch(record: &MembershipRecord, subject: Subject, step: &Step) -> Vec<String> {
    let forced = step.kind == TransitionKind::ForcedLeaving;
    victims(record)
        .filter(|victim| victim.subject != subject)
        .filter(|victim| victim.step.level <= step.level && victim.top.is_some_and(|top| step.level <= top))
        .filter(|victim| {
            let mate = forced && victim.step.level == step.level && victim.step.phase == StepPhase::Notifying;
            let forming = !forced
                && members_at(record, step.level).is_empty()
                && victim.step.level == step.level
                && victim.step.phase != StepPhase::Notifying;
            !(mate || forming)
        })
        .map(|victim| format!("I-T20: {step:?} runs beside {victim:?}"))
        .collect()
}

/// I-T4, I-T5, I-T6, I-T15 of one notification.
pub fn of_notification(cluster: &Cluster, node: NodeId, notification: &SubsystemNotification) -> Vec<String> {
    let mut found = Vec::new();
    if notification.batch.is_empty() {
        found.push(format!("I-T15: node {node} gets an empty notification"));
    }
    for notice in &notification.batch {
        if !cluster.committed.contains(&notice.id) {
            found.push(format!("I-T4: node {node} holds {:?}, which was never committed", notice.id));
        }
        if notice.kind != TransitionKind::ForcedLeaving {
            continue;
        }
        let victim = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        if !cluster.is_dead(victim) {
            found.push(format!("I-T6: node {node} recovers {victim}, which lives"));
        }
        let record = cluster.nodes[&node].agent.record();
        let told = victims(record).find(|told| told.step.transition == notice.id.transition);
        if told.is_none_or(|told| told.top < Some(notification.level)) {
            found.push(format!("I-T5: node {node} recovers {victim} at {}, above its top", notification.level));
        }
        if told.is_none_or(|told| !told.fence.io_certain) {
            found.push(format!("I-T6: node {node} recovers {victim} without a proof of its death"));
        }
    }
    found
}

/// I-T9, I-T19: with all transitions ended, every subsystem of a joined node sees what the record says.
pub fn at_rest(cluster: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    let record = &cluster.disk;
    let joined = |node: &NodeId| record.nodes.get(node).is_some_and(|entry| entry.state == NodeState::Joined);
    for (id, node) in cluster.nodes.iter().filter(|(id, node)| node.alive && joined(id)) {
        for level in record.nodes[id].levels.iter().copied().filter(|level| !node.dead.contains(level)) {
            found.extend(views_of(cluster, *id, &node.views, level));
        }
    }
    found
}

fn views_of(
    cluster: &Cluster,
    id: NodeId,
    views: &std::collections::BTreeMap<(Level, NodeIncarnation), View>,
    level: Level,
) -> Vec<String> {
    let told = states(&cluster.disk, level);
    let mut found = Vec::new();
    for (node, (incarnation, state)) in &told {
        let who = NodeIncarnation { node: *node, incarnation: *incarnation };
        let view = views.get(&(level, who)).copied().unwrap_or(View::Inactive);
        let right = if *state == LevelState::Joined { View::Joined } else { View::Inactive };
        if view != right {
            found.push(format!("I-T9: level {level} of node {id} sees {who} as {view:?}, the record says {state:?}"));
        }
    }
    for ((at, who), view) in views.iter().filter(|((at, _), _)| *at == level) {
        if told.get(&who.node).is_some_and(|(incarnation, _)| who.incarnation < *incarnation) && *view != View::Inactive
        {
            found.push(format!("I-T19: level {at} of node {id} still sees {who} as {view:?}"));
        }
    }
    found
}
