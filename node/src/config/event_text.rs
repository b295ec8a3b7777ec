//! Events and event groups as they are written in a file: for `config show`, and for differences that name keys.

use phalanx_messages::event::{EventDefinition, EventGroupDefinition, ParameterValue};
use phalanx_messages::service::Invocation;
use toml::Value;

use super::event::TIMEOUT_MS;
use super::service_text::{KeyDifference, NameOf, difference_of};
use super::{EventDefinitions, duration};

/// The definitions as `[[event]]` and `[[event_group]]` tables. Keys that have their default are left out.
#[must_use]
pub fn events_text(definitions: &EventDefinitions, name_of: NameOf<'_>) -> String {
    let table = |name: &str, keys: Vec<(&str, Value)>| {
        let lines = keys.into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        format!("\n[[{name}]]\n{}", lines.collect::<String>())
    };
    let events = definitions.events.iter().map(|event| table("event", event_keys(event)));
    let groups = definitions.groups.iter().map(|group| table("event_group", event_group_keys(group, name_of)));
    events.chain(groups).collect()
}

/// The keys and values of an `[[event]]` table, in order.
#[must_use]
pub fn event_keys(event: &EventDefinition) -> Vec<(&'static str, Value)> {
    let mut keys = vec![("name", text(&event.name)), ("watcher", text(&event.watcher))];
    if !event.parameters.is_empty() {
        let values = event.parameters.iter().map(|(name, value)| (name.clone(), parameter(value)));
        keys.push(("in", Value::Table(values.collect())));
    }
    if let Some(action) = &event.action {
        let run = match &action.run {
            Invocation::Arguments(words) => Value::Array(words.iter().map(|word| text(word)).collect()),
            Invocation::Shell(line) => Value::Table([("shell".to_owned(), text(line))].into_iter().collect()),
            Invocation::Agent => text("agent"), // refused wherever events are defined
        };
        keys.push(("action", run));
        if action.timeout_ms != TIMEOUT_MS {
            keys.push(("timeout", Value::String(duration::text(action.timeout_ms))));
        }
    }
    if event.quiet_ms != 0 {
        keys.push(("quiet", Value::String(duration::text(event.quiet_ms))));
    }
    keys
}

/// The keys and values of an `[[event_group]]` table, in order.
#[must_use]
pub fn event_group_keys(group: &EventGroupDefinition, name_of: NameOf<'_>) -> Vec<(&'static str, Value)> {
    let mut keys = vec![("name", text(&group.name))];
    keys.push(("events", Value::Array(group.events.iter().map(|event| text(event)).collect())));
    if !group.nodes.is_empty() {
        keys.push(("nodes", Value::Array(group.nodes.iter().map(|node| Value::String(name_of(*node))).collect())));
    }
    if !group.enabled {
        keys.push(("enabled", Value::Boolean(false)));
    }
    keys
}

/// Keys in which two events differ; all of `after` if there was none before.
#[must_use]
pub fn event_difference(before: Option<&EventDefinition>, after: &EventDefinition) -> Vec<KeyDifference> {
    difference_of(before.map(event_keys).unwrap_or_default(), event_keys(after))
}

/// Keys in which two event groups differ; all of `after` if there was none before.
#[must_use]
pub fn event_group_difference(
    before: Option<&EventGroupDefinition>,
    after: &EventGroupDefinition,
    name_of: NameOf<'_>,
) -> Vec<KeyDifference> {
    let before = before.map(|before| event_group_keys(before, name_of)).unwrap_or_default();
    difference_of(before, event_group_keys(after, name_of))
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn parameter(value: &ParameterValue) -> Value {
    match value {
        ParameterValue::Text(line) => text(line),
        ParameterValue::Number(number) => Value::Integer(*number),
        ParameterValue::Flag(flag) => Value::Boolean(*flag),
        ParameterValue::DurationMs(ms) => Value::String(duration::text(*ms)),
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::NodeId;
    use phalanx_messages::service::ServiceCommand;
    use proptest::prelude::*;

    use super::super::definitions_of_text;
    use super::super::tests::nodes;
    use super::*;

    fn action() -> impl Strategy<Value = Option<ServiceCommand>> {
        let word = || "[ -#%-~äß\\n]{1,12}";
        let program = word().prop_filter("a program has a name", |word| !word.trim().is_empty());
        let words = (program, proptest::collection::vec(word(), 0..3));
        let run = prop_oneof![
            words.prop_map(|(program, rest)| Invocation::Arguments([vec![program], rest].concat())),
            "[a-z][ -#%-~]{0,20}[a-z]".prop_map(Invocation::Shell),
        ];
        let command = (run, 1_u64..200_000);
        let command = command.prop_map(|(run, timeout_ms)| ServiceCommand { run, timeout_ms, retries: 0 });
        proptest::option::of(command)
    }

    fn definitions() -> impl Strategy<Value = EventDefinitions> {
        let value = (1_u64..10_000, 1_i64..100, "[ -~]{0,9}");
        let nodes = proptest::sample::subsequence(vec![NodeId(0), NodeId(1), NodeId(2)], 0..=3);
        (action(), value, 0_u64..100_000, any::<bool>(), nodes).prop_map(|(action, value, quiet_ms, enabled, nodes)| {
            let parameters = [
                ("path".to_owned(), ParameterValue::Text(value.2)),
                ("percent".to_owned(), ParameterValue::Number(value.1)),
                ("interval".to_owned(), ParameterValue::DurationMs(value.0 + 100)),
            ];
            let (name, watcher) = ("full".to_owned(), "space".to_owned());
            let event = EventDefinition { name, watcher, parameters: parameters.into(), action, quiet_ms };
            let group =
                EventGroupDefinition { name: "disks".to_owned(), events: vec!["full".to_owned()], nodes, enabled };
            EventDefinitions { events: vec![event], groups: vec![group] }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_of_events_is_read_as_the_same(definitions in definitions()) {
            let text = events_text(&definitions, &|node| format!("n{node}"));
            let read = definitions_of_text("text", &text, &nodes(3), true).map_err(|errors| errors.to_string());
            prop_assert_eq!(read, Ok((vec![], definitions)), "{}", text);
        }

        #[test]
        fn a_difference_of_events_is_empty_just_for_equal_ones(one in definitions(), other in definitions()) {
            let (first, second) = (&one.events[0], &other.events[0]);
            prop_assert_eq!(event_difference(Some(first), second).is_empty(), first == second);
            let (first, second) = (&one.groups[0], &other.groups[0]);
            let name_of = |node| format!("n{node}");
            prop_assert_eq!(event_group_difference(Some(first), second, &name_of).is_empty(), first == second);
        }
    }
}
