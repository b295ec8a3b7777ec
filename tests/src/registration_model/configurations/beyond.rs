//! What protocol §6.7 does not have.

use phalanx_messages::NodeId;
use phalanx_messages::order::ServiceOrder;
use phalanx_messages::service::{RestartPolicy, ServiceDefinition};
use phalanx_protocol::registration::NodeLoads;

use super::{
    CHILD, NONE, ROOT, administered, child, failing_the_group, free, mature, model, notifying, on_all, order, service,
    standing_by,
};
use crate::registration_model::{Budget, RegistrationModel};

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
        RegistrationModel {
            orders: vec![
                order(ROOT, ServiceOrder::Clear { skip_recovery: true }),
                order(CHILD, ServiceOrder::Hold),
                order(ROOT, ServiceOrder::Deregister),
            ],
            ..model(
                "a recovery that is given up",
                2,
                &[0, 1],
                vec![service(ROOT), child(CHILD, ROOT)],
                Budget { boots: 1, deaths: 1, recovery_failures: 1, orders: 2, ..NONE },
            )
        },
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
