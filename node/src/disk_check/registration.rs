//! The newest registration record (protocol §6.6).

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord};

use super::image::Image;
use super::{CONTRADICTION, Finding, Severity, definitions};

pub(super) fn check(image: &Image) -> Vec<Finding> {
    let Some((owner, record)) = image.registrations.newest() else { return Vec::new() };
    let configuration = named_configuration(image);
    let mut wrong = Vec::new();
    let (count, room) = (record.services.len(), image.superblock.services_max as usize);
    if count > room {
        wrong.push(format!("{count} services are on a disk for {room}"));
    }
    for (name, service) in &record.services {
        wrong.extend(check_service(image, configuration, record, name, service));
    }
    for (node, sight) in &record.view {
        let known = image.registers.of(*node).map(|register| register.incarnation);
        if known.is_some_and(|known| sight.incarnation > known) {
            let name = image.name_of(*node);
            wrong.push(format!("incarnation {} of {name} was seen, and its register has less", sight.incarnation));
        }
    }
    let place = image.registrations.place(owner);
    let mut wrong: Vec<_> = wrong.into_iter().map(|what| (what, CONTRADICTION)).collect();
    wrong.extend(definitions::mistakes(image, configuration, record));
    let finding = |(what, advice)| Finding { severity: Severity::Error, place, what, advice };
    wrong.into_iter().map(finding).collect()
}

fn named_configuration(image: &Image) -> Option<&ConfigurationRecord> {
    let (_, membership) = image.memberships.newest()?;
    image.configurations.find(membership.configuration)
}

fn check_service(
    image: &Image,
    configuration: Option<&ConfigurationRecord>,
    record: &RegistrationRecord,
    name: &str,
    service: &ServiceRecord,
) -> Vec<String> {
    let (run, mut wrong) = (&service.run, Vec::new());
    let state = run.state;
    if service.definition.name != name {
        wrong.push(format!("service `{name}` has the definition of `{}`", service.definition.name));
    }
    if !state.is_idle() {
        let on = image.name_of(run.node.node);
        if configuration.is_some_and(|configuration| !configuration.nodes.contains_key(&run.node.node)) {
            wrong.push(format!("service `{name}` is {state:?} on {on}, which is not configured"));
        }
        let known = image.registers.of(run.node.node).map(|register| register.incarnation);
        if known.is_some_and(|known| run.node.incarnation > known) {
            let incarnation = run.node.incarnation;
            wrong.push(format!(
                "service `{name}` is {state:?} on incarnation {incarnation} of {on}, which never started"
            ));
        }
    }
    if run.operation.revision > record.revision || run.generation > run.operation {
        wrong.push(format!(
            "service `{name}` has operation {} and generation {} in revision {}",
            run.operation, run.generation, record.revision
        ));
    }
    if run.transfer_intent && state.is_idle() {
        wrong.push(format!("service `{name}` is {state:?} and being moved (I-R10)"));
    }
    if run.moving && state != RunState::Registered {
        wrong.push(format!("service `{name}` is {state:?} and about to stop for a move"));
    }
    let recovers = matches!(
        state,
        RunState::PendRecovery | RunState::Recovering | RunState::RecoveryCleanup | RunState::FenceRecovery
    );
    if recovers && run.victim.is_none() {
        wrong.push(format!("service `{name}` is {state:?} after no victim (I-R5)"));
    }
    wrong
}
