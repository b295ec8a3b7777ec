//! Nodes come, leave and die, and see it of each other (protocol RL-3, RL-6, RL-8).

use phalanx_messages::registration::{Presence, RunState, Sight, View};
use phalanx_messages::{NodeId, NodeIncarnation};
use phalanx_protocol::registration::{LevelView, SightChange, Standing, is_only_member};

use super::state::{Slot, bit};
use super::steps::Steps;
use super::{Action, Variant};

/// A node starts so often at most.
const INCARNATION_MAX: u64 = 2;

impl Steps<'_, '_> {
    pub fn membership(&mut self, node: NodeId) {
        let (me, sight) = (self.truth.incarnation(node), self.truth.nodes.get(&node).map(|sight| sight.presence));
        let budget = self.from.budget;
        let sound = self.is_sound(node);
        let free = !self.truth.is_present(node) && self.agreed_on(node) && self.every_loss_is_known();
        if free && budget.boots > 0 && me.0 < INCARNATION_MAX {
            self.boot(node);
        }
        if sound && sight == Some(Presence::Joined) && budget.leaves > 0 {
            let mut state = self.with_truth(node, Sight { incarnation: me, presence: Presence::Leaving });
            state.budget.leaves -= 1;
            self.put(Action::Leaves(node), state, false, None);
        }
        if sound && sight == Some(Presence::Leaving) {
            self.end_of_leave(node);
        }
        if sound && budget.deaths > 0 {
            let mut state = self.from.clone();
            state.budget.deaths -= 1;
            state.marked |= bit(node);
            self.put(Action::Marked(node), state, false, None);
        }
        let stuck = self.facts.victims.contains(&NodeIncarnation { node, incarnation: me });
        // Asked for by whoever decides; the master never forces out the last member that is not marked (protocol T-24).
        let asked = !is_only_member(&self.facts.record.seen(), node);
        let dispensable = asked && self.nodes().any(|other| other != node && self.is_sound(other));
        if sound && stuck && dispensable {
            let mut state = self.from.clone();
            state.marked |= bit(node);
            self.put(Action::Forced(node), state, true, None);
        }
        if self.truth.is_present(node) && self.from.is_marked(node) {
            self.death(node);
        }
        if sound && self.from.behind[usize::from(node.0)] != 0 {
            self.sees(node);
        }
    }

    fn boot(&mut self, node: NodeId) {
        let incarnation = self.truth.incarnation(node).next();
        let mut state = self.with_truth(node, Sight { incarnation, presence: Presence::Joined });
        state.budget.boots -= 1;
        state.behind[usize::from(node.0)] = 0;
        let truth = self.books.view(state.truth);
        let standing = |presence| match presence {
            Presence::Joined => Standing::Joined,
            Presence::Leaving => Standing::Leaving,
            Presence::Left | Presence::Forced => Standing::Absent,
        };
        let standings = truth.nodes.iter().map(|(node, sight)| (who(*node, sight), standing(sight.presence)));
        let change =
            SightChange { joining: true, draining: false, formation: truth.formation, standings: standings.collect() };
        let mut level = LevelView::default();
        level.adopt(&change, &self.facts.record.seen());
        // The membership record tells who of those that are absent has gone; until it is read nothing more is known than before.
        let left = truth.nodes.iter().filter(|(_, sight)| sight.presence > Presence::Leaving);
        level.gone(&left.map(|(node, sight)| who(*node, sight)).collect::<Vec<_>>());
        state.views[usize::from(node.0)] = self.books.view_id(level.view().clone());
        self.put(Action::Boots(node), state, false, None);
    }

    fn sees(&mut self, node: NodeId) {
        let (place, mut state) = (usize::from(node.0), self.from.clone());
        let news = std::mem::take(&mut state.behind[place]);
        let standing = |other: NodeId, presence| match presence {
            Presence::Joined => Standing::Joined,
            Presence::Leaving => Standing::Leaving,
            Presence::Forced if news & bit(other) != 0 => Standing::Forced,
            Presence::Left | Presence::Forced => Standing::Absent,
        };
        let truth = self.truth.clone();
        let standings = truth.nodes.iter().map(|(node, sight)| (who(*node, sight), standing(*node, sight.presence)));
        let change =
            SightChange { joining: false, draining: false, formation: truth.formation, standings: standings.collect() };
        let before = self.books.view(state.views[place]);
        let mut level = level_view((*before).clone());
        level.adopt(&change, &View::default());
        if self.books.model.variant == Some(Variant::AcknowledgedWhileDeciding) {
            state.deciding[place] = Some(state.views[place]);
        }
        state.views[place] = self.books.view_id(level.view().clone());
        self.put(Action::Sees(node), state, true, None);
    }

    /// RL-6.
    fn end_of_leave(&mut self, node: NodeId) {
        let (incarnation, variant) = (self.truth.incarnation(node), self.books.model.variant);
        let own = self.from.behind[usize::from(node.0)] & bit(node) == 0;
        let known = if variant == Some(Variant::LeaveWithOneBarrier) { own } else { self.agreed_on(node) };
        let runs = |slot: &Slot| slot.may_run() || slot.running.is_some();
        let drained = if variant == Some(Variant::LeaveLooksAtProcesses) {
            !self.from.slots[usize::from(node.0)].iter().any(runs)
        } else {
            self.facts.record.is_drained(NodeIncarnation { node, incarnation })
        };
        if known && drained {
            let violation = self.books.left(self.from, node);
            let state = self.with_truth(node, Sight { incarnation, presence: Presence::Left });
            self.put(Action::HasLeft(node), state, true, violation);
        }
    }

    fn death(&mut self, node: NodeId) {
        let incarnation = self.truth.incarnation(node);
        let mut state = self.with_truth(node, Sight { incarnation, presence: Presence::Forced });
        state.marked &= !bit(node);
        state.deciding[usize::from(node.0)] = None;
        for (lane, run) in self.facts.runs.iter().enumerate() {
            let slot = self.from.slots[usize::from(node.0)][lane];
            let registered = matches!(
                run.state,
                RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop
            );
            let recoverable = self.books.lanes[lane].definition.recovery_command.is_some() && slot.service;
            let there = run.node == NodeIncarnation { node, incarnation };
            state.lost |= u8::from(recoverable && there && registered) << lane;
            state.worked |= u8::from(recoverable && slot.worked) << lane;
        }
        self.put(Action::Dead(node), state, true, None);
    }
}

fn level_view(view: View) -> LevelView {
    let change = SightChange { joining: true, draining: false, formation: view.formation, standings: Vec::new() };
    let mut level = LevelView::default();
    level.adopt(&change, &view);
    level
}

const fn who(node: NodeId, sight: &Sight) -> NodeIncarnation {
    NodeIncarnation { node, incarnation: sight.incarnation }
}
