//! Where an event group is enabled (protocol §6.3: "level-triggered, not a command"; I-R11).

use std::collections::BTreeMap;

use phalanx_messages::event::EventGroupDefinition;
use phalanx_messages::registration::{Instance, Presence, RegistrationRecord, RunState, ServiceRecord, Sight};
use phalanx_messages::{NodeIncarnation, OperationId};

/// Why an event is watched: one action function runs for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purpose {
    /// The registered service, if the group belongs to one.
    pub service: Option<String>,
    /// Names its instance among those of the service (`Instance::lane`); empty without a service.
    pub lane: String,
    /// Fencing token of its registration.
    pub generation: OperationId,
    /// The group.
    pub group: String,
}

impl Purpose {
    /// For a group that belongs to no service.
    #[must_use]
    pub fn of_group(group: String) -> Self {
        Self { service: None, lane: String::new(), generation: OperationId::default(), group }
    }
}

/// Somewhere that a group is enabled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The node, and which start of it.
    pub on: NodeIncarnation,
    /// Why.
    pub purpose: Purpose,
}

/// Which services name each event group.
pub(super) type Naming<'a> = BTreeMap<&'a str, Vec<&'a ServiceRecord>>;

pub(super) fn naming(record: &RegistrationRecord) -> Naming<'_> {
    let mut naming = Naming::new();
    for service in record.services.values() {
        if let Some(group) = service.definition.event_group.as_deref() {
            naming.entry(group).or_default().push(service);
        }
    }
    naming
}

/// Every place at which the group is enabled, by a committed database. A group that services name is enabled where they are
/// registered; any other on its nodes, as long as they are joined; none if an administrator has disabled it.
#[must_use]
pub fn places(record: &RegistrationRecord, group: &EventGroupDefinition) -> Vec<Place> {
    places_of(record, &naming(record), group)
}

pub(super) fn places_of(record: &RegistrationRecord, naming: &Naming<'_>, group: &EventGroupDefinition) -> Vec<Place> {
    if !group.enabled {
        return Vec::new();
    }
    let named = naming.get(group.name.as_str()).map_or(&[][..], Vec::as_slice);
    if named.is_empty() {
        let joined = record.view.iter().filter(|(_, sight)| sight.presence == Presence::Joined);
        let listed = joined.filter(|(node, _)| group.nodes.is_empty() || group.nodes.contains(node));
        let purpose = || Purpose::of_group(group.name.clone());
        let on = |(node, sight): (&_, &Sight)| NodeIncarnation { node: *node, incarnation: sight.incarnation };
        return listed.map(|it| Place { on: on(it), purpose: purpose() }).collect();
    }
    let mut found = Vec::new();
    for service in named {
        let name = &service.definition.name;
        for (of, run) in service.runs().filter(|(_, run)| run.state == RunState::Registered) {
            let lane = Instance { service: name.clone(), of }.lane();
            let (service, generation, group) = (Some(name.clone()), run.generation, group.name.clone());
            found.push(Place { on: run.node, purpose: Purpose { service, lane, generation, group } });
        }
    }
    found
}

/// Names of the groups that have an event.
#[must_use]
pub fn groups_of(record: &RegistrationRecord, event: &str) -> Vec<String> {
    let has = |group: &&EventGroupDefinition| group.events.iter().any(|known| known == event);
    record.event_groups.values().filter(has).map(|group| group.name.clone()).collect()
}
