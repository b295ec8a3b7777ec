//! What a decision takes in before it settles: results, timers, requests. Each only sets fields (protocol RL-1).

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::RegistrationRequest;
use phalanx_messages::registration::{CommandKind, OperationResult, RunState};
use phalanx_messages::{NodeId, NodeIncarnation, OperationId};

use super::choose::is_only_member;
use super::decision::Decision;
use super::rows::Rows;

/// Bytes kept of a failure's text.
const FAILURE_BYTES_MAX: usize = 240;

/// Something that happened. Absorbing it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An executor reports. Believed only of the incarnation that the operation was given to, and only for the current one.
    Finished {
        /// Who reports, authenticated.
        from: NodeIncarnation,
        /// What.
        result: OperationResult,
    },
    /// The executor should have answered long ago (protocol RL-9).
    TimedOut {
        /// The service.
        service: String,
        /// The operation that was outstanding.
        operation: OperationId,
    },
    /// So should the notify command on that node.
    NotifyTimedOut {
        /// The service.
        service: String,
        /// The registration it tells of.
        generation: OperationId,
        /// Where.
        node: NodeId,
    },
    /// The maturity time is over.
    Matured {
        /// The service.
        service: String,
    },
    /// A failed service may be tried on all nodes again.
    BackoffOver {
        /// The service.
        service: String,
    },
    /// The only member may try again to clean what it could not (protocol RL-8).
    CleanAgain {
        /// The service.
        service: String,
    },
    /// An administrator asks.
    Requested(RegistrationRequest),
}

impl Decision<'_> {
    /// Takes in one event. Call it for all events at hand before [`Decision::settle`].
    pub fn absorb(&mut self, event: &Event) {
        match event {
            Event::Finished { from, result } => self.finished(*from, result),
            Event::TimedOut { service, operation } => self.with(service, |rows| {
                if rows.run.operation == *operation {
                    rows.finished(Err("no answer from its node in time".to_owned()));
                }
            }),
            Event::NotifyTimedOut { service, generation, node } => self.with(service, |rows| {
                if rows.run.generation == *generation {
                    rows.run.notifying.remove(*node);
                }
            }),
            Event::Matured { service } => self.with(service, |rows| {
                rows.run.matured |= rows.run.state == RunState::AwaitMaturity;
            }),
            Event::BackoffOver { service } => self.with(service, |rows| rows.try_again()),
            Event::CleanAgain { service } => self.with(service, |rows| rows.clean_again()),
            Event::Requested(request) => self.requested(request),
        }
    }

    fn finished(&mut self, from: NodeIncarnation, result: &OperationResult) {
        let outcome = match &result.outcome {
            LaunchResult::Succeeded => Ok(()),
            LaunchResult::Failed { text } => Err(shortened(text)),
        };
        self.with(&result.instance.service, |rows| match result.kind {
            CommandKind::Notify => {
                let current = rows.run.generation == result.operation
                    && rows.run.notified.get(&from.node) == Some(&from.incarnation);
                if current {
                    rows.run.notifying.remove(from.node);
                }
            }
            CommandKind::Start | CommandKind::Stop | CommandKind::Kill | CommandKind::Recovery => {
                if rows.run.operation == result.operation && rows.run.node == from {
                    rows.finished(outcome);
                }
            }
        });
    }
}

impl Rows<'_> {
    fn try_again(&mut self) {
        if self.run.state == RunState::Failed && self.run.retries < self.definition.start_retries {
            self.run.state = RunState::DeRegistered;
            self.run.tried.clear();
            self.run.retries += 1;
        }
    }

    fn clean_again(&mut self) {
        if !is_only_member(self.view, self.run.node.node) {
            return;
        }
        match self.run.state {
            RunState::FenceStart => self.kill_in(RunState::StartCleanup),
            RunState::FenceStop => self.kill_in(RunState::StopKill),
            RunState::FenceRecovery => self.kill_in(RunState::RecoveryCleanup),
            RunState::DeRegistered
            | RunState::AwaitMaturity
            | RunState::AwaitParent
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Registered
            | RunState::Stopping
            | RunState::StopKill
            | RunState::PendRecovery
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::Failed
            | RunState::FailedRecovery => {}
        }
    }
}

/// The head of a text, cut between characters.
fn shortened(text: &str) -> String {
    let end = (0..=FAILURE_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
