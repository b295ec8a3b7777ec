//! Nodes are forced out: the mark, what it holds, the certainty, and the cold start (protocol T-7 to T-9, T-11, T-18).

use std::collections::BTreeMap;

use phalanx_messages::membership::{
    FenceMethod, FenceState, MembershipRecord, NodeState, Step, StepPhase, TransitionKind, Victim,
};
use phalanx_messages::register::Pill;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, NodeId, NodeIncarnation, Term};

use super::Coordinator;
use super::admission::BecomeInactive;
use super::level_states::{batch, entry_state, step_mut, subjects, top_of};
use crate::detector::Verdict;

/// The death orders that a master's register carries: one for every node that is being forced out (protocol §3.6).
#[must_use]
pub fn pills(record: &MembershipRecord, term: Term) -> Vec<Pill> {
    let marked = record.nodes.iter().filter(|(_, entry)| entry.state == NodeState::ForcedLeaving);
    let marked = marked.map(|(node, entry)| (*node, entry.incarnation));
    let ghosts = record.ghosts.iter().map(|(node, ghost)| (*node, ghost.incarnation));
    marked.chain(ghosts).map(|(target, incarnation)| Pill { target, incarnation, term }).collect()
}

impl Coordinator {
    /// Marks a member. One that is marked already only gains the proof.
    pub(super) fn force(&mut self, Verdict { victim, reason, proof }: Verdict) {
        let Some(entry) = self.draft.nodes.get(&victim.node).filter(|e| e.incarnation == victim.incarnation) else {
            return;
        };
        if matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving) {
            let (top, lowest) = (top_of(entry), entry.levels.first().copied());
            self.hold_batches_with(victim.node);
            let step = self.new_step(TransitionKind::ForcedLeaving, lowest.unwrap_or_default());
            if let Some(entry) = self.draft.nodes.get_mut(&victim.node) {
                entry.state = NodeState::ForcedLeaving;
                (entry.top, entry.step, entry.reason) = (top, Some(step), reason);
                entry.fence = FenceState { marked: true, ..FenceState::default() };
            }
            self.unreported.remove(victim.node);
        }
        if let Some(method) = proof {
            self.certain(victim, method);
        }
    }

    /// T-9: every running batch at a level where the victim takes part, or where the level knows it, is void as a whole.
    fn hold_batches_with(&mut self, victim: NodeId) {
        let levels: Vec<Level> = self.draft.levels.keys().copied().collect();
        for level in levels {
            let known = self.draft.nodes.get(&victim).map(|entry| entry_state(entry, level));
            let known = known.is_some_and(|state| state != Default::default());
            for forced in [false, true] {
                let batch = batch(&self.draft, level, forced);
                let takes_part = subjects(&self.draft)
                    .any(|(subject, step)| batch.contains(&subject) && step.participants.contains(victim));
                if !(known || takes_part) {
                    continue;
                }
                for subject in batch {
                    if let Some(step) = step_mut(&mut self.draft, subject) {
                        hold(step);
                    }
                }
            }
        }
    }

    /// A death is proved. On this kind of disk a dead node's writes cannot land late (protocol §1.3, `T_late` = 0), so both
    /// certainties come together.
    pub(super) fn certain(&mut self, victim: NodeIncarnation, method: FenceMethod) {
        let entry = self.draft.nodes.get_mut(&victim.node);
        let entry = entry.filter(|e| e.incarnation == victim.incarnation && e.state == NodeState::ForcedLeaving);
        let ghost = self.draft.ghosts.get_mut(&victim.node).filter(|ghost| ghost.incarnation == victim.incarnation);
        let fences = entry.map(|entry| &mut entry.fence).into_iter().chain(ghost.map(|ghost| &mut ghost.fence));
        for fence in fences {
            (fence.io_certain, fence.death_certain) = (true, true);
            fence.method.get_or_insert(method);
        }
    }

    /// T-18: no member of the record has a live lease. Whoever a level ever heard of becomes a ghost, which frees the entries.
    pub(super) fn form_anew(&mut self, proofs: &BTreeMap<NodeIncarnation, FenceMethod>) {
        self.draft.formation = self.committed.revision.term;
        for ghost in self.draft.ghosts.values_mut() {
            restart(&mut ghost.step);
        }
        let nodes: Vec<NodeId> = self.draft.nodes.keys().copied().collect();
        for node in nodes {
            self.entry_to_ghost(node);
        }
        for (victim, method) in proofs {
            self.certain(*victim, *method);
        }
    }

    fn entry_to_ghost(&mut self, node: NodeId) {
        let Some(entry) = self.draft.nodes.get(&node).filter(|entry| entry.state != NodeState::Inactive).cloned()
        else {
            return;
        };
        let forced = entry.state == NodeState::ForcedLeaving;
        let top = if forced { entry.top } else { top_of(&entry) };
        let frontier = match &entry.step {
            Some(step) if forced => step.level,
            Some(_) | None => entry.levels.first().copied().unwrap_or_default(),
        };
        if let Some(entry) = self.draft.nodes.get_mut(&node) {
            entry.become_inactive();
        }
        let Some(top) = top else { return }; // no level ever heard of it
        let step = self.new_step(TransitionKind::ForcedLeaving, frontier);
        let fence = if forced { entry.fence } else { FenceState { marked: true, ..FenceState::default() } };
        let reason = if forced { entry.reason } else { "the whole cluster was lost".to_owned() };
        let ghost = self.draft.ghosts.entry(node).or_insert_with(|| Victim {
            incarnation: entry.incarnation,
            top: Some(top),
            fence,
            reason,
            step,
        });
        // One ghost a node: newest incarnation, highest top, lowest frontier.
        if ghost.incarnation < entry.incarnation {
            (ghost.incarnation, ghost.fence) = (entry.incarnation, fence);
        }
        ghost.top = ghost.top.max(Some(top));
        ghost.step.level = ghost.step.level.min(frontier);
    }
}

fn hold(step: &mut Step) {
    (step.phase, step.participants) = (StepPhase::Held, NodeSet::EMPTY);
}

/// Back to `Between`; it starts again with a higher restart, so that older answers are void.
fn restart(step: &mut Step) {
    if step.phase != StepPhase::Between {
        step.restart += 1;
    }
    (step.phase, step.barrier, step.participants) = (StepPhase::Between, 0, NodeSet::EMPTY);
}
