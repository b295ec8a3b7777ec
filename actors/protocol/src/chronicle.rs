//! What happened, told from the committed records: every transition, level, barrier and node, with times.
//!
//! The records are level-triggered, so a node that missed one sees fewer steps; the master sees each of them. Times are given
//! by the caller and only shown to people.

use std::collections::{BTreeMap, VecDeque};

use phalanx_messages::limits::TRACES_KEPT_MAX;
use phalanx_messages::membership::{
    FenceMethod, FenceState, MembershipRecord, NodeState, Step, StepPhase, TransitionKind,
};
use phalanx_messages::set::NodeSet;
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

/// One step of a trace. Times are milliseconds since the trace began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTrace {
    /// The step.
    pub id: NotificationId,
    /// Who had to acknowledge.
    pub participants: NodeSet,
    /// When it was first seen.
    pub begun_ms: u64,
    /// When each acknowledgement arrived; known on the master only.
    pub acknowledged_ms: BTreeMap<NodeId, u64>,
    /// When the next step or the end was seen.
    pub ended_ms: Option<u64>,
}

/// One transition from the first sight to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionTrace {
    /// The transition.
    pub id: TransitionId,
    /// The node in transition.
    pub subject: NodeIncarnation,
    /// What it does.
    pub kind: TransitionKind,
    /// Why, where a reason was given.
    pub reason: String,
    /// When it was first seen, on the caller's clock, in milliseconds.
    pub started_ms: u64,
    /// Its steps, in order.
    pub steps: Vec<StepTrace>,
    /// How long it took, once it has ended.
    pub elapsed_ms: Option<u64>,
}

/// Keeps the last transitions. See the module.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    last: MembershipRecord,
    traces: VecDeque<TransitionTrace>,
}

impl Chronicle {
    /// Learns a newer committed record at `now_ms`.
    pub fn observe(&mut self, now_ms: u64, record: &MembershipRecord) -> Vec<Happening> {
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
            trace.end_step(now_ms);
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
        Some(Happening::StepAcknowledged { id, node, by })
    }

    /// The kept transitions, oldest first.
    pub fn traces(&self) -> impl DoubleEndedIterator<Item = &TransitionTrace> {
        self.traces.iter()
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
        trace.end_step(now_ms);
        let begun_ms = now_ms.saturating_sub(trace.started_ms);
        let (participants, acknowledged_ms) = (step.participants, BTreeMap::new());
        trace.steps.push(StepTrace { id, participants, begun_ms, acknowledged_ms, ended_ms: None });
        let barriers = barriers(record, step.level, step.kind);
        Some(Happening::StepStarted { id, node: subject.node, kind: step.kind, barriers, participants })
    }

    fn begin(&mut self, now_ms: u64, subject: NodeIncarnation, reason: &str, step: &Step) {
        if self.traces.len() == TRACES_KEPT_MAX {
            self.traces.pop_front();
        }
        self.traces.push_back(TransitionTrace {
            id: step.transition,
            subject,
            kind: step.kind,
            reason: reason.to_owned(),
            started_ms: now_ms,
            steps: Vec::new(),
            elapsed_ms: None,
        });
    }
}

impl TransitionTrace {
    fn end_step(&mut self, now_ms: u64) {
        let since_ms = now_ms.saturating_sub(self.started_ms);
        if let Some(last) = self.steps.last_mut() {
            last.ended_ms.get_or_insert(since_ms);
        }
    }
}

fn proved(node: NodeId, fence: FenceState, certain_before: bool, reason: &str) -> Option<Happening> {
    let method = fence.method.filter(|_| fence.death_certain && !certain_before)?;
    let note = if method == FenceMethod::Operator { reason.to_owned() } else { String::new() };
    Some(Happening::Proved { node, method: format!("{method:?}"), note })
}

/// Every node and ghost in transition.
fn running(record: &MembershipRecord) -> Vec<(NodeIncarnation, String, Step)> {
    let entries = record.nodes.iter().filter_map(|(node, entry)| {
        let subject = NodeIncarnation { node: *node, incarnation: entry.incarnation };
        entry.step.clone().map(|step| (subject, entry.reason.clone(), step))
    });
    let ghosts = record.ghosts.iter().map(|(node, ghost)| {
        let subject = NodeIncarnation { node: *node, incarnation: ghost.incarnation };
        (subject, ghost.reason.clone(), ghost.step.clone())
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
    use phalanx_messages::membership::MemberEntry;

    const TID: TransitionId = TransitionId { term: Term(1), counter: 1 };

    fn joining(level: u16, barrier: u8, phase: StepPhase) -> MembershipRecord {
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
        MembershipRecord { nodes: [(NodeId(0), entry)].into(), ..MembershipRecord::default() }
    }

    #[test]
    fn a_join_is_told_step_by_step_and_kept() {
        let mut chronicle = Chronicle::default();
        let first = chronicle.observe(1_000, &joining(100, 0, StepPhase::Notifying));
        assert!(matches!(first[..], [Happening::NodeState { .. }, Happening::StepStarted { .. }]), "{first:?}");
        let id = chronicle.traces().next().unwrap().steps[0].id;
        assert!(chronicle.acknowledged(1_003, id, NodeId(0)).is_some());
        assert!(chronicle.acknowledged(1_004, id, NodeId(0)).is_none(), "a repeated acknowledgement is told once");
        assert!(chronicle.acknowledged(1_004, id, NodeId(9)).is_none(), "nobody asked node 9");
        assert_eq!(chronicle.observe(1_005, &joining(200, 0, StepPhase::Between)), []);
        assert_eq!(chronicle.observe(1_006, &joining(200, 0, StepPhase::Notifying)).len(), 1);

        let mut joined = joining(200, 0, StepPhase::Between);
        let entry = joined.nodes.get_mut(&NodeId(0)).unwrap();
        (entry.state, entry.step) = (NodeState::Joined, None);
        let last = chronicle.observe(1_010, &joined);
        assert!(matches!(last[..], [Happening::NodeState { .. }, Happening::TransitionEnded { elapsed_ms: 10, .. }]));
        let trace = chronicle.traces().next_back().unwrap();
        assert_eq!(trace.steps.iter().map(|step| step.id.level.0).collect::<Vec<_>>(), [100, 200]);
        assert_eq!(trace.steps[0].acknowledged_ms[&NodeId(0)], 3);
        assert_eq!((trace.steps[0].ended_ms, trace.steps[1].ended_ms), (Some(6), Some(10)));
    }
}
