//! The levels of a joined node come and go one at a time (protocol T-15, T-17, T-24; spec, Figs. 7a to 7c and 10).
//!
//! The node stays `Joined` all the while; only its state at that level changes, with the barriers, the participants and the
//! rules of a join or a leave. A level that leaves alone is told like any leave; those above it stay, because only what nothing
//! depends on leaves alone: a subsystem that was refused, or one that only watches.

use phalanx_messages::limits::LEVELS_MAX;
use phalanx_messages::membership::{
    LevelRegistration, MemberEntry, MembershipRecord, NodeState, StepPhase, TransitionKind,
};
use phalanx_messages::peer::LevelRefusal;
use phalanx_messages::{Level, NodeId, NodeIncarnation, Revision};

use super::admission::is_sized;
use super::{Coordinator, CoordinatorOutput};

impl Coordinator {
    pub(super) fn registration_requested(
        &mut self,
        from: NodeIncarnation,
        registration: LevelRegistration,
        seen: Revision,
        outputs: &mut Vec<CoordinatorOutput>,
    ) {
        let Some(entry) = self.entry_of(from) else {
            let refusal = LevelRefusal::NotMember;
            return outputs.push(CoordinatorOutput::RefuseLevel { to: from, registration, refusal });
        };
        if entry.levels.contains(&registration.level) && !is_going(entry) {
            self.tell_again(from, outputs); // A repetition, and the record is its answer.
        } else if let Err(refusal) = self.may_register(entry, &registration) {
            outputs.push(CoordinatorOutput::RefuseLevel { to: from, registration, refusal });
        } else if entry.state == NodeState::Joined && entry.step.is_none() && self.knows_its_levels(from.node, seen) {
            self.extend(from.node, registration);
        }
        // Else it waits for the running transition (T-4), and is repeated.
    }

    fn may_register(&self, entry: &MemberEntry, want: &LevelRegistration) -> Result<(), LevelRefusal> {
        if is_going(entry) {
            return Err(LevelRefusal::Leaving);
        }
        // The event manager is above every other level and joins at boot: whatever comes later comes below it.
        let counted = |level: &&Level| **level != Level::EVENT_MANAGER && **level > want.level;
        if let Some(highest) = entry.levels.iter().rev().find(counted).copied() {
            return Err(LevelRefusal::BelowJoined { highest });
        }
        if let Some(have) = self.mismatch(want) {
            return Err(LevelRefusal::BarrierMismatch { have: have.clone(), want: want.clone() });
        }
        let room = entry.levels.len() < LEVELS_MAX && self.has_room_for(std::slice::from_ref(want));
        if room && is_sized(want) { Ok(()) } else { Err(LevelRefusal::TooMany) }
    }

    fn extend(&mut self, node: NodeId, registration: LevelRegistration) {
        let level = registration.level;
        let step = self.new_step(TransitionKind::JoinExtending, level);
        self.draft.levels.entry(level).or_insert(registration); // T-14: the first one fixes the counts
        if let Some(entry) = self.draft.nodes.get_mut(&node) {
            entry.levels.push(level);
            entry.levels.sort_unstable();
            entry.step = Some(step);
        }
    }

    /// A level that is joining goes when it has joined (as T-12); what runs elsewhere is waited for.
    pub(super) fn withdrawal_requested(&mut self, from: NodeIncarnation, level: Level, seen: Revision) {
        let usable = |entry: &&MemberEntry| entry.state == NodeState::Joined && entry.levels.contains(&level);
        let Some(entry) = self.entry_of(from).filter(usable) else { return };
        if level.is_built_in() || !self.knows_its_levels(from.node, seen) {
            return;
        }
        match &entry.step {
            None => self.begin_withdrawal(from.node, level),
            Some(step) if step.level != level || step.kind != TransitionKind::JoinExtending => {}
            Some(step) if step.phase == StepPhase::Between => self.complete_withdrawal(from.node, level),
            Some(_) => {
                if let Some(entry) = self.draft.nodes.get_mut(&from.node) {
                    entry.withdrawing = true;
                }
            }
        }
    }

    /// Begins the leave of one level of a joined node.
    pub(super) fn begin_withdrawal(&mut self, node: NodeId, level: Level) {
        let step = self.new_step(TransitionKind::Leaving, level);
        if let Some(entry) = self.draft.nodes.get_mut(&node) {
            entry.step = Some(step);
            entry.withdrawing = false;
        }
    }

    /// The node has one level less. A leave of the node that was asked for meanwhile begins (T-12).
    pub(super) fn complete_withdrawal(&mut self, node: NodeId, level: Level) {
        let Some(entry) = self.draft.nodes.get_mut(&node) else { return };
        entry.levels.retain(|used| *used != level);
        entry.step = None;
        entry.withdrawing = false;
        if entry.leave_requested {
            self.begin_leaving_at_top(node);
        }
    }

    /// What the node asks for is meant for the levels that it has now: a late copy of a request must not undo what came after.
    fn knows_its_levels(&self, node: NodeId, seen: Revision) -> bool {
        let since = self.levels_since.get(&node).copied().unwrap_or(self.began_with);
        let levels = |record: &MembershipRecord| record.nodes.get(&node).map(|entry| entry.levels.clone());
        seen >= since && levels(&self.draft) == levels(&self.committed)
    }

    /// After a commit.
    pub(super) fn note_changed_levels(&mut self, before: &MembershipRecord) {
        for (node, entry) in &self.committed.nodes {
            if before.nodes.get(node).is_none_or(|known| known.levels != entry.levels) {
                self.levels_since.insert(*node, self.committed.revision);
            }
        }
    }

    fn entry_of(&self, who: NodeIncarnation) -> Option<&MemberEntry> {
        let out = |state| matches!(state, NodeState::Inactive | NodeState::ForcedLeaving);
        let entry = self.draft.nodes.get(&who.node)?;
        (entry.incarnation == who.incarnation && !out(entry.state)).then_some(entry)
    }
}

/// The node leaves, or will when what runs has ended.
fn is_going(entry: &MemberEntry) -> bool {
    entry.state == NodeState::Leaving || entry.leave_requested
}
