//! Every step that the world can make from one state.

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{
    Command, CommandKind, Instance, OperationResult, Order, Presence, RunState, Sight, View,
};
use phalanx_messages::service::{ServiceDefinition, TransferCost};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, OperationId, Revision, Term};
use phalanx_protocol::bugs::{self, Bug};
use phalanx_protocol::registration::{
    Admission, Executor, ExecutorInput, ExecutorOutput, LevelView, SightChange, Standing, is_only_member,
};

use super::decisions::{Books, Facts, Happened};
use super::state::{Keeps, Late, Life, Memory, Op, Slot, State, ViewId, bit};
use super::{Action, Variant};

/// A node starts so often at most.
const INCARNATION_MAX: u64 = 2;

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
    books: &'a mut Books<'b>,
    from: &'a State,
    truth: std::sync::Arc<View>,
    facts: std::sync::Arc<Facts>,
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
    fn put(&mut self, action: Action, mut state: State, must: bool, violation: Option<String>) {
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

    fn is_sound(&self, node: NodeId) -> bool {
        self.truth.is_present(node) && !self.from.is_marked(node)
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.books.model.nodes).map(NodeId)
    }

    /// Everybody at the level has acknowledged what is true of `node`.
    fn agreed_on(&self, node: NodeId) -> bool {
        let knows = |other: NodeId| self.is_sound(other) && self.from.behind[usize::from(other.0)] & bit(node) == 0;
        self.nodes().all(|other| !self.truth.is_present(other) || knows(other))
    }

    /// No forced step at the level is still to be acknowledged: a join waits for those (protocol T-13, T-19).
    fn every_loss_is_known(&self) -> bool {
        let lost = |(_, sight): &(&NodeId, &Sight)| sight.presence == Presence::Forced;
        let lost = self.truth.nodes.iter().filter(lost).fold(0, |bits, (node, _)| bits | bit(*node));
        let present = |other: &NodeId| self.truth.is_present(*other);
        self.nodes().filter(present).all(|other| self.from.behind[usize::from(other.0)] & lost == 0)
    }

    /// The same world with another truth about one node.
    fn with_truth(&mut self, node: NodeId, sight: Sight) -> State {
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

    fn membership(&mut self, node: NodeId) {
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

    fn executors(&mut self, node: NodeId) {
        if !self.truth.is_present(node) {
            return;
        }
        for lane in 0..self.books.lanes.len() {
            let slot = self.from.slots[usize::from(node.0)][lane];
            let current = self.facts.outstanding[lane].clone().filter(|command| command.target.node == node);
            if let Some(command) = current {
                self.arrives(node, lane, &command, Op::CURRENT);
            }
            for late in slot.late.into_iter().flatten() {
                let command = self.late_command(node, lane, late);
                self.arrives(node, lane, &command, late.op);
            }
            if let Some(kind) = slot.running {
                self.ends(node, lane, kind);
            }
        }
        let knows = self.from.slots[usize::from(node.0)].iter().any(|slot| slot.executor.last != Op::NONE);
        if self.from.budget.restarts > 0 && knows {
            let mut state = self.from.clone();
            state.budget.restarts -= 1;
            let forgets = self.books.model.variant == Some(Variant::WardenForgets);
            for slot in &mut state.slots[usize::from(node.0)] {
                slot.executor = Memory::default();
                if forgets {
                    (slot.warden, slot.running) = (Memory::default(), None);
                }
            }
            self.put(Action::Restarts(node), state, false, None);
        }
    }

    fn late_command(&self, node: NodeId, lane: usize, late: Late) -> Command {
        let target = NodeIncarnation { node, incarnation: Incarnation(u64::from(late.incarnation)) };
        let operation = operation(late.op);
        let instance = self.books.lanes[lane].instance.clone();
        Command { instance, operation, kind: late.kind, target, victim: None, generation: operation }
    }

    fn arrives(&mut self, node: NodeId, lane: usize, command: &Command, op: Op) {
        let me = NodeIncarnation { node, incarnation: self.truth.incarnation(node) };
        let mut admission = Admission::new(me);
        admission.accept(true);
        if !admission.admit(Term(1), command) {
            return;
        }
        let mut state = self.from.clone();
        if deliver(state.slot(node, lane), op, command.kind) {
            let (late, kind) = (op != Op::CURRENT || self.facts.outstanding[lane].is_none(), command.kind);
            let lane = place(lane);
            self.put(Action::Arrives { node, lane, kind, late }, state, !late, None);
        }
    }

    fn ends(&mut self, node: NodeId, lane: usize, kind: CommandKind) {
        let name = &self.books.lanes[lane].instance.service;
        let broken = self.books.model.broken.iter().any(|(service, on)| service == name && *on == node.0);
        let breaks = broken && kind == CommandKind::Start;
        if breaks {
            return self.ended(node, lane, kind, false, self.from.clone(), true);
        }
        let mut well = self.from.clone();
        if kind == CommandKind::Recovery {
            well.lost &= !(1 << lane);
            well.worked &= !(1 << lane);
        }
        self.ended(node, lane, kind, true, well, true);
        let mut state = self.from.clone();
        let left = match kind {
            CommandKind::Start => &mut state.budget.start_failures,
            CommandKind::Stop => &mut state.budget.stop_failures,
            CommandKind::Recovery => &mut state.budget.recovery_failures,
            CommandKind::Kill | CommandKind::Notify => &mut state.budget.kill_failures,
        };
        if *left > 0 {
            *left -= 1;
            self.ended(node, lane, kind, false, state, false);
        }
    }

    fn ended(&mut self, node: NodeId, lane: usize, kind: CommandKind, ok: bool, mut state: State, must: bool) {
        let strict = self.books.model.strict_starts;
        let slot = state.slot(node, lane);
        slot.running = None;
        slot.warden.result = Some(ok);
        match kind {
            // What a failed command leaves runs on.
            CommandKind::Start => slot.worked |= ok && strict,
            CommandKind::Stop | CommandKind::Kill if ok => (slot.service, slot.worked) = (false, false),
            CommandKind::Recovery if ok => slot.recovery = false,
            CommandKind::Stop | CommandKind::Kill | CommandKind::Recovery | CommandKind::Notify => {}
        }
        slot.recovery &= !(ok && kind == CommandKind::Kill);
        let told = result(slot.warden.last, ok);
        let outputs = executor(slot.executor).step(ExecutorInput::Finished(told));
        if outputs.iter().any(|output| matches!(output, ExecutorOutput::Report(_))) {
            slot.executor.result = Some(ok);
        }
        let lane = place(lane);
        self.put(Action::Ends { node, lane, kind, ok }, state, must, None);
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

/// The production executor decides whether the command is taken, the warden whether it runs. True if anything has changed.
fn deliver(slot: &mut Slot, op: Op, kind: CommandKind) -> bool {
    let outputs = executor(slot.executor).step(ExecutorInput::Ordered(Box::new(order(op, kind))));
    if !outputs.iter().any(|output| matches!(output, ExecutorOutput::Run(_))) {
        return false;
    }
    slot.executor = Memory { last: op, result: None };
    if op == slot.warden.last {
        slot.executor.result = slot.warden.result; // repeated, not run again
    } else if op > slot.warden.last || bugs::active(Bug::OperationsOutOfOrder) {
        slot.warden = Memory { last: op, result: None };
        slot.running = Some(kind);
        slot.service |= kind == CommandKind::Start;
        slot.recovery |= kind == CommandKind::Recovery;
    }
    true
}

/// The production executor with that memory.
fn executor(memory: Memory) -> Executor {
    let mut executor = Executor::default();
    if memory.last != Op::NONE {
        executor.step(ExecutorInput::Ordered(Box::new(order(memory.last, CommandKind::Kill))));
    }
    if let Some(ok) = memory.result {
        executor.step(ExecutorInput::Finished(result(memory.last, ok)));
    }
    executor
}

fn level_view(view: View) -> LevelView {
    let change = SightChange { joining: true, draining: false, formation: view.formation, standings: Vec::new() };
    let mut level = LevelView::default();
    level.adopt(&change, &view);
    level
}

fn operation(op: Op) -> OperationId {
    OperationId { revision: Revision { term: Term(1), seq: u64::from(op.0) }, index: 0 }
}

fn order(op: Op, kind: CommandKind) -> Order {
    let (operation, target) = (operation(op), NodeIncarnation::default());
    let command =
        Command { instance: Instance::default(), operation, kind, target, victim: None, generation: operation };
    Order { command, definition: ServiceDefinition::new("") }
}

fn result(op: Op, ok: bool) -> OperationResult {
    let outcome = if ok { LaunchResult::Succeeded } else { LaunchResult::Failed { text: String::new() } };
    OperationResult { instance: Instance::default(), operation: operation(op), kind: CommandKind::Kill, outcome }
}

const fn who(node: NodeId, sight: &Sight) -> NodeIncarnation {
    NodeIncarnation { node, incarnation: sight.incarnation }
}

fn small(incarnation: Incarnation) -> u8 {
    u8::try_from(incarnation.0).unwrap_or(u8::MAX)
}

fn place(at: usize) -> u8 {
    u8::try_from(at).unwrap_or(u8::MAX)
}
