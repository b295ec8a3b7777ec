//! Which steps may start, restart and complete now (protocol T-2, T-3, T-5, T-9, T-10, T-11, T-18, T-19).

use phalanx_messages::Level;
use phalanx_messages::membership::{Certainty, MemberEntry, MembershipRecord, NodeState, StepPhase, TransitionKind};
use phalanx_messages::set::NodeSet;

use super::level_states::{
    Subject, barriers, batch, become_inactive, is_notified, joining_at, members_at, step_mut, step_of, subjects,
    victims,
};
use super::{Coordinator, Gather, first_versions};
use crate::bugs::{self, Bug};

impl Coordinator {
    /// Does everything that the rules allow now, lowest level first.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = self.finish_unknown_victims();
            for level in self.draft.levels.keys().copied().collect::<Vec<_>>() {
                moved |= self.advance_batch(level, true) | self.advance_batch(level, false);
                moved |= self.skip_memberless_level(level);
                moved |= self.start_forced(level);
                moved |= self.start_graceful(level);
            }
            if !moved {
                break;
            }
        }
        self.forget_unused_levels();
    }

    /// T-7: a victim that no level ever heard of needs no recovery, only certainty.
    fn finish_unknown_victims(&mut self) -> bool {
        let mut moved = false;
        for entry in self.draft.nodes.values_mut() {
            if entry.state == NodeState::ForcedLeaving && entry.top.is_none() && entry.fence.io_certain {
                become_inactive(entry);
                moved = true;
            }
        }
        moved
    }

    /// T-2, T-5: the whole batch goes to its next barrier, or completes the level, when all of it is acknowledged.
    fn advance_batch(&mut self, level: Level, forced: bool) -> bool {
        let batch = batch(&self.draft, level, forced);
        if first_versions::advances_alone(forced) {
            return batch.into_iter().fold(false, |moved, subject| moved | self.advance(level, vec![subject]));
        }
        self.advance(level, batch)
    }

    fn advance(&mut self, level: Level, batch: Vec<Subject>) -> bool {
        if batch.is_empty() || !batch.iter().all(|subject| self.is_acknowledged(*subject)) {
            return false;
        }
        let count = |record: &MembershipRecord, subject: &Subject| {
            step_of(record, *subject).map_or((0, 0), |step| (step.barrier, barriers(record, level, step.kind)))
        };
        let current = batch.iter().map(|subject| count(&self.draft, subject).0).max().unwrap_or(0);
        let longest = batch.iter().map(|subject| count(&self.draft, subject).1).max().unwrap_or(0);
        for subject in batch {
            let (barrier, own) = count(&self.draft, &subject);
            if current + 1 >= longest {
                self.complete_level(subject);
            } else if barrier + 1 < own {
                // A kind with fewer barriers stays at its last one: it has nothing more to acknowledge.
                self.answers.remove(&subject);
                if let Some(step) = step_mut(&mut self.draft, subject) {
                    step.barrier += 1;
                }
            }
        }
        true
    }

    pub(super) fn is_acknowledged(&self, subject: Subject) -> bool {
        let Some(step) = step_of(&self.draft, subject).filter(|step| is_notified(&self.draft, step)) else {
            return true;
        };
        let acknowledged = self.acknowledged_by(subject);
        if bugs::active(Bug::BarrierSkipped) && step.barrier == 0 && !acknowledged.is_empty() {
            return true;
        }
        // §3.6 step 5: a participant that has not reported may still listen to an older master.
        let reported =
            step.participants.difference(&self.unreported) == step.participants || bugs::active(Bug::ReportsNotAwaited);
        reported && step.participants.is_subset(&acknowledged)
    }

    /// The subject has completed its level; it waits to enter the next one or is through.
    fn complete_level(&mut self, subject: Subject) {
        self.answers.remove(&subject);
        let Some(kind) = step_of(&self.draft, subject).map(|step| step.kind) else { return };
        match (kind, subject) {
            (TransitionKind::Joining | TransitionKind::JoinExtending, _) => self.complete_joining_level(subject),
            (TransitionKind::Leaving, _) => self.complete_leaving_level(subject),
            (TransitionKind::ForcedLeaving, Subject::Node(_)) => self.complete_recovery(subject),
            (TransitionKind::ForcedLeaving, Subject::Ghost(_)) => self.complete_ghost_recovery(subject),
        }
    }

    fn complete_joining_level(&mut self, subject: Subject) {
        let node = subject.node();
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        let Some(level) = entry.step.as_ref().map(|step| step.level) else { return };
        let extends = entry.state == NodeState::Joined;
        if entry.leave_requested {
            // T-12: between notifications only, from the highest level that has joined (I-T17).
            let highest = if extends { entry.levels.last().copied() } else { Some(level) };
            return self.begin_leaving(node, highest);
        }
        if entry.withdrawing {
            return self.begin_withdrawal(node, level);
        }
        match entry.levels.iter().copied().find(|next| *next > level).filter(|_| !extends) {
            Some(next) => self.wait_at(subject, next),
            None => (entry.state, entry.step) = (NodeState::Joined, None),
        }
    }

    fn complete_leaving_level(&mut self, subject: Subject) {
        let Some(entry) = self.draft.nodes.get_mut(&subject.node()) else { return };
        let Some(level) = entry.step.as_ref().map(|step| step.level) else { return };
        if entry.state == NodeState::Joined {
            return self.complete_withdrawal(subject.node(), level);
        }
        match entry.levels.iter().rev().copied().find(|next| *next < level) {
            Some(next) => self.wait_at(subject, next),
            None => become_inactive(entry),
        }
    }

    fn complete_recovery(&mut self, subject: Subject) {
        let Some(entry) = self.draft.nodes.get_mut(&subject.node()) else { return };
        let Some(level) = entry.step.as_ref().map(|step| step.level) else { return };
        match entry.levels.iter().copied().find(|next| *next > level && Some(*next) <= entry.top) {
            Some(next) => self.wait_at(subject, next),
            None => become_inactive(entry),
        }
    }

    fn complete_ghost_recovery(&mut self, subject: Subject) {
        let Some(ghost) = self.draft.ghosts.get(&subject.node()) else { return };
        let (level, top) = (ghost.step.level, ghost.top);
        match self.draft.levels.keys().copied().find(|next| *next > level && Some(*next) <= top) {
            Some(next) => self.wait_at(subject, next),
            None => _ = self.draft.ghosts.remove(&subject.node()),
        }
    }

    fn wait_at(&mut self, subject: Subject, level: Level) {
        if let Some(step) = step_mut(&mut self.draft, subject) {
            step.level = level;
            step.barrier = 0;
            step.phase = StepPhase::Between;
            step.participants = NodeSet::EMPTY;
        }
    }

    /// T-18: at an optional level without members there is no state to recover.
    fn skip_memberless_level(&mut self, level: Level) -> bool {
        let Some(registration) = self
            .draft
            .levels
            .get(&level)
            .filter(|registration| registration.optional)
            .filter(|_| !bugs::active(Bug::EmptyLevelNotSkipped))
        else {
            return false;
        };
        let needs = registration.needs;
        if !members_at(&self.draft, level).union(&joining_at(&self.draft, level)).is_empty() {
            return false;
        }
        let parked: Vec<Subject> = victims(&self.draft)
            .filter(|victim| {
                victim.step.level == level && victim.top.is_some_and(|top| level <= top) && victim.is_certain(needs)
            })
            .map(|victim| victim.subject)
            .collect();
        parked.iter().for_each(|subject| self.complete_level(*subject));
        !parked.is_empty()
    }

    /// T-10, T-11, T-18: all victims at this level recover together, once the last one has come and all are certain.
    fn start_forced(&mut self, level: Level) -> bool {
        if first_versions::recovers_alone() {
            return self.start_forced_alone(level);
        }
        let reaches = |top: Option<Level>| top.is_some_and(|top| level <= top);
        let concerned: Vec<_> = victims(&self.draft).filter(|victim| reaches(victim.top)).collect();
        let needs = self.draft.levels.get(&level).map_or(Certainty::Death, |registration| registration.needs);
        let (mut wave, mut blocked) = (Vec::new(), false);
        for victim in concerned {
            blocked |= victim.step.level < level; // (a) it will come here too
            if victim.step.level == level {
                blocked |= victim.step.phase == StepPhase::Notifying;
                blocked |= !victim.is_certain(needs) && !bugs::active(Bug::RecoveryBeforeProof); // (b)
                wave.push(victim.subject);
            }
        }
        let members = members_at(&self.draft, level);
        if wave.is_empty() || blocked || members.is_empty() {
            return false;
        }
        let participants = members.union(&joining_at(&self.draft, level));
        wave.iter().for_each(|subject| self.start(*subject, participants));
        true
    }

    /// T-5, T-9, T-19: all joins and leaves that wait at this level enter or restart together.
    fn start_graceful(&mut self, level: Level) -> bool {
        if !batch(&self.draft, level, false).is_empty() {
            return false;
        }
        let members = members_at(&self.draft, level);
        let entering: Vec<Subject> = subjects(&self.draft)
            .filter(|(_, step)| step.level == level && step.phase != StepPhase::Notifying)
            .filter(|(subject, _)| !self.is_gathering(*subject))
            .filter(|(_, step)| match step.kind {
                TransitionKind::Joining | TransitionKind::JoinExtending => {
                    self.join_may_enter(level, members.is_empty(), step.phase)
                }
                TransitionKind::Leaving => self.leave_may_enter(level, step.phase),
                TransitionKind::ForcedLeaving => false,
            })
            .map(|(subject, _)| subject)
            .collect();
        let participants = entering.iter().map(|subject| subject.node()).collect::<NodeSet>().union(&members);
        entering.iter().for_each(|subject| self.start(*subject, participants));
        !entering.is_empty()
    }

    /// T-19; the exception lets a join form an empty level, where the victims are parked until it has members (T-18).
    fn join_may_enter(&self, level: Level, empty: bool, phase: StepPhase) -> bool {
        let waits_for_parked = phase == StepPhase::Held && bugs::active(Bug::HeldJoinWaitsForParked);
        victims(&self.draft)
            .filter(|victim| victim.top.is_some() && victim.step.level <= level)
            .filter(|victim| victim.top >= Some(level) || !bugs::active(Bug::JoinAboveUnrecovered))
            .all(|victim| empty && victim.step.level == level && !waits_for_parked)
    }

    /// T-19: a leave beside a pending recovery would take a participant away from it.
    fn leave_may_enter(&self, level: Level, phase: StepPhase) -> bool {
        if phase == StepPhase::Between && bugs::active(Bug::LeaveBesideRecovery) {
            return true;
        }
        victims(&self.draft).all(|victim| victim.step.level > level || victim.top.is_none_or(|top| top < level))
    }

    /// A join or leave at its first level waits a moment for the others that come at the same time (T-5).
    fn is_gathering(&self, subject: Subject) -> bool {
        let first = |entry: &MemberEntry| {
            let Some(step) = entry.step.as_ref().filter(|step| step.phase == StepPhase::Between) else { return false };
            let first = if step.kind == TransitionKind::Leaving { entry.levels.last() } else { entry.levels.first() };
            first == Some(&step.level)
        };
        self.gather != Gather::Off && self.draft.nodes.get(&subject.node()).is_some_and(first)
    }

    /// Begins or restarts one step of a batch; a restart has a number of its own, so that older answers are void (T-9).
    pub(super) fn start(&mut self, subject: Subject, participants: NodeSet) {
        self.answers.remove(&subject);
        if let Some(step) = step_mut(&mut self.draft, subject) {
            step.restart += u32::from(step.phase == StepPhase::Held);
            if bugs::active(Bug::RestartNumberReset) {
                step.restart = step.restart.min(1);
            }
            step.barrier = 0;
            step.phase = StepPhase::Notifying;
            step.participants = participants;
        }
    }

    /// T-14: the registry entry of a level goes away with its last user.
    fn forget_unused_levels(&mut self) {
        let used = |level: Level| {
            let active = |state| state != NodeState::Inactive;
            self.draft.nodes.values().any(|entry| active(entry.state) && entry.levels.contains(&level))
                || self.draft.ghosts.values().any(|ghost| ghost.step.level <= level && Some(level) <= ghost.top)
        };
        let unused: Vec<Level> = self.draft.levels.keys().copied().filter(|level| !used(*level)).collect();
        for level in unused {
            self.draft.levels.remove(&level);
        }
    }
}
