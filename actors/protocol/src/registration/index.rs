//! What is derived from a database once and kept in step with it: who is whose child, and how much each node carries.
//!
//! A decision about one service of ten thousand must not look at the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use phalanx_messages::NodeId;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun};
use phalanx_messages::service::PlacementPolicy;

/// The services of a database.
pub(super) type Services = OrdMap<String, ServiceRecord>;

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Index {
    children: Arc<BTreeMap<String, Vec<String>>>,
    weights: BTreeMap<NodeId, u64>,
}

impl Index {
    /// Of a whole database.
    #[must_use]
    pub fn of(record: &RegistrationRecord) -> Self {
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, service) in &record.services {
            if let Some(parent) = &service.definition.parent {
                children.entry(parent.clone()).or_default().push(name.clone());
            }
        }
        let mut index = Self { children: Arc::new(children), weights: BTreeMap::new() };
        for (name, service) in record.services.iter().filter(|(_, service)| service.definition.parent.is_none()) {
            let weight = index.weight_of_group(&record.services, name);
            service.runs().for_each(|(_, run)| index.count(run, weight, u64::saturating_add));
        }
        index
    }

    /// Direct children, by name.
    pub(super) fn children(&self, service: &str) -> &[String] {
        self.children.get(service).map_or(&[], Vec::as_slice)
    }

    /// Weight that a node carries.
    #[must_use]
    pub fn weight_on(&self, node: NodeId) -> u64 {
        self.weights.get(&node).copied().unwrap_or(0)
    }

    /// The service and everything below it.
    pub(super) fn weight_of_group(&self, services: &Services, root: &str) -> u64 {
        let own = services.get(root).map_or(0, |service| u64::from(service.definition.weight));
        self.children(root).iter().fold(own, |sum, child| sum + self.weight_of_group(services, child))
    }

    /// The root of a group has gone from one state to another.
    pub(super) fn moved(&mut self, before: &ServiceRun, after: &ServiceRun, weight: u64) {
        self.count(before, weight, u64::saturating_sub);
        self.count(after, weight, u64::saturating_add);
    }

    fn count(&mut self, run: &ServiceRun, weight: u64, add: fn(u64, u64) -> u64) {
        if occupies(run.state) {
            let carried = self.weights.entry(run.node.node).or_default();
            *carried = add(*carried, weight);
        }
    }
}

/// The group takes room on the node of its root.
const fn occupies(state: RunState) -> bool {
    match state {
        RunState::Starting
        | RunState::StartCleanup
        | RunState::FenceStart
        | RunState::Registered
        | RunState::Stopping
        | RunState::StopKill
        | RunState::FenceStop => true,
        RunState::DeRegistered
        | RunState::AwaitMaturity
        | RunState::AwaitParent
        | RunState::PendRecovery
        | RunState::Recovering
        | RunState::RecoveryCleanup
        | RunState::FenceRecovery
        | RunState::Failed
        | RunState::FailedRecovery => false,
    }
}

/// Name of the root of a service's group; its own if it has no parent. Definitions have no circles.
pub(super) fn root_of<'a>(services: &'a Services, service: &'a str) -> &'a str {
    let parent = services.get(service).and_then(|service| service.definition.parent.as_deref());
    parent.map_or(service, |parent| root_of(services, parent))
}

/// The group that `service` is part of has an instance on every allowable node.
pub(super) fn is_on_all(services: &Services, service: &str) -> bool {
    let root = services.get(root_of(services, service));
    root.is_some_and(|root| root.definition.placement_policy == PlacementPolicy::RegisterOnAll)
}
