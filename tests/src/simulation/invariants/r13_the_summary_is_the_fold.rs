//! I-R13: the summary of a service equals the fold of what is shown of it on each node: on one node whatever it is there, on all
//! nodes registered just if every instance that should run is.

use phalanx_messages::NodeId;
use phalanx_messages::admin::ServiceStatus;
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState};
use phalanx_messages::service::PlacementPolicy;

use super::{candidates_of, root_of};

/// What a node shows of services that has this database.
pub fn check(record: &RegistrationRecord, shown: &[ServiceStatus]) -> Vec<String> {
    let wrong =
        |status: &&ServiceStatus| match root_of(record, &status.name).map(|root| root.definition.placement_policy) {
            Some(PlacementPolicy::RegisterOnOne) => !is_fold_of_one(status),
            Some(PlacementPolicy::RegisterOnAll) => !is_fold_of_all(record, status),
            None => true,
        };
    let all_are_shown = shown.iter().map(|status| &status.name).eq(record.services.keys());
    let missing = (!all_are_shown).then(|| "I-R13: not every service is shown".to_owned());
    let wrong = shown.iter().filter(wrong);
    let told =
        wrong.map(|status| format!("I-R13: {} is shown as {}, and {:?}", status.name, status.state, status.nodes));
    missing.into_iter().chain(told).collect()
}

fn is_fold_of_one(status: &ServiceStatus) -> bool {
    let there = status.nodes.iter().filter(|(_, it)| !matches!(it.state.as_str(), "up" | "down" | "-"));
    let there: Vec<(&String, &str)> = there.map(|(node, it)| (node, it.state.as_str())).collect();
    match there[..] {
        [] => status.node.is_none() && !matches!(status.state.as_str(), "registered" | "starting" | "stopping"),
        [(node, state)] => status.state == state && status.node.as_ref() == Some(node),
        _ => false,
    }
}

fn is_fold_of_all(record: &RegistrationRecord, status: &ServiceStatus) -> bool {
    let service = &record.services[&status.name];
    let candidates = candidates_of(record, &Instance::only(status.name.clone()));
    let instance = |node: NodeId| service.run_of(Some(node));
    let up = candidates.iter().all(|node| instance(node).is_some_and(|run| run.state == RunState::Registered));
    let others = service.instances.iter().filter(|(node, _)| !candidates.contains(**node)).map(|(_, run)| run);
    let mut others = others.filter(|run| !run.state.is_idle() || run.victim.is_some()).peekable();
    let some = !candidates.is_empty() || others.peek().is_some();
    let registered = some && up && others.all(|run| run.state == RunState::Registered);
    (status.state == "registered") == registered && status.node.is_none()
}
