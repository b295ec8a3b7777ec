//! Configurations: those of protocol §6.7, and some beyond; and what they are made of.

mod beyond;
mod of_protocol;

use phalanx_messages::NodeId;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, ChildFailure, NodePreferences, PlacementPolicy, ServiceCommand, ServiceDefinition,
    StopFailure, TransferCost,
};

use phalanx_protocol::registration::NodeLoads;

use super::{Budget, RegistrationModel};

pub use beyond::{beyond, strictly};
pub use of_protocol::{
    free_transfers, free_transfers_full, groups, groups_full, on_all_nodes, single, single_full, three_nodes_full,
};

/// The root of every group here.
pub const ROOT: &str = "a";
/// Its child.
pub const CHILD: &str = "b";
/// The child of that.
pub const GRANDCHILD: &str = "c";
/// Nothing happens.
pub const NONE: Budget = Budget {
    boots: 0,
    leaves: 0,
    deaths: 0,
    start_failures: 0,
    stop_failures: 0,
    recovery_failures: 0,
    kill_failures: 0,
    timeouts: 0,
    restarts: 0,
    orders: 0,
    service_failures: 0,
};

/// A service with a start, a stop and a recovery command that runs anywhere.
#[must_use]
pub fn service(name: &str) -> ServiceDefinition {
    let command = |word: &str| Some(ServiceCommand::shell(word, 1_000));
    ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        ..ServiceDefinition::new(name)
    }
}

/// The same below a parent.
#[must_use]
pub fn child(name: &str, parent: &str) -> ServiceDefinition {
    ServiceDefinition { parent: Some(parent.to_owned()), ..service(name) }
}

/// Its other nodes are told.
#[must_use]
pub fn notifying(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { notify_command: Some(ServiceCommand::shell("notify", 1_000)), ..definition }
}

/// It moves by itself to the first of these that is up.
#[must_use]
pub fn free(nodes: &[u16], definition: ServiceDefinition) -> ServiceDefinition {
    let nodes = nodes.iter().copied().map(NodeId).collect();
    ServiceDefinition {
        transfer_cost: TransferCost::Free,
        node_preferences: NodePreferences::Ordered(nodes),
        ..definition
    }
}

/// Its failure fails the group.
#[must_use]
pub fn failing_the_group(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { child_failure: ChildFailure::FailGroup, ..definition }
}

/// So many nodes, of which these are up.
#[must_use]
pub fn model(
    name: &'static str,
    nodes: u16,
    up: &'static [u16],
    definitions: Vec<ServiceDefinition>,
    budget: Budget,
) -> RegistrationModel {
    RegistrationModel {
        name,
        nodes,
        up,
        definitions,
        budget,
        orders: Vec::new(),
        broken: Vec::new(),
        loads: NodeLoads::default(),
        strict_starts: false,
        look_for_cycles: true,
        variant: None,
        bug: None,
    }
}

/// An order about one service.
#[must_use]
pub fn order(service: &str, order: ServiceOrder) -> RegistrationOrder {
    RegistrationOrder::Service { service: service.to_owned(), order }
}

/// Administrators may order everything of every service.
#[must_use]
pub fn administered(model: RegistrationModel) -> RegistrationModel {
    let mut orders = Vec::new();
    for definition in &model.definitions {
        let name = &definition.name;
        let of_each = [
            ServiceOrder::Register,
            ServiceOrder::Deregister,
            ServiceOrder::Hold,
            ServiceOrder::Clear { skip_recovery: false },
        ];
        orders.extend(of_each.into_iter().map(|each| order(name, each)));
        if definition.parent.is_none() {
            let to = (0..model.nodes).map(NodeId).map(Some);
            orders.extend(to.map(|to| order(name, ServiceOrder::Transfer { to })));
        }
    }
    RegistrationModel { orders, ..model }
}

/// They may put each node on standby, and back.
#[must_use]
pub fn standing_by(model: RegistrationModel) -> RegistrationModel {
    let of_node = |node| [true, false].map(|standby| RegistrationOrder::Standby { node: NodeId(node), standby });
    RegistrationModel { orders: (0..model.nodes).flat_map(of_node).collect(), ..model }
}

fn manual(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { auto_register: AutoRegister::Manual, ..definition }
}

fn mature(count: u16, definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { maturity_count: Some(count), maturity_time_ms: Some(300_000), ..definition }
}

fn ignoring(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { stop_failure: StopFailure::Ignore, recovery_command: None, ..definition }
}

fn on_all(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition {
        placement_policy: PlacementPolicy::RegisterOnAll,
        allowable_nodes: AllowableNodes::Any,
        ..definition
    }
}
