//! The rows of protocol §6.3 and §6.5: what becomes of one member of a group.
//!
//! A row is a predicate over (database, view). [`Tree::settle`] applies rows until none applies. Losses and recoveries are in
//! [`super::recovery`], results of commands in [`super::results`].

use phalanx_messages::registration::{CommandKind, Presence, RunState, ServiceRun, View};
use phalanx_messages::service::{AutoRegister, ChildFailure};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation};

use super::choose::{best, incarnation_of, is_allowable, is_mature};
use super::tree::{Member, Tree, notification};
use crate::bugs::{self, Bug};

/// Why a service must be stopped where it is (protocol §6.3, `reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It is not asked to run any more.
    Deregister,
    /// Its node leaves.
    Leave,
    /// Its node takes no services any more.
    Standby,
    /// It has failed where it is.
    Failure,
    /// It moves to another node.
    Move,
}

impl Tree<'_> {
    /// What has changed in the view since the last decision.
    pub fn adopt(&mut self, before: &View) {
        let view = self.around.view;
        for member in &mut self.members {
            adopt(&mut member.run, member.definition.auto_register, before, view);
        }
        if self.recovery_candidates().is_empty() {
            self.members[0].run.matured = false;
        }
        let (node, registered) = (self.members[0].run.node, self.members[0].run.state == RunState::Registered);
        let noticed = registered && view.is_leaving(node) && !before.is_leaving(node);
        if noticed && bugs::active(Bug::LeaveNoticedOnce) {
            let target = self.best(&self.candidates());
            target.into_iter().for_each(|target| self.begin_move(target));
        }
    }

    /// The first row that applies to a member, if one does.
    pub fn row(&mut self, at: usize) {
        let run = &self.members[at].run;
        if !run.state.is_idle() && self.is_lost(run.node) {
            return self.lost(at);
        }
        match run.state {
            RunState::Registered => self.registered(at),
            RunState::DeRegistered | RunState::AwaitMaturity | RunState::AwaitParent | RunState::Failed => {
                self.idle(at);
            }
            RunState::PendRecovery => self.pending_recovery(at),
            RunState::Starting
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

    /// Protocol RL-3.
    fn is_lost(&self, who: NodeIncarnation) -> bool {
        let view = self.around.view;
        if bugs::active(Bug::PlacementWithoutIncarnation) {
            return view.is_lost(incarnation_of(view, who.node));
        }
        let absent = bugs::active(Bug::AbsentIsLost) && !view.nodes.contains_key(&who.node);
        absent || view.is_lost(who)
    }

    fn registered(&mut self, at: usize) {
        self.notify_others(at);
        if at == 0 && self.members[0].run.moving {
            let target = self.members[0].run.target;
            if !target.is_some_and(|node| self.candidates().contains(node)) {
                return self.clear_transfer(); // what was stopped already starts again where it was
            }
        }
        let reason = self.reason(at);
        match reason {
            Some(reason) => {
                if at == 0 && self.is_movable() {
                    self.run(0).transfer_intent |= match reason {
                        StopReason::Leave | StopReason::Standby | StopReason::Move => true,
                        StopReason::Deregister | StopReason::Failure => false,
                    };
                }
                let children = &self.members[at].children;
                if children.iter().all(|child| is_out_of_the_way(self.members[*child].run.state)) {
                    self.stop(at, reason);
                }
            }
            // T ends with the notifications (protocol §6.4: one rule gives Tables 2 and 3).
            None if at == 0 && self.members[0].run.transfer_intent && self.is_settled() => self.clear_transfer(),
            None => {}
        }
    }

    /// Once for each incarnation of each other allowable node, also of those that come later (spec, "Notify_Command").
    fn notify_others(&mut self, at: usize) {
        if self.members[at].definition.notify_command.is_none() {
            return;
        }
        let view = self.around.view;
        let mine = self.members[at].run.node.node;
        for node in view.nodes.keys().copied().filter(|node| *node != mine) {
            if !view.is_up(node) || !is_allowable(&self.root().definition, node) {
                self.run(at).notifying.remove(node);
                continue;
            }
            let target = incarnation_of(view, node);
            if self.run(at).notified.contains_key(&node) && bugs::active(Bug::LaterStartNotNotified) {
                continue;
            }
            if self.run(at).notified.insert(node, target.incarnation) != Some(target.incarnation) {
                self.run(at).notifying.insert(node);
                let command = notification(self.instance(at), &self.members[at].run, target);
                self.issuer.commands.push(command);
            }
        }
    }

    /// The first that holds; the parent's before its own (protocol RL-11).
    pub fn reason(&self, at: usize) -> Option<StopReason> {
        let member = &self.members[at];
        let above = member.parent.and_then(|parent| self.reason(parent));
        above.or_else(|| self.own_reason(at))
    }

    /// Standby moves groups, and it is the root that moves: below a root that is held a child would be stopped and started for ever.
    fn own_reason(&self, at: usize) -> Option<StopReason> {
        let Member { run, parent, .. } = &self.members[at];
        let moves = !run.held;
        if !run.want {
            Some(StopReason::Deregister)
        } else if self.is_left(run.node) {
            Some(StopReason::Leave)
        } else if moves && parent.is_none() && self.around.standby.contains(run.node.node) {
            Some(StopReason::Standby)
        } else if moves && run.failing {
            Some(StopReason::Failure)
        } else {
            run.moving.then_some(StopReason::Move)
        }
    }

    /// Its node is gracefully leaving.
    fn is_left(&self, node: NodeIncarnation) -> bool {
        let view = self.around.view;
        let some_leave = || view.nodes.values().any(|sight| sight.presence == Presence::Leaving);
        let leaves = view.is_leaving(node) || (bugs::active(Bug::EveryLeaveIsAReason) && some_leave());
        leaves && !bugs::active(Bug::LeaveNoticedOnce)
    }

    /// A service without stop command is stopped by killing it, so that nothing of it runs when the next node starts it.
    fn stop(&mut self, at: usize, reason: StopReason) {
        self.stop_reason = Some(reason);
        let instance = self.instance(at);
        self.issuer.commands.retain(|command| command.kind != CommandKind::Notify || command.instance != instance);
        let run = self.run(at);
        run.moving = false;
        run.notifying.clear();
        run.state = RunState::Stopping;
        if self.members[at].definition.stop_command.is_some() {
            self.issue(at, CommandKind::Stop);
        } else {
            self.pass_through(at);
            self.run(at).state = RunState::StopKill;
            self.issue(at, CommandKind::Kill);
        }
    }

    fn idle(&mut self, at: usize) {
        let failed = self.members[at].run.state == RunState::Failed;
        if !self.is_wanted(at) {
            let run = self.run(at);
            run.state = RunState::DeRegistered;
            run.resting = false;
            run.tried.clear();
            return self.end_transfer_of(at);
        }
        if self.members[at].run.held {
            if !failed {
                self.run(at).state = RunState::DeRegistered;
            }
            return self.end_transfer_of(at);
        }
        match self.members[at].parent {
            Some(parent) => self.idle_child(at, parent),
            None => self.idle_root(),
        }
    }

    fn is_wanted(&self, at: usize) -> bool {
        let Member { definition, run, .. } = &self.members[at];
        let auto = definition.auto_register != AutoRegister::Manual;
        run.want || ((auto || run.transfer_intent) && bugs::active(Bug::RestartedWithoutWant))
    }

    /// A child is tried only where its parent is registered (protocol RL-13).
    fn idle_child(&mut self, at: usize, parent: usize) {
        let above = &self.members[parent].run;
        if above.state != RunState::Registered {
            let run = self.run(at);
            run.state = RunState::AwaitParent;
            run.resting = false;
            run.tried.clear();
            return;
        }
        let node = above.node;
        if self.reason(parent).is_some() || !self.around.view.is_joined(node) {
            if self.members[at].run.state != RunState::Failed {
                self.run(at).state = RunState::AwaitParent;
            }
            return;
        }
        let run = &self.members[at].run;
        if run.tried.contains(node.node) || run.exhausted.contains(node.node) {
            self.run(at).state = RunState::Failed;
            if self.members[at].definition.child_failure == ChildFailure::FailGroup {
                self.move_group_from(node.node);
            }
        } else if run.resting {
            self.run(at).state = RunState::DeRegistered;
        } else {
            self.start(at, node.node);
        }
    }

    /// Protocol RL-13: the group gets one try on each node, until Clear or the node's new incarnation.
    fn move_group_from(&mut self, node: NodeId) {
        if self.members[0].run.held {
            return;
        }
        self.run(0).avoid.insert(node);
        let others = self.candidates().difference(&self.members[0].run.avoid);
        if let Some(target) = self.best(&others).filter(|_| self.is_movable()) {
            self.begin_move(target);
        }
    }

    fn idle_root(&mut self) {
        let below = self.below(0);
        let recovers = below.iter().any(|at| is_in_recovery(self.members[*at].run.state));
        if recovers && !bugs::active(Bug::RecoveryInAnyOrder) {
            return;
        }
        let candidates = self.candidates();
        if candidates.is_empty() {
            if self.root().run.transfer_intent && bugs::active(Bug::TransferWaitsForCandidate) {
                return;
            }
            let run = self.run(0);
            run.state = RunState::DeRegistered;
            run.resting = false;
            run.tried.clear();
            return self.clear_transfer();
        }
        // Latched: fail-over and transfer never wait for maturity again.
        let all = self.recovery_candidates();
        let matured = self.members[0].run.matured || is_mature(&self.members[0].definition, &all);
        let run = self.run(0);
        run.matured = matured;
        if !matured && !run.transfer_intent {
            run.state = RunState::AwaitMaturity;
            run.tried.clear();
            return;
        }
        if run.resting {
            run.state = RunState::DeRegistered;
            return;
        }
        let untried = candidates.difference(&run.tried).difference(&run.exhausted);
        if untried.is_empty() {
            run.state = RunState::Failed;
            return self.clear_transfer();
        }
        match self.choose(&untried) {
            Some(node) => self.start(0, node),
            None => {
                // Nobody has room: it starts as soon as somebody has.
                self.run(0).state = RunState::DeRegistered;
                self.clear_transfer();
            }
        }
    }

    fn start(&mut self, at: usize, node: NodeId) {
        let generation = self.issuer.peek();
        let node = incarnation_of(self.around.view, node);
        let run = self.run(at);
        run.node = node;
        run.state = RunState::Starting;
        run.notified.clear();
        run.notifying.clear();
        run.generation = generation;
        if self.members[at].definition.start_command.is_some() {
            self.issue(at, CommandKind::Start);
        } else {
            let operation = self.issuer.take();
            self.run(at).operation = operation;
            self.pass_through(at);
            self.started(at);
        }
    }

    /// A settled member waits for nothing but other members (protocol §6.3).
    pub fn is_settled(&self) -> bool {
        (0..self.members.len()).all(|at| self.is_member_settled(at))
    }

    fn is_member_settled(&self, at: usize) -> bool {
        let member = &self.members[at];
        let run = &member.run;
        match run.state {
            RunState::Registered => run.notifying.is_empty() && self.reason(at).is_none(),
            RunState::Failed | RunState::FailedRecovery => true,
            RunState::DeRegistered => !run.want || run.held,
            RunState::AwaitParent => member.parent.is_some_and(|parent| {
                self.members[parent].run.state != RunState::Registered && self.is_member_settled(parent)
            }),
            RunState::AwaitMaturity
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Stopping
            | RunState::StopKill
            | RunState::PendRecovery
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery => false,
        }
    }

    /// The most preferred of `among`, whether there is room or not.
    pub fn best(&self, among: &NodeSet) -> Option<NodeId> {
        let (loads, index) = (self.around.loads, self.around.index);
        best(&self.root().definition, among, |node| loads.score(index, node))
    }

    /// The group moves to `target`.
    pub fn begin_move(&mut self, target: NodeId) {
        let run = self.run(0);
        run.moving = true;
        run.target = Some(target);
        run.transfer_intent = true;
    }

    /// "clear T" of protocol §6.3: of the whole group.
    pub fn clear_transfer(&mut self) {
        let run = self.run(0);
        run.transfer_intent = false;
        run.moving = false;
        run.target = None;
    }

    /// T belongs to the root: a child that rests ends no transfer (protocol RL-12).
    fn end_transfer_of(&mut self, at: usize) {
        if at == 0 {
            self.clear_transfer();
        }
    }
}

/// Its parent can be stopped (protocol RL-11).
fn is_out_of_the_way(state: RunState) -> bool {
    let running = matches!(state, RunState::Registered | RunState::Stopping | RunState::StopKill);
    state.is_idle() || (!running && bugs::active(Bug::StopBesideStartingChild))
}

/// It may run something to recover, or must do so first.
pub(super) const fn is_in_recovery(state: RunState) -> bool {
    matches!(state, RunState::PendRecovery | RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery)
}

/// What a new view changes for one machine, or for what all instances share.
pub(super) fn adopt(run: &mut ServiceRun, auto_register: AutoRegister, before: &View, view: &View) {
    for node in view.nodes.keys().filter(|node| before.incarnation(**node) != view.incarnation(**node)) {
        for nodes in [&mut run.tried, &mut run.tried_recovery, &mut run.avoid, &mut run.exhausted] {
            nodes.remove(*node);
        }
    }
    if before.formation != view.formation {
        // What an administrator has registered stays wanted: a power failure is no `deregister`.
        run.want |= auto_register != AutoRegister::Manual;
        run.matured = false;
    }
}
