//! What can happen next.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::NodeId;
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::{DefinitionChange, RegistrationOrder, RegistrationRequest, ServiceOrder};
use phalanx_messages::registration::{
    CommandKind, Instance, OperationResult, Order, Presence, RegistrationMessage, RunState, ServiceRun, Sight,
};
use phalanx_protocol::registration::{
    DeciderInput, Event, Executor, ExecutorInput, ExecutorOutput, is_only_member, outstanding, victims_of_failure,
};

use super::checks::lanes;
use super::{NODES, SERVICES, Warden, World, presence};

impl World {
    /// One step of any kind.
    pub fn step(&mut self) {
        match self.dice.below(100) {
            0..=34 => self.disk_of_somebody(),
            35..=59 => self.deliver(),
            60..=72 => self.command_ends(),
            73..=80 => self.somebody(Self::see),
            81..=90 => self.somebody(Self::tick),
            91..=92 => self.membership(),
            93 => self.force_requests(),
            94 if self.faults => self.request(),
            95 if self.faults => self.wrong_about_a_lease(),
            96 if self.faults => self.executor_panics(),
            97 if self.faults => self.now = self.now.plus(2_500),
            _ => self.leave_ends_and_deaths(),
        }
        self.check();
    }

    fn any_node(&mut self) -> NodeId {
        NodeId(self.dice.below(usize::from(NODES)) as u16)
    }

    /// Everything that is due happens, in turns: what a cluster without faults does.
    pub fn calm_round(&mut self) {
        self.now = self.now.plus(250);
        self.force_requests();
        for id in self.alive() {
            self.leases(id, &[]);
            self.see(id);
            self.tick(id);
            for _ in 0..40 {
                self.disk(id);
            }
        }
        for _ in 0..self.network.len() {
            self.deliver_at(0);
        }
        for _ in 0..12 {
            self.command_ends();
        }
        self.leave_ends_and_deaths();
        self.check();
    }

    fn somebody(&mut self, act: impl FnOnce(&mut Self, NodeId)) {
        let alive = self.alive();
        if let Some(id) = self.dice.pick(&alive) {
            act(self, id);
        }
    }

    fn disk_of_somebody(&mut self) {
        self.somebody(Self::disk);
    }

    pub fn tick(&mut self, id: NodeId) {
        self.now = self.now.plus(if self.faults { 30 } else { 0 });
        let now = self.now;
        self.decider(id, DeciderInput::Tick(now));
        let newest = self.newest();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(committed) = node.decider.committed().cloned() {
            let expired = node.timers.observe(&committed, now);
            self.decider(id, DeciderInput::Happened(expired));
        }
        self.database_seen(id, &newest);
        self.repeat(id);
    }

    fn database_seen(&mut self, id: NodeId, newest: &phalanx_messages::registration::RegistrationRecord) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut awaited: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
        for command in outstanding(newest).into_iter().filter(|command| command.target == node.me) {
            awaited.entry(command.instance.lane()).or_default().insert((command.kind, command.operation));
        }
        for (name, executor) in &mut node.executors {
            let awaited = awaited.remove(name).unwrap_or_default();
            executor.step(ExecutorInput::Database { revision: newest.revision, awaited });
        }
    }

    fn repeat(&mut self, id: NodeId) {
        let names: Vec<String> = self.nodes[&id].executors.keys().cloned().collect();
        for name in names {
            self.executor(id, &name, ExecutorInput::Repeat);
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.dice.below(self.network.len());
        if self.faults && self.dice.percent(15) {
            self.network.push(self.network[at].clone());
        }
        if self.faults && self.dice.percent(10) {
            self.network.remove(at);
            return;
        }
        self.deliver_at(at);
    }

    fn deliver_at(&mut self, at: usize) {
        let (to, from, message) = self.network.remove(at);
        let Some(node) = self.nodes.get_mut(&to) else { return };
        match message {
            RegistrationMessage::Orders { depoch, orders } => {
                for order in orders {
                    let Some(node) = self.nodes.get_mut(&to) else { return };
                    if node.admission.admit(depoch, &order.command) {
                        let name = order.command.instance.lane();
                        self.executor(to, &name, ExecutorInput::Ordered(Box::new(order)));
                    }
                }
            }
            RegistrationMessage::Results(results) => {
                let events = results.into_iter().map(|result| Event::Finished { from, result }).collect();
                self.decider(to, DeciderInput::Happened(events));
            }
            RegistrationMessage::Committed { revision } => node.admission.see(revision.term),
            RegistrationMessage::Load { .. } => {}
            RegistrationMessage::Requests(requests) => {
                let events = requests.into_iter().map(Event::Requested).collect();
                self.decider(to, DeciderInput::Happened(events));
            }
        }
    }

    fn executor(&mut self, id: NodeId, service: &str, input: ExecutorInput) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let executor = node.executors.entry(service.to_owned()).or_insert_with(Executor::default);
        for output in executor.step(input) {
            match output {
                ExecutorOutput::Run(order) => self.launch(id, &order),
                ExecutorOutput::Report(result) => self.report(id, result),
            }
        }
    }

    /// The warden's side (protocol RL-5): an older operation is refused, a repeated one repeats its result.
    fn launch(&mut self, id: NodeId, order: &Order) {
        let lane = order.command.instance.lane();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if order.command.kind == CommandKind::Notify {
            return self.executor(id, &lane, ExecutorInput::Finished(super::succeeded(order)));
        }
        let warden = node.wardens.entry(lane.clone()).or_default();
        if order.command.operation < warden.last {
            return; // the answer would be "refused", which this executor no longer waits for
        }
        if order.command.operation == warden.last {
            if let Some(result) = warden.result.clone() {
                self.executor(id, &lane, ExecutorInput::Finished(result));
            }
            return;
        }
        let aborted = warden.running.map(|kind| failed(&lane, warden, kind));
        *warden = Warden {
            last: order.command.operation,
            running: Some(order.command.kind),
            result: None,
            service: warden.service || order.command.kind == CommandKind::Start,
            recovery: warden.recovery || order.command.kind == CommandKind::Recovery,
        };
        if let Some(aborted) = aborted {
            self.executor(id, &lane, ExecutorInput::Finished(aborted));
        }
        self.check();
    }

    fn command_ends(&mut self) {
        let running = self.nodes.iter().flat_map(|(id, node)| {
            let running = node.wardens.iter().filter(|(_, warden)| warden.running.is_some());
            running.map(|(lane, _)| (*id, lane.clone()))
        });
        let running: Vec<(NodeId, String)> = running.collect();
        if running.is_empty() {
            return;
        }
        let (id, lane) = running[self.dice.below(running.len())].clone();
        let ok = !self.faults || !self.dice.percent(20);
        let Some(warden) = self.nodes.get_mut(&id).and_then(|node| node.wardens.get_mut(&lane)) else { return };
        let Some(kind) = warden.running.take() else { return };
        match (kind, ok) {
            (CommandKind::Stop, true) => warden.service = false,
            (CommandKind::Recovery, true) => {
                warden.recovery = false;
                self.lost.remove(&lane);
            }
            (CommandKind::Kill, true) => (warden.service, warden.recovery) = (false, false),
            // What a failed command leaves runs on.
            (CommandKind::Start | CommandKind::Notify, true)
            | (
                CommandKind::Start
                | CommandKind::Stop
                | CommandKind::Recovery
                | CommandKind::Kill
                | CommandKind::Notify,
                false,
            ) => {}
        }
        let mut result = failed(&lane, warden, kind);
        if ok {
            result.outcome = LaunchResult::Succeeded;
        }
        warden.result = Some(result.clone());
        self.tell(if ok { "command ended" } else { "command failed" }, format!("{kind:?} of {lane} on {id}"));
        self.executor(id, &lane, ExecutorInput::Finished(result));
    }

    fn membership(&mut self) {
        let id = self.any_node();
        let bootable = !self.nodes.contains_key(&id) && self.agreed_on(id);
        if bootable && self.dice.percent(70) {
            return self.boot(id);
        }
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.doomed) else { return };
        let me = node.me;
        if !self.faults {
            return;
        }
        if self.dice.percent(50) {
            self.doom(id);
        } else if presence(self.truth.nodes.get(&id)) == Some(Presence::Joined) {
            self.truth.nodes.insert(id, Sight { incarnation: me.incarnation, presence: Presence::Leaving });
            self.tell("leave", me.to_string());
        }
    }

    fn doom(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.doomed) {
            node.doomed = true;
            let me = node.me;
            self.tell("doomed", me.to_string());
        }
    }

    /// Protocol RL-8.
    fn force_requests(&mut self) {
        let record = self.committed.clone();
        for (victim, _) in victims_of_failure(&record) {
            let there = self.nodes.get(&victim.node).is_some_and(|node| node.me == victim);
            if there && !is_only_member(&record.seen(), victim.node) {
                self.doom(victim.node);
            }
        }
    }

    /// Protocol RL-6, and the proofs of death.
    fn leave_ends_and_deaths(&mut self) {
        for id in self.alive() {
            let node = &self.nodes[&id];
            let me = node.me;
            if node.doomed {
                if !self.faults || self.dice.percent(30) {
                    self.dies(id);
                }
                continue;
            }
            let leaving = presence(self.truth.nodes.get(&id)) == Some(Presence::Leaving);
            let newest = self.newest();
            // A database that is written but not committed may never come to be.
            let drained = newest.is_drained(me) && newest.revision == self.committed.revision;
            if leaving && self.agreed_on(id) && drained {
                self.check_left(id);
                self.nodes.remove(&id);
                self.truth.nodes.insert(id, Sight { incarnation: me.incarnation, presence: Presence::Left });
                self.tell("left", me.to_string());
            }
        }
    }

    /// Its death is certain. A disk write it had begun may still have happened.
    fn dies(&mut self, id: NodeId) {
        if self.dice.percent(50) {
            self.disk(id);
        }
        self.note_lost_instances(id);
        let Some(node) = self.nodes.remove(&id) else { return };
        self.dead.insert(node.me);
        self.truth.nodes.insert(id, Sight { incarnation: node.me.incarnation, presence: Presence::Forced });
        self.tell("died", node.me.to_string());
        for other in self.alive() {
            if !self.faults || self.dice.percent(50) {
                self.leases(other, &[]);
            }
        }
    }

    fn wrong_about_a_lease(&mut self) {
        let wrong = self.any_node();
        let sure = self.dice.percent(50);
        self.tell("lease judged wrongly", wrong.to_string());
        self.somebody(|world, id| world.leases(id, if sure { &[] } else { std::slice::from_ref(&wrong) }));
    }

    /// The actor begins anew; the warden remembers.
    fn executor_panics(&mut self) {
        self.somebody(|world, id| {
            if let Some(node) = world.nodes.get_mut(&id) {
                node.executors.clear();
            }
            world.tell("executor panicked", id.to_string());
        });
    }

    fn request(&mut self) {
        let order = self.any_order();
        self.requests += 1;
        let source = phalanx_messages::NodeIncarnation { node: NodeId(0), incarnation: super::incarnation(1) };
        self.tell("request", format!("{order:?}"));
        self.tell(kind_of_order(&order), String::new());
        self.asked.insert(self.requests, order.clone());
        let request = RegistrationRequest { source, counter: self.requests, order };
        for node in (0..NODES).map(NodeId) {
            self.network.push((node, source, RegistrationMessage::Requests(vec![request.clone()])));
        }
    }
}

impl World {
    pub fn any_order(&mut self) -> RegistrationOrder {
        let (node, standby) = (self.any_node(), self.dice.percent(40));
        let service = self.dice.pick(&SERVICES).unwrap_or_default().to_owned();
        let to = self.dice.percent(70).then_some(node);
        let skip_recovery = self.dice.percent(20);
        let of_service = |order| RegistrationOrder::Service { service: service.clone(), order };
        match self.dice.below(17) {
            0..=2 => of_service(ServiceOrder::Register),
            3 => of_service(ServiceOrder::Deregister),
            4 => of_service(ServiceOrder::Hold),
            5..=6 => of_service(ServiceOrder::Clear { skip_recovery }),
            7..=8 => of_service(ServiceOrder::Transfer { to }),
            9 => of_service(ServiceOrder::Remove { skip_recovery }),
            10..=11 => RegistrationOrder::Standby { node, standby },
            12..=14 => self.failure(),
            _ => self.redefinition(service),
        }
    }

    /// What is registered somewhere is said to have failed there; now and then too late.
    fn failure(&mut self) -> RegistrationOrder {
        let registered = lanes(&self.committed).into_iter().filter(|(_, _, run)| run.state == RunState::Registered);
        let registered: Vec<(Instance, ServiceRun)> = registered.map(|(lane, _, run)| (lane, run)).collect();
        let at = self.dice.below(registered.len());
        let (Instance { service, of }, run) = registered.into_iter().nth(at).unwrap_or_default();
        let late = self.dice.percent(20);
        let mut generation = run.generation.revision;
        generation.seq = generation.seq.saturating_sub(u64::from(late));
        let order = ServiceOrder::Failed { generation, node: of, text: "bad".to_owned() };
        RegistrationOrder::Service { service, order }
    }

    /// Mostly with the parent that it has.
    fn redefinition(&mut self, service: String) -> RegistrationOrder {
        let before = self.committed.services.get(&service).map(|record| record.definition.clone());
        let above = SERVICES.iter().copied().take_while(|name| *name != service).collect::<Vec<_>>();
        let known = before.as_ref().and_then(|before| before.parent.clone());
        let other = self.dice.pick(&above).filter(|_| self.dice.percent(50)).map(str::to_owned);
        let parent = if before.is_some() && self.dice.percent(80) { known } else { other };
        let after = super::definition(&service, parent.as_deref(), &mut self.dice);
        RegistrationOrder::Apply([DefinitionChange { before, after }].into_iter().collect())
    }
}

const fn kind_of_order(order: &RegistrationOrder) -> &'static str {
    match order {
        RegistrationOrder::Service { order: ServiceOrder::Remove { .. }, .. } => "remove",
        RegistrationOrder::Service { order: ServiceOrder::Failed { .. }, .. } => "service failed",
        RegistrationOrder::Service { .. } => "service order",
        RegistrationOrder::Apply(_) => "apply",
        RegistrationOrder::EnableGroup { .. } => "enable group",
        RegistrationOrder::Standby { .. } => "standby",
    }
}

fn failed(lane: &str, warden: &Warden, kind: CommandKind) -> OperationResult {
    OperationResult {
        instance: super::instance(lane),
        operation: warden.last,
        kind,
        outcome: LaunchResult::Failed { text: "failed".to_owned() },
    }
}
