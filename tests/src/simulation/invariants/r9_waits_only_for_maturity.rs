//! I-R9: a service awaits maturity just if it is wanted, not held, has a candidate, is idle with nothing of its group in recovery,
//! and was not mature yet; and maturity is latched while there is a candidate (protocol §6.2).

use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRecord, ServiceRun};

use super::{candidates_of, group_of, is_in_recovery};

/// A database is written that was decided upon `before`.
pub fn check(before: &RegistrationRecord, record: &RegistrationRecord) -> Vec<String> {
    let roots = record.services.iter().filter(|(_, service)| service.definition.parent.is_none());
    let mut found = Vec::new();
    for (name, service) in roots {
        for (of, run) in service.runs() {
            let instance = Instance { service: name.clone(), of };
            let (waits, expected) =
                (run.state == RunState::AwaitMaturity, should_wait(record, &instance, service, run));
            if waits != expected {
                found.push(format!("I-R9: {} is {:?} and {run:?}", instance.lane(), run.state));
            }
        }
        let latched = before.services.get(name).is_some_and(|service| service.run.matured);
        let same_cluster = before.formation == record.formation;
        let candidates = candidates_of(record, &Instance::only(name.clone()));
        if latched && !service.run.matured && same_cluster && !candidates.is_empty() {
            found.push(format!("I-R9: the maturity of {name} is not latched"));
        }
    }
    found
}

fn should_wait(record: &RegistrationRecord, instance: &Instance, service: &ServiceRecord, run: &ServiceRun) -> bool {
    let common = &service.run;
    let idle = matches!(run.state, RunState::DeRegistered | RunState::AwaitMaturity | RunState::AwaitParent);
    let recovers = group_of(record, &instance.service)
        .any(|(_, member)| member.run_of(instance.of).is_some_and(|run| is_in_recovery(run.state)));
    let begins = common.want && !common.held && !run.held && !candidates_of(record, instance).is_empty();
    idle && begins && !common.matured && !recovers
}
