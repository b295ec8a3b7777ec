//! Checks `[[event]]` and `[[event_group]]` (spec, Table 4), and the groups that services name.

use phalanx_messages::event::{EventDefinition, EventGroupDefinition, ParameterValue, Parameters};
use phalanx_messages::launch::Program;
use phalanx_messages::limits::{EVENT_GROUPS_MAX, EVENTS_MAX};
use phalanx_messages::service::{Invocation, ServiceCommand};
use phalanx_messages::watcher::{ParameterKind, WatcherSchema};
use phalanx_protocol::events::{EXTERNAL, EventMistake, builtin, check, mistake_in_parameter_name};

use super::check::{KnownNodes, Mistakes};
use super::document::Key;
use super::raw::{RawConfig, RawEvent, RawEventGroup, RawScalar};
use super::{EventDefinitions, command, duration, names, subsystem};

/// An action function may take this long if nothing else is said.
pub(super) const TIMEOUT_MS: u64 = 60_000;

/// What the names in a file may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Only what stands in the file.
    InTheFile,
    /// Also what the cluster has: it will be asked.
    InTheCluster,
}

/// Checks every event, every event group, and the `event_group` of every service.
pub(super) fn check_all(
    raw: &RawConfig,
    nodes: &KnownNodes<'_>,
    known: Names,
    mistakes: &mut Mistakes<'_>,
) -> EventDefinitions {
    for (table, count, most) in
        [("event", raw.event.len(), EVENTS_MAX), ("event_group", raw.event_group.len(), EVENT_GROUPS_MAX)]
    {
        if count > most {
            mistakes.add(&[table.into()], format!("{count} [[{table}]] are more than {most}"), "remove some");
        }
    }
    let events: Vec<&str> = raw.event.iter().map(|event| event.name.as_str()).collect();
    let groups: Vec<&str> = raw.event_group.iter().map(|group| group.name.as_str()).collect();
    check_names("event", &events, mistakes);
    check_names("event_group", &groups, mistakes);
    let checked = EventDefinitions {
        events: raw.event.iter().enumerate().map(|(index, event)| check_event(event, index, mistakes)).collect(),
        groups: (raw.event_group.iter().enumerate())
            .map(|(index, group)| check_group(raw, group, index, nodes, known, mistakes))
            .collect(),
    };
    for (index, service) in raw.service.iter().enumerate() {
        let Some(group) = service.event_group.as_deref() else { continue };
        if known == Names::InTheFile && !groups.contains(&group) {
            let message =
                format!("event_group of service `{}` is `{group}`, which is no [[event_group]]", service.name);
            let hint = format!("add an [[event_group]] with `name = \"{group}\"`");
            mistakes.add(&["service".into(), index.into(), "event_group".into()], message, hint);
        }
    }
    checked
}

fn at<'a>(table: &'a str, index: usize, key: &'a str) -> [Key<'a>; 3] {
    [Key::Name(table), Key::Index(index), Key::Name(key)]
}

fn check_names(table: &str, all: &[&str], mistakes: &mut Mistakes<'_>) {
    for (index, name) in all.iter().enumerate() {
        if let Some(message) = names::mistake_in_name(name) {
            mistakes.add(&at(table, index, "name"), message, "choose another name");
        }
        if let Some(before) = all[..index].iter().position(|other| other == name) {
            let message = format!("two [[{table}]] have the name `{name}`, which is unique in the cluster");
            mistakes.clash(
                &at(table, index, "name"),
                &at(table, before, "name"),
                message,
                format!("give each {table} its own name"),
            );
        }
    }
}

fn check_event(raw: &RawEvent, index: usize, mistakes: &mut Mistakes<'_>) -> EventDefinition {
    let schema = builtin(&raw.watcher);
    let found = mistakes.count();
    let parameters = check_input(raw, schema.as_ref(), index, mistakes);
    let action = check_action(raw, index, mistakes);
    let quiet_ms = raw.quiet.as_deref().map_or(Ok(0), duration::parse_ms).unwrap_or_else(|message| {
        mistakes.add(&at("event", index, "quiet"), message, "as in \"10s\"");
        0
    });
    let (name, watcher) = (raw.name.clone(), raw.watcher.clone());
    let definition = EventDefinition { name, watcher, parameters, action, quiet_ms };
    if let Some(external) = raw.watcher.strip_prefix(EXTERNAL) {
        if let Some(message) = names::mistake_in_name(external) {
            mistakes.add(&at("event", index, "watcher"), message, "choose another name");
        }
    } else if schema.is_none() {
        tell(&EventMistake::UnknownWatcher { watcher: raw.watcher.clone() }, raw, index, mistakes);
    }
    // What follows from a mistake that was told already is no news.
    if mistakes.count() == found
        && let Err(mistake) = check(&definition, schema.as_ref())
    {
        tell(&mistake, raw, index, mistakes);
    }
    definition
}

fn tell(mistake: &EventMistake, raw: &RawEvent, index: usize, mistakes: &mut Mistakes<'_>) {
    let message = format!("event `{}`: {mistake}", raw.name);
    let mut path = at("event", index, mistake.key()).to_vec();
    path.extend(mistake.parameter().map(Key::Name));
    mistakes.add(&path, message, mistake.hint());
}

fn check_input(
    raw: &RawEvent,
    schema: Option<&WatcherSchema>,
    index: usize,
    mistakes: &mut Mistakes<'_>,
) -> Parameters {
    let mut parameters = Parameters::new();
    for (name, value) in &raw.input {
        let path = [Key::Name("event"), index.into(), "in".into(), Key::Name(name)];
        if let Some(message) = mistake_in_parameter_name(name) {
            mistakes.add(&path, message, "choose another name");
        }
        let kind = schema.and_then(|schema| schema.input.iter().find(|it| it.name == *name)).map(|it| &it.kind);
        let value = match (kind, value) {
            (Some(ParameterKind::Duration { .. }), RawScalar::Text(text)) => match duration::parse_ms(text) {
                Ok(ms) => ParameterValue::DurationMs(ms),
                Err(message) => {
                    mistakes.add(&path, message, "as in \"10s\"");
                    continue;
                }
            },
            (_, RawScalar::Text(text)) => ParameterValue::Text(text.clone()),
            (_, RawScalar::Number(number)) => ParameterValue::Number(*number),
            (_, RawScalar::Flag(flag)) => ParameterValue::Flag(*flag),
        };
        parameters.insert(name.clone(), value);
    }
    parameters
}

fn check_action(raw: &RawEvent, index: usize, mistakes: &mut Mistakes<'_>) -> Option<ServiceCommand> {
    let Some(action) = &raw.action else {
        if raw.timeout.is_some() {
            let message = format!("timeout of event `{}` is given, and there is no action", raw.name);
            mistakes.add(&at("event", index, "timeout"), message, "add action, or remove timeout");
        }
        return None;
    };
    let run = match command::program(&at("event", index, "action"), "action", action, mistakes)? {
        Program::Arguments(words) => Invocation::Arguments(words),
        Program::Shell(text) => Invocation::Shell(text),
    };
    let timeout = &at("event", index, "timeout");
    let timeout_ms = subsystem::timeout_ms(timeout, raw.timeout.as_deref(), TIMEOUT_MS, mistakes);
    Some(ServiceCommand { run, timeout_ms, retries: 0 })
}

fn check_group(
    raw: &RawConfig,
    group: &RawEventGroup,
    index: usize,
    nodes: &KnownNodes<'_>,
    known: Names,
    mistakes: &mut Mistakes<'_>,
) -> EventGroupDefinition {
    let path = |key: &'static str| at("event_group", index, key);
    if group.events.is_empty() {
        mistakes.add(&path("events"), format!("event group `{}` has no events", group.name), "name at least one");
    }
    for (place, event) in group.events.iter().enumerate() {
        if group.events[..place].contains(event) {
            let message = format!("event group `{}` names event `{event}` twice", group.name);
            mistakes.add(&path("events"), message, "name each event once");
        }
        if known == Names::InTheFile && !raw.event.iter().any(|known| known.name == *event) {
            let message = format!("event group `{}` names `{event}`, which is no [[event]]", group.name);
            mistakes.add(&path("events"), message, format!("add an [[event]] with `name = \"{event}\"`"));
        }
    }
    let service = raw.service.iter().position(|service| service.event_group.as_ref() == Some(&group.name));
    if let (Some(service), false) = (service, group.nodes.is_empty()) {
        let message = format!(
            "event group `{}` is enabled where service `{}` is registered, and has nodes of its own",
            group.name, raw.service[service].name
        );
        mistakes.clash(&path("nodes"), &at("service", service, "event_group"), message, "remove one of the two");
    }
    let mut ids = Vec::new();
    for name in &group.nodes {
        match nodes.id_of(name) {
            Some(id) if !ids.contains(&id) => ids.push(id),
            Some(_) => {
                let message = format!("nodes of event group `{}` names `{name}` twice", group.name);
                mistakes.add(&path("nodes"), message, "name each node once");
            }
            None => {
                let message = format!("nodes of event group `{}` names `{name}`, which is no node", group.name);
                mistakes.add(&path("nodes"), message, format!("the nodes are {}", nodes.names()));
            }
        }
    }
    EventGroupDefinition {
        name: group.name.clone(),
        events: group.events.clone(),
        nodes: ids,
        enabled: group.enabled.unwrap_or(true),
    }
}
