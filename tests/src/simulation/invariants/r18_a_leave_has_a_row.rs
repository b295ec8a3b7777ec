//! I-R18: a leave of the event-manager level ends: no state of a service on the leaving node is without a row, or a command whose end
//! leads to one. That it does end is judged when the faults have ended ([`crate::simulation::campaign`]).

use phalanx_messages::registration::{Instance, RegistrationRecord, RunState};

/// A database is written: it is settled, so a service that is still registered on a leaving node waits for something below it.
pub fn check(record: &RegistrationRecord) -> Vec<String> {
    let view = record.seen();
    let mut found = Vec::new();
    for (name, service) in &record.services {
        for (of, run) in service.runs().filter(|(_, run)| run.state == RunState::Registered) {
            let below = record.services.values().filter(|it| it.definition.parent.as_ref() == Some(name));
            let mut below = below.filter_map(|child| child.run_of(of));
            if view.is_leaving(run.node) && below.all(|child| child.state.is_idle()) {
                let lane = Instance { service: name.clone(), of }.lane();
                found.push(format!("I-R18: {} leaves, and {lane} stays there", run.node));
            }
        }
    }
    found
}
