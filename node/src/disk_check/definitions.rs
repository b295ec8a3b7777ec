//! What is defined in the newest registration record: every name that is used means something (protocol §6.5; spec, "5. Event
//! Manager Daemon"). The decision that took a definition has checked the same.

use std::collections::BTreeSet;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_protocol::events::{builtin, check, is_external};

use super::CONTRADICTION;
use super::image::Image;

/// A mistake, and what to do about it.
pub(super) type Mistake = (String, &'static str);

/// What to do about a watcher that this program does not know.
const OTHER_VERSION: &str =
    "check with the `phalanx` of the version that the nodes run; if it says the same, `phalanx event remove` the event";

pub(super) fn mistakes(
    image: &Image,
    configuration: Option<&ConfigurationRecord>,
    record: &RegistrationRecord,
) -> Vec<Mistake> {
    let contradicts = |what: String| (what, CONTRADICTION);
    let mut found = events(record);
    found.extend(event_groups(image, configuration, record).into_iter().map(contradicts));
    found.extend(trees(record).into_iter().map(contradicts));
    let away = |node: &_| configuration.is_some_and(|configuration| !configuration.nodes.contains_key(node));
    let strange = record.standby.iter().filter(away);
    found.extend(strange.map(|node| contradicts(format!("{} is on standby and not configured", image.name_of(node)))));
    found
}

fn events(record: &RegistrationRecord) -> Vec<Mistake> {
    let mut found = Vec::new();
    for (name, event) in &record.events {
        if event.name != *name {
            found.push((format!("event `{name}` has the definition of `{}`", event.name), CONTRADICTION));
            continue;
        }
        let schema = builtin(&event.watcher);
        if schema.is_none() && !is_external(&event.watcher) {
            found
                .push((format!("event `{name}` has the watcher `{}`, which is unknown", event.watcher), OTHER_VERSION));
        } else if let Err(mistake) = check(event, schema.as_ref()) {
            found.push((format!("event `{name}`: {mistake}"), OTHER_VERSION));
        }
    }
    found
}

fn event_groups(
    image: &Image,
    configuration: Option<&ConfigurationRecord>,
    record: &RegistrationRecord,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, group) in &record.event_groups {
        if group.name != *name {
            found.push(format!("event group `{name}` has the definition of `{}`", group.name));
        }
        for event in group.events.iter().filter(|event| !record.events.contains_key(*event)) {
            found.push(format!("event group `{name}` names `{event}`, which is no event"));
        }
        for node in &group.nodes {
            if configuration.is_some_and(|configuration| !configuration.nodes.contains_key(node)) {
                found.push(format!("event group `{name}` names {}, which is not configured", image.name_of(*node)));
            }
        }
    }
    for (name, service) in &record.services {
        let group = service.definition.event_group.as_ref();
        if let Some(group) = group.filter(|group| !record.event_groups.contains_key(*group)) {
            found.push(format!("service `{name}` names `{group}`, which is no event group"));
        }
    }
    found
}

/// Groups of services: parents are there, and form no circle. A circle is told once, by its first name.
fn trees(record: &RegistrationRecord) -> Vec<String> {
    let parent_of = |service: &str| record.services.get(service)?.definition.parent.as_deref();
    let mut found = Vec::new();
    for name in record.services.keys() {
        if let Some(parent) = parent_of(name).filter(|parent| !record.services.contains_key(*parent)) {
            found.push(format!("service `{name}` has the parent `{parent}`, which is no service"));
        }
        let mut path = vec![name.as_str()];
        let mut passed: BTreeSet<&str> = path.iter().copied().collect();
        let mut next = parent_of(name);
        while let Some(parent) = next.filter(|parent| passed.insert(parent)) {
            path.push(parent);
            next = parent_of(parent);
        }
        if next == Some(name.as_str()) && path.iter().min() == Some(&name.as_str()) {
            found.push(format!("parents of services form a circle: {} -> {name}", path.join(" -> ")));
        }
    }
    found
}
