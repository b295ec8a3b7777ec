//! Joins and graceful leaves are asked for (protocol T-12, T-13, T-14).

use phalanx_messages::limits::{BARRIERS_MAX, LEVELS_MAX, NAME_BYTES_MAX};
use phalanx_messages::membership::{
    FenceMethod, LevelRegistration, MemberEntry, NodeState, Step, StepPhase, TransitionKind,
};
use phalanx_messages::peer::JoinRefusal;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, NodeId, NodeIncarnation};

use super::level_states::{become_inactive, unmarked_members};
use super::{Coordinator, CoordinatorOutput, Gather};
use crate::bugs::{self, Bug};
use crate::detector::Verdict;

/// A request to join.
pub(super) struct Request {
    pub from: NodeIncarnation,
    pub levels: Vec<LevelRegistration>,
    pub same_boot: bool,
    pub hears: NodeSet,
    pub heard: NodeSet,
    pub configured: bool,
    pub key_matches: bool,
    pub key_learnt: bool,
}

impl Coordinator {
    pub(super) fn join_requested(&mut self, request: Request, outputs: &mut Vec<CoordinatorOutput>) {
        let from = request.from;
        if let Err(refusal) = may_ask(&request) {
            outputs.push(CoordinatorOutput::Refuse { to: from, refusal });
        } else if self.is_same_incarnation(from) {
            self.tell_again(from, outputs); // The request is a repetition, and the record is its answer.
        } else if let Err(refusal) = self
            .check_quorum(from.node)
            .and_then(|()| self.old_incarnations_are_gone(from))
            .and_then(|()| self.check_levels(&request))
            .and_then(|()| self.check_links(&request))
        {
            outputs.push(CoordinatorOutput::Refuse { to: from, refusal });
        } else {
            self.admit(request);
        }
    }

    fn is_same_incarnation(&self, from: NodeIncarnation) -> bool {
        self.draft.nodes.get(&from.node).is_some_and(|entry| entry.incarnation == from.incarnation)
    }

    /// T-13: no join before the old incarnation's recovery has ended, and is committed to have ended.
    fn old_incarnations_are_gone(&mut self, from: NodeIncarnation) -> Result<(), JoinRefusal> {
        let NodeIncarnation { node, incarnation } = from;
        if bugs::active(Bug::EarlyRejoin) {
            return Ok(());
        }
        if let Some(entry) = self.draft.nodes.get(&node) {
            if incarnation < entry.incarnation {
                return Err(JoinRefusal::DuplicateId);
            }
            let victim = NodeIncarnation { node, incarnation: entry.incarnation };
            if entry.state != NodeState::Inactive {
                // 3.7 step 0: a new incarnation asks only after it has killed and counted the old one's processes.
                let proof = Some(FenceMethod::NewIncarnation);
                self.force(Verdict { victim, reason: "it was started again".to_owned(), proof });
                return Err(JoinRefusal::BusyLeaving);
            }
        }
        if let Some(ghost) = self.draft.ghosts.get(&node) {
            if incarnation <= ghost.incarnation {
                return Err(JoinRefusal::DuplicateId);
            }
            let victim = NodeIncarnation { node, incarnation: ghost.incarnation };
            self.certain(victim, FenceMethod::NewIncarnation);
            // T-18: the forming master must join first, for its own ghost's sake too.
            if node != self.me.node {
                return Err(JoinRefusal::BusyLeaving);
            }
        }
        let inactive = self.committed.nodes.get(&node).is_none_or(|entry| entry.state == NodeState::Inactive);
        let haunted = node != self.me.node && self.committed.ghosts.contains_key(&node);
        if inactive && !haunted { Ok(()) } else { Err(JoinRefusal::BusyLeaving) }
    }

    fn check_levels(&self, request: &Request) -> Result<(), JoinRefusal> {
        if let Some((have, want)) = request.levels.iter().find_map(|want| Some((self.mismatch(want)?, want))) {
            return Err(JoinRefusal::BarrierMismatch { have: have.clone(), want: want.clone() });
        }
        if self.has_room_for(&request.levels) { Ok(()) } else { Err(JoinRefusal::LevelOrder) }
    }

    /// What the cluster has at that level, if it is something else (T-14, I-T12).
    pub(super) fn mismatch(&self, want: &LevelRegistration) -> Option<&LevelRegistration> {
        let differs = |have: &&LevelRegistration| have.barriers != want.barriers || have.name != want.name;
        self.draft.levels.get(&want.level).filter(differs)
    }

    /// The registry of the cluster's levels has room for these too.
    pub(super) fn has_room_for(&self, levels: &[LevelRegistration]) -> bool {
        let new = levels.iter().filter(|want| !self.draft.levels.contains_key(&want.level)).count();
        self.draft.levels.len() + new <= LEVELS_MAX
    }

    fn check_links(&self, request: &Request) -> Result<(), JoinRefusal> {
        let joiner: NodeSet = [request.from.node].into_iter().collect();
        let mut missing = unmarked_members(&self.draft).difference(&joiner).difference(&request.hears);
        if request.from.node != self.me.node && !request.heard.contains(request.from.node) {
            missing.insert(self.me.node);
        }
        if missing.is_empty() { Ok(()) } else { Err(JoinRefusal::NotFullyConnected { missing }) }
    }

    fn admit(&mut self, request: Request) {
        let NodeIncarnation { node, incarnation } = request.from;
        let levels: Vec<_> = request.levels.iter().map(|registration| registration.level).collect();
        let Some(lowest) = levels.first() else { return }; // `may_ask` refuses it
        self.reconfigure |= request.key_learnt;
        let step = Some(self.new_step(TransitionKind::Joining, *lowest));
        for registration in request.levels {
            self.draft.levels.entry(registration.level).or_insert(registration); // T-14: the first one fixes the counts
        }
        let entry = MemberEntry { incarnation, state: NodeState::Joining, step, levels, ..MemberEntry::default() };
        self.draft.nodes.insert(node, entry);
        if !self.draft.nodes.values().any(|entry| entry.state == NodeState::Joined) {
            self.begin_gathering();
        }
    }

    fn begin_gathering(&mut self) {
        if self.gather == Gather::Off && self.gather_ms > 0 {
            self.gather = self.now.map_or(Gather::Begun, |now| Gather::Until(now.plus(self.gather_ms)));
        }
    }

    pub(super) fn leave_requested(&mut self, who: NodeIncarnation, outputs: &mut Vec<CoordinatorOutput>) {
        let Some(entry) = self.draft.nodes.get(&who.node).filter(|entry| entry.incarnation == who.incarnation) else {
            return; // Nothing to leave.
        };
        match entry.state {
            NodeState::Joined if entry.step.is_none() => self.begin_leaving_at_top(who.node),
            NodeState::Joined | NodeState::Joining => self.reverse(who.node),
            NodeState::Leaving | NodeState::Inactive | NodeState::ForcedLeaving => self.tell_again(who, outputs),
        }
    }

    pub(super) fn begin_leaving_at_top(&mut self, node: NodeId) {
        let highest = self.draft.nodes.get(&node).and_then(|entry| entry.levels.last().copied());
        self.begin_gathering();
        self.begin_leaving(node, highest);
    }

    /// T-12: a join, or a joined node's level that comes or goes, that is being processed reverses when its level is complete,
    /// one between levels at once.
    fn reverse(&mut self, node: NodeId) {
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        entry.leave_requested = true;
        let Some(step) = entry.step.as_ref().filter(|step| step.phase == StepPhase::Between) else { return };
        let below = entry.levels.iter().rev().copied().find(|level| *level < step.level);
        match step.kind {
            TransitionKind::Leaving => self.begin_leaving_at_top(node),
            TransitionKind::JoinExtending => {
                forget_unentered(entry);
                let highest = entry.levels.last().copied();
                self.begin_leaving(node, highest);
            }
            TransitionKind::Joining | TransitionKind::ForcedLeaving => self.begin_leaving(node, below),
        }
    }

    /// Begins a graceful leave at `level`, or ends it if there is none. The entry keeps `leave_requested`, which tells the
    /// node itself later that its `Inactive` is what it asked for.
    pub(super) fn begin_leaving(&mut self, node: NodeId, level: Option<Level>) {
        let step = level.map(|level| self.new_step(TransitionKind::Leaving, level));
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        (entry.leave_requested, entry.withdrawing) = (true, false);
        match step {
            Some(step) => (entry.state, entry.step) = (NodeState::Leaving, Some(step)),
            None => become_inactive(entry),
        }
    }
}

/// A level whose registration at run time has not entered it is one that nobody was told of.
pub(super) fn forget_unentered(entry: &mut MemberEntry) {
    let waits = |step: &&Step| step.kind == TransitionKind::JoinExtending && step.phase == StepPhase::Between;
    if let Some(level) = entry.step.as_ref().filter(waits).map(|step| step.level) {
        entry.levels.retain(|used| *used != level);
    }
}

/// Names and barrier counts are within the limits.
pub(super) fn is_sized(registration: &LevelRegistration) -> bool {
    let barriers = registration.barriers;
    let counts = [barriers.joining, barriers.leaving, barriers.forced_leaving];
    // A level that hears nothing of a join does not know who leaves (spec, Table 1).
    let counted = counts.into_iter().all(|count| (1..=BARRIERS_MAX).contains(&count));
    registration.name.len() <= NAME_BYTES_MAX && counted
}

/// What can be refused without looking at the record.
fn may_ask(request: &Request) -> Result<(), JoinRefusal> {
    let ascending = request.levels.windows(2).all(|pair| pair[0].level < pair[1].level);
    let sized = (1..=LEVELS_MAX).contains(&request.levels.len()) && request.levels.iter().all(is_sized);
    if !request.configured {
        Err(JoinRefusal::NotConfigured)
    } else if !request.key_matches {
        Err(JoinRefusal::KeyMismatch)
    } else if !request.same_boot {
        Err(JoinRefusal::OtherHost)
    } else if !(ascending && sized) {
        Err(JoinRefusal::LevelOrder)
    } else {
        Ok(())
    }
}
