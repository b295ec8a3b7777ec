//! The invariants of protocol §6.6, checked where they can break.

use std::collections::BTreeSet;
use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRecord, ServiceRun, View};
use phalanx_messages::service::{PlacementPolicy, ServiceDefinition, TransferCost};
use phalanx_messages::set::NodeSet;
use phalanx_protocol::registration::{candidates, settle};

use super::{World, instance};

impl World {
    fn running_on(&self, lane: &str) -> Vec<NodeId> {
        let runs = |id: &NodeId| {
            let warden = self.nodes[id].wardens.get(lane);
            warden.is_some_and(|warden| warden.service || warden.recovery)
        };
        self.nodes.keys().copied().filter(runs).collect()
    }

    /// I-R1 and I-R3, after every step.
    pub fn check(&self) {
        let known = self.nodes.values().flat_map(|node| node.wardens.keys());
        for lane in known.collect::<BTreeSet<_>>() {
            let on = self.running_on(lane);
            assert!(on.len() <= 1, "I-R1: {lane} may run on {on:?}\n{}", self.read());
            let of_service = on.iter().find(|node| self.nodes[node].wardens[lane].service);
            if let (Some(node), Some(parent)) = (of_service, parent_of(&self.committed, &instance(lane))) {
                let run = run_of(&self.committed, &parent);
                let below = run.state == RunState::Registered && run.node == self.nodes[node].me;
                assert!(below, "I-R3: {lane} runs on {node}, {} is {run:?}\n{}", parent.lane(), self.read());
            }
        }
    }

    pub fn read(&self) -> String {
        let tail = self.story.len().saturating_sub(60);
        format!("{}\n{:#?}", self.story[tail..].join("\n"), self.committed)
    }

    /// A database counts as committed.
    pub fn check_commit(&mut self, id: NodeId, record: &Arc<RegistrationRecord>) {
        assert!(record.revision > self.committed.revision, "I-R6: commits go back on node {id}\n{}", self.read());
        let older = record.seen().is_older_than(&self.committed.seen());
        assert!(!older, "RL-2: decided with an older view on node {id}\n{}", self.read());
        let (again, commands) = settle(record, &record.seen());
        assert!(
            again == **record && commands.is_empty(),
            "I-R15: settling again changes something\n{again:#?}\n{}",
            self.read()
        );
        self.forgive(record);
        self.committed = (**record).clone();
        self.tell("commit", format!("{} by {id}", record.revision));
        for (lane, _, run) in lanes(record) {
            self.check_run(&lane, &run);
            if self.checked.insert((lane.lane(), run.operation)) {
                self.check_operation(&lane, &run);
            }
        }
    }

    /// What an administrator has given up, or can no longer be recovered, is not owed any more.
    fn forgive(&mut self, record: &RegistrationRecord) {
        let before = self.committed.requests.get(&NodeId(0)).map_or(0, |consumed| consumed.counter);
        let after = record.requests.get(&NodeId(0)).map_or(0, |consumed| consumed.counter);
        for (_, order) in self.asked.range(before + 1..after + 1) {
            let RegistrationOrder::Service { service, order } = order else { continue };
            match order {
                ServiceOrder::Clear { skip_recovery: true } => {
                    let root = root_of(record, service);
                    self.lost.retain(|lane| root_of(record, &instance(lane).service) != root);
                }
                ServiceOrder::Remove { skip_recovery: true } => {
                    self.lost.retain(|lane| instance(lane).service != *service)
                }
                ServiceOrder::Register
                | ServiceOrder::Deregister
                | ServiceOrder::Transfer { .. }
                | ServiceOrder::Hold
                | ServiceOrder::Clear { skip_recovery: false }
                | ServiceOrder::Remove { skip_recovery: false }
                | ServiceOrder::Failed { .. } => {}
            }
        }
        let owed = |lane: &String| {
            let service = record.services.get(&instance(lane).service);
            service.is_some_and(|service| service.definition.recovery_command.is_some())
        };
        self.lost.retain(owed);
    }

    fn check_run(&mut self, lane: &Instance, run: &ServiceRun) {
        let name = lane.lane();
        self.tell("state", format!("{name} {:?} on {}", run.state, run.node));
        let of_child = parent_of(&self.committed, lane).is_some();
        let misplaced = run.transfer_intent && (run.state.is_idle() || of_child);
        assert!(!misplaced, "I-R10: T in {:?} of {name}\n{}", run.state, self.read());
        assert!(!run.moving || run.state == RunState::Registered, "moving in {:?}\n{}", run.state, self.read());
        *self.seen.entry(word(run.state)).or_default() += 1;
        let kin = match (of_child, lane.of) {
            (false, None) => "root",
            (true, None) => "child",
            (false, Some(_)) => "instance",
            (true, Some(_)) => "child of an instance",
        };
        *self.seen.entry(kin).or_default() += 1;
        let freely =
            run.moving && self.committed.services[&lane.service].definition.transfer_cost == TransferCost::Free;
        *self.seen.entry("free transfer").or_default() += usize::from(freely);
        *self.seen.entry("resting").or_default() += usize::from(run.resting);
    }

    fn check_operation(&self, lane: &Instance, run: &ServiceRun) {
        let name = lane.lane();
        let starts = run.state == RunState::Starting;
        let recovers = run.state == RunState::Recovering;
        if starts || recovers {
            let on = self.running_on(&name);
            assert!(on.is_empty(), "I-R2: {:?} of {name} committed, may run on {on:?}\n{}", run.state, self.read());
        }
        if starts {
            let owed = self.lost.contains(&name);
            assert!(!owed, "I-R17: {name} starts, its lost instance is not recovered\n{}", self.read());
            // A child is wherever its parent is, also when the parent would not be put there any more.
            let allowed = self.allowed(lane, &self.committed.seen()).contains(run.node.node);
            let of_child = parent_of(&self.committed, lane).is_some();
            assert!(of_child || allowed, "I-R4: {name} on {}\n{}", run.node, self.read());
        }
        if recovers {
            let victim = run.victim.expect("a recovery has a victim");
            assert!(self.dead.contains(&victim), "I-R5: {name} recovered, {victim} may live\n{}", self.read());
            let below = lanes(&self.committed).into_iter().filter(|(other, ..)| {
                other.of == lane.of
                    && self.committed.services[&other.service].definition.parent.as_ref() == Some(&lane.service)
            });
            for (child, _, of_child) in below {
                assert!(!in_recovery(of_child.state), "{name} is recovered before {}\n{}", child.lane(), self.read());
            }
        }
    }

    /// Where the root of its group may be put.
    fn allowed(&self, lane: &Instance, view: &View) -> NodeSet {
        let root = root_of(&self.committed, &lane.service);
        let all = candidates(&self.committed.services[&root].definition, view, &self.committed.standby);
        all.iter().filter(|node| lane.of.is_none_or(|of| of == *node)).collect()
    }

    /// I-R14: a node that has left runs nothing.
    pub fn check_left(&self, id: NodeId) {
        for (name, warden) in &self.nodes[&id].wardens {
            let clean = !warden.service && !warden.recovery && warden.running.is_none();
            assert!(clean, "I-R14: {name} runs on {id}, which has left: {warden:?}\n{}", self.read());
        }
    }

    /// Before a death: what must be recovered before it starts anywhere (I-R17).
    pub fn note_lost_instances(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let lost = lanes(&self.committed).into_iter().filter(|(lane, definition, run)| {
            let ran = matches!(
                run.state,
                RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop
            );
            let runs = node.wardens.get(&lane.lane()).is_some_and(|warden| warden.service);
            ran && runs && run.node == node.me && definition.recovery_command.is_some()
        });
        let lost: Vec<String> = lost.map(|(lane, ..)| lane.lane()).collect();
        self.lost.extend(lost);
    }

    /// I-R20, I-R18, I-R10, I-R12: nothing is left to be done.
    pub fn check_rest(&self) {
        assert!(
            self.nodes.values().all(|node| self.truth.is_joined(node.me)),
            "I-R18: a leave never ends\n{}",
            self.read()
        );
        if self.nodes.is_empty() {
            return;
        }
        for (lane, definition, run) in lanes(&self.committed) {
            self.check_lane_at_rest(&lane, &definition, &run);
        }
    }

    fn check_lane_at_rest(&self, lane: &Instance, definition: &ServiceDefinition, run: &ServiceRun) {
        let name = lane.lane();
        let context = || format!("{name} rests in {run:?}\n{}", self.read());
        assert!(!run.transfer_intent && !run.moving, "I-R10: T stays: {}", context());
        assert!(run.notifying.is_empty(), "I-R12: notify pending for ever: {}", context());
        let allowed = self.allowed(lane, &self.truth);
        let parent = parent_of(&self.committed, lane);
        let stopped = !wanted(&self.committed, &lane.service) || held(&self.committed, lane);
        match run.state {
            RunState::Registered => {
                assert!(self.truth.is_joined(run.node) && wanted(&self.committed, &lane.service), "{}", context());
                assert_eq!(self.running_on(&name), [run.node.node], "{}", context());
                self.check_notified(lane, definition, run);
            }
            RunState::Failed => {
                let failed = run.tried.union(&run.exhausted);
                assert!(parent.is_some() || allowed.is_subset(&failed), "untried candidate: {}", context());
            }
            RunState::FailedRecovery => {}
            RunState::DeRegistered => {
                let left = lane.of.is_some_and(|of| !self.truth.is_up(of));
                assert!(stopped || allowed.is_empty() || left, "{}", context());
            }
            RunState::PendRecovery => {
                let nobody = self.allowed(&Instance::only(lane.service.clone()), &self.truth).is_empty();
                assert!(held(&self.committed, lane) || nobody, "{}", context());
            }
            RunState::AwaitMaturity => {
                let waits = definition.maturity_time_ms.is_none() && definition.maturity_count.is_some();
                let all = self.allowed(&Instance::only(lane.service.clone()), &self.truth);
                assert!(waits && all.len() < 2, "{}", context());
            }
            RunState::AwaitParent => {
                let above = parent.map(|parent| run_of(&self.committed, &parent).state);
                assert!(above.is_some_and(|above| above != RunState::Registered), "{}", context());
            }
            RunState::Starting
            | RunState::StartCleanup
            | RunState::Stopping
            | RunState::StopKill
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery => panic!("never comes to rest: {}", context()),
        }
        if run.state != RunState::Registered {
            assert!(self.running_on(&name).is_empty(), "runs though {:?}: {}", run.state, context());
        }
    }

    /// I-R12.
    fn check_notified(&self, lane: &Instance, definition: &ServiceDefinition, run: &ServiceRun) {
        let root = root_of(&self.committed, &lane.service);
        let all = candidates(&self.committed.services[&root].definition, &self.truth, &NodeSet::EMPTY);
        for node in all.iter().filter(|node| *node != run.node.node && definition.notify_command.is_some()) {
            let told = run.notified.get(&node) == Some(&self.truth.incarnation(node));
            assert!(told, "I-R12: {node} is never notified of {}\n{}", lane.lane(), self.read());
        }
    }
}

/// Every machine of a database, with the definition of its service.
pub fn lanes(record: &RegistrationRecord) -> Vec<(Instance, ServiceDefinition, ServiceRun)> {
    let of_service = |(name, service): (&String, &ServiceRecord)| {
        let runs = service
            .runs()
            .map(|(of, run)| (Instance { service: name.clone(), of }, service.definition.clone(), run.clone()));
        let on_all = of_all(record, name);
        runs.filter(|(lane, ..)| lane.of.is_some() == on_all).collect::<Vec<_>>()
    };
    record.services.iter().flat_map(of_service).collect()
}

fn of_all(record: &RegistrationRecord, service: &str) -> bool {
    let root = record.services.get(&root_of(record, service));
    root.is_some_and(|root| root.definition.placement_policy == PlacementPolicy::RegisterOnAll)
}

pub fn root_of(record: &RegistrationRecord, service: &str) -> String {
    let parent = record.services.get(service).and_then(|service| service.definition.parent.as_deref());
    parent.map_or_else(|| service.to_owned(), |parent| root_of(record, parent))
}

fn parent_of(record: &RegistrationRecord, lane: &Instance) -> Option<Instance> {
    let service = record.services.get(&lane.service)?.definition.parent.clone()?;
    Some(Instance { service, of: lane.of })
}

fn run_of(record: &RegistrationRecord, lane: &Instance) -> ServiceRun {
    let service = record.services.get(&lane.service);
    service.and_then(|service| service.run_of(lane.of)).cloned().unwrap_or_default()
}

fn wanted(record: &RegistrationRecord, service: &str) -> bool {
    let Some(service) = record.services.get(service) else { return false };
    service.run.want && service.definition.parent.as_ref().is_none_or(|parent| wanted(record, parent))
}

/// It, or something of its group on which it may wait.
fn held(record: &RegistrationRecord, lane: &Instance) -> bool {
    let root = root_of(record, &lane.service);
    let of_group = record.services.keys().filter(|name| root_of(record, name) == root);
    let held = |name: &String| {
        record.services[name].run.held || run_of(record, &Instance { service: name.clone(), of: lane.of }).held
    };
    of_group.into_iter().any(held)
}

const fn in_recovery(state: RunState) -> bool {
    matches!(state, RunState::PendRecovery | RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery)
}

const fn word(state: RunState) -> &'static str {
    match state {
        RunState::DeRegistered => "DeRegistered",
        RunState::AwaitMaturity => "AwaitMaturity",
        RunState::AwaitParent => "AwaitParent",
        RunState::Starting => "Starting",
        RunState::StartCleanup => "StartCleanup",
        RunState::Registered => "Registered",
        RunState::Stopping => "Stopping",
        RunState::StopKill => "StopKill",
        RunState::PendRecovery => "PendRecovery",
        RunState::Recovering => "Recovering",
        RunState::RecoveryCleanup => "RecoveryCleanup",
        RunState::FenceStart => "FenceStart",
        RunState::FenceStop => "FenceStop",
        RunState::FenceRecovery => "FenceRecovery",
        RunState::Failed => "Failed",
        RunState::FailedRecovery => "FailedRecovery",
    }
}
