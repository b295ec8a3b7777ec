//! Forced leaves begin: the mark, the hold, certainty, and the ghosts of a cold start (protocol §4.6, T-7 to T-9, T-13, T-18).

use std::collections::BTreeMap;

use phalanx_messages::limits::{PILLS_MAX, REASON_BYTES_MAX};
use phalanx_messages::membership::{
    Certainty, FenceMethod, FenceState, MemberEntry, MembershipRecord, NodeState, StepPhase, TransitionKind, Victim,
};
use phalanx_messages::register::Pill;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, NodeId, NodeIncarnation, Term};

use super::Coordinator;
use super::admission::forget_unentered;
use super::level_states::{Subject, become_inactive, entry_state, incarnation_of, step_mut, subjects, top_of, victims};
use crate::bugs::{self, Bug};
use crate::detector::Verdict;

impl Coordinator {
    /// Marks one member. Says nothing of anybody who is no member with that incarnation, nor of this node itself.
    pub(super) fn force(&mut self, verdict: Verdict) {
        let Verdict { victim, reason, proof } = verdict;
        if victim.node == self.me.node && victim.incarnation >= self.me.incarnation {
            return; // A master that is no longer fit panics; it never marks itself.
        }
        let state = self.draft.nodes.get(&victim.node).filter(|entry| entry.incarnation == victim.incarnation);
        if state.is_some_and(|entry| is_unmarked_member(entry.state)) {
            self.mark(victim.node, reason);
        }
        if let Some(method) = proof {
            self.certain(victim, method);
        }
    }

    /// One death is certain, or at least that nothing of the node takes effect any more (protocol §4.5).
    pub(super) fn certain(&mut self, victim: NodeIncarnation, method: FenceMethod) {
        let meant = |incarnation| {
            incarnation == victim.incarnation || (incarnation > victim.incarnation && bugs::active(Bug::OldDeathProves))
        };
        if let Some(ghost) = self.draft.ghosts.get_mut(&victim.node).filter(|ghost| meant(ghost.incarnation)) {
            prove(&mut ghost.fence, method);
        }
        let marked = |entry: &&mut MemberEntry| meant(entry.incarnation) && entry.state == NodeState::ForcedLeaving;
        if let Some(entry) = self.draft.nodes.get_mut(&victim.node).filter(marked) {
            prove(&mut entry.fence, method);
        }
    }

    /// The administrator's word counts as certainty, and the record keeps whose word it was. Only for a victim without a proof.
    pub(super) fn confirmed(&mut self, victim: NodeIncarnation, by: &str) {
        let NodeIncarnation { node, incarnation } = victim;
        let ghost = self.draft.ghosts.get_mut(&node).filter(|ghost| ghost.incarnation == incarnation);
        let ghost = ghost.map(|ghost| (&ghost.fence, &mut ghost.reason));
        let entry = self.draft.nodes.get_mut(&node);
        let entry = entry.filter(|entry| entry.incarnation == incarnation && entry.state == NodeState::ForcedLeaving);
        let entry = entry.map(|entry| (&entry.fence, &mut entry.reason));
        for (_, reason) in ghost.into_iter().chain(entry).filter(|(fence, _)| !fence.death_certain) {
            *reason = cut(&format!("death confirmed by {by}; forced out because: {reason}"), REASON_BYTES_MAX);
        }
        self.certain(victim, FenceMethod::Operator);
    }

    /// T-7, T-9: the commit that marks a node also holds every batch that could wait for it or not know of its loss.
    fn mark(&mut self, node: NodeId, reason: String) {
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        forget_unentered(entry);
        let top = top_of(entry);
        let lowest = entry.levels.first().copied().unwrap_or_default();
        self.hold_steps_with(node);
        let step = self.new_step(TransitionKind::ForcedLeaving, lowest);
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        entry.state = NodeState::ForcedLeaving;
        entry.step = Some(step);
        entry.top = top;
        entry.fence = FenceState { marked: true, ..FenceState::default() };
        (entry.leave_requested, entry.withdrawing) = (false, false);
        entry.reason = reason;
        self.unreported.remove(node);
    }

    fn hold_steps_with(&mut self, node: NodeId) {
        let Some(entry) = self.draft.nodes.get(&node) else { return };
        let concerned: Vec<Subject> = subjects(&self.draft)
            .filter(|(subject, step)| {
                let knows = || entry_state(entry, step.level) != phalanx_messages::membership::LevelState::Inactive;
                *subject != Subject::Node(node)
                    && step.phase == StepPhase::Notifying
                    && (step.participants.contains(node) || knows())
            })
            .map(|(subject, _)| subject)
            .collect();
        for subject in concerned {
            if bugs::active(Bug::NoHold) {
                step_mut(&mut self.draft, subject).map(|step| step.participants.remove(node));
                continue;
            }
            self.answers.remove(&subject); // What was awaited is void.
            if let Some(step) = step_mut(&mut self.draft, subject) {
                step.phase = StepPhase::Held;
                step.barrier = 0;
                step.participants = NodeSet::EMPTY;
            }
        }
    }

    /// T-18: nobody of the old cluster is left. Its entries become ghosts, which frees the entries, this node's own included.
    pub(super) fn form_anew(&mut self, proofs: &BTreeMap<NodeIncarnation, FenceMethod>) {
        self.draft.formation = self.committed.revision.term;
        if bugs::active(Bug::GhostsForgotten) {
            self.draft.ghosts.clear();
        }
        for ghost in self.draft.ghosts.values_mut().filter(|ghost| ghost.step.phase != StepPhase::Between) {
            ghost.step.phase = StepPhase::Between;
            ghost.step.barrier = 0;
            ghost.step.restart += 1;
            ghost.step.participants = NodeSet::EMPTY;
        }
        let active = |(_, entry): &(&NodeId, &MemberEntry)| entry.state != NodeState::Inactive;
        for node in self.draft.nodes.iter().filter(active).map(|(node, _)| *node).collect::<Vec<_>>() {
            self.bury(node);
        }
        if bugs::active(Bug::NoOwnGhost) {
            self.draft.ghosts.remove(&self.me.node);
        }
        let own = self.draft.ghosts.get(&self.me.node).map(|ghost| ghost.incarnation);
        for (victim, method) in proofs {
            self.certain(*victim, *method);
        }
        if let Some(incarnation) = own {
            // 3.7: this start killed and counted what was left of it.
            self.certain(NodeIncarnation { node: self.me.node, incarnation }, FenceMethod::NewIncarnation);
        }
    }

    /// Moves one entry into the ghost table, where it merges with an older ghost: newest incarnation, highest `top`, lowest
    /// frontier. An incarnation that no level ever heard of leaves nothing behind.
    fn bury(&mut self, node: NodeId) {
        let Some(entry) = self.draft.nodes.get(&node).cloned() else { return };
        let forced = entry.state == NodeState::ForcedLeaving;
        let top = if forced { entry.top } else { top_of(&entry) };
        let lowest = entry.levels.first().copied().unwrap_or_default();
        let frontier = entry.step.as_ref().filter(|_| forced).map_or(lowest, |step| step.level);
        let fence = FenceState { marked: true, ..if forced { entry.fence } else { FenceState::default() } };
        let reason = if forced { entry.reason } else { "the whole cluster went down".to_owned() };
        let older = self.draft.ghosts.remove(&node);
        let frontier = self.frontier_of_ghost(top.map(|_| frontier), older.as_ref());
        let top = top.max(older.as_ref().and_then(|ghost| ghost.top));
        if let Some((top, frontier)) = top.zip(frontier) {
            let step = self.new_step(TransitionKind::ForcedLeaving, frontier);
            let ghost = Victim { incarnation: entry.incarnation, top: Some(top), fence, reason, step };
            self.draft.ghosts.insert(node, ghost);
        }
        if let Some(entry) = self.draft.nodes.get_mut(&node) {
            entry.leave_requested = false;
            become_inactive(entry);
        }
    }

    fn frontier_of_ghost(&self, own: Option<Level>, older: Option<&Victim>) -> Option<Level> {
        [own, older.map(|ghost| ghost.step.level)].into_iter().flatten().min()
    }
}

/// As much of `text` as fits.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

fn is_unmarked_member(state: NodeState) -> bool {
    matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving)
}

fn prove(fence: &mut FenceState, method: FenceMethod) {
    let death_certain = method.proves() == Certainty::Death;
    if !fence.death_certain && (death_certain || !fence.io_certain) {
        *fence = FenceState { marked: true, io_certain: true, death_certain, method: Some(method) };
    }
}

/// The death orders that the master of `term` publishes for a committed record: one for every victim (protocol §3.6, §4.6).
/// If there are too many, those of the proved dead go first, since nobody is left to read them.
#[must_use]
pub fn pills(record: &MembershipRecord, term: Term) -> Vec<Pill> {
    let mut victims: Vec<_> = victims(record).collect();
    victims.sort_by_key(|victim| (victim.fence.death_certain, victim.subject));
    victims
        .into_iter()
        .filter_map(|victim| incarnation_of(record, victim.subject))
        .map(|NodeIncarnation { node, incarnation }| Pill { target: node, incarnation, term })
        .take(PILLS_MAX)
        .collect()
}
