//! Every step that the world can make from one state: those of decisions here, the others in `membership` and `commands`.

use std::sync::Arc;

use phalanx_messages::registration::{Presence, RunState, Sight, View};
use phalanx_messages::service::TransferCost;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};
use phalanx_protocol::bugs::Bug;

use super::decisions::{Books, Facts, Happened};
use super::state::{Keeps, Late, Life, Op, Slot, State, ViewId, bit};
use super::{Action, Variant};

/// One step and what comes of it.
pub struct Step {
    pub action: Action,
    pub state: State,
    /// It is neither a fault nor a request nor a change of membership: it must not go on for ever, and something waits for it.
    pub must: bool,
    pub violation: Option<String>,
}

/// All steps from one state.
pub struct Steps<'a, 'b> {
    pub books: &'a mut Books<'b>,
    pub from: &'a State,
    pub truth: Arc<View>,
    pub facts: Arc<Facts>,
    steps: Vec<Step>,
}

impl Books<'_> {
    pub fn steps(&mut self, from: &State) -> Vec<Step> {
        let (truth, facts) = (self.view(from.truth), self.facts(from.database));
        let mut steps = Steps { books: self, from, truth, facts, steps: Vec::new() };
        for node in (0..steps.books.model.nodes).map(NodeId) {
            steps.membership(node);
            steps.executors(node);
        }
        steps.decisions();
        steps.steps
    }

    const fn keeps(&self) -> Keeps {
        let bug = self.model.bug;
        let operations = matches!(bug, Some(Bug::OperationsOutOfOrder))
            || matches!(self.model.variant, Some(Variant::WardenForgets));
        Keeps {
            operations,
            incarnations: matches!(bug, Some(Bug::CommandsForAnyIncarnation)),
            results: matches!(bug, Some(Bug::ResultsOfAnyOperation)),
        }
    }
}

impl Steps<'_, '_> {
    pub fn put(&mut self, action: Action, mut state: State, must: bool, violation: Option<String>) {
        let keeps = self.books.keeps();
        let truth = self.books.view(state.truth);
        for node in 0..self.books.model.nodes {
            let present = truth.is_present(NodeId(node)).then(|| small(truth.incarnation(NodeId(node))));
            let slots = state.slots[usize::from(node)].iter_mut().take(self.books.lanes.len());
            slots.filter(|slot| **slot != Slot::default()).for_each(|slot| slot.prune(Life { present }, keeps));
        }
        if state != *self.from || violation.is_some() {
            self.steps.push(Step { action, state, must, violation });
        }
    }

    pub fn is_sound(&self, node: NodeId) -> bool {
        self.truth.is_present(node) && !self.from.is_marked(node)
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.books.model.nodes).map(NodeId)
    }

    /// Everybody at the level has acknowledged what is true of `node`.
    pub fn agreed_on(&self, node: NodeId) -> bool {
        let knows = |other: NodeId| self.is_sound(other) && self.from.behind[usize::from(other.0)] & bit(node) == 0;
        self.nodes().all(|other| !self.truth.is_present(other) || knows(other))
    }

    /// No forced step at the level is still to be acknowledged: a join waits for those (protocol T-13, T-19).
    pub fn every_loss_is_known(&self) -> bool {
        let lost = |(_, sight): &(&NodeId, &Sight)| sight.presence == Presence::Forced;
        let lost = self.truth.nodes.iter().filter(lost).fold(0, |bits, (node, _)| bits | bit(*node));
        let present = |other: &NodeId| self.truth.is_present(*other);
        self.nodes().filter(present).all(|other| self.from.behind[usize::from(other.0)] & lost == 0)
    }

    /// The same world with another truth about one node.
    pub fn with_truth(&mut self, node: NodeId, sight: Sight) -> State {
        let mut truth = (*self.truth).clone();
        if sight.presence == Presence::Joined && !self.nodes().any(|other| truth.is_present(other)) {
            truth.formation = truth.formation.next();
        }
        truth.nodes.insert(node, sight);
        let mut state = self.from.clone();
        for other in self.nodes().filter(|other| truth.is_present(*other)) {
            state.behind[usize::from(other.0)] |= bit(node);
        }
        state.truth = self.books.view_id(truth);
        state
    }

    /// Each view that somebody may decide with: those of sound nodes first.
    fn decisions(&mut self) {
        let present = |node: &NodeId| self.truth.is_present(*node);
        let (sound, marked): (Vec<_>, Vec<_>) = self.nodes().filter(present).partition(|node| self.is_sound(*node));
        let mut known: Vec<ViewId> = Vec::new();
        for node in sound.into_iter().chain(marked) {
            let must = self.is_sound(node);
            if let Some(view) = self.from.deciding[usize::from(node.0)] {
                let view = self.books.merged(view, self.from.database);
                self.decides(node, view, (Happened::Nothing, false), true);
            }
            let view = self.books.merged(self.from.views[usize::from(node.0)], self.from.database);
            if !known.contains(&view) {
                known.push(view);
                for (event, must_happen) in self.events() {
                    self.decides(node, view, (event, must && must_happen), false);
                }
            }
        }
    }

    fn decides(&mut self, node: NodeId, view: ViewId, (event, must): (Happened, bool), late: bool) {
        let outcome = self.books.decide(self.from.database, view, event);
        if outcome.after == self.from.database && outcome.superseded == 0 && outcome.violation.is_none() && !late {
            return;
        }
        let mut state = self.from.clone();
        state.database = outcome.after;
        state.lost &= !outcome.forgiven;
        state.worked &= !outcome.forgiven;
        if late {
            state.deciding[usize::from(node.0)] = None;
        }
        for lane in (0..self.books.lanes.len()).filter(|lane| outcome.superseded & 1 << lane != 0) {
            self.nodes().for_each(|node| state.slot(node, lane).supersede());
        }
        for (lane, command) in &outcome.withdrawn {
            let superseded = outcome.superseded & 1 << lane != 0;
            let op = if superseded { Op::NEWLY_OLD } else { Op::CURRENT };
            let incarnation = small(command.target.incarnation);
            let slot = state.slot(command.target.node, *lane);
            if op > slot.warden.last || self.books.keeps().operations {
                slot.send_late(Late { op, kind: command.kind, incarnation });
            }
        }
        match event {
            Happened::TimedOut(_) => state.budget.timeouts -= 1,
            Happened::Order(_) => state.budget.orders -= 1,
            Happened::Failed(_) => state.budget.service_failures -= 1,
            Happened::Nothing
            | Happened::Result { .. }
            | Happened::Results { .. }
            | Happened::Notified(..)
            | Happened::Matured(_)
            | Happened::BackoffOver(_)
            | Happened::CleanAgain(_)
            | Happened::RestOver(_)
            | Happened::FailureAged(..)
            | Happened::FailuresForgotten(_)
            | Happened::Stable(..) => {}
        }
        let violation = outcome.violation.clone().or_else(|| self.books.committed(self.from, &outcome));
        self.put(Action::Decides { node, event, late }, state, must, violation);
    }

    /// What can be decided on, and whether somebody must in the end.
    fn events(&self) -> Vec<(Happened, bool)> {
        let mut events = vec![(Happened::Nothing, true)];
        for lane in 0..self.books.lanes.len() {
            self.events_of(lane, &mut events);
        }
        events.extend(self.all_results());
        let orders = if self.from.budget.orders > 0 { self.books.model.orders.len() } else { 0 };
        events.extend((0..orders).map(|order| (Happened::Order(place(order)), false)));
        events
    }

    /// One commit takes all queued events (protocol §6.1).
    fn all_results(&self) -> Option<(Happened, bool)> {
        let (mut lanes, mut ok) = (0_u8, 0);
        for (lane, command) in self.facts.outstanding.iter().enumerate() {
            let Some(command) = command else { continue };
            let slot = &self.from.slots[usize::from(command.target.node.0)][lane];
            let result = slot.executor.result.filter(|_| slot.executor.last == Op::CURRENT).or(slot.posthumous);
            lanes |= u8::from(result.is_some()) << lane;
            ok |= u8::from(result == Some(true)) << lane;
        }
        (lanes.count_ones() > 1).then_some((Happened::Results { lanes, ok }, true))
    }

    fn events_of(&self, at: usize, events: &mut Vec<(Happened, bool)>) {
        let (run, lane, budget) = (&self.facts.runs[at], place(at), self.from.budget);
        let slot = |node: NodeId| &self.from.slots[usize::from(node.0)][at];
        if let Some(command) = &self.facts.outstanding[at] {
            let there = slot(command.target.node);
            let alive = self.truth.incarnation(command.target.node);
            let said = |result: Option<bool>, from: Incarnation, current: bool| {
                let from = NodeIncarnation { node: command.target.node, incarnation: from };
                result.map(|ok| (Happened::Result { lane, from, current, ok }, true))
            };
            let current = there.executor.last == Op::CURRENT;
            events.extend(said(there.executor.result, alive, current));
            events.extend(said(there.posthumous, command.target.incarnation, true));
            if budget.timeouts > 0 {
                events.push((Happened::TimedOut(lane), false));
            }
        }
        for node in run.notifying.iter() {
            let there = NodeIncarnation { node, incarnation: self.truth.incarnation(node) };
            if self.truth.is_present(node) && run.notified.get(&node) == Some(&there.incarnation) {
                events.push((Happened::Notified(lane, node), true));
            }
        }
        self.timers(at, events);
        if run.state == RunState::Registered && budget.service_failures > 0 {
            events.push((Happened::Failed(lane), false));
        }
    }

    /// Timers, at any time their guards allow.
    fn timers(&self, at: usize, events: &mut Vec<(Happened, bool)>) {
        let (run, lane) = (&self.facts.runs[at], place(at));
        let definition = &self.books.lanes[at].definition;
        let mut fires = |event: Happened| events.push((event, true));
        if run.state == RunState::AwaitMaturity && definition.maturity_time_ms.is_some() {
            fires(Happened::Matured(lane));
        }
        if run.state == RunState::Failed {
            fires(Happened::BackoffOver(lane));
        }
        if run.state.is_fence() {
            fires(Happened::CleanAgain(lane));
        }
        if run.resting {
            fires(Happened::RestOver(lane));
        }
        (0..run.restarts.len()).for_each(|failure| fires(Happened::FailureAged(lane, place(failure))));
        if run.state == RunState::Registered && !run.exhausted.is_empty() {
            fires(Happened::FailuresForgotten(lane));
        }
        if run.state == RunState::Registered && definition.transfer_cost == TransferCost::Free {
            let up = self.truth.up().map(|node| NodeIncarnation { node, incarnation: self.truth.incarnation(node) });
            up.for_each(|node| fires(Happened::Stable(lane, node)));
        }
    }
}

pub fn small(incarnation: Incarnation) -> u8 {
    u8::try_from(incarnation.0).unwrap_or(u8::MAX)
}

pub fn place(at: usize) -> u8 {
    u8::try_from(at).unwrap_or(u8::MAX)
}
