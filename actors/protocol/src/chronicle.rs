//! What happened, told from the committed records: every transition, level, barrier and node, with times.
//!
//! The records are level-triggered, so a node that missed one sees fewer steps; the master sees each of them. Beside that a node
//! remembers when its own subsystems were notified and when they answered. Times are given by the caller and only shown to people.
//!
//! What is kept is bounded three ways: transitions, steps of one transition, and all times together
//! ([`TRACES_KEPT_MAX`], [`TRACE_STEPS_MAX`], [`TRACE_TIMES_KEPT_MAX`]). It lives in memory only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use phalanx_messages::limits::{TRACE_STEPS_MAX, TRACE_TIMES_KEPT_MAX, TRACES_KEPT_MAX};
use phalanx_messages::membership::{
    FenceMethod, FenceState, MembershipRecord, NodeState, Step, StepPhase, TransitionKind,
};
use phalanx_messages::set::NodeSet;
use phalanx_messages::trace::{StepTrace, TransitionTrace};
use phalanx_messages::{Level, NodeId, NodeIncarnation, NotificationId, Term, TransitionId};

/// One thing that happened, in the order it was learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A node owns a new term.
    MasterElected {
        /// The term.
        term: Term,
        /// Its owner.
        node: NodeId,
    },
    /// A node's state in the membership database changed.
    NodeState {
        /// The node.
        node: NodeId,
        /// Its new state.
        state: NodeState,
        /// Why, where a reason was given.
        reason: String,
    },
    /// A death is certain.
    Proved {
        /// Who is dead.
        node: NodeId,
        /// How it is known, in words.
        method: String,
        /// Whose word it was, and why the node was forced out: only if an administrator confirmed it.
        note: String,
    },
    /// Subsystems of `participants` are being notified.
    StepStarted {
        /// The step.
        id: NotificationId,
        /// The node in transition.
        node: NodeId,
        /// What it does.
        kind: TransitionKind,
        /// Barriers of this kind at this level.
        barriers: u8,
        /// Who must acknowledge.
        participants: NodeSet,
    },
    /// A subsystem acknowledged.
    StepAcknowledged {
        /// The step.
        id: NotificationId,
        /// The node in transition.
        node: NodeId,
        /// Whose subsystem.
        by: NodeId,
    },
    /// A transition ended.
    TransitionEnded {
        /// The transition.
        id: TransitionId,
        /// The node.
        node: NodeId,
        /// What it did.
        kind: TransitionKind,
        /// From the first time it was seen, in milliseconds.
        elapsed_ms: u64,
    },
}

/// Keeps the last transitions. See the module.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    last: Arc<MembershipRecord>,
    traces: VecDeque<TransitionTrace>,
    /// Steps and acknowledgements in all of them.
    times: usize,
}

impl Chronicle {
    /// Learns a newer committed record at `now_ms`.
    pub fn observe(&mut self, now_ms: u64, record: &Arc<MembershipRecord>) -> Vec<Happening> {
        let mut happenings = self.states_changed(record);
        let running = running(record);
        for (subject, reason, step) in &running {
            happenings.extend(self.step_seen(now_ms, *subject, reason, step, record));
        }
        for trace in self.traces.iter_mut().filter(|trace| trace.elapsed_ms.is_none()) {
            if running.iter().any(|(_, _, step)| step.transition == trace.id) {
                continue;
            }
            let elapsed_ms = now_ms.saturating_sub(trace.started_ms);
            trace.elapsed_ms = Some(elapsed_ms);
            end_step(trace, now_ms);
            let TransitionTrace { id, subject, kind, .. } = *trace;
            happenings.push(Happening::TransitionEnded { id, node: subject.node, kind, elapsed_ms });
        }
        self.last.clone_from(record);
        happenings
    }

    /// Learns an acknowledgement at `now_ms`; one that is not awaited is not told.
    pub fn acknowledged(&mut self, now_ms: u64, id: NotificationId, by: NodeId) -> Option<Happening> {
        let trace = self.traces.iter_mut().rev().find(|trace| trace.id == id.transition)?;
        let since_ms = now_ms.saturating_sub(trace.started_ms);
        let node = trace.subject.node;
        let step = trace.steps.iter_mut().rev().find(|step| step.id == id)?;
        if !step.participants.contains(by) || step.acknowledged_ms.contains_key(&by) {
            return None;
        }
        step.acknowledged_ms.insert(by, since_ms);
        self.times += 1;
        Some(Happening::StepAcknowledged { id, node, by })
    }

    /// This node's own subsystem is notified at `now_ms`; the first time counts.
    pub fn notified(&mut self, now_ms: u64, id: NotificationId) {
        if let Some((step, since_ms)) = self.own_step(now_ms, id) {
            step.notified_ms.get_or_insert(since_ms);
        }
    }

    /// This node's own subsystem has acknowledged at `now_ms`; the first time counts.
    pub fn answered(&mut self, now_ms: u64, id: NotificationId) {
        if let Some((step, since_ms)) = self.own_step(now_ms, id) {
            step.answered_ms.get_or_insert(since_ms);
        }
    }

    fn own_step(&mut self, now_ms: u64, id: NotificationId) -> Option<(&mut StepTrace, u64)> {
        let trace = self.traces.iter_mut().rev().find(|trace| trace.id == id.transition)?;
        let since_ms = now_ms.saturating_sub(trace.started_ms);
        let step = trace.steps.iter_mut().rev().find(|step| step.id == id)?;
        Some((step, since_ms))
    }

    /// What is remembered of a transition, or of the newest one, as it is told at `now_ms`.
    #[must_use]
    pub fn trace(&self, which: Option<TransitionId>, now_ms: u64) -> Option<TransitionTrace> {
        let mut newest_first = self.traces.iter().rev();
        let found = newest_first.find(|trace| which.is_none_or(|id| id == trace.id))?;
        Some(TransitionTrace { told_ms: now_ms.saturating_sub(found.started_ms), ..found.clone() })
    }

    /// Milliseconds that a running transition has taken until `now_ms`.
    #[must_use]
    pub fn running_for_ms(&self, id: TransitionId, now_ms: u64) -> Option<u64> {
        self.traces.iter().rev().find(|trace| trace.id == id).map(|trace| now_ms.saturating_sub(trace.started_ms))
    }

    fn states_changed(&self, record: &MembershipRecord) -> Vec<Happening> {
        let mut happenings = Vec::new();
        for (node, entry) in &record.nodes {
            let before = self.last.nodes.get(node);
            let state_before = before.map_or(NodeState::Inactive, |entry| entry.state);
            if state_before != entry.state {
                let (state, reason) = (entry.state, entry.reason.clone());
                happenings.push(Happening::NodeState { node: *node, state, reason });
            }
            let certain_before = before.is_some_and(|entry| entry.fence.death_certain);
            happenings.extend(proved(*node, entry.fence, certain_before, &entry.reason));
        }
        for (node, ghost) in &record.ghosts {
            let before = self.last.ghosts.get(node).filter(|before| before.incarnation == ghost.incarnation);
            // A ghost that is seen first with its proof brought it along from its entry.
            let certain_before = before.is_none_or(|before| before.fence.death_certain);
            happenings.extend(proved(*node, ghost.fence, certain_before, &ghost.reason));
        }
        happenings
    }

    fn step_seen(
        &mut self,
        now_ms: u64,
        subject: NodeIncarnation,
        reason: &str,
        step: &Step,
        record: &MembershipRecord,
    ) -> Option<Happening> {
        let index = self.traces.iter().position(|trace| trace.id == step.transition).unwrap_or_else(|| {
            self.begin(now_ms, subject, reason, step);
            self.traces.len() - 1
        });
        let trace = &mut self.traces[index];
        if trace.reason != reason {
            trace.reason = reason.to_owned(); // whose word it was is learnt later
        }
        let id = step.notification();
        if step.phase != StepPhase::Notifying || trace.steps.last().is_some_and(|last| last.id == id) {
            return None;
        }
        end_step(trace, now_ms);
        if trace.steps.len() == TRACE_STEPS_MAX {
            self.times -= drop_first_step(trace);
        }
        let participants = step.participants;
        trace.steps.push(StepTrace {
            id,
            participants,
            begun_ms: now_ms.saturating_sub(trace.started_ms),
            acknowledged_ms: BTreeMap::new(),
            ended_ms: None,
            notified_ms: None,
            answered_ms: None,
        });
        self.times += 1;
        self.forget_the_oldest();
        let barriers = barriers(record, step.level, step.kind);
        Some(Happening::StepStarted { id, node: subject.node, kind: step.kind, barriers, participants })
    }

    fn begin(&mut self, now_ms: u64, subject: NodeIncarnation, reason: &str, step: &Step) {
        self.traces.push_back(TransitionTrace {
            id: step.transition,
            subject,
            kind: step.kind,
            reason: reason.to_owned(),
            started_ms: now_ms,
            told_ms: 0,
            steps: Vec::new(),
            steps_dropped: 0,
            elapsed_ms: None,
        });
    }

    /// Keeps the bounds: the oldest transition that has ended goes, and if there is none the first step of the oldest. A running
    /// transition never goes as a whole, so it is told once only; the newest stays for whoever asks for the last one.
    fn forget_the_oldest(&mut self) {
        while self.traces.len() > TRACES_KEPT_MAX || self.times > TRACE_TIMES_KEPT_MAX {
            let older = self.traces.len() - 1;
            if let Some(ended) = self.traces.iter().take(older).position(|trace| trace.elapsed_ms.is_some()) {
                let gone = self.traces.remove(ended);
                self.times -= gone.iter().flat_map(|trace| trace.steps.iter()).map(times_of).sum::<usize>();
            } else if let Some(long) = self.traces.iter_mut().find(|trace| trace.steps.len() > 1)
                && self.times > TRACE_TIMES_KEPT_MAX
            {
                self.times -= drop_first_step(long);
            } else {
                return;
            }
        }
    }
}

/// Gives how many times went with it.
fn drop_first_step(trace: &mut TransitionTrace) -> usize {
    trace.steps_dropped += 1;
    times_of(&trace.steps.remove(0))
}

fn times_of(step: &StepTrace) -> usize {
    1 + step.acknowledged_ms.len()
}

fn end_step(trace: &mut TransitionTrace, now_ms: u64) {
    let since_ms = now_ms.saturating_sub(trace.started_ms);
    if let Some(last) = trace.steps.last_mut() {
        last.ended_ms.get_or_insert(since_ms);
    }
}

fn proved(node: NodeId, fence: FenceState, certain_before: bool, reason: &str) -> Option<Happening> {
    let method = fence.method.filter(|_| fence.death_certain && !certain_before)?;
    let note = if method == FenceMethod::Operator { reason.to_owned() } else { String::new() };
    Some(Happening::Proved { node, method: format!("{method:?}"), note })
}

/// Every node and ghost in transition.
fn running(record: &MembershipRecord) -> Vec<(NodeIncarnation, &str, &Step)> {
    let entries = record.nodes.iter().filter_map(|(node, entry)| {
        let subject = NodeIncarnation { node: *node, incarnation: entry.incarnation };
        entry.step.as_ref().map(|step| (subject, entry.reason.as_str(), step))
    });
    let ghosts = record.ghosts.iter().map(|(node, ghost)| {
        let subject = NodeIncarnation { node: *node, incarnation: ghost.incarnation };
        (subject, ghost.reason.as_str(), &ghost.step)
    });
    entries.chain(ghosts).collect()
}

fn barriers(record: &MembershipRecord, level: Level, kind: TransitionKind) -> u8 {
    record.levels.get(&level).map_or(0, |registration| registration.barriers.of(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::Incarnation;
    use phalanx_messages::limits::NODES_MAX;
    use phalanx_messages::membership::MemberEntry;

    const TID: TransitionId = TransitionId { term: Term(1), counter: 1 };

    fn joining(level: u16, barrier: u8, phase: StepPhase) -> Arc<MembershipRecord> {
        let participants = [NodeId(0)].into_iter().collect();
        let level = Level(level);
        let kind = TransitionKind::Joining;
        let step = Step { transition: TID, kind, level, barrier, restart: 0, phase, participants };
        let entry = MemberEntry {
            incarnation: Incarnation(1),
            state: NodeState::Joining,
            step: Some(step),
            ..MemberEntry::default()
        };
        Arc::new(MembershipRecord { nodes: [(NodeId(0), entry)].into(), ..MembershipRecord::default() })
    }

    #[test]
    fn a_join_is_told_step_by_step_and_kept() {
        let mut chronicle = Chronicle::default();
        let first = chronicle.observe(1_000, &joining(100, 0, StepPhase::Notifying));
        assert!(matches!(first[..], [Happening::NodeState { .. }, Happening::StepStarted { .. }]), "{first:?}");
        let id = chronicle.trace(None, 1_000).unwrap().steps[0].id;
        assert!(chronicle.acknowledged(1_003, id, NodeId(0)).is_some());
        assert!(chronicle.acknowledged(1_004, id, NodeId(0)).is_none(), "a repeated acknowledgement is told once");
        assert!(chronicle.acknowledged(1_004, id, NodeId(9)).is_none(), "nobody asked node 9");
        assert_eq!(chronicle.observe(1_005, &joining(200, 0, StepPhase::Between)), []);
        assert_eq!(chronicle.observe(1_006, &joining(200, 0, StepPhase::Notifying)).len(), 1);

        let mut joined = joining(200, 0, StepPhase::Between);
        let entry = Arc::make_mut(&mut joined).nodes.get_mut(&NodeId(0)).unwrap();
        (entry.state, entry.step) = (NodeState::Joined, None);
        let last = chronicle.observe(1_010, &joined);
        assert!(matches!(last[..], [Happening::NodeState { .. }, Happening::TransitionEnded { elapsed_ms: 10, .. }]));
        let trace = chronicle.trace(None, 1_010).unwrap();
        assert_eq!(trace.steps.iter().map(|step| step.id.level.0).collect::<Vec<_>>(), [100, 200]);
        assert_eq!(trace.steps[0].acknowledged_ms[&NodeId(0)], 3);
        assert_eq!((trace.steps[0].ended_ms, trace.steps[1].ended_ms), (Some(6), Some(10)));
    }

    /// A record in which each of these transitions is at `level`, with all nodes as participants.
    fn batch(counters: std::ops::Range<u64>, level: u16, participants: usize) -> Arc<MembershipRecord> {
        let entry = |counter: u64| {
            let mut record = joining(level, 0, StepPhase::Notifying);
            let mut entry = Arc::make_mut(&mut record).nodes.remove(&NodeId(0)).unwrap();
            let step = entry.step.as_mut().unwrap();
            step.transition.counter = counter;
            step.participants = (0..u16::try_from(participants).unwrap()).map(NodeId).collect();
            (NodeId(u16::try_from(counter % NODES_MAX as u64).unwrap()), entry)
        };
        Arc::new(MembershipRecord { nodes: counters.map(entry).collect(), ..MembershipRecord::default() })
    }

    fn acknowledge_all(chronicle: &mut Chronicle, now_ms: u64, participants: usize) {
        let last = |trace: &TransitionTrace| trace.steps.last().map(|step| step.id);
        let steps: Vec<_> = chronicle.traces.iter().filter(|it| it.elapsed_ms.is_none()).filter_map(last).collect();
        for id in steps {
            for node in 0..u16::try_from(participants).unwrap() {
                chronicle.acknowledged(now_ms, id, NodeId(node));
            }
        }
    }

    #[test]
    fn what_is_kept_of_many_transitions_is_bounded_and_the_newest_stay() {
        let mut chronicle = Chronicle::default();
        let transitions = 3 * TRACES_KEPT_MAX as u64;
        for counter in 0..transitions {
            chronicle.observe(counter, &batch(counter..counter + 1, 100, 1));
        }
        assert_eq!(chronicle.traces.len(), TRACES_KEPT_MAX);
        let id = |counter| Some(TransitionId { term: Term(1), counter });
        assert!(chronicle.trace(id(0), transitions).is_none(), "the oldest went");
        assert_eq!(chronicle.trace(None, transitions).map(|trace| trace.id), id(transitions - 1));
    }

    #[test]
    fn the_times_of_the_largest_batch_are_bounded_and_no_step_is_told_twice() {
        let mut chronicle = Chronicle::default();
        let (nodes, levels) = (64, 40);
        let mut told = 0;
        for level in 1..=levels {
            let seen = chronicle.observe(level.into(), &batch(0..nodes, level, NODES_MAX));
            told += seen.iter().filter(|it| matches!(it, Happening::StepStarted { .. })).count();
            acknowledge_all(&mut chronicle, level.into(), NODES_MAX);
            let one_step = usize::try_from(nodes).unwrap() * (1 + NODES_MAX);
            assert!(chronicle.times <= TRACE_TIMES_KEPT_MAX + one_step, "{} times at level {level}", chronicle.times);
        }
        assert_eq!(told, usize::from(levels) * usize::try_from(nodes).unwrap(), "each step once");
        let counted: usize = chronicle.traces.iter().flat_map(|trace| &trace.steps).map(times_of).sum();
        assert_eq!(counted, chronicle.times);
        let newest = chronicle.trace(None, 50).unwrap();
        assert_eq!(newest.steps.last().unwrap().acknowledged_ms.len(), NODES_MAX, "the last step is whole");
        assert!(chronicle.traces.iter().all(|it| it.steps.len() as u64 + it.steps_dropped == u64::from(levels)));
    }

    #[test]
    fn a_transition_that_restarts_for_ever_keeps_its_last_steps() {
        let mut chronicle = Chronicle::default();
        let steps = TRACE_STEPS_MAX + 10;
        for restart in 0..steps {
            let mut record = batch(0..1, 100, 1);
            let entry = Arc::make_mut(&mut record).nodes.get_mut(&NodeId(0)).unwrap();
            entry.step.as_mut().unwrap().restart = u32::try_from(restart).unwrap();
            chronicle.observe(restart as u64, &record);
        }
        let trace = chronicle.trace(None, 0).unwrap();
        assert_eq!((trace.steps.len(), trace.steps_dropped), (TRACE_STEPS_MAX, 10));
        assert_eq!(trace.steps.last().map(|step| step.id.restart as usize), Some(steps - 1));
    }

    #[test]
    fn the_first_notification_and_the_first_answer_of_the_own_subsystem_count() {
        let mut chronicle = Chronicle::default();
        chronicle.observe(1_000, &joining(100, 0, StepPhase::Notifying));
        let id = chronicle.trace(None, 1_000).unwrap().steps[0].id;
        for now_ms in [1_002, 1_005] {
            chronicle.notified(now_ms, id);
            chronicle.answered(now_ms + 4, id);
        }
        let trace = chronicle.trace(None, 1_020).unwrap();
        assert_eq!((trace.steps[0].notified_ms, trace.steps[0].answered_ms), (Some(2), Some(6)));
        assert_eq!(trace.told_ms, 20);
        assert!(trace.steps[0].acknowledged_ms.is_empty(), "that is for the master to say");
    }
}
