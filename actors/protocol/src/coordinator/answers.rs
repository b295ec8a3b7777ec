//! Acknowledgements of the running steps. They are not persisted: a new master asks for them again (protocol T-1, §3.6).

use std::collections::BTreeMap;

use phalanx_messages::membership::{StepPhase, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId, NodeIncarnation, NotificationId, Revision};

use super::level_states::{Subject, incarnation_of, is_newer, is_notified, step_of, subjects};
use super::{Coordinator, CoordinatorOutput, Warning};

/// First pause before a failed step is tried again (protocol T-24: 1, 2, 4 s ...).
const RETRY_MS: u64 = 1_000;
/// No pause is longer.
const RETRY_MS_MAX: u64 = 32_000;
/// T-20.
const WARN_MS: u64 = 30_000;
const HUNG_MS: u64 = 60_000;

/// What came of one committed step so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answers {
    id: NotificationId,
    acknowledged: NodeSet,
    failed: BTreeMap<NodeId, Failure>,
    begun: Option<Instant>,
    warned: bool,
    hung: bool,
}

/// A subsystem that could not process the step, and when it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    pause_ms: u64,
    again_at: Option<Instant>,
}

impl Answers {
    const fn of(id: NotificationId) -> Self {
        Self { id, acknowledged: NodeSet::EMPTY, failed: BTreeMap::new(), begun: None, warned: false, hung: false }
    }
}

impl Coordinator {
    /// Who has not acknowledged the committed step of `subject`.
    pub(super) fn awaited(&self, subject: Subject) -> NodeSet {
        let Some(step) = step_of(&self.committed, subject).filter(|step| is_notified(&self.committed, step)) else {
            return NodeSet::EMPTY;
        };
        let given = self.answers.get(&subject).filter(|answers| answers.id == step.notification());
        step.participants.difference(&given.map_or(NodeSet::EMPTY, |answers| answers.acknowledged))
    }

    /// Nodes that must be told the record again: they are awaited, and not just pausing after a failure.
    pub(super) fn awaited_now(&self, now: Instant) -> NodeSet {
        let mut nodes = NodeSet::EMPTY;
        for (subject, _) in subjects(&self.committed) {
            for node in self.awaited(subject).iter() {
                let failure = self.answers.get(&subject).and_then(|answers| answers.failed.get(&node));
                if failure.is_none_or(|failure| failure.again_at.is_none_or(|at| at <= now)) {
                    nodes.insert(node);
                }
            }
        }
        nodes
    }

    pub(super) fn acknowledged(
        &mut self,
        from: NodeIncarnation,
        answers: Vec<SubsystemAcknowledged>,
        outputs: &mut Vec<CoordinatorOutput>,
    ) {
        let sender = self.committed.nodes.get(&from.node).map(|entry| entry.incarnation);
        if sender != Some(from.incarnation) {
            return; // I-T14: nothing of a lost incarnation is believed.
        }
        for answer in answers {
            self.acknowledged_one(from.node, answer, outputs);
        }
    }

    fn acknowledged_one(&mut self, from: NodeId, answer: SubsystemAcknowledged, outputs: &mut Vec<CoordinatorOutput>) {
        let running = subjects(&self.committed)
            .find(|(_, step)| step.phase == StepPhase::Notifying && step.notification() == answer.id)
            .map(|(subject, step)| (subject, step.kind));
        // An answer to an earlier step, restart or barrier must not open this one.
        let Some((subject, kind)) = running else { return };
        if incarnation_of(&self.committed, subject) != Some(answer.subject) || !self.awaited(subject).contains(from) {
            return;
        }
        let now = self.now;
        let answers = self.answers.entry(subject).or_insert(Answers::of(answer.id));
        if answers.id != answer.id {
            *answers = Answers::of(answer.id);
        }
        let joins_itself = kind == TransitionKind::Joining && subject == Subject::Node(from);
        match answer.answer {
            SubsystemAnswer::Acknowledged => drop(answers.acknowledged.insert(from)),
            SubsystemAnswer::Failed { text } => {
                if joins_itself {
                    // T-24: its join turns into a leave at this level.
                    answers.acknowledged.insert(from);
                    if let Some(entry) = self.draft.nodes.get_mut(&from) {
                        (entry.leave_requested, entry.reason) = (true, text.clone());
                    }
                } else {
                    let failure =
                        answers.failed.entry(from).or_insert(Failure { pause_ms: RETRY_MS / 2, again_at: None });
                    failure.pause_ms = (failure.pause_ms * 2).min(RETRY_MS_MAX);
                    failure.again_at = now.map(|now| now.plus(failure.pause_ms));
                }
                let (id, node) = (answer.id, subject.node());
                outputs.push(CoordinatorOutput::Warn(Warning::Failed { id, node, by: from, text }));
            }
        }
    }

    /// A member promised this master to listen to nobody older, and tells where it stands (protocol §3.6).
    pub(super) fn reported(
        &mut self,
        from: NodeIncarnation,
        seen: Revision,
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
        outputs: &mut Vec<CoordinatorOutput>,
    ) {
        let known = self.committed.nodes.get(&from.node).map(|entry| entry.incarnation);
        if seen.term != self.committed.revision.term || known != Some(from.incarnation) {
            return;
        }
        for (id, _) in &steps {
            let newer = subjects(&self.committed)
                .any(|(_, step)| step.transition == id.transition && is_newer(step.kind, id, &step.notification()));
            if newer {
                let reason = format!("node {from} reports step {id:?}, which no master committed (I-T4)");
                outputs.push(CoordinatorOutput::Panic { reason });
                return;
            }
        }
        self.unreported.remove(from.node);
        let answers = steps.into_iter().filter_map(|(_, answer)| answer).collect();
        self.acknowledged(from, answers, outputs);
    }

    /// Answers to steps that no longer run are forgotten.
    pub(super) fn forget_old_answers(&mut self) {
        let committed = &self.committed;
        self.answers.retain(|subject, answers| {
            step_of(committed, *subject).is_some_and(|step| step.notification() == answers.id)
        });
        for (subject, step) in subjects(committed).filter(|(_, step)| step.phase == StepPhase::Notifying) {
            self.answers.entry(subject).or_insert(Answers::of(step.notification()));
        }
    }

    /// T-20, first cut: whoever is slow is named.
    pub(super) fn warn_of_slow(&mut self, now: Instant, outputs: &mut Vec<CoordinatorOutput>) {
        let running: Vec<Subject> = self.answers.keys().copied().collect();
        for subject in running {
            let missing = self.awaited(subject);
            let Some(answers) = self.answers.get_mut(&subject) else { continue };
            let running_ms = now.since(*answers.begun.get_or_insert(now));
            if missing.is_empty() {
                continue;
            }
            let (slow, hung) = (running_ms >= WARN_MS && !answers.warned, running_ms >= HUNG_MS && !answers.hung);
            if slow || hung {
                (answers.warned, answers.hung) = (true, answers.hung || hung);
                let (id, node) = (answers.id, subject.node());
                outputs.push(CoordinatorOutput::Warn(Warning::Slow { id, node, missing, running_ms, hung }));
            }
        }
    }
}
