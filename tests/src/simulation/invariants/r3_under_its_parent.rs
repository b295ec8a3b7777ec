//! I-R3: an instance of a child runs only while its parent is registered on the same node: it starts later and stops earlier.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::registration::{CommandKind, Instance};

use crate::simulation::service_truth::ServiceTruth;

/// A command begins.
pub fn check(instance: &Instance, who: NodeIncarnation, kind: CommandKind, truth: &ServiceTruth) -> Vec<String> {
    let record = truth.newest();
    let lane = |service: &str| Instance { service: service.to_owned(), of: instance.of }.lane();
    let parent = record.services.get(&instance.service).and_then(|service| service.definition.parent.clone());
    match kind {
        CommandKind::Start => match parent {
            Some(parent) if !truth.instance(&lane(&parent), who).started => {
                vec![format!("I-R3: {} starts on {who}, and {parent} does not run there", instance.lane())]
            }
            Some(_) | None => Vec::new(),
        },
        CommandKind::Stop => {
            let children =
                record.services.iter().filter(|(_, child)| child.definition.parent.as_ref() == Some(&instance.service));
            let running = children.filter(|(child, _)| truth.instance(&lane(child), who).service);
            running
                .map(|(child, _)| format!("I-R3: {} stops on {who}, and {child} may run there", instance.lane()))
                .collect()
        }
        CommandKind::Kill | CommandKind::Recovery | CommandKind::Notify => Vec::new(),
    }
}
