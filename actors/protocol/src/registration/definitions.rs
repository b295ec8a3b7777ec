//! Definitions that change together: all or none (protocol §6.2, §6.5).
//!
//! Groups are checked here once more, against the database as it is: a file may name parents that it does not define.

use std::collections::BTreeSet;

use phalanx_messages::codec;
use phalanx_messages::order::{DefinitionChange, DefinitionChanges, OrderRefusal};
use phalanx_messages::registration::{CommandKind, RegistrationRecord, RunState, ServiceRecord, ServiceRun};
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, NodePreferences, PlacementPolicy, ServiceDefinition, TransferCost,
};

use super::commands::kind_of;
use super::decision::{DatabaseRoom, Decision};
use super::event_orders::{Events, absorb};
use super::index::{Index, Services};
use super::orders::forget_failures;
use super::tree::with_actions_of;

/// Bytes that the run state of one instance may grow to.
const RUN_BYTES: usize = 600;
/// No record is larger than this.
const RECORD_BYTES_MAX: usize = 1 << 30;

impl Decision<'_> {
    /// All or none.
    pub(super) fn apply(&mut self, changes: &DefinitionChanges) -> Result<(), OrderRefusal> {
        let services = &changes.services;
        let after = with_changes(&self.record.services, services)?;
        let Events { events, event_groups, room } = absorb(&self.record, changes, self.room)?;
        services.iter().try_for_each(|change| check_group(&after, &change.after))?;
        services.iter().try_for_each(|change| may_become(&self.record, &after, change))?;
        check_room(&self.record, &after, room)?;
        self.record.services = after;
        (self.record.events, self.record.event_groups) = (events, event_groups);
        self.redefine_index();
        for DefinitionChange { before, after } in services {
            self.touch(&after.name);
            if let Some(before) = before {
                self.redefined(before, after);
            }
        }
        Ok(())
    }

    /// Who is whose child has changed, or what a service weighs.
    pub(super) fn redefine_index(&mut self) {
        self.index = Index::of(&self.record);
        self.note_change();
    }

    /// What runs goes on (protocol §6.2: editing never starts a transfer).
    fn redefined(&mut self, before: &ServiceDefinition, after: &ServiceDefinition) {
        let wanted = after.auto_register == AutoRegister::Always && before.auto_register != AutoRegister::Always;
        let regrouped = before.placement_policy != after.placement_policy || before.parent != after.parent;
        let redefine = |run: &mut ServiceRun| {
            run.want |= wanted;
            if after.notify_command.is_none() {
                run.notified.clear();
                run.notifying.clear();
            }
            forget_failures(run);
        };
        self.change(&after.name, |service| {
            redefine(&mut service.run);
            service.instances.values_mut().for_each(redefine);
        });
        if regrouped {
            // Nothing of it ran, nor of what is below it: they begin anew in their new place.
            for name in group_below(&self.record, &after.name) {
                self.change(&name, |service| {
                    service.instances.clear();
                    service.run.state = RunState::DeRegistered;
                });
            }
        }
    }
}

fn with_changes(services: &Services, changes: &[DefinitionChange]) -> Result<Services, OrderRefusal> {
    let mut after = services.clone();
    for DefinitionChange { before, after: definition } in changes {
        let service = definition.name.clone();
        let known = services.get(&service);
        let seen = before.as_ref().is_none_or(|before| before.name == service);
        if !seen || known.map(|known| &known.definition) != before.as_ref() {
            return Err(OrderRefusal::ChangedMeanwhile { service });
        }
        let record = match known {
            Some(known) => ServiceRecord { definition: definition.clone(), ..known.clone() },
            None => new_record(definition),
        };
        after.insert(service, record);
    }
    Ok(after)
}

fn new_record(definition: &ServiceDefinition) -> ServiceRecord {
    let want = definition.auto_register == AutoRegister::Always;
    ServiceRecord::new(definition.clone(), ServiceRun { want, ..ServiceRun::default() })
}

/// Its parents exist and form no circle; only the root of a group has choosing parameters (spec, "3. Grouping").
fn check_group(services: &Services, definition: &ServiceDefinition) -> Result<(), OrderRefusal> {
    let mut path = vec![definition.name.clone()];
    let mut next = definition.parent.as_ref();
    while let Some(parent) = next {
        let service = path.last().cloned().unwrap_or_default();
        let Some(above) = services.get(parent) else {
            return Err(OrderRefusal::UnknownParent { service, parent: parent.clone() });
        };
        let met = path.iter().position(|name| name == parent);
        path.push(parent.clone());
        if let Some(met) = met {
            return Err(OrderRefusal::Circle { path: path.split_off(met) });
        }
        next = above.definition.parent.as_ref();
    }
    let key = definition.parent.as_ref().and_then(|_| choosing_parameter(definition));
    let service = definition.name.clone();
    key.map_or(Ok(()), |key| Err(OrderRefusal::NotInGroup { service, key: key.to_owned() }))
}

/// The first choosing parameter that is not as in a definition that says nothing.
#[must_use]
pub fn choosing_parameter(definition: &ServiceDefinition) -> Option<&'static str> {
    let given = [
        ("allowable_nodes", definition.allowable_nodes != AllowableNodes::Any),
        ("disallowable_nodes", !definition.disallowable_nodes.is_empty()),
        ("node_preferences", definition.node_preferences != NodePreferences::None),
        ("auto_register", definition.auto_register != AutoRegister::Always),
        ("placement_policy", definition.placement_policy != PlacementPolicy::RegisterOnOne),
        ("maturity_count", definition.maturity_count.is_some()),
        ("maturity_time", definition.maturity_time_ms.is_some()),
        ("transfer_cost", definition.transfer_cost != TransferCost::Normal),
    ];
    given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
}

fn may_become(record: &RegistrationRecord, after: &Services, change: &DefinitionChange) -> Result<(), OrderRefusal> {
    let DefinitionChange { before: Some(before), after: wanted } = change else { return Ok(()) };
    let service = wanted.name.clone();
    let Some(known) = record.services.get(&service) else { return Ok(()) };
    let regrouped = before.parent != wanted.parent || before.placement_policy != wanted.placement_policy;
    let at_work = |name: &String| {
        let mut runs = record.services.get(name)?.runs();
        runs.find(|(_, run)| !run.state.is_idle() || run.victim.is_some()).map(|(_, run)| run.state)
    };
    if regrouped {
        let mut members = group_below(record, &service).into_iter();
        if let Some((service, state)) = members.find_map(|name| Some((name.clone(), at_work(&name)?))) {
            return Err(OrderRefusal::Regrouped { service, state });
        }
    }
    let effective = effective(after, &service).unwrap_or_else(|| wanted.clone());
    for (_, run) in known.runs() {
        let missing = match kind_of(run.state) {
            Some(CommandKind::Start) => effective.start_command.is_none(),
            Some(CommandKind::Stop) => effective.stop_command.is_none(),
            Some(CommandKind::Recovery) => effective.recovery_command.is_none(),
            Some(CommandKind::Kill | CommandKind::Notify) | None => false,
        };
        if missing {
            return Err(OrderRefusal::CommandRuns { service, state: run.state });
        }
    }
    Ok(())
}

fn group_below(record: &RegistrationRecord, service: &str) -> BTreeSet<String> {
    let mut below = BTreeSet::from([service.to_owned()]);
    loop {
        let children = record
            .services
            .iter()
            .filter(|(_, child)| child.definition.parent.as_ref().is_some_and(|parent| below.contains(parent)));
        let more: Vec<String> = children.map(|(name, _)| name.clone()).filter(|name| !below.contains(name)).collect();
        if more.is_empty() {
            return below;
        }
        below.extend(more);
    }
}

/// A definition with the actions that it inherits. Parents form no circle.
#[must_use]
pub fn effective(services: &Services, service: &str) -> Option<ServiceDefinition> {
    let own = services.get(service)?.definition.clone();
    let above = own.parent.as_deref().and_then(|parent| effective(services, parent));
    Some(match above.filter(|above| above.inherit_actions) {
        Some(above) => with_actions_of(&own, &above),
        None => own,
    })
}

/// The database must hold every service in whatever state it comes to.
fn check_room(record: &RegistrationRecord, after: &Services, room: DatabaseRoom) -> Result<(), OrderRefusal> {
    let nodes = record.view.len().max(1);
    let instances = |definition: &ServiceDefinition| match (definition.placement_policy, &definition.allowable_nodes) {
        (PlacementPolicy::RegisterOnOne, _) => 1,
        (PlacementPolicy::RegisterOnAll, AllowableNodes::Listed(listed)) => 1 + listed.len(),
        (PlacementPolicy::RegisterOnAll, AllowableNodes::Any) => 1 + nodes,
    };
    let definitions: Vec<&ServiceDefinition> = after.values().map(|service| &service.definition).collect();
    let encoded = codec::encode(&definitions, RECORD_BYTES_MAX).map_or(RECORD_BYTES_MAX, |bytes| bytes.len());
    let runs: usize = definitions.iter().map(|definition| instances(definition)).sum();
    let (services, bytes) = (definitions.len(), encoded + runs * RUN_BYTES);
    if bytes > room.bytes || services > room.services {
        let (bytes_max, services_max) = (room.bytes, room.services);
        return Err(OrderRefusal::DatabaseFull { services, services_max, bytes, bytes_max });
    }
    Ok(())
}
