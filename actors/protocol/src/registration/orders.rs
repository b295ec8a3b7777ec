//! Administrators' requests about services: what each changes in the database, and when it is refused (protocol §6.3, "Admin";
//! RL-10). Definitions are in [`super::definitions`].
//!
//! Each only sets fields; the rows decide what follows. A request that is refused has changed nothing.

use phalanx_messages::order::{ConsumedRequest, OrderRefusal, RegistrationOrder, RegistrationRequest, ServiceOrder};
use phalanx_messages::registration::{Instance, RunState, ServiceRun};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, Revision};

use super::choose::unfit;
use super::decision::Decision;
use super::event_orders;
use super::events::shortened;
use super::index::{is_on_all, root_of};
use super::tree::Tree;
use crate::bugs::{self, Bug};

impl Decision<'_> {
    /// Protocol RL-10: a request that was consumed keeps its answer; an older one is dropped.
    pub(super) fn requested(&mut self, request: &RegistrationRequest) {
        let last = self.record.requests.get(&request.source.node);
        let newest = last.map(|last| (last.incarnation, last.counter));
        if newest >= Some((request.source.incarnation, request.counter)) {
            return;
        }
        let answer = match &request.order {
            RegistrationOrder::Service { service, order } => self.ordered(service, order, request.source.node),
            RegistrationOrder::Apply(changes) => self.apply(changes),
            RegistrationOrder::EnableGroup { group, enabled } => {
                event_orders::enable(&mut self.record, group, *enabled)
            }
            RegistrationOrder::Standby { node, standby } => {
                self.stand_by(*node, *standby);
                Ok(())
            }
        };
        let consumed = ConsumedRequest { incarnation: request.source.incarnation, counter: request.counter, answer };
        self.record.requests.insert(request.source.node, consumed);
        self.note_change();
    }

    fn ordered(&mut self, service: &str, order: &ServiceOrder, source: NodeId) -> Result<(), OrderRefusal> {
        if !self.record.services.contains_key(service) {
            return Err(OrderRefusal::UnknownService { service: service.to_owned() });
        }
        self.touch(service);
        match order {
            ServiceOrder::Register => self.every_run(service, |run| run.want = true),
            ServiceOrder::Deregister => self.every_run(service, |run| run.want = false),
            ServiceOrder::Hold => self.every_run(service, hold),
            ServiceOrder::Clear { skip_recovery } => self.clear(service, *skip_recovery),
            ServiceOrder::Remove { skip_recovery } => return self.remove(service, *skip_recovery),
            ServiceOrder::Transfer { to } => return self.transfer(service, *to),
            ServiceOrder::Failed { generation, node, text } => {
                let of = is_on_all(&self.record.services, service).then(|| node.unwrap_or(source));
                return self.failed(&Instance { service: service.to_owned(), of }, *generation, text);
            }
        }
        Ok(())
    }

    fn every_run(&mut self, service: &str, mut change: impl FnMut(&mut ServiceRun)) {
        self.change(service, |service| {
            change(&mut service.run);
            service.instances.values_mut().for_each(&mut change);
        });
    }

    /// Of the whole group (protocol §6.3, "clear (whole tree)").
    fn clear(&mut self, service: &str, skip_recovery: bool) {
        let root = root_of(&self.record.services, service).to_owned();
        for name in self.group(&root) {
            self.every_run(&name, |run| cleared(run, skip_recovery));
        }
    }

    fn remove(&mut self, service: &str, skip_recovery: bool) -> Result<(), OrderRefusal> {
        let Some(record) = self.record.services.get(service) else { return Ok(()) };
        let named = service.to_owned();
        if let Some(child) = self.index.children(service).first() {
            return Err(OrderRefusal::HasChild { service: named, child: child.clone() });
        }
        if let Some((_, run)) = record.runs().find(|(_, run)| !run.state.is_idle()) {
            // Even by force: what runs would go on without anybody who knows of it.
            return Err(OrderRefusal::NotIdle { service: named, state: run.state });
        }
        let victim = record.runs().find_map(|(_, run)| run.victim);
        if let Some(victim) = victim.filter(|_| !skip_recovery) {
            return Err(OrderRefusal::Unrecovered { service: named, victim });
        }
        self.record.services.remove(service);
        self.redefine_index();
        Ok(())
    }

    fn stand_by(&mut self, node: NodeId, standby: bool) {
        if standby {
            self.record.standby.insert(node);
        } else {
            self.record.standby.remove(node);
        }
        self.touch_everything();
    }

    fn transfer(&mut self, service: &str, to: Option<NodeId>) -> Result<(), OrderRefusal> {
        let parent = self.record.services.get(service).and_then(|record| record.definition.parent.clone());
        let service = service.to_owned();
        if is_on_all(&self.record.services, &service) {
            return Err(OrderRefusal::OnAllNodes { service });
        }
        if let Some(parent) = parent {
            return Err(OrderRefusal::Child { service, parent });
        }
        let mut answer = Ok(());
        self.with(&Instance::only(service), |tree, _| answer = tree.transfer(to));
        answer
    }

    /// Spec, "5. Event Manager Daemon": the action of a monitor is a request like any other. One that speaks of an older
    /// registration comes too late.
    fn failed(&mut self, instance: &Instance, generation: Revision, text: &str) -> Result<(), OrderRefusal> {
        let service = instance.service.clone();
        let run = self.record.services.get(&service).and_then(|record| record.run_of(instance.of));
        let current = run.filter(|run| run.state == RunState::Registered).map(|run| run.generation.revision);
        if current != Some(generation) {
            return Err(OrderRefusal::StaleGeneration { service, current });
        }
        self.with(instance, |tree, at| {
            let run = tree.run(at);
            run.failing = true;
            run.failure = Some(shortened(text));
        });
        Ok(())
    }
}

/// "hold" of protocol §6.3: a flag, never a state.
fn hold(run: &mut ServiceRun) {
    run.held = true;
    if bugs::active(Bug::HoldIsAState) {
        run.state = RunState::DeRegistered;
    }
}

/// "clear" of protocol §6.3.
fn cleared(run: &mut ServiceRun, skip_recovery: bool) {
    run.held = false;
    run.avoid.clear();
    run.tried_recovery.clear();
    forget_failures(run);
    match run.state {
        RunState::PendRecovery | RunState::FailedRecovery if skip_recovery => {
            run.state = RunState::DeRegistered;
            run.victim = None;
        }
        RunState::FailedRecovery => run.state = RunState::PendRecovery,
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
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery
        | RunState::Failed => {}
    }
}

/// What it has failed at so far counts no more.
pub(super) fn forget_failures(run: &mut ServiceRun) {
    run.tried.clear();
    run.exhausted.clear();
    run.restarts.clear();
    run.retries = 0;
    run.failure = None;
    run.failing = false;
    run.resting = false;
    if run.state == RunState::Failed {
        run.state = RunState::DeRegistered;
    }
}

impl Tree<'_> {
    fn transfer(&mut self, to: Option<NodeId>) -> Result<(), OrderRefusal> {
        let root = self.root();
        let (service, run) = (root.definition.name.clone(), &root.run);
        let state = run.state;
        if state != RunState::Registered || !run.notifying.is_empty() || !run.want {
            return Err(OrderRefusal::NotSettled { service, state });
        }
        if run.held {
            return Err(OrderRefusal::Held { service });
        }
        if run.transfer_intent || self.reason(0).is_some() {
            return Err(OrderRefusal::Moving { service });
        }
        if let Some(member) = self.members.iter().find(|member| !member.run.state.is_idle() && !at_rest(&member.run)) {
            let (service, state) = (member.definition.name.clone(), member.run.state);
            return Err(OrderRefusal::NotSettled { service, state });
        }
        let node = match to {
            Some(node) => node,
            None => self.elsewhere().ok_or(OrderRefusal::NowhereElse { service: service.clone() })?,
        };
        if run.node.node == node {
            return Err(OrderRefusal::AlreadyThere { service, node });
        }
        if let Some(why) = unfit(&root.definition, self.around.view, self.around.standby, node) {
            return Err(OrderRefusal::Unfit { service, node, why });
        }
        self.begin_move(node);
        Ok(())
    }

    fn elsewhere(&self) -> Option<NodeId> {
        let here: NodeSet = [self.root().run.node.node].into_iter().collect();
        self.choose(&self.candidates().difference(&here))
    }
}

fn at_rest(run: &ServiceRun) -> bool {
    run.state == RunState::Registered && run.notifying.is_empty()
}
