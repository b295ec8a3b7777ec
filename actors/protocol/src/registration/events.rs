//! What a decision takes in before it settles: results, timers, requests. Each only sets fields (protocol RL-1).

use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::RegistrationRequest;
use phalanx_messages::registration::{CommandKind, Instance, OperationResult, RunState};
use phalanx_messages::service::TransferCost;
use phalanx_messages::{NodeId, NodeIncarnation, OperationId};

use super::choose::{is_only_member, rank};
use super::decision::Decision;
use super::tree::Tree;
use crate::bugs::{self, Bug};

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
        /// The instance.
        instance: Instance,
        /// The operation that was outstanding.
        operation: OperationId,
    },
    /// So should the notify command on that node.
    NotifyTimedOut {
        /// The instance.
        instance: Instance,
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
    /// What failed everywhere may be tried on all nodes again.
    BackoffOver {
        /// The instance.
        instance: Instance,
    },
    /// It may be started again where it has failed.
    RestOver {
        /// The instance.
        instance: Instance,
        /// The registration that failed.
        generation: OperationId,
    },
    /// A failure is so long ago that it does not count any more.
    FailureAged {
        /// The instance.
        instance: Instance,
        /// The registration that failed.
        generation: OperationId,
    },
    /// It has run well for so long that the nodes on which it failed too often count as any other.
    FailuresForgotten {
        /// The instance.
        instance: Instance,
        /// The registration that runs well.
        generation: OperationId,
    },
    /// A preferred node has been up long enough for a free transfer.
    Stable {
        /// The service.
        service: String,
        /// The node.
        node: NodeIncarnation,
    },
    /// The only member may try again to clean what it could not (protocol RL-8).
    CleanAgain {
        /// The instance.
        instance: Instance,
    },
    /// An administrator asks.
    Requested(RegistrationRequest),
}

impl Decision<'_> {
    /// Takes in one event. Call it for all events at hand before [`Decision::settle`].
    pub fn absorb(&mut self, event: &Event) {
        match event {
            Event::Finished { from, result } => self.finished(*from, result),
            Event::TimedOut { instance, operation } => self.with(instance, |tree, at| {
                if tree.run(at).operation == *operation {
                    tree.finished(at, Err("no answer from its node in time".to_owned()));
                }
            }),
            Event::NotifyTimedOut { instance, generation, node } => self.with(instance, |tree, at| {
                if tree.run(at).generation == *generation {
                    tree.run(at).notifying.remove(*node);
                }
            }),
            Event::Matured { service } => self.matured(service),
            Event::BackoffOver { instance } => self.with(instance, |tree, at| tree.try_again(at)),
            Event::RestOver { instance, generation } => self.with(instance, |tree, at| {
                // Not by the list of failures: the one it rests for may be too old to count before the pause is over.
                if tree.run(at).generation == *generation {
                    tree.run(at).resting = false;
                }
            }),
            Event::FailureAged { instance, generation } => self.with(instance, |tree, at| {
                tree.run(at).restarts.retain(|counted| counted != generation);
            }),
            Event::FailuresForgotten { instance, generation } => self.with(instance, |tree, at| {
                let run = tree.run(at);
                if run.state == RunState::Registered && run.generation == *generation {
                    run.exhausted.clear();
                    run.retries = 0;
                }
            }),
            Event::Stable { service, node } => {
                self.with(&Instance::only(service.clone()), |tree, _| tree.transfer_freely(*node));
            }
            Event::CleanAgain { instance } => self.with(instance, |tree, at| tree.clean_again(at)),
            Event::Requested(request) => self.requested(request),
        }
    }

    fn finished(&mut self, from: NodeIncarnation, result: &OperationResult) {
        let outcome = match &result.outcome {
            LaunchResult::Succeeded => Ok(()),
            LaunchResult::Failed { text } => Err(shortened(text)),
        };
        self.with(&result.instance, |tree, at| match result.kind {
            CommandKind::Notify => {
                let run = tree.run(at);
                let current =
                    run.generation == result.operation && run.notified.get(&from.node) == Some(&from.incarnation);
                if current {
                    run.notifying.remove(from.node);
                }
            }
            CommandKind::Start | CommandKind::Stop | CommandKind::Kill | CommandKind::Recovery => {
                let current = tree.run(at).operation == result.operation || bugs::active(Bug::ResultsOfAnyOperation);
                if current && tree.run(at).node == from {
                    tree.finished(at, outcome);
                }
            }
        });
    }

    /// One maturity for all instances (protocol §6.2).
    fn matured(&mut self, service: &str) {
        let waits = |of: &phalanx_messages::registration::ServiceRecord| {
            !of.run.matured && of.runs().any(|(_, run)| run.state == RunState::AwaitMaturity)
        };
        if self.record.services.get(service).is_some_and(waits) {
            self.change(service, |service| service.run.matured = true);
            self.touch(service);
        }
    }
}

impl Tree<'_> {
    fn try_again(&mut self, at: usize) {
        let retries = self.members[at].definition.start_retries;
        let run = self.run(at);
        if run.state == RunState::Failed && run.retries < retries {
            run.state = RunState::DeRegistered;
            run.tried.clear();
            run.exhausted.clear();
            run.retries += 1;
        }
    }

    /// Protocol §6.3, "FreeTransfer check": the group is at rest, and `node` is strictly preferred to where it is.
    fn transfer_freely(&mut self, node: NodeIncarnation) {
        let root = self.root();
        let run = &root.run;
        let better = rank(&root.definition, node.node) < rank(&root.definition, run.node.node);
        let free = root.definition.transfer_cost == TransferCost::Free && self.is_movable();
        let rests = run.state == RunState::Registered && !run.held && !run.transfer_intent && self.is_settled();
        let takes = self.around.view.is_joined(node)
            && self.candidates().contains(node.node)
            && (!run.avoid.contains(node.node) || bugs::active(Bug::FreeTransferToWhoeverFailed))
            && self.choose(&[node.node].into_iter().collect()).is_some();
        if better && free && rests && takes {
            self.begin_move(node.node);
        }
    }

    fn clean_again(&mut self, at: usize) {
        let run = &self.members[at].run;
        if !is_only_member(self.around.view, run.node.node) || bugs::active(Bug::OnlyMemberWaits) {
            return;
        }
        let before = run.clone();
        match run.state {
            RunState::FenceStart => self.kill_in(at, RunState::StartCleanup),
            RunState::FenceStop => self.kill_in(at, RunState::StopKill),
            RunState::FenceRecovery => self.kill_in(at, RunState::RecoveryCleanup),
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
        self.pass(at, &before);
    }
}

/// The head of a text, cut between characters.
pub(super) fn shortened(text: &str) -> String {
    let end = (0..=FAILURE_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
