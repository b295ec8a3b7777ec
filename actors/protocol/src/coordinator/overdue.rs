//! Steps that do not end: warned of, called hung, and at last acted on (protocol T-20, T-24).
//!
//! An act costs as little as it can: a newcomer never costs a member, a node that cannot let go or cannot recover is forced out,
//! and nobody is forced out if that would leave nobody.

use phalanx_messages::membership::{Step, TransitionKind};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, Level, NodeId, NodeIncarnation};

use super::level_states::{Subject, members_at, subjects, unmarked_members};
use super::{Coordinator, CoordinatorOutput, Warning};
use crate::detector::Verdict;

/// How long a step may run, in milliseconds since it was first seen running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// It is warned of.
    pub warn_ms: u64,
    /// It is called hung.
    pub hung_ms: u64,
    /// It is acted on.
    pub act_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { warn_ms: 30_000, hung_ms: 60_000, act_ms: 120_000 }
    }
}

/// One step that is overdue.
struct Overdue {
    subject: Subject,
    step: Step,
    /// Participants that have not acknowledged.
    missing: NodeSet,
    /// Those of them that have answered `Failed`, with the newest text of one.
    failed: NodeSet,
    text: String,
}

impl Coordinator {
    pub(super) fn look_for_overdue_steps(&mut self, now: Instant, outputs: &mut Vec<CoordinatorOutput>) {
        let running: Vec<(Subject, Step)> =
            subjects(&self.committed).map(|(subject, step)| (subject, step.clone())).collect();
        for (subject, step) in running {
            let missing = self.awaited(subject);
            if missing.is_empty() {
                continue;
            }
            let Patience { warn_ms, hung_ms, act_ms } = self.patience;
            let limits_ms = [warn_ms, hung_ms];
            let answers = self.answers_to(subject, step.notification());
            let running_ms = now.since(*answers.since.get_or_insert(now));
            if limits_ms.get(answers.warned).is_some_and(|limit_ms| running_ms >= *limit_ms) {
                answers.warned += 1;
                let hung = answers.warned == limits_ms.len();
                let (id, node) = (step.notification(), subject.node());
                outputs.push(CoordinatorOutput::Warn(Warning::Slow { id, node, missing, running_ms, hung }));
            }
            let failed: NodeSet = answers.failed.keys().copied().filter(|node| missing.contains(*node)).collect();
            let text = answers.failed.values().next_back().cloned().unwrap_or_default();
            if running_ms >= act_ms {
                self.settled = false;
                self.act(&Overdue { subject, step, missing, failed, text }, outputs);
            }
        }
    }

    fn act(&mut self, overdue: &Overdue, outputs: &mut Vec<CoordinatorOutput>) {
        let Overdue { step, missing, failed, .. } = overdue;
        let hung = missing.difference(failed);
        match step.kind {
            // What a service does not let go of is registration's business, which asks for a forced leave itself (RL-8).
            TransitionKind::Leaving if step.level == Level::EVENT_MANAGER => {}
            TransitionKind::Joining | TransitionKind::JoinExtending if hung.is_empty() => self.give_up_join(overdue),
            TransitionKind::Joining | TransitionKind::JoinExtending => self.force_out(hung, overdue, outputs),
            TransitionKind::Leaving => self.force_out(*missing, overdue, outputs),
            TransitionKind::ForcedLeaving => {
                // The last one at the level keeps trying: without it nobody would ever recover it.
                let others = members_at(&self.draft, step.level).difference(missing);
                if !others.is_empty() {
                    self.force_out(*missing, overdue, outputs);
                } else if self.am_alone(missing) && self.somebody_waits() {
                    let reason = format!(
                        "its own subsystem at level {} does not answer, and others wait to be let in",
                        step.level
                    );
                    outputs.push(CoordinatorOutput::Panic { reason });
                }
            }
        }
    }

    /// This node is the only member, so its end is the cluster's.
    fn am_alone(&self, missing: &NodeSet) -> bool {
        let me = [self.me.node].into_iter().collect();
        *missing == me && unmarked_members(&self.draft) == me
    }

    /// A node is there that is no member: it can form the cluster anew, and recover what this one cannot (protocol T-18).
    fn somebody_waits(&self) -> bool {
        self.present.is_some_and(|present| present.iter().any(|node| node != self.me.node))
    }

    /// T-24: a member cannot take the newcomer, so the newcomer goes. The level's other answers are waited for; the refusals
    /// count as such.
    fn give_up_join(&mut self, overdue: &Overdue) {
        let node = overdue.subject.node();
        let id = overdue.step.notification();
        if self.is_given_up(overdue.subject) {
            return;
        }
        self.give_up(node, format!("a member could not take it at level {}: {}", id.level, overdue.text));
        let failed = overdue.failed;
        let answers = self.answers_to(overdue.subject, id);
        answers.acknowledged = answers.acknowledged.union(&failed);
    }

    fn force_out(&mut self, nodes: NodeSet, overdue: &Overdue, outputs: &mut Vec<CoordinatorOutput>) {
        let step = &overdue.step;
        if nodes == step.participants && nodes.len() > 1 {
            return; // All of them: that is no node's fault, and the cluster must not empty itself. It was reported.
        }
        if !self.may_lose(&nodes) {
            return; // It was reported, and those who would be left are too few to go on (§4.4).
        }
        if nodes.contains(self.me.node) {
            let reason = format!("its own subsystem at level {} does not answer", step.level);
            outputs.push(CoordinatorOutput::Panic { reason });
            return;
        }
        for node in nodes.iter() {
            let Some(victim) = self.member(node) else { continue };
            let why = if overdue.failed.contains(node) { &overdue.text } else { "no answer in time" };
            let reason = format!("its subsystem at level {} cannot end {:?}: {why}", step.level, step.kind);
            self.force(Verdict { victim, reason, proof: None });
        }
    }

    fn member(&self, node: NodeId) -> Option<NodeIncarnation> {
        self.draft.nodes.get(&node).map(|entry| NodeIncarnation { node, incarnation: entry.incarnation })
    }
}
