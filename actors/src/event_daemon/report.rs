//! Events and occurrences with names, for people and programs.

use std::collections::BTreeSet;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::event_report::{EventGroupStatus, EventStatus, EventsReport, OccurrenceReport};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_protocol::events::{EventDesk, Occurrence, Watched, groups_of, in_words, places};

use super::OccurrenceRing;

pub(super) fn occurrence(occurrence: &Occurrence, node: &str, at_ms: u64) -> OccurrenceReport {
    OccurrenceReport {
        number: occurrence.id.0,
        at_ms,
        node: node.to_owned(),
        event: occurrence.event.clone(),
        group: occurrence.purpose.as_ref().map(|purpose| purpose.group.clone()),
        service: occurrence.purpose.as_ref().and_then(|purpose| purpose.service.clone()),
        out: occurrence.out.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        done: occurrence.done.word().to_owned(),
        text: occurrence.text.clone(),
        repeats: occurrence.repeats,
        test: occurrence.test,
    }
}

/// Everything that `event list` shows. `off`: why nothing is watched at all.
pub(super) fn events(
    desk: &EventDesk,
    ring: &OccurrenceRing,
    node: &str,
    names: &ConfigurationRecord,
    off: Option<&str>,
) -> EventsReport {
    let record = desk.record();
    let events = record.events.values().map(|definition| {
        let name = &definition.name;
        let Watched { watching, problem, occurrences, acted } = desk.watched(name);
        let reason = off.map(str::to_owned).or(problem);
        let state = match (&reason, watching) {
            (Some(_), _) => "failed",
            (None, true) => "watching",
            (None, false) => "off",
        };
        EventStatus {
            name: name.clone(),
            watcher: definition.watcher.clone(),
            input: definition.parameters.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
            action: definition.action.as_ref().map(|action| in_words(&action.run)),
            quiet_ms: definition.quiet_ms,
            groups: groups_of(record, name),
            state: state.to_owned(),
            reason,
            occurrences,
            acted,
            last_at_ms: ring.last_of(name),
        }
    });
    EventsReport { node: node.to_owned(), groups: groups(record, names), events: events.collect() }
}

fn groups(record: &RegistrationRecord, names: &ConfigurationRecord) -> Vec<EventGroupStatus> {
    let of = |group: &phalanx_messages::event::EventGroupDefinition| {
        let named = record.services.values().filter(|it| it.definition.event_group.as_ref() == Some(&group.name));
        let on: BTreeSet<_> = places(record, group).into_iter().map(|place| place.on.node).collect();
        EventGroupStatus {
            name: group.name.clone(),
            enabled: group.enabled,
            events: group.events.clone(),
            services: named.map(|service| service.definition.name.clone()).collect(),
            nodes: group.nodes.iter().map(|node| names.name_of(*node)).collect(),
            enabled_on: on.into_iter().map(|node| names.name_of(node)).collect(),
        }
    };
    record.event_groups.values().map(of).collect()
}
