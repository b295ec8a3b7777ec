//! The table of protocol §6.7.

use phalanx_messages::service::ServiceDefinition;

use super::{
    CHILD, GRANDCHILD, NONE, ROOT, administered, child, failing_the_group, free, ignoring, manual, mature, model,
    notifying, on_all, service,
};
use crate::registration_model::{Budget, RegistrationModel};

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
