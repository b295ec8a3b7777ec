//! What is registered at this incarnation of this node: told to the side that looks after it, whenever it changes.

use imbl::ordmap::DiffItem;
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRecord};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{NodeIncarnation, OperationId};

use super::Launcher;
use super::io::LauncherOutput;

/// A registration at this incarnation of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredHere {
    /// Which machine of the service.
    pub instance: Instance,
    /// The operation of its start.
    pub generation: OperationId,
    /// The service as it is defined now.
    pub definition: ServiceDefinition,
}

impl Launcher {
    /// Tells what differs from the database that was known before.
    pub(super) fn tell_registered(&mut self, before: &RegistrationRecord) {
        let me = self.settings.me;
        let known = self.known.clone();
        for difference in before.services.diff(&known.services) {
            let (before, now) = match difference {
                DiffItem::Add(service, now) => (None, here(service, now, me)),
                DiffItem::Update { old: (_, old), new: (service, now) } => {
                    (here(service, old, me), here(service, now, me))
                }
                DiffItem::Remove(service, old) => (here(service, old, me), None),
            };
            if before == now {
                continue;
            }
            // It may have become one with an instance for each node, or have been one.
            if let Some(before) = before.filter(|before| now.as_ref().is_none_or(|now| now.instance != before.instance))
            {
                self.emit(LauncherOutput::Registered { instance: before.instance, here: None });
            }
            if let Some(now) = now {
                self.emit(LauncherOutput::Registered { instance: now.instance.clone(), here: Some(Box::new(now)) });
            }
        }
    }
}

fn here(service: &str, record: &ServiceRecord, me: NodeIncarnation) -> Option<RegisteredHere> {
    let (of, run) = record.runs().find(|(_, run)| run.state == RunState::Registered && run.node == me)?;
    let instance = Instance { service: service.to_owned(), of };
    Some(RegisteredHere { instance, generation: run.generation, definition: record.definition.clone() })
}
