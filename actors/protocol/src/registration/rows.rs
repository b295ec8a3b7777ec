//! The rows of protocol §6.3 for one service that is registered on one node and has no parent.
//!
//! A row is a predicate over (database, view). [`Rows::settle`] applies rows until none applies.

use phalanx_messages::registration::{Command, CommandKind, Instance, RunState, ServiceRun, View};
use phalanx_messages::service::{AutoRegister, ServiceDefinition, StopFailure};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation, OperationId, Revision};

use super::choose::{candidates, choose, incarnation_of, is_allowable, is_mature, is_only_member};
use crate::bugs::{self, Bug};

/// Rows that can apply one after the other in one decision; more is a fault of the rules.
const ROWS_MAX: usize = 64;

/// Hands out the operation ids of one commit.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    pub revision: Revision,
    pub next: u32,
    pub commands: Vec<Command>,
}

/// Why a service must be stopped where it is (protocol §6.3, `reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It is not asked to run any more.
    Deregister,
    /// Its node leaves.
    Leave,
    /// Its node takes no services any more.
    Standby,
    /// It moves to another node by an administrator's word.
    Move,
}

/// A state that a service went through, and why, if it is a stop.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    pub run: ServiceRun,
    pub reason: Option<StopReason>,
}

/// One service while a decision is made about it.
pub(super) struct Rows<'a> {
    pub definition: &'a ServiceDefinition,
    pub run: &'a mut ServiceRun,
    pub view: &'a View,
    pub standby: &'a NodeSet,
    pub issuer: &'a mut Issuer,
    /// States gone through, in order.
    pub passed: &'a mut Vec<Passed>,
    /// Of the stop that the next state is.
    pub stop_reason: Option<StopReason>,
}

impl Rows<'_> {
    /// What has changed in the view since the last decision.
    pub fn adopt(&mut self, before: &View) {
        for node in self.view.nodes.keys().filter(|node| before.incarnation(**node) != self.view.incarnation(**node)) {
            self.run.tried.remove(*node);
            self.run.tried_recovery.remove(*node);
            self.run.avoid.remove(*node);
        }
        if before.formation != self.view.formation {
            self.run.want = self.definition.auto_register != AutoRegister::Manual;
            self.run.matured = false;
        }
        if self.candidates().is_empty() {
            self.run.matured = false;
        }
    }

    /// Applies rows until none applies.
    ///
    /// # Panics
    /// If they do not come to an end: the rules are at fault, and this node must not decide.
    pub fn settle(&mut self) {
        for _ in 0..ROWS_MAX {
            let before = self.run.clone();
            self.row();
            if *self.run == before {
                return;
            }
            self.pass(&before);
        }
        panic!("the rules do not come to an end for service {}: {:?}", self.definition.name, self.run);
    }

    fn pass(&mut self, before: &ServiceRun) {
        if (before.state, before.node) != (self.run.state, self.run.node) {
            let reason = self.stop_reason.take();
            self.passed.push(Passed { run: self.run.clone(), reason });
        }
    }

    pub fn candidates(&self) -> NodeSet {
        candidates(self.definition, self.view, self.standby)
    }

    fn row(&mut self) {
        let lost = !self.run.state.is_idle() && self.view.is_lost(self.run.node);
        match self.run.state {
            RunState::Starting | RunState::StartCleanup | RunState::FenceStart if lost => {
                if self.definition.recover_lost_start && self.definition.recovery_command.is_some() {
                    self.lose();
                } else {
                    self.run.state = RunState::DeRegistered;
                }
            }
            RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop if lost => self.lose(),
            RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery if lost => {
                self.run.state = RunState::PendRecovery;
            }
            RunState::Registered => self.registered(),
            RunState::DeRegistered | RunState::AwaitMaturity | RunState::Failed => self.idle(),
            RunState::PendRecovery => self.pending_recovery(),
            RunState::AwaitParent
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Stopping
            | RunState::StopKill
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery
            | RunState::FailedRecovery => {}
        }
    }

    /// Protocol §6.3: "Registered, Stopping, StopKill, FenceStop(n) | lost(n)".
    fn lose(&mut self) {
        self.clear_transfer();
        self.run.tried.clear();
        self.run.tried_recovery.clear();
        self.run.notifying.clear();
        if self.definition.recovery_command.is_some() && !bugs::active(Bug::StartBeforeRecovery) {
            self.run.victim = Some(self.run.node);
            self.run.state = RunState::PendRecovery;
        } else {
            self.run.state = RunState::DeRegistered;
        }
    }

    fn registered(&mut self) {
        self.notify_others();
        let target_up = self.run.target.is_some_and(|node| self.candidates().contains(node));
        if self.run.moving && !target_up {
            self.clear_transfer();
            return;
        }
        match self.reason() {
            Some(reason) => {
                self.run.transfer_intent |= reason != StopReason::Deregister;
                self.stop(reason);
            }
            // T ends with the notifications (protocol §6.4: one rule gives Tables 2 and 3).
            None if self.run.transfer_intent && self.run.notifying.is_empty() => self.clear_transfer(),
            None => {}
        }
    }

    fn notify_others(&mut self) {
        if self.definition.notify_command.is_none() {
            return;
        }
        let mine = self.run.node.node;
        for node in self.view.nodes.keys().copied().filter(|node| *node != mine) {
            if !self.view.is_up(node) || !is_allowable(self.definition, node) {
                self.run.notifying.remove(node);
                continue;
            }
            let target = incarnation_of(self.view, node);
            if self.run.notified.insert(node, target.incarnation) != Some(target.incarnation) {
                self.run.notifying.insert(node);
                self.issuer.commands.push(notification(&self.definition.name, self.run, target));
            }
        }
    }

    /// The first that holds.
    pub fn reason(&self) -> Option<StopReason> {
        if !self.run.want {
            Some(StopReason::Deregister)
        } else if self.view.is_leaving(self.run.node) {
            Some(StopReason::Leave)
        } else if self.standby.contains(self.run.node.node) && !self.run.held {
            Some(StopReason::Standby)
        } else {
            self.run.moving.then_some(StopReason::Move)
        }
    }

    /// A service without stop command is stopped by killing it, so that nothing of it runs when the next node starts it.
    fn stop(&mut self, reason: StopReason) {
        self.stop_reason = Some(reason);
        self.run.moving = false;
        self.run.notifying.clear();
        let name = &self.definition.name;
        self.issuer.commands.retain(|command| command.kind != CommandKind::Notify || command.instance.service != *name);
        self.run.state = RunState::Stopping;
        if self.definition.stop_command.is_some() {
            self.issue(CommandKind::Stop);
        } else {
            self.passed.push(Passed { run: self.run.clone(), reason: self.stop_reason.take() });
            self.run.state = RunState::StopKill;
            self.issue(CommandKind::Kill);
        }
    }

    fn idle(&mut self) {
        if !self.run.want {
            self.run.state = RunState::DeRegistered;
            self.run.tried.clear();
            return self.clear_transfer();
        }
        if self.run.held {
            if self.run.state != RunState::Failed {
                self.run.state = RunState::DeRegistered;
            }
            return self.clear_transfer();
        }
        let candidates = self.candidates();
        if candidates.is_empty() {
            self.run.state = RunState::DeRegistered;
            self.run.tried.clear();
            return self.clear_transfer();
        }
        // Latched: fail-over and transfer never wait for maturity again.
        self.run.matured |= is_mature(self.definition, &candidates);
        if !self.run.matured && !self.run.transfer_intent {
            self.run.state = RunState::AwaitMaturity;
            self.run.tried.clear();
            return;
        }
        match choose(self.definition, self.run, &candidates.difference(&self.run.tried)) {
            Some(node) => self.start(node),
            None => {
                self.run.state = RunState::Failed;
                self.clear_transfer();
            }
        }
    }

    fn start(&mut self, node: NodeId) {
        self.run.node = incarnation_of(self.view, node);
        self.run.state = RunState::Starting;
        self.run.notified.clear();
        self.run.notifying.clear();
        self.run.generation = self.issuer.peek();
        if self.definition.start_command.is_some() {
            self.issue(CommandKind::Start);
        } else {
            self.run.operation = self.issuer.take();
            self.passed.push(Passed { run: self.run.clone(), reason: None });
            started(self.run);
        }
    }

    fn pending_recovery(&mut self) {
        let candidates = self.candidates();
        if self.run.held || candidates.is_empty() {
            return;
        }
        if self.definition.recovery_command.is_none() {
            // The definition was changed since the loss: there is nothing to run any more.
            return self.recovered();
        }
        match choose(self.definition, self.run, &candidates.difference(&self.run.tried_recovery)) {
            Some(node) => {
                self.run.node = incarnation_of(self.view, node);
                self.run.state = RunState::Recovering;
                self.issue(CommandKind::Recovery);
            }
            None => {
                self.run.state = RunState::FailedRecovery;
                self.run.held = true;
            }
        }
    }

    pub fn recovered(&mut self) {
        self.run.state = RunState::DeRegistered;
        self.run.victim = None;
        self.run.tried_recovery.clear();
    }

    pub fn clear_transfer(&mut self) {
        self.run.transfer_intent = false;
        self.run.moving = false;
        self.run.target = None;
    }

    pub fn issue(&mut self, kind: CommandKind) {
        self.run.operation = self.issuer.take();
        self.issuer.commands.push(command(&self.definition.name, self.run, kind));
    }

    /// A result of the current operation.
    pub fn finished(&mut self, result: Result<(), String>) {
        let before = self.run.clone();
        if let Err(text) = &result {
            self.run.failure = Some(text.clone());
        }
        self.after(result.is_ok());
        self.pass(&before);
    }

    fn after(&mut self, ok: bool) {
        let node = self.run.node.node;
        match (self.run.state, ok) {
            (RunState::Starting, true) => started(self.run),
            (RunState::Starting, false) => self.kill_in(RunState::StartCleanup),
            (RunState::StartCleanup, true) => {
                self.run.tried.insert(node);
                self.run.avoid.insert(node);
                self.run.state = RunState::DeRegistered;
            }
            (RunState::StartCleanup, false) => self.run.state = RunState::FenceStart,
            (RunState::Stopping, true) => self.run.state = RunState::DeRegistered,
            (RunState::Stopping, false) => self.kill_in(RunState::StopKill),
            (RunState::StopKill, true) => {
                let enough = self.definition.stop_failure == StopFailure::Ignore
                    || self.definition.stop_command.is_none()
                    || is_only_member(self.view, node);
                self.run.state = if enough { RunState::DeRegistered } else { RunState::FenceStop };
            }
            (RunState::StopKill, false) => self.run.state = RunState::FenceStop,
            (RunState::Recovering, true) => self.recovered(),
            (RunState::Recovering, false) => self.kill_in(RunState::RecoveryCleanup),
            (RunState::RecoveryCleanup, true) => {
                self.run.tried_recovery.insert(node);
                self.run.state = RunState::PendRecovery;
            }
            (RunState::RecoveryCleanup, false) => self.run.state = RunState::FenceRecovery,
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

    /// Goes on to `state` by a kill.
    pub fn kill_in(&mut self, state: RunState) {
        self.run.state = state;
        self.issue(CommandKind::Kill);
    }
}

impl Issuer {
    pub fn new(revision: Revision) -> Self {
        Self { revision, next: 0, commands: Vec::new() }
    }

    fn peek(&self) -> OperationId {
        OperationId { revision: self.revision, index: self.next }
    }

    fn take(&mut self) -> OperationId {
        let operation = self.peek();
        self.next += 1;
        operation
    }
}

/// Protocol §6.3: "Starting(n) | StartOk".
fn started(run: &mut ServiceRun) {
    run.state = RunState::Registered;
    run.tried.clear();
    run.retries = 0;
    run.notified.clear();
    run.notifying.clear();
    run.failure = None;
}

/// The command of the current operation of a service.
pub(super) fn command(service: &str, run: &ServiceRun, kind: CommandKind) -> Command {
    Command {
        instance: Instance::only(service),
        operation: run.operation,
        kind,
        target: run.node,
        victim: if kind == CommandKind::Recovery { run.victim } else { None },
        generation: run.generation,
    }
}

/// The notify command for one node; its operation is the registration it tells of.
pub(super) fn notification(service: &str, run: &ServiceRun, target: NodeIncarnation) -> Command {
    Command {
        instance: Instance::only(service),
        operation: run.generation,
        kind: CommandKind::Notify,
        target,
        victim: None,
        generation: run.generation,
    }
}
