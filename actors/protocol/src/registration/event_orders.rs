//! Events and event groups in the registration database: they change in the transaction of the services that use them, all or
//! none (spec, "5. Event Manager Daemon").

use std::collections::BTreeSet;

use imbl::OrdMap;
use phalanx_messages::codec;
use phalanx_messages::event::{EventDefinition, EventGroupDefinition};
use phalanx_messages::order::{DefinitionChanges, OrderRefusal};
use phalanx_messages::registration::RegistrationRecord;

use super::decision::DatabaseRoom;

/// No record is larger than this.
const RECORD_BYTES_MAX: usize = 1 << 30;

/// What a transaction makes of events and event groups.
pub(super) struct Events {
    pub events: OrdMap<String, EventDefinition>,
    pub event_groups: OrdMap<String, EventGroupDefinition>,
    /// What is left for the services.
    pub room: DatabaseRoom,
}

/// The events and event groups with the changes, if every name that is then used means something.
///
/// # Errors
/// Why the whole transaction is refused.
pub(super) fn absorb(
    record: &RegistrationRecord,
    changes: &DefinitionChanges,
    room: DatabaseRoom,
) -> Result<Events, OrderRefusal> {
    let (mut events, mut event_groups) = (record.events.clone(), record.event_groups.clone());
    for change in &changes.events {
        let name = name_of(change.before.as_ref().map(|it| &it.name), change.after.as_ref().map(|it| &it.name))?;
        if events.get(&name) != change.before.as_ref() {
            return Err(OrderRefusal::EventChangedMeanwhile { name });
        }
        match &change.after {
            Some(after) => drop(events.insert(name, after.clone())),
            None => drop(events.remove(&name)),
        }
    }
    for change in &changes.event_groups {
        let name = name_of(change.before.as_ref().map(|it| &it.name), change.after.as_ref().map(|it| &it.name))?;
        if event_groups.get(&name) != change.before.as_ref() {
            return Err(OrderRefusal::EventChangedMeanwhile { name });
        }
        match &change.after {
            Some(after) => drop(event_groups.insert(name, after.clone())),
            None => drop(event_groups.remove(&name)),
        }
    }
    let after = Events { events, event_groups, room };
    check_names(record, changes, &after)?;
    Ok(after.with_room())
}

impl Events {
    fn with_room(self) -> Self {
        let events: Vec<_> = self.events.values().collect();
        let groups: Vec<_> = self.event_groups.values().collect();
        let bytes = codec::encode(&(events, groups), RECORD_BYTES_MAX).map_or(RECORD_BYTES_MAX, |bytes| bytes.len());
        let room = DatabaseRoom { bytes: self.room.bytes.saturating_sub(bytes), ..self.room };
        Self { room, ..self }
    }
}

/// A definition does not change its name.
fn name_of(before: Option<&String>, after: Option<&String>) -> Result<String, OrderRefusal> {
    match (before, after) {
        (Some(before), Some(after)) if before != after => {
            Err(OrderRefusal::EventChangedMeanwhile { name: before.clone() })
        }
        (_, Some(name)) | (Some(name), None) => Ok(name.clone()),
        (None, None) => Err(OrderRefusal::UnknownEvent { event: String::new() }),
    }
}

/// Every name that is used means something: what was removed is named by nothing, what is named is there.
fn check_names(record: &RegistrationRecord, changes: &DefinitionChanges, after: &Events) -> Result<(), OrderRefusal> {
    let removed: BTreeSet<&String> = changes
        .events
        .iter()
        .filter(|it| it.after.is_none())
        .filter_map(|it| Some(&it.before.as_ref()?.name))
        .collect();
    for group in after.event_groups.values() {
        let unknown = group.events.iter().find(|event| !after.events.contains_key(*event));
        match unknown {
            Some(event) if removed.contains(event) => {
                return Err(OrderRefusal::EventInUse { name: event.clone(), by: group.name.clone() });
            }
            Some(event) => return Err(OrderRefusal::UnknownEvent { event: event.clone() }),
            None => {}
        }
    }
    let removed: BTreeSet<&String> = (changes.event_groups.iter())
        .filter(|it| it.after.is_none())
        .filter_map(|it| Some(&it.before.as_ref()?.name))
        .collect();
    let changed = |name: &String| changes.services.iter().any(|change| change.after.name == *name);
    let kept = record.services.iter().filter(|(name, _)| !changed(name)).map(|(_, service)| &service.definition);
    for service in kept.chain(changes.services.iter().map(|change| &change.after)) {
        let Some(group) = &service.event_group else { continue };
        if after.event_groups.contains_key(group) {
            continue;
        }
        if removed.contains(group) {
            return Err(OrderRefusal::EventInUse { name: group.clone(), by: service.name.clone() });
        }
        return Err(OrderRefusal::UnknownEventGroup { group: group.clone() });
    }
    Ok(())
}

/// An administrator enables or disables a group.
pub(super) fn enable(record: &mut RegistrationRecord, group: &str, enabled: bool) -> Result<(), OrderRefusal> {
    let known = record.event_groups.get_mut(group);
    let known = known.ok_or_else(|| OrderRefusal::UnknownEventGroup { group: group.to_owned() })?;
    known.enabled = enabled;
    Ok(())
}
