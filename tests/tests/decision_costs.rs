//! What a decision costs those whom it does not concern.

use std::collections::BTreeSet;

use phalanx_messages::order::ServiceOrder;
use phalanx_messages::registration::RunState;
use phalanx_messages::service::{AutoRegister, ServiceDefinition};
use phalanx_tests::launcher_cluster::{LauncherCluster, command};

const SERVICES: usize = 30;

/// Found by the bench of a thousand services: each decision told each of them, so that starting them all took the square of it.
#[test]
fn a_decision_about_one_service_tells_no_other_one() {
    let service = |number: usize| ServiceDefinition {
        auto_register: AutoRegister::Always,
        start_command: command("start"),
        stop_command: command("stop"),
        ..ServiceDefinition::new(format!("s{number:02}"))
    };
    let mut cluster = LauncherCluster::joined(3, (0..SERVICES).map(service).collect());
    let registered = cluster.newest().services.values().filter(|it| it.run.state == RunState::Registered).count();
    assert_eq!(registered, SERVICES);
    assert_eq!(cluster.told().iter().collect::<BTreeSet<_>>().len(), SERVICES, "each was told of its own start");

    let before = cluster.told().len();
    cluster.ask_service(0, "s16", ServiceOrder::Deregister);
    cluster.until("it is stopped", LauncherCluster::is_at_rest);
    assert_eq!(cluster.run("s16").state, RunState::DeRegistered);
    let told: BTreeSet<&str> = cluster.told()[before..].iter().map(String::as_str).collect();
    assert_eq!(told, ["s16"].into());
}
