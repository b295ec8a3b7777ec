//! What is registered at this incarnation of this node: told to the side that looks after it, whenever it changes.

use imbl::ordmap::DiffItem;
use phalanx_messages::registration::{Instance, RegistrationRecord, RunState, ServiceRecord};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{NodeIncarnation, OperationId};

use super::Launcher;
use super::io::LauncherOutput;
use crate::registration::effective;

/// A registration at this incarnation of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredHere {
    /// Which machine of the service.
    pub instance: Instance,
    /// The operation of its start.
    pub generation: OperationId,
    /// Nothing is begun for it (protocol §6.3, `H`).
    pub held: bool,
    /// The service as it is defined, with the actions and the monitor that it inherits.
    pub definition: ServiceDefinition,
}

impl Launcher {
    /// Tells what differs from the database that was known before.
    pub(super) fn tell_registered(&mut self, before: &RegistrationRecord) {
        let me = self.settings.me;
        let known = self.known.clone();
        for difference in before.services.diff(&known.services) {
            let (was, is) = (|old: &ServiceRecord| here(old, before, me), |new: &ServiceRecord| here(new, &known, me));
            let (before, now) = match difference {
                DiffItem::Add(_, new) => (None, is(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => (was(old), is(new)),
                DiffItem::Remove(_, old) => (was(old), None),
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

/// What `database` says of a service of it. What a parent passes on is looked up with the child's own record: a parent that is
/// defined otherwise counts from the next change of the child on.
fn here(record: &ServiceRecord, database: &RegistrationRecord, me: NodeIncarnation) -> Option<RegisteredHere> {
    let service = record.definition.name.as_str();
    let (of, run) = record.runs().find(|(_, run)| run.state == RunState::Registered && run.node == me)?;
    let instance = Instance { service: service.to_owned(), of };
    let held = run.held || record.run.held;
    Some(RegisteredHere {
        instance,
        generation: run.generation,
        held,
        definition: effective(&database.services, service)?,
    })
}

#[cfg(test)]
mod tests {
    use phalanx_messages::registration::ServiceRun;
    use phalanx_messages::service::{Invocation, Monitor};
    use phalanx_messages::{Incarnation, NodeId};

    use super::*;

    /// It did not run: what was told was the child's own definition.
    #[test]
    fn a_child_is_looked_after_by_the_monitor_that_it_inherits() {
        let me = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(3) };
        let run = Invocation::Arguments(vec!["check".to_owned()]);
        let monitor = Some(Monitor { run, interval_ms: 10, timeout_ms: 20, tolerance: 1 });
        let parent =
            ServiceDefinition { inherit_actions: true, monitor: monitor.clone(), ..ServiceDefinition::new("parent") };
        let child = ServiceDefinition { parent: Some("parent".to_owned()), ..ServiceDefinition::new("child") };
        let mut database = RegistrationRecord::of_definitions([parent, child]);
        let registered = ServiceRun { state: RunState::Registered, node: me, ..ServiceRun::default() };
        let child = ServiceRecord::new(database.services["child"].definition.clone(), registered);
        database.services.insert("child".to_owned(), child.clone());
        assert_eq!(here(&child, &database, me).and_then(|here| here.definition.monitor), monitor);
        let elsewhere = NodeIncarnation { incarnation: Incarnation(4), ..me };
        assert_eq!(here(&child, &database, elsewhere), None, "another start of this node has it not");
    }
}
