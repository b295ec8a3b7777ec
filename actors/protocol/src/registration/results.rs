//! What becomes of an instance when its current operation has ended (protocol §6.3).

use phalanx_messages::registration::{CommandKind, RunState};
use phalanx_messages::service::StopFailure;

use super::choose::is_only_member;
use super::tree::Tree;
use crate::bugs::{self, Bug};

/// Restarts in place that are remembered; a policy that allows more counts these.
const RESTARTS_MAX: usize = 64;

impl Tree<'_> {
    /// A result of the current operation of a member.
    pub fn finished(&mut self, at: usize, result: Result<(), String>) {
        let before = self.members[at].run.clone();
        let ok = result.is_ok();
        if let Err(text) = result {
            self.run(at).failure = Some(text);
        }
        self.after(at, ok);
        self.pass(at, &before);
    }

    fn after(&mut self, at: usize, ok: bool) {
        let node = self.members[at].run.node.node;
        match (self.members[at].run.state, ok) {
            (RunState::Starting, true) => self.started(at),
            (RunState::Starting, false) if bugs::active(Bug::NextStartBeforeCleanUp) => {
                let run = self.run(at);
                run.tried.insert(node);
                run.state = RunState::DeRegistered;
            }
            (RunState::Starting, false) => self.kill_in(at, RunState::StartCleanup),
            (RunState::StartCleanup, true) => {
                let run = self.run(at);
                run.tried.insert(node);
                run.avoid.insert(node);
                run.state = RunState::DeRegistered;
            }
            (RunState::StartCleanup, false) if bugs::active(Bug::UncleanStartStays) => {}
            (RunState::StartCleanup, false) => self.run(at).state = RunState::FenceStart,
            (RunState::Stopping, true) => self.stopped(at),
            (RunState::Stopping, false) => self.kill_in(at, RunState::StopKill),
            (RunState::StopKill, true) => {
                let definition = &self.members[at].definition;
                let enough = definition.stop_failure == StopFailure::Ignore
                    || definition.stop_command.is_none()
                    || is_only_member(self.around.view, node);
                if enough {
                    self.stopped(at);
                } else {
                    self.run(at).state = RunState::FenceStop;
                }
            }
            (RunState::StopKill, false) => self.run(at).state = RunState::FenceStop,
            (RunState::Recovering, true) => self.recovered(at),
            (RunState::Recovering, false) if bugs::active(Bug::RecoveryWithoutCleanUp) => {
                let run = self.run(at);
                run.tried_recovery.insert(node);
                run.state = RunState::PendRecovery;
            }
            (RunState::Recovering, false) => self.kill_in(at, RunState::RecoveryCleanup),
            (RunState::RecoveryCleanup, true) => {
                let run = self.run(at);
                run.tried_recovery.insert(node);
                run.state = RunState::PendRecovery;
            }
            (RunState::RecoveryCleanup, false) => self.run(at).state = RunState::FenceRecovery,
            // No operation is outstanding: a repeated result says nothing.
            (
                RunState::DeRegistered
                | RunState::AwaitMaturity
                | RunState::AwaitParent
                | RunState::Registered
                | RunState::PendRecovery
                | RunState::FenceStart
                | RunState::FenceStop
                | RunState::FenceRecovery
                | RunState::Failed
                | RunState::FailedRecovery,
                _,
            ) => {}
        }
    }

    /// Protocol §6.3: "Starting(n) | StartOk". What failed before on other nodes is remembered while it may fail here as well.
    pub fn started(&mut self, at: usize) {
        let run = self.run(at);
        run.state = RunState::Registered;
        run.tried.clear();
        if run.restarts.is_empty() && run.exhausted.is_empty() {
            run.retries = 0;
            run.failure = None;
        }
        run.notified.clear();
        run.notifying.clear();
        run.matured &= !bugs::active(Bug::MaturityNotLatched);
        if bugs::active(Bug::ExclusionsEndWithStart) && at == 0 {
            run.avoid.clear();
        }
        if !run.transfer_intent {
            run.target = None; // it was to be restarted in place
        }
    }

    /// Nothing of it runs any more where it was registered.
    fn stopped(&mut self, at: usize) {
        let limit = usize::from(self.members[at].definition.restart.limit).min(RESTARTS_MAX);
        let run = self.run(at);
        run.state = RunState::DeRegistered;
        let failed = std::mem::take(&mut run.failing);
        if !failed || !run.want || run.transfer_intent {
            return;
        }
        let node = run.node.node;
        if run.restarts.len() < limit {
            run.restarts.push(run.generation);
            run.resting = true;
            if at == 0 {
                run.target = Some(node);
            }
        } else {
            run.restarts.clear();
            run.exhausted.insert(node);
            run.avoid.insert(node);
        }
    }

    /// Goes on to `state` by a kill.
    pub fn kill_in(&mut self, at: usize, state: RunState) {
        self.run(at).state = state;
        self.issue(at, CommandKind::Kill);
    }
}
