//! The configurations of protocol §6.7.

use phalanx_messages::NodeId;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, ChildFailure, NodePreferences, PlacementPolicy, RestartPolicy, ServiceCommand,
    ServiceDefinition, StopFailure, TransferCost,
};

use phalanx_protocol::registration::NodeLoads;

use super::{Budget, RegistrationModel};

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

/// One service on its own, two nodes.
#[must_use]
pub fn single() -> Vec<RegistrationModel> {
    let one = || vec![service(ROOT)];
    vec![
        model(
            "one service, every command fails once",
            2,
            &[0],
            one(),
            Budget {
                boots: 3,
                leaves: 1,
                deaths: 1,
                start_failures: 1,
                stop_failures: 1,
                recovery_failures: 1,
                kill_failures: 1,
                ..NONE
            },
        ),
        administered(model(
            "one service, orders, failures of stop, kill, recovery",
            2,
            &[0],
            one(),
            Budget { boots: 2, deaths: 1, stop_failures: 1, kill_failures: 1, orders: 2, recovery_failures: 1, ..NONE },
        )),
        model(
            "maturity and notifications",
            2,
            &[0],
            vec![mature(2, notifying(service(ROOT)))],
            Budget { boots: 3, leaves: 2, deaths: 1, start_failures: 1, ..NONE },
        ),
        model(
            "latched maturity",
            2,
            &[0, 1],
            vec![ServiceDefinition { maturity_count: Some(2), ..service(ROOT) }],
            Budget { deaths: 1, leaves: 1, start_failures: 1, ..NONE },
        ),
    ]
}

/// The same, larger.
#[must_use]
pub fn single_full() -> Vec<RegistrationModel> {
    let one = || vec![service(ROOT)];
    let three_orders = Budget { boots: 2, leaves: 1, deaths: 1, orders: 3, start_failures: 1, ..NONE };
    vec![
        model(
            "one service, two deaths, a premature time-out, an executor that forgets",
            2,
            &[0],
            one(),
            Budget { boots: 3, leaves: 1, deaths: 2, start_failures: 1, timeouts: 1, restarts: 1, ..NONE },
        ),
        administered(model("one service, three orders", 2, &[0], one(), three_orders)),
        administered(model("one manual service, three orders", 2, &[0], vec![manual(service(ROOT))], three_orders)),
        administered(model(
            "stop_failure = ignore, no recovery_command, two orders",
            2,
            &[0],
            vec![ignoring(service(ROOT))],
            Budget {
                boots: 2,
                leaves: 1,
                deaths: 1,
                stop_failures: 1,
                kill_failures: 1,
                start_failures: 1,
                orders: 2,
                ..NONE
            },
        )),
    ]
}

/// Three nodes.
#[must_use]
pub fn three_nodes_full() -> Vec<RegistrationModel> {
    let one = || vec![service(ROOT)];
    let large = |model: RegistrationModel| RegistrationModel { look_for_cycles: false, ..model };
    vec![
        large(model(
            "one service, three nodes",
            3,
            &[0],
            one(),
            Budget {
                boots: 3,
                leaves: 1,
                deaths: 2,
                start_failures: 1,
                stop_failures: 1,
                recovery_failures: 1,
                ..NONE
            },
        )),
        large(model(
            "one service, three nodes up",
            3,
            &[0, 1, 2],
            one(),
            Budget {
                boots: 1,
                leaves: 1,
                deaths: 2,
                start_failures: 1,
                recovery_failures: 1,
                kill_failures: 1,
                ..NONE
            },
        )),
    ]
}

/// Parent and child, and a grandchild.
#[must_use]
pub fn groups() -> Vec<RegistrationModel> {
    let pair = || vec![service(ROOT), child(CHILD, ROOT)];
    let triple = || vec![service(ROOT), child(CHILD, ROOT), child(GRANDCHILD, CHILD)];
    let fail_pair = || vec![service(ROOT), failing_the_group(child(CHILD, ROOT))];
    vec![
        model(
            "parent and child",
            2,
            &[0],
            pair(),
            Budget { boots: 2, leaves: 1, deaths: 1, start_failures: 1, stop_failures: 1, ..NONE },
        ),
        model(
            "parent and child, failures of recovery and kill",
            2,
            &[0],
            pair(),
            Budget { boots: 2, deaths: 2, recovery_failures: 1, kill_failures: 1, ..NONE },
        ),
        RegistrationModel {
            broken: vec![(CHILD, 0), (CHILD, 1)],
            ..model(
                "fail_group, the child fails everywhere",
                2,
                &[0, 1],
                fail_pair(),
                Budget { boots: 2, leaves: 1, deaths: 1, start_failures: 1, ..NONE },
            )
        },
        RegistrationModel {
            broken: vec![(CHILD, 0)],
            ..model(
                "fail_group, the child fails on one node",
                2,
                &[0, 1],
                fail_pair(),
                Budget { boots: 1, deaths: 2, recovery_failures: 1, ..NONE },
            )
        },
        RegistrationModel {
            broken: vec![(ROOT, 0), (CHILD, 1)],
            ..model(
                "backoff",
                2,
                &[0],
                vec![
                    ServiceDefinition { start_retries: 1, ..service(ROOT) },
                    ServiceDefinition { start_retries: 1, ..child(CHILD, ROOT) },
                ],
                Budget { boots: 2, leaves: 1, deaths: 1, ..NONE },
            )
        },
        model(
            "parent, child and grandchild",
            2,
            &[0],
            triple(),
            Budget { boots: 1, leaves: 1, deaths: 1, start_failures: 1, ..NONE },
        ),
        model(
            "parent, child and grandchild, failures of recovery and stop",
            2,
            &[0],
            triple(),
            Budget { boots: 1, leaves: 1, deaths: 1, recovery_failures: 1, stop_failures: 1, ..NONE },
        ),
    ]
}

/// The same, larger.
#[must_use]
pub fn groups_full() -> Vec<RegistrationModel> {
    let pair = || vec![service(ROOT), child(CHILD, ROOT)];
    let large = |model: RegistrationModel| RegistrationModel { look_for_cycles: false, ..model };
    vec![
        model(
            "parent and child, a premature time-out, an executor that forgets",
            2,
            &[0, 1],
            pair(),
            Budget {
                boots: 1,
                leaves: 1,
                deaths: 1,
                start_failures: 1,
                kill_failures: 1,
                timeouts: 1,
                restarts: 1,
                ..NONE
            },
        ),
        administered(model(
            "parent and child, two orders",
            2,
            &[0],
            pair(),
            Budget { boots: 1, leaves: 1, deaths: 1, start_failures: 1, orders: 2, ..NONE },
        )),
        large(model(
            "parent and child, three nodes",
            3,
            &[0, 1],
            pair(),
            Budget { boots: 1, leaves: 1, deaths: 2, start_failures: 1, recovery_failures: 1, ..NONE },
        )),
        administered(model(
            "parent, child and grandchild, two orders",
            2,
            &[0, 1],
            vec![service(ROOT), child(CHILD, ROOT), child(GRANDCHILD, CHILD)],
            Budget { leaves: 1, deaths: 1, start_failures: 1, orders: 2, ..NONE },
        )),
        large(model(
            "parent, child of fail_group and grandchild, three nodes",
            3,
            &[0, 1, 2],
            vec![service(ROOT), failing_the_group(child(CHILD, ROOT)), child(GRANDCHILD, CHILD)],
            Budget { leaves: 1, deaths: 2, start_failures: 1, recovery_failures: 1, ..NONE },
        )),
    ]
}

/// Transfers that nobody orders.
#[must_use]
pub fn free_transfers() -> Vec<RegistrationModel> {
    vec![
        model(
            "free transfer, maturity and notifications",
            2,
            &[0],
            vec![free(&[0], ServiceDefinition { maturity_count: Some(2), ..notifying(service(ROOT)) })],
            Budget { boots: 3, leaves: 1, deaths: 1, start_failures: 1, stop_failures: 1, ..NONE },
        ),
        RegistrationModel {
            broken: vec![(ROOT, 0)],
            ..model(
                "free transfer, the preferred node always fails the start",
                2,
                &[1],
                vec![free(&[0], service(ROOT))],
                Budget { boots: 3, leaves: 1, deaths: 1, ..NONE },
            )
        },
        RegistrationModel {
            broken: vec![(CHILD, 0)],
            ..model(
                "free transfer, a child of fail_group fails on the preferred node",
                2,
                &[1],
                vec![free(&[0], service(ROOT)), failing_the_group(child(CHILD, ROOT))],
                Budget { boots: 2, leaves: 1, deaths: 1, ..NONE },
            )
        },
        model(
            "free transfer, parent and child with notifications",
            2,
            &[0, 1],
            vec![free(&[0], notifying(service(ROOT))), notifying(child(CHILD, ROOT))],
            Budget { boots: 2, leaves: 1, deaths: 1, start_failures: 1, ..NONE },
        ),
    ]
}

/// The same with three nodes.
#[must_use]
pub fn free_transfers_full() -> Vec<RegistrationModel> {
    vec![model(
        "free transfer and notifications, three nodes",
        3,
        &[0, 1],
        vec![free(&[0, 1, 2], notifying(service(ROOT)))],
        Budget { boots: 2, leaves: 1, deaths: 1, start_failures: 1, ..NONE },
    )]
}

fn on_all(definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition {
        placement_policy: PlacementPolicy::RegisterOnAll,
        allowable_nodes: AllowableNodes::Any,
        ..definition
    }
}

/// An instance on every node.
#[must_use]
pub fn on_all_nodes() -> Vec<RegistrationModel> {
    vec![
        model(
            "register_on_all",
            2,
            &[0],
            vec![on_all(service(ROOT))],
            Budget { boots: 3, leaves: 1, deaths: 1, start_failures: 1, recovery_failures: 1, ..NONE },
        ),
        model(
            "register_on_all with a child",
            2,
            &[0],
            vec![on_all(service(ROOT)), child(CHILD, ROOT)],
            Budget { boots: 1, leaves: 1, deaths: 1, ..NONE },
        ),
    ]
}

/// So often it is restarted in place.
fn restarted(limit: u16, definition: ServiceDefinition) -> ServiceDefinition {
    ServiceDefinition { restart: RestartPolicy { limit, ..RestartPolicy::default() }, ..definition }
}

/// Configurations that protocol §6.7 does not have: services that fail where they run, standby, missing commands, orders to
/// instances.
#[must_use]
pub fn beyond() -> Vec<RegistrationModel> {
    vec![
        model(
            "a service that fails where it runs",
            2,
            &[0, 1],
            vec![ServiceDefinition { start_retries: 1, ..restarted(1, service(ROOT)) }],
            Budget { boots: 1, leaves: 1, deaths: 1, service_failures: 3, stop_failures: 1, ..NONE },
        ),
        model(
            "a child of fail_group that fails where it runs",
            2,
            &[0, 1],
            vec![service(ROOT), failing_the_group(restarted(1, child(CHILD, ROOT)))],
            Budget { deaths: 1, service_failures: 2, ..NONE },
        ),
        model(
            "a parent that fails, freely transferred",
            2,
            &[0, 1],
            vec![free(&[0], restarted(0, service(ROOT))), child(CHILD, ROOT)],
            Budget { leaves: 1, service_failures: 2, ..NONE },
        ),
        standing_by(model(
            "standby",
            2,
            &[0, 1],
            vec![service(ROOT), child(CHILD, ROOT)],
            Budget { leaves: 1, deaths: 1, orders: 2, ..NONE },
        )),
        administered(model(
            "a service without commands",
            2,
            &[0],
            vec![ServiceDefinition::new(ROOT)],
            Budget { boots: 2, leaves: 1, deaths: 1, orders: 2, kill_failures: 1, ..NONE },
        )),
        model(
            "a parent without commands",
            2,
            &[0, 1],
            vec![ServiceDefinition::new(ROOT), child(CHILD, ROOT)],
            Budget { boots: 1, leaves: 1, deaths: 1, start_failures: 1, recovery_failures: 1, ..NONE },
        ),
        administered(model(
            "register_on_all, orders",
            2,
            &[0],
            vec![on_all(service(ROOT))],
            Budget { boots: 1, leaves: 1, deaths: 1, orders: 2, ..NONE },
        )),
        model(
            "register_on_all, maturity and notifications",
            2,
            &[0],
            vec![on_all(mature(2, notifying(service(ROOT))))],
            Budget { boots: 2, leaves: 1, deaths: 1, start_failures: 1, ..NONE },
        ),
        model(
            "register_on_all, a child that fails",
            2,
            &[0, 1],
            vec![on_all(service(ROOT)), failing_the_group(child(CHILD, ROOT))],
            Budget { deaths: 1, start_failures: 1, recovery_failures: 1, ..NONE },
        ),
        model(
            "a child of fail_group that cannot be recovered",
            2,
            &[0, 1],
            vec![service(ROOT), failing_the_group(child(CHILD, ROOT))],
            Budget { deaths: 1, recovery_failures: 2, kill_failures: 1, ..NONE },
        ),
        model(
            "two services that stand alone",
            2,
            &[0, 1],
            vec![service(ROOT), service(CHILD)],
            Budget { leaves: 1, deaths: 1, start_failures: 1, ..NONE },
        ),
        RegistrationModel {
            loads: NodeLoads { capacity: [(NodeId(0), 1), (NodeId(1), 1)].into(), ..NodeLoads::default() },
            ..model(
                "two services, and room for one on each node",
                2,
                &[0],
                vec![free(&[0], service(ROOT)), free(&[0], service(CHILD))],
                Budget { boots: 1, leaves: 1, deaths: 1, start_failures: 1, ..NONE },
            )
        },
    ]
}

/// What really started is recovered (`recover_lost_start`), judged strictly.
#[must_use]
pub fn strictly(models: Vec<RegistrationModel>) -> Vec<RegistrationModel> {
    let strict = |mut model: RegistrationModel| {
        model.definitions.iter_mut().for_each(|definition| definition.recover_lost_start = true);
        RegistrationModel { strict_starts: true, look_for_cycles: false, ..model }
    };
    models.into_iter().map(strict).collect()
}
