//! I-R19: a stop is committed only with a reason that touches the service's group or its node, and a group moves only if it was asked
//! to, must, or prefers to (minimum disturbance).

use phalanx_messages::NodeId;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRun};
use phalanx_messages::service::{ChildFailure, NodePreferences, ServiceDefinition, TransferCost};

use super::{candidates_of, chain, group_of};

/// A database is written that was decided upon `before`, with these orders.
pub fn check(before: &RegistrationRecord, record: &RegistrationRecord, orders: &[&RegistrationOrder]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, service) in &record.services {
        for (of, run) in service.runs() {
            let instance = Instance { service: name.clone(), of };
            let decision = Decision { before, record, orders, instance: &instance, run };
            if decision.begins_to_stop() && !decision.has_reason() {
                found.push(format!("I-R19: {} is stopped on {} without a reason", instance.lane(), run.node));
            }
            if decision.begins_to_move() && !decision.has_reason_to_move() {
                found.push(format!("I-R19: {} moves from {} without a reason", instance.lane(), run.node));
            }
        }
    }
    found
}

struct Decision<'a> {
    before: &'a RegistrationRecord,
    record: &'a RegistrationRecord,
    orders: &'a [&'a RegistrationOrder],
    instance: &'a Instance,
    run: &'a ServiceRun,
}

impl<'a> Decision<'a> {
    fn old(&self, service: &str) -> Option<&'a ServiceRun> {
        self.before.services.get(service)?.run_of(self.instance.of)
    }

    /// The service and everything above it, the root last.
    fn above(&self) -> impl Iterator<Item = (&'a str, &'a ServiceRun)> {
        let of = self.instance.of;
        chain(self.record, &self.instance.service).filter_map(move |(name, service)| Some((name, service.run_of(of)?)))
    }

    /// A kill that ends a stop, or is tried again, begins nothing.
    fn begins_to_stop(&self) -> bool {
        let stops = |state| matches!(state, RunState::Stopping | RunState::StopKill | RunState::FenceStop);
        let old = self.old(&self.instance.service);
        stops(self.run.state) && old.is_none_or(|old| !stops(old.state))
    }

    fn has_reason(&self) -> bool {
        let fails = |(name, run): (&str, &ServiceRun)| run.failing || self.old(name).is_some_and(|old| old.failing);
        let moves = |(_, root): (&str, &ServiceRun)| {
            let at_work = root.moving || matches!(root.state, RunState::Stopping | RunState::StopKill);
            root.transfer_intent && at_work
        };
        let unwanted = chain(self.record, &self.instance.service).any(|(_, service)| !service.run.want);
        unwanted || self.node_lets_go() || self.above().any(fails) || self.above().last().is_some_and(moves)
    }

    fn node_lets_go(&self) -> bool {
        self.record.seen().is_leaving(self.run.node) || self.record.standby.contains(self.run.node.node)
    }

    fn begins_to_move(&self) -> bool {
        let before = self.old(&self.instance.service).is_some_and(|old| old.transfer_intent);
        self.run.transfer_intent && !before
    }

    fn has_reason_to_move(&self) -> bool {
        self.node_lets_go() || self.was_asked_to_move() || self.prefers_another() || self.has_failed_here()
    }

    fn was_asked_to_move(&self) -> bool {
        self.orders.iter().any(|order| match order {
            RegistrationOrder::Service { service, order: ServiceOrder::Transfer { .. } } => {
                *service == self.instance.service
            }
            RegistrationOrder::Service { .. }
            | RegistrationOrder::Apply(_)
            | RegistrationOrder::EnableGroup { .. }
            | RegistrationOrder::Standby { .. } => false,
        })
    }

    fn prefers_another(&self) -> bool {
        let definition = &self.record.services[&self.instance.service].definition;
        let here = place_of(definition, self.run.node.node);
        let better = |node: NodeId| place_of(definition, node) < here && !self.run.avoid.contains(node);
        definition.transfer_cost == TransferCost::Free && candidates_of(self.record, self.instance).iter().any(better)
    }

    /// A child for which its group is to move has failed on the node (protocol RL-13).
    fn has_failed_here(&self) -> bool {
        let fails_the_group = group_of(self.record, &self.instance.service).any(|(name, member)| {
            name != self.instance.service && member.definition.child_failure == ChildFailure::FailGroup
        });
        fails_the_group && self.run.avoid.contains(self.run.node.node)
    }
}

/// 0 = most preferred.
pub fn place_of(definition: &ServiceDefinition, node: NodeId) -> usize {
    match &definition.node_preferences {
        NodePreferences::None => 0,
        NodePreferences::Ordered(nodes) => nodes.iter().position(|other| *other == node).unwrap_or(usize::MAX),
        NodePreferences::Unordered(nodes) => usize::from(!nodes.contains(&node)),
    }
}
