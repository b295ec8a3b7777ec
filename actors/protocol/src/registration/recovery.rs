//! What becomes of an instance that was lost with its node (protocol §6.3, RL-14; spec, "Recovery_Command").
//!
//! Leaf to root: a parent waits until nothing below it is being recovered.

use phalanx_messages::registration::{CommandKind, RunState};
use phalanx_messages::service::ChildFailure;

use super::choose::incarnation_of;
use super::rows::is_in_recovery;
use super::tree::Tree;
use crate::bugs::{self, Bug};

impl Tree<'_> {
    /// The node of a member that is not idle is gone for good.
    pub fn lost(&mut self, at: usize) {
        let definition = &self.members[at].definition;
        match self.members[at].run.state {
            RunState::Starting | RunState::StartCleanup | RunState::FenceStart => {
                if definition.recover_lost_start && definition.recovery_command.is_some() {
                    self.lose(at);
                } else {
                    self.run(at).state = RunState::DeRegistered;
                }
            }
            RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop => self.lose(at),
            RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery => {
                self.run(at).state = RunState::PendRecovery;
            }
            RunState::DeRegistered
            | RunState::AwaitMaturity
            | RunState::AwaitParent
            | RunState::PendRecovery
            | RunState::Failed
            | RunState::FailedRecovery => {}
        }
    }

    /// Protocol §6.3: "Registered, Stopping, StopKill, FenceStop(n) | lost(n)".
    fn lose(&mut self, at: usize) {
        if !bugs::active(Bug::TransferKeptInRecovery) {
            self.clear_transfer(); // RL-12: also when a child is lost
        }
        let recovers =
            self.members[at].definition.recovery_command.is_some() && !bugs::active(Bug::StartBeforeRecovery);
        let run = self.run(at);
        run.tried.clear();
        run.tried_recovery.clear();
        run.notifying.clear();
        run.failing = false;
        run.resting = false;
        run.restarts.clear();
        if recovers {
            run.victim = Some(run.node);
            run.state = RunState::PendRecovery;
        } else {
            run.state = RunState::DeRegistered;
        }
    }

    pub fn pending_recovery(&mut self, at: usize) {
        let candidates = self.recovery_candidates();
        let children = self.members[at].children.clone();
        let below = |state: fn(RunState) -> bool| children.iter().any(|child| state(self.members[*child].run.state));
        let first = below(is_in_recovery) && !bugs::active(Bug::RecoveryInAnyOrder);
        if candidates.is_empty() && !self.members[at].run.held && bugs::active(Bug::UnrecoverableForgotten) {
            return self.recovered(at);
        }
        if self.members[at].run.held || candidates.is_empty() || first {
            return;
        }
        if children.iter().any(|child| self.fails_the_group(*child)) {
            return self.recovery_failed(at);
        }
        if self.members[at].definition.recovery_command.is_none() {
            // The definition was changed since the loss: there is nothing to run any more.
            return self.recovered(at);
        }
        let untried = candidates.difference(&self.members[at].run.tried_recovery);
        let target = self.root().run.target.filter(|node| untried.contains(*node));
        match target.or_else(|| self.best(&untried)) {
            Some(node) => {
                let node = incarnation_of(self.around.view, node);
                let run = self.run(at);
                run.node = node;
                run.state = RunState::Recovering;
                self.issue(at, CommandKind::Recovery);
            }
            None => self.recovery_failed(at),
        }
    }

    /// A child that could not be recovered keeps its parent from being recovered (protocol RL-14).
    fn fails_the_group(&self, at: usize) -> bool {
        let member = &self.members[at];
        member.run.state == RunState::FailedRecovery && member.definition.child_failure == ChildFailure::FailGroup
    }

    fn recovery_failed(&mut self, at: usize) {
        let run = self.run(at);
        run.state = RunState::FailedRecovery;
        run.held = true;
    }

    pub fn recovered(&mut self, at: usize) {
        let run = self.run(at);
        run.state = RunState::DeRegistered;
        run.victim = None;
        run.tried_recovery.clear();
    }
}
