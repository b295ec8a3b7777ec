//! The invariants of protocol §6.6 that concern one service without children, checked where they can break.

use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord};
use phalanx_protocol::registration::{candidates, settle};

use super::World;

impl World {
    fn running_on(&self, service: &str) -> Vec<NodeId> {
        let runs = |id: &NodeId| {
            let warden = self.nodes[id].wardens.get(service);
            warden.is_some_and(|warden| warden.service || warden.recovery)
        };
        self.nodes.keys().copied().filter(runs).collect()
    }

    /// I-R1, after every step.
    pub fn check(&self) {
        for service in ["a", "b"] {
            let on = self.running_on(service);
            assert!(on.len() <= 1, "I-R1: {service} may run on {on:?}\n{}", self.read());
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
        for (name, service) in &record.services {
            self.check_service(name, service);
            if self.checked.insert((name.clone(), service.run.operation)) {
                self.check_operation(name, service);
            }
        }
    }

    /// What an administrator has given up, or can no longer be recovered, is not owed any more.
    fn forgive(&mut self, record: &RegistrationRecord) {
        let before = self.committed.requests.get(&NodeId(0)).map_or(0, |consumed| consumed.counter);
        let after = record.requests.get(&NodeId(0)).map_or(0, |consumed| consumed.counter);
        for (_, order) in self.asked.range(before + 1..after + 1) {
            if let RegistrationOrder::Service {
                service,
                order: ServiceOrder::Clear { skip_recovery: true } | ServiceOrder::Remove { skip_recovery: true },
            } = order
            {
                self.lost.remove(service);
            }
        }
        let owed = |name: &String| record.services.get(name).is_some_and(|it| it.definition.recovery_command.is_some());
        self.lost.retain(owed);
    }

    fn check_service(&mut self, name: &str, service: &ServiceRecord) {
        let run = &service.run;
        self.tell("state", format!("{name} {:?} on {}", run.state, run.node));
        assert!(
            !(run.transfer_intent && run.state.is_idle()),
            "I-R10: T in {:?} of {name}\n{}",
            run.state,
            self.read()
        );
        assert!(!run.moving || run.state == RunState::Registered, "moving in {:?}\n{}", run.state, self.read());
        *self.seen.entry(word(run.state)).or_default() += 1;
    }

    fn check_operation(&self, name: &str, service: &ServiceRecord) {
        let run = &service.run;
        let starts = run.state == RunState::Starting;
        let recovers = run.state == RunState::Recovering;
        if starts || recovers {
            let on = self.running_on(name);
            assert!(on.is_empty(), "I-R2: {:?} of {name} committed, may run on {on:?}\n{}", run.state, self.read());
        }
        if starts {
            assert!(
                !self.lost.contains(name),
                "I-R17: {name} starts, its lost instance is not recovered\n{}",
                self.read()
            );
            let allowed = candidates(&service.definition, &self.committed.seen(), &self.committed.standby);
            assert!(allowed.contains(run.node.node), "I-R4: {name} on {}\n{}", run.node, self.read());
        }
        if recovers {
            let victim = run.victim.expect("a recovery has a victim");
            assert!(self.dead.contains(&victim), "I-R5: {name} recovered, {victim} may live\n{}", self.read());
        }
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
        let lost = self.committed.services.iter().filter(|(name, service)| {
            let state = service.run.state;
            let ran =
                matches!(state, RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop);
            let runs = node.wardens.get(*name).is_some_and(|warden| warden.service);
            ran && runs && service.run.node == node.me && service.definition.recovery_command.is_some()
        });
        let lost: Vec<String> = lost.map(|(name, _)| name.clone()).collect();
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
        for (name, service) in &self.committed.services {
            let run = &service.run;
            let context = || format!("{name} rests in {run:?}\n{}", self.read());
            assert!(!run.transfer_intent && !run.moving, "I-R10: T stays: {}", context());
            assert!(run.notifying.is_empty(), "I-R12: notify pending for ever: {}", context());
            let candidates = candidates(&service.definition, &self.truth, &self.committed.standby);
            match run.state {
                RunState::Registered => {
                    assert!(run.want && self.truth.is_joined(run.node), "{}", context());
                    assert_eq!(self.running_on(name), [run.node.node], "{}", context());
                }
                RunState::Failed => assert!(candidates.is_subset(&run.tried), "untried candidate: {}", context()),
                RunState::FailedRecovery => {}
                RunState::DeRegistered => assert!(!run.want || run.held || candidates.is_empty(), "{}", context()),
                RunState::PendRecovery => assert!(run.held || candidates.is_empty(), "{}", context()),
                RunState::AwaitMaturity => {
                    let definition = &service.definition;
                    let waits = definition.maturity_time_ms.is_none() && definition.maturity_count.is_some();
                    assert!(waits && candidates.len() < 2, "{}", context());
                }
                RunState::AwaitParent
                | RunState::Starting
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
                assert!(self.running_on(name).is_empty(), "runs though {:?}: {}", run.state, context());
            }
        }
    }
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
