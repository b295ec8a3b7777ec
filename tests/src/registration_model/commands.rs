//! Commands arrive and end: the production executor, and the warden below it (protocol RL-4, RL-5).

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{Command, CommandKind, Instance, OperationResult, Order};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, OperationId, Revision, Term};
use phalanx_protocol::bugs::{self, Bug};
use phalanx_protocol::registration::{Admission, Executor, ExecutorInput, ExecutorOutput};

use super::state::{Late, Memory, Op, Slot, State};
use super::steps::{Steps, place};
use super::{Action, Variant};

impl Steps<'_, '_> {
    pub fn executors(&mut self, node: NodeId) {
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
