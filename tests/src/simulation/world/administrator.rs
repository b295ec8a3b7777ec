//! What administrators ask of registration and launch, at random and through any node (protocol §6.3, "Admin"; RL-10).

use phalanx_messages::order::{DefinitionChange, RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{RegistrationRecord, RunState};
use phalanx_messages::{NodeId, Revision};
use phalanx_protocol::launcher::LauncherInput;

use super::World;
use crate::simulation::catalogue::{WATCHED_GROUP, redefined};

impl World {
    /// An administrator wants something.
    pub(super) fn order_something(&mut self) {
        let up: Vec<NodeId> = self.node_ids().into_iter().filter(|node| self.can_be_asked(*node)).collect();
        if let (Some(node), Some(order)) = (self.random.pick(&up).copied(), self.any_order()) {
            self.order(node, order);
        }
    }

    /// Asks registration-and-launch through that node.
    pub(super) fn order(&mut self, node: NodeId, order: RegistrationOrder) {
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let Some(services) = self.services_mut(node) else { return };
        services.orders += 1;
        let counter = services.orders;
        self.log.event(self.now, Some(node), "is ordered", &[counter], || format!("{order:?}"));
        self.coverage.reach(place_of(&order));
        self.truth.services.order_asked(me, counter, order.clone());
        self.tell_launcher(node, LauncherInput::Ask { counter, order });
    }

    fn any_order(&mut self) -> Option<RegistrationOrder> {
        let names: Vec<String> = self.setup.catalogue.services.keys().cloned().collect();
        let (service, nodes) = (self.random.pick(&names)?.clone(), self.node_ids());
        let node = *self.random.pick(&nodes)?;
        let order = match self.random.below(20) {
            0..=3 => ServiceOrder::Register,
            4 => ServiceOrder::Deregister,
            5 => ServiceOrder::Hold,
            6..=8 => ServiceOrder::Clear { skip_recovery: self.random.chance(200) },
            9..=11 => ServiceOrder::Transfer { to: self.random.coin().then_some(node) },
            12 => ServiceOrder::Remove { skip_recovery: self.random.chance(200) },
            13..=14 => return Some(RegistrationOrder::Standby { node, standby: self.random.chance(350) }),
            15 => {
                let enabled = self.random.coin();
                return Some(RegistrationOrder::EnableGroup { group: WATCHED_GROUP.to_owned(), enabled });
            }
            16 => return self.reported_failure(),
            _ => return self.redefinition(service),
        };
        Some(RegistrationOrder::Service { service, order })
    }

    /// Something that is registered is said to have failed; now and then too late.
    fn reported_failure(&mut self) -> Option<RegistrationOrder> {
        let registered: Vec<(String, Option<NodeId>, Revision)> = registrations(&self.truth.services.newest());
        let (service, node, mut generation) = self.random.pick(&registered)?.clone();
        generation.seq = generation.seq.saturating_sub(u64::from(self.random.chance(200)));
        let order = ServiceOrder::Failed { generation, node, text: "seen by somebody".to_owned() };
        Some(RegistrationOrder::Service { service, order })
    }

    /// A service is defined otherwise, or again if it was removed.
    fn redefinition(&mut self, service: String) -> Option<RegistrationOrder> {
        let newest = self.truth.services.newest();
        let before = newest.services.get(&service).map(|record| record.definition.clone());
        let skeleton = self.setup.catalogue.services.get(&service)?.definition.clone();
        let after = redefined(&mut self.random, self.setup.nodes, &skeleton);
        Some(RegistrationOrder::Apply([DefinitionChange { before, after }].into_iter().collect()))
    }

    /// Everything is asked to run, nothing is held, and no node stands by. Not everything need be heard: some may have no lease yet.
    pub fn take_everything_back(&mut self) {
        let up: Vec<NodeId> = self.node_ids().into_iter().filter(|node| self.can_be_asked(*node)).collect();
        let Some(through) = self.random.pick(&up).copied() else { return };
        for node in self.node_ids() {
            self.order(through, RegistrationOrder::Standby { node, standby: false });
        }
        let names: Vec<String> = self.truth.services.newest().services.keys().cloned().collect();
        for service in names {
            for order in [ServiceOrder::Register, ServiceOrder::Clear { skip_recovery: false }] {
                self.order(through, RegistrationOrder::Service { service: service.clone(), order });
            }
        }
    }
}

fn registrations(record: &RegistrationRecord) -> Vec<(String, Option<NodeId>, Revision)> {
    let machines = record.services.iter().flat_map(|(name, service)| service.runs().map(move |it| (name, it)));
    let registered = machines.filter(|(_, (_, run))| run.state == RunState::Registered);
    registered.map(|(name, (of, run))| (name.clone(), of, run.generation.revision)).collect()
}

const fn place_of(order: &RegistrationOrder) -> &'static str {
    match order {
        RegistrationOrder::Service { order, .. } => match order {
            ServiceOrder::Register => "ordered: register",
            ServiceOrder::Deregister => "ordered: deregister",
            ServiceOrder::Transfer { .. } => "ordered: transfer",
            ServiceOrder::Hold => "ordered: hold",
            ServiceOrder::Clear { .. } => "ordered: clear",
            ServiceOrder::Remove { .. } => "ordered: remove",
            ServiceOrder::Failed { .. } => "ordered: failed",
        },
        RegistrationOrder::Apply(_) => "ordered: apply",
        RegistrationOrder::EnableGroup { .. } => "ordered: enable a group",
        RegistrationOrder::Standby { .. } => "ordered: standby",
    }
}
