//! The side that runs the commands of one service on one node (protocol RL-4, RL-5).
//!
//! Never runs an operation older than one it has seen (protocol I-R8). Taking a newer one voids the result of the older. The
//! warden keeps the same memory for the life of the incarnation, so this machine may begin anew after a panic of its actor.

use std::collections::BTreeSet;

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{CommandKind, OperationResult, Order};
use phalanx_messages::{OperationId, Revision};

use crate::bugs::{self, Bug};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorInput {
    /// A command came that this node takes ([`super::Admission`]).
    Ordered(Box<Order>),
    /// What [`ExecutorOutput::Run`] asked for has ended.
    Finished(OperationResult),
    /// The database of that revision waits for the results of just these operations of this service.
    Database {
        /// The revision.
        revision: Revision,
        /// What it waits for.
        awaited: BTreeSet<(CommandKind, OperationId)>,
    },
    /// Some time has passed: say again what nobody has consumed.
    Repeat,
}

/// What the caller must do next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorOutput {
    /// Run it; whatever still runs for this service is this operation's business now.
    Run(Box<Order>),
    /// Tell the owner of the decisions.
    Report(OperationResult),
}

/// One lane: the service itself, or its notifications.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Lane {
    last: OperationId,
    result: Option<OperationResult>,
    consumed: bool,
}

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Executor {
    service: Lane,
    notify: Lane,
}

impl Executor {
    /// Takes one input.
    pub fn step(&mut self, input: ExecutorInput) -> Vec<ExecutorOutput> {
        match input {
            ExecutorInput::Ordered(order) => self.lane(order.command.kind).ordered(order),
            ExecutorInput::Finished(result) => self.lane(result.kind).finished(result),
            ExecutorInput::Database { revision, awaited } => {
                self.service.compare(revision, &awaited);
                self.notify.compare(revision, &awaited);
                Vec::new()
            }
            ExecutorInput::Repeat => self.service.repeat().into_iter().chain(self.notify.repeat()).collect(),
        }
    }

    fn lane(&mut self, kind: CommandKind) -> &mut Lane {
        match kind {
            CommandKind::Notify => &mut self.notify,
            CommandKind::Start | CommandKind::Stop | CommandKind::Kill | CommandKind::Recovery => &mut self.service,
        }
    }
}

impl Lane {
    fn ordered(&mut self, order: Box<Order>) -> Vec<ExecutorOutput> {
        if order.command.operation < self.last && !bugs::active(Bug::OperationsOutOfOrder) {
            return Vec::new();
        }
        if order.command.operation == self.last {
            // Repeated: so is the result, if there is one; else it runs and will be told.
            self.consumed = false;
            return self.repeat();
        }
        *self = Self { last: order.command.operation, result: None, consumed: false };
        vec![ExecutorOutput::Run(order)]
    }

    fn finished(&mut self, result: OperationResult) -> Vec<ExecutorOutput> {
        if result.operation != self.last || self.result.is_some() {
            return Vec::new();
        }
        self.result = Some(result);
        self.repeat()
    }

    fn compare(&mut self, revision: Revision, awaited: &BTreeSet<(CommandKind, OperationId)>) {
        // While it runs there is nothing to consume: its database was seen, as always, before its end.
        let Some(result) = &self.result else { return };
        let waits = awaited.contains(&(result.kind, result.operation));
        self.consumed |= revision >= self.last.revision && !waits;
    }

    fn repeat(&self) -> Vec<ExecutorOutput> {
        let result = self.result.iter().filter(|_| !self.consumed);
        result.cloned().map(ExecutorOutput::Report).collect()
    }
}

/// The result of an operation that could not be run at all.
#[must_use]
pub fn refused(order: &Order, text: String) -> OperationResult {
    OperationResult {
        instance: order.command.instance.clone(),
        operation: order.command.operation,
        kind: order.command.kind,
        outcome: LaunchResult::Failed { text },
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::registration::Command;
    use phalanx_messages::service::ServiceDefinition;
    use phalanx_messages::{NodeIncarnation, Term};

    use super::*;

    fn start() -> Order {
        let operation = OperationId { revision: Revision { term: Term(1), seq: 4 }, index: 0 };
        let command = Command {
            instance: phalanx_messages::registration::Instance::only("s"),
            operation,
            kind: CommandKind::Start,
            target: NodeIncarnation::default(),
            victim: None,
            generation: operation,
        };
        let definition = ServiceDefinition::new("s");
        Order { command, definition }
    }

    /// Protocol I-R8.
    #[test]
    fn an_operation_older_than_one_that_was_seen_is_never_run() {
        let mut executor = Executor::default();
        let older = start();
        let mut newer = start();
        newer.command.operation.index += 1;
        let run = |order: &Order| [ExecutorOutput::Run(Box::new(order.clone()))];
        assert_eq!(executor.step(ExecutorInput::Ordered(Box::new(newer.clone()))), run(&newer));
        assert_eq!(executor.step(ExecutorInput::Ordered(Box::new(older))), [], "it comes late");
    }

    /// It was not, when the database that has the operation was seen before its end: the result went out a second late.
    #[test]
    fn a_result_is_reported_at_once_though_its_database_was_seen_before() {
        let mut executor = Executor::default();
        let order = start();
        let revision = order.command.operation.revision;
        executor.step(ExecutorInput::Ordered(Box::new(order.clone())));
        let awaited = [(CommandKind::Start, order.command.operation)].into();
        executor.step(ExecutorInput::Database { revision, awaited });
        let result = refused(&order, "no".to_owned());
        let reported = executor.step(ExecutorInput::Finished(result.clone()));
        assert_eq!(reported, [ExecutorOutput::Report(result.clone())]);
        assert_eq!(executor.step(ExecutorInput::Repeat), [ExecutorOutput::Report(result)], "nobody has consumed it");
        let newer = Revision { seq: revision.seq + 1, ..revision };
        executor.step(ExecutorInput::Database { revision: newer, awaited: BTreeSet::new() });
        assert_eq!(executor.step(ExecutorInput::Repeat), []);
    }
}
