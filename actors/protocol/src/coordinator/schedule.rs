//! Which steps run: batches enter levels, advance barrier by barrier, and complete levels (protocol T-2, T-3, T-5, T-7, T-9 to
//! T-11, T-18, T-19).

use phalanx_messages::membership::{MembershipRecord, NodeState, StepPhase, TransitionKind};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, NodeId};

use super::admission::BecomeInactive;
use super::level_states::{
    Subject, VictimView, barriers, batch, joining_at, members_at, step_mut, step_of, subjects, victims,
};
use super::{Coordinator, Gather};
use crate::bugs::{self, Bug};

impl Coordinator {
    /// Carries every transition as far as it may go now.
    pub(super) fn settle(&mut self) {
        while self.complete_barriers() || self.pass_victims() || self.enter_levels() {}
        self.forget_unused_levels();
    }

    fn registered_levels(&self) -> Vec<Level> {
        self.draft.levels.keys().copied().collect()
    }

    /// T-2, T-5: barrier b+1, or the next level, after every participant acknowledged b for the whole batch.
    fn complete_barriers(&mut self) -> bool {
        let mut changed = false;
        for level in self.registered_levels() {
            for forced in [false, true] {
                let batch = batch(&self.draft, level, forced);
                if !batch.is_empty() && self.is_acknowledged(&batch) {
                    self.complete_barrier(level, &batch);
                    changed = true;
                }
            }
        }
        changed
    }

    /// True if the batch's barrier is committed and nobody is awaited at it, not even a report to a new master (§3.6).
    fn is_acknowledged(&self, batch: &[Subject]) -> bool {
        batch.iter().all(|subject| {
            let (Some(step), Some(told)) = (step_of(&self.draft, *subject), step_of(&self.committed, *subject)) else {
                return false;
            };
            if step.notification() != told.notification() || told.phase != StepPhase::Notifying {
                return false;
            }
            if bugs::active(Bug::BarrierSkipped) {
                return true;
            }
            let reported = told.participants.difference(&self.unreported) == told.participants;
            reported && self.awaited(*subject).is_empty()
        })
    }

    fn complete_barrier(&mut self, level: Level, batch: &[Subject]) {
        let barrier = batch.iter().filter_map(|subject| step_of(&self.draft, *subject)).map(|step| step.barrier).max();
        let next = barrier.unwrap_or(0) + 1;
        if next < self.barriers_of(level, batch) {
            for subject in batch {
                if let Some(step) = step_mut(&mut self.draft, *subject) {
                    step.barrier = next;
                }
            }
        } else {
            // All transitions of a batch complete the level in one commit (I-T22).
            batch.iter().for_each(|subject| self.complete_level(*subject, level));
        }
    }

    /// Barriers of a batch: those of its kind that has most.
    fn barriers_of(&self, level: Level, batch: &[Subject]) -> u8 {
        let kinds = batch.iter().filter_map(|subject| step_of(&self.draft, *subject)).map(|step| step.kind);
        kinds.map(|kind| barriers(&self.draft, level, kind)).max().unwrap_or(0)
    }

    fn complete_level(&mut self, subject: Subject, level: Level) {
        let Some(kind) = step_of(&self.draft, subject).map(|step| step.kind) else { return };
        match (kind, subject) {
            (TransitionKind::Joining | TransitionKind::JoinExtending, Subject::Node(node)) => {
                self.joined_level(node, level)
            }
            (TransitionKind::Leaving, Subject::Node(node)) => self.left_level(node, level),
            (TransitionKind::ForcedLeaving, _) => self.recovered_level(subject, level),
            (TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::Leaving, Subject::Ghost(_)) => {}
        }
    }

    fn joined_level(&mut self, node: NodeId, level: Level) {
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        if entry.leave_requested {
            self.begin_leaving(node, Some(level)); // T-12
            return;
        }
        let next = entry.levels.iter().copied().find(|next| *next > level);
        match (next, &mut entry.step) {
            (Some(next), Some(step)) => wait_for(step, next),
            (None, _) => (entry.state, entry.step) = (NodeState::Joined, None),
            (Some(_), None) => {}
        }
    }

    fn left_level(&mut self, node: NodeId, level: Level) {
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        let next = entry.levels.iter().rev().copied().find(|next| *next < level);
        match (next, &mut entry.step) {
            (Some(next), Some(step)) => wait_for(step, next),
            (None, _) => entry.become_inactive(),
            (Some(_), None) => {}
        }
    }

    /// T-7: through `top` and no further.
    fn recovered_level(&mut self, subject: Subject, level: Level) {
        let top = victims(&self.draft).find(|victim| victim.subject == subject).and_then(|victim| victim.top);
        let next = self.draft.levels.keys().copied().find(|next| *next > level && Some(*next) <= top);
        match (next, step_mut(&mut self.draft, subject)) {
            (Some(next), Some(step)) => wait_for(step, next),
            (None, _) => self.end_victim(subject),
            (Some(_), None) => {}
        }
    }

    fn end_victim(&mut self, subject: Subject) {
        match subject {
            Subject::Node(node) => {
                if let Some(entry) = self.draft.nodes.get_mut(&node) {
                    entry.leave_requested = false; // it did not leave: it was lost
                    entry.become_inactive();
                }
            }
            Subject::Ghost(node) => drop(self.draft.ghosts.remove(&node)),
        }
    }

    /// Victims that need no notification: no level ever heard of them (T-7), or nobody is left at an optional one (T-18).
    fn pass_victims(&mut self) -> bool {
        let passes = |victim: &VictimView<'_>| {
            let level = victim.step.level;
            let Some(top) = victim.top else { return victim.fence.io_certain };
            match self.draft.levels.get(&level) {
                None => level <= top,
                Some(registration) => {
                    registration.optional
                        && victim.is_certain(registration.needs)
                        && victim.step.phase != StepPhase::Notifying
                        && members_at(&self.draft, level).union(&joining_at(&self.draft, level)).is_empty()
                }
            }
        };
        let passing: Vec<_> = victims(&self.draft).filter(passes).map(|v| (v.subject, v.step.level, v.top)).collect();
        for (subject, level, top) in &passing {
            match top {
                None => self.end_victim(*subject),
                Some(_) => self.recovered_level(*subject, *level),
            }
        }
        !passing.is_empty()
    }

    fn enter_levels(&mut self) -> bool {
        let mut changed = false;
        for level in self.registered_levels() {
            changed |= self.enter_graceful(level);
            changed |= self.enter_forced(level);
        }
        changed
    }

    /// T-5, T-19: all graceful steps that wait or are held at the level enter it together.
    fn enter_graceful(&mut self, level: Level) -> bool {
        if !batch(&self.draft, level, false).is_empty() {
            return false;
        }
        let waiting: Vec<Subject> = subjects(&self.draft)
            .filter(|(_, step)| step.level == level && step.phase != StepPhase::Notifying)
            .filter(|(_, step)| match step.kind {
                TransitionKind::Joining | TransitionKind::JoinExtending => {
                    self.gather == Gather::Off && may_join(&self.draft, level)
                }
                TransitionKind::Leaving => may_leave(&self.draft, level),
                TransitionKind::ForcedLeaving => false,
            })
            .map(|(subject, _)| subject)
            .collect();
        let nodes: NodeSet = waiting.iter().map(|subject| subject.node()).collect();
        let participants = members_at(&self.draft, level).union(&nodes);
        self.start(&waiting, participants);
        !waiting.is_empty()
    }

    /// T-10, T-11: all victims whose frontier is the level run as one wave, once nobody is behind and all are certain.
    fn enter_forced(&mut self, level: Level) -> bool {
        let Some(needs) = self.draft.levels.get(&level).map(|registration| registration.needs) else { return false };
        let behind = |victim: &VictimView<'_>| victim.top >= Some(level) && victim.step.level < level;
        let here = |victim: &VictimView<'_>| victim.top.is_some() && victim.step.level == level;
        if victims(&self.draft).any(|victim| behind(&victim)) {
            return false;
        }
        let wave: Vec<_> = victims(&self.draft).filter(here).collect();
        let proved = |victim: &VictimView<'_>| victim.is_certain(needs) || bugs::active(Bug::RecoveryBeforeProof);
        let runs = |victim: &VictimView<'_>| victim.step.phase == StepPhase::Notifying;
        let members = members_at(&self.draft, level);
        if wave.is_empty() || members.is_empty() || wave.iter().any(|victim| runs(victim) || !proved(victim)) {
            return false;
        }
        let wave: Vec<Subject> = wave.iter().map(|victim| victim.subject).collect();
        let participants = members.union(&joining_at(&self.draft, level));
        self.start(&wave, participants);
        true
    }

    fn start(&mut self, batch: &[Subject], participants: NodeSet) {
        for subject in batch {
            if let Some(step) = step_mut(&mut self.draft, *subject) {
                // T-9: a held step begins again; answers to what it was are void.
                step.restart += u32::from(step.phase == StepPhase::Held);
                (step.phase, step.barrier, step.participants) = (StepPhase::Notifying, 0, participants);
            }
        }
        let silent = |level| batch.iter().filter_map(|s| step_of(&self.draft, *s)).all(|s| s.level == level);
        let level = batch.first().and_then(|subject| step_of(&self.draft, *subject)).map(|step| step.level);
        if let Some(level) = level.filter(|level| silent(*level) && self.barriers_of(*level, batch) == 0) {
            // Nobody is notified of these kinds here, so there is nothing to wait for.
            batch.iter().for_each(|subject| self.complete_level(*subject, level));
        }
    }

    /// T-14: a level's entry goes away with the last node that uses it.
    fn forget_unused_levels(&mut self) {
        let MembershipRecord { nodes, ghosts, levels, .. } = &mut self.draft;
        levels.retain(|level, _| {
            let used = nodes.values().any(|entry| entry.state != NodeState::Inactive && entry.levels.contains(level));
            used || ghosts.values().any(|ghost| ghost.top >= Some(*level))
        });
    }
}

fn wait_for(step: &mut phalanx_messages::membership::Step, level: Level) {
    (step.level, step.barrier, step.phase, step.participants) = (level, 0, StepPhase::Between, NodeSet::EMPTY);
}

/// T-19 for joins.
fn may_join(record: &MembershipRecord, level: Level) -> bool {
    let mut pending = victims(record).filter(|victim| victim.top.is_some() && victim.step.level <= level).peekable();
    if pending.peek().is_none() {
        return true;
    }
    // T-18: an empty level is formed first; its parked victims are recovered by those who form it.
    members_at(record, level).is_empty() && pending.all(|victim| victim.step.level == level)
}

/// T-19 for leaves.
fn may_leave(record: &MembershipRecord, level: Level) -> bool {
    !victims(record).any(|victim| victim.step.level <= level && Some(level) <= victim.top)
}
