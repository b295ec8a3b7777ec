//! Acknowledgements and reports (protocol §3.6, §5.4, T-9, T-24).

use std::collections::BTreeMap;

use phalanx_messages::membership::{NodeState, Step, StepPhase, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId, NodeIncarnation, NotificationId, Revision};

use super::level_states::{Subject, incarnation_of, is_newer, is_notified, step_of, subjects};
use super::{Coordinator, CoordinatorOutput, Warning};
use crate::bugs::{self, Bug};

/// What has come in for the running step of one subject. Never persisted: a new master collects it again.
#[derive(Debug, Clone, Hash)]
pub(super) struct Answers {
    pub id: NotificationId,
    pub acknowledged: NodeSet,
    pub failed: BTreeMap<NodeId, String>,
    /// When the step was first seen running, for T-20.
    pub since: Option<Instant>,
    /// Warnings given so far.
    pub warned: usize,
}

impl Answers {
    const fn to(id: NotificationId) -> Self {
        Self { id, acknowledged: NodeSet::EMPTY, failed: BTreeMap::new(), since: None, warned: 0 }
    }
}

impl Coordinator {
    /// The answers to the running step; those to an earlier one are forgotten.
    pub(super) fn answers_to(&mut self, subject: Subject, id: NotificationId) -> &mut Answers {
        let answers = self.answers.entry(subject).or_insert_with(|| Answers::to(id));
        if answers.id != id {
            *answers = Answers::to(id);
        }
        answers
    }

    pub(super) fn acknowledged_by(&self, subject: Subject) -> NodeSet {
        let running = step_of(&self.draft, subject).map(phalanx_messages::membership::Step::notification);
        let answers = self.answers.get(&subject).filter(|answers| Some(answers.id) == running);
        answers.map_or(NodeSet::EMPTY, |answers| answers.acknowledged)
    }

    /// Participants of the committed step that have not acknowledged it; nobody if the draft is already beyond it.
    pub(super) fn awaited(&self, subject: Subject) -> NodeSet {
        let Some(told) = step_of(&self.committed, subject).filter(|step| is_notified(&self.committed, step)) else {
            return NodeSet::EMPTY;
        };
        let running = |step: &&phalanx_messages::membership::Step| {
            step.notification() == told.notification() && is_notified(&self.draft, step)
        };
        if step_of(&self.draft, subject).filter(running).is_none() {
            return NodeSet::EMPTY;
        }
        told.participants.difference(&self.acknowledged_by(subject))
    }

    pub(super) fn acknowledged(
        &mut self,
        from: NodeIncarnation,
        answers: Vec<SubsystemAcknowledged>,
        outputs: &mut Vec<CoordinatorOutput>,
    ) {
        let known = self.draft.nodes.get(&from.node).is_some_and(|entry| entry.incarnation == from.incarnation);
        for answer in answers.into_iter().filter(|_| known) {
            self.take_answer(from.node, answer, outputs);
        }
    }

    /// Counts an answer to exactly the running step; anything else is late and changes nothing.
    fn take_answer(&mut self, by: NodeId, answered: SubsystemAcknowledged, outputs: &mut Vec<CoordinatorOutput>) {
        let SubsystemAcknowledged { subject: who, id, answer } = answered;
        let Some((subject, kind, id)) = self.running_step(who, id, by) else { return };
        match answer {
            SubsystemAnswer::Acknowledged => {
                self.answers_to(subject, id).acknowledged.insert(by);
                self.settled &= !self.is_acknowledged(subject);
            }
            SubsystemAnswer::Failed { text } => {
                self.settled = false;
                if self.answers_to(subject, id).failed.insert(by, text.clone()).as_ref() != Some(&text) {
                    outputs.push(CoordinatorOutput::Warn(Warning::Failed {
                        id,
                        node: who.node,
                        by,
                        text: text.clone(),
                    }));
                }
                let joins = matches!(kind, TransitionKind::Joining | TransitionKind::JoinExtending);
                if joins && subject == Subject::Node(by) {
                    self.answers_to(subject, id).acknowledged.insert(by);
                    self.give_up(by, format!("its own subsystem at level {} could not join: {text}", id.level));
                } else if joins && self.is_given_up(subject) {
                    self.answers_to(subject, id).acknowledged.insert(by); // it will not stay: nobody has to take it
                }
            }
        }
    }

    /// The step of `who` that `by` is asked about with that number, if it runs. A ghost and the entry of its node differ in their
    /// incarnation.
    fn running_step(
        &self,
        who: NodeIncarnation,
        id: NotificationId,
        by: NodeId,
    ) -> Option<(Subject, TransitionKind, NotificationId)> {
        let meant = |subject: &Subject| incarnation_of(&self.draft, *subject) == Some(who);
        let running = |subject: Subject| {
            let step = step_of(&self.draft, subject)?;
            let asked = step.notification() == id || is_of_older_restart(step, id);
            let runs = asked && is_notified(&self.draft, step) && step.participants.contains(by);
            runs.then(|| (subject, step.kind, step.notification()))
        };
        [Subject::Node(who.node), Subject::Ghost(who.node)].into_iter().filter(meant).find_map(running)
    }

    /// T-24: the join turns into a leave when its level is complete, as if the node had asked for it (T-12). What joins a node
    /// that is joined is only a level, so only the level goes: a newcomer never costs a member.
    pub(super) fn give_up(&mut self, node: NodeId, reason: String) {
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        if entry.state == NodeState::Joined {
            entry.withdrawing = true;
        } else {
            entry.leave_requested = true;
            entry.reason = reason;
        }
    }

    /// The join will be reversed (T-12, T-24).
    pub(super) fn is_given_up(&self, subject: Subject) -> bool {
        let entry = self.draft.nodes.get(&subject.node());
        entry.is_some_and(|entry| entry.leave_requested || entry.withdrawing)
    }

    pub(super) fn reported(
        &mut self,
        from: NodeIncarnation,
        seen: Revision,
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
        outputs: &mut Vec<CoordinatorOutput>,
    ) {
        let known = self.draft.nodes.get(&from.node).is_some_and(|entry| entry.incarnation == from.incarnation);
        if !known || seen.term < self.committed.revision.term {
            return;
        }
        for (id, _) in &steps {
            // I-T4: what was ever notified was committed before, so the record knows it or something newer.
            let beyond = |(_, step): &(Subject, &phalanx_messages::membership::Step)| {
                // A held step has forgotten the barrier at which it was stopped.
                let barrier = if step.phase == StepPhase::Held { u8::MAX } else { step.barrier };
                let committed = NotificationId { barrier, ..step.notification() };
                step.transition == id.transition && is_newer(step.kind, id, &committed)
            };
            if subjects(&self.draft).any(|running| beyond(&running)) {
                let reason = format!("node {from} reports step {id:?}, which was never committed (I-T4)");
                outputs.push(CoordinatorOutput::Panic { reason });
                return;
            }
        }
        self.unreported.remove(from.node);
        let answers = steps.into_iter().filter_map(|(_, answer)| answer).collect();
        self.acknowledged(from, answers, outputs);
    }
}

/// Never, but for a deliberate bug (protocol T-9: "Acks with an old rgen are void").
fn is_of_older_restart(step: &Step, id: NotificationId) -> bool {
    let current = NotificationId { restart: step.restart, ..id };
    bugs::active(Bug::OldRestartCounts) && id.restart < step.restart && current == step.notification()
}
