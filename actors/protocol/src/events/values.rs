//! Values against the schema of a watcher: when an event is defined, before it is watched, and when it occurs.

use phalanx_messages::event::{EventDefinition, ParameterValue, Parameters};
use phalanx_messages::limits::{EVENT_PARAMETERS_MAX, EVENT_VALUE_BYTES_MAX};
use phalanx_messages::watcher::{Parameter, ParameterKind, WatcherSchema};

use super::mistake::EventMistake;
use super::reference;
use super::schema::takes;

/// What is wrong with the name of a parameter, if something is: it becomes part of the name of a variable.
#[must_use]
pub fn mistake_in_parameter_name(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    (!starts_well || name.len() > 32 || !name.bytes().all(allowed)).then(|| {
        format!(
            "`{name}` must begin with a lower-case letter, hold only those, digits and `_`, and have at most 32 bytes"
        )
    })
}

/// What is wrong with a schema that a program outside the node provides, if something is.
#[must_use]
pub fn mistake_in_schema(schema: &WatcherSchema) -> Option<String> {
    for (side, parameters) in [("IN", &schema.input), ("OUT", &schema.output)] {
        if parameters.len() > EVENT_PARAMETERS_MAX {
            return Some(format!("{} {side} parameters are more than {EVENT_PARAMETERS_MAX}", parameters.len()));
        }
        for Parameter { name, kind, default, .. } in parameters {
            if let Some(mistake) = mistake_in_parameter_name(name) {
                return Some(mistake);
            }
            if default.as_ref().is_some_and(|default| !fits(kind, default)) {
                return Some(format!("the default of {side} parameter `{name}` is none that it takes"));
            }
        }
    }
    None
}

fn fits(kind: &ParameterKind, value: &ParameterValue) -> bool {
    let text_fits = |text: &str| text.len() <= EVENT_VALUE_BYTES_MAX && !text.contains('\0');
    match (kind, value) {
        (ParameterKind::Text, ParameterValue::Text(text)) => text_fits(text),
        (ParameterKind::Choice(words), ParameterValue::Text(text)) => words.contains(text),
        (ParameterKind::Number { least, most }, ParameterValue::Number(number)) => (least..=most).contains(&number),
        (ParameterKind::Flag, ParameterValue::Flag(_)) => true,
        (ParameterKind::Duration { least_ms, most_ms }, ParameterValue::DurationMs(ms)) => {
            (least_ms..=most_ms).contains(&ms)
        }
        (ParameterKind::Text | ParameterKind::Choice(_), _)
        | (ParameterKind::Number { .. } | ParameterKind::Flag | ParameterKind::Duration { .. }, _) => false,
    }
}

/// Checks an event against the schema of its watcher, which is not known while an external one is not connected.
///
/// # Errors
/// The first mistake.
pub fn check(definition: &EventDefinition, schema: Option<&WatcherSchema>) -> Result<(), EventMistake> {
    if let Some(schema) = schema {
        let watcher = definition.watcher.clone();
        for (name, value) in &definition.parameters {
            let Some(parameter) = schema.input.iter().find(|parameter| parameter.name == *name) else {
                let known = schema.input.iter().map(|parameter| parameter.name.clone()).collect();
                return Err(EventMistake::UnknownParameter { watcher, name: name.clone(), known });
            };
            if !fits(&parameter.kind, value) {
                let (value, takes) = (value.to_string(), takes(&parameter.kind));
                return Err(EventMistake::WrongValue { name: name.clone(), value, takes });
            }
        }
        let missing = |it: &&Parameter| it.required && !definition.parameters.contains_key(&it.name);
        if let Some(parameter) = schema.input.iter().find(missing) {
            return Err(EventMistake::MissingParameter { watcher, name: parameter.name.clone() });
        }
        check_together(definition)?;
    }
    match &definition.action {
        Some(action) => reference::check(&action.run, definition, schema),
        None => Ok(()),
    }
}

/// What one parameter alone does not show.
fn check_together(definition: &EventDefinition) -> Result<(), EventMistake> {
    let parameters = &definition.parameters;
    let given = |name: &str| parameters.contains_key(name);
    let one_of = |first: &str, second: &str| {
        if given(first) != given(second) {
            return Ok(());
        }
        let text = format!("watcher `{}` needs one of `{first}` and `{second}`, and just one", definition.watcher);
        Err(EventMistake::Together { text, hint: format!("give either `{first}` or `{second}` in `in`") })
    };
    match (definition.watcher.as_str(), parameters.get("pattern"), parameters.get("url")) {
        ("process", ..) => one_of("pid_file", "name"),
        ("space", ..) => one_of("percent", "free_bytes"),
        ("log", Some(ParameterValue::Text(pattern)), _) => regex::Regex::new(pattern).map(drop).map_err(|error| {
            let text = format!("IN parameter `pattern` is no regular expression: {error}");
            EventMistake::Together { text, hint: "see the documentation of the regex crate for its syntax".to_owned() }
        }),
        ("http", _, Some(ParameterValue::Text(url))) if !url.starts_with("http://") => Err(EventMistake::Together {
            text: format!("IN parameter `url` is `{url}`; only http://HOST[:PORT]/PATH is looked at"),
            hint: "use a `health` event with a program that speaks the protocol".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// IN parameters with their defaults filled in.
#[must_use]
pub fn complete(definition: &EventDefinition, schema: &WatcherSchema) -> Parameters {
    let mut values = definition.parameters.clone();
    for Parameter { name, default, .. } in &schema.input {
        if let (Some(default), false) = (default, values.contains_key(name)) {
            values.insert(name.clone(), default.clone());
        }
    }
    values
}

/// OUT parameters as a watcher tells them, made to fit: long texts are cut, zero bytes replaced.
///
/// # Errors
/// In words, if a value is missing, unknown or of the wrong kind.
pub fn out_values(schema: &WatcherSchema, told: Parameters) -> Result<Parameters, String> {
    if told.len() > EVENT_PARAMETERS_MAX {
        return Err(format!("{} OUT parameters are more than {EVENT_PARAMETERS_MAX}", told.len()));
    }
    let mut values = Parameters::new();
    for (name, value) in told {
        let Some(parameter) = schema.output.iter().find(|parameter| parameter.name == name) else {
            return Err(format!("there is no OUT parameter `{name}`"));
        };
        let value = tidy(value);
        if !fits(&parameter.kind, &value) {
            return Err(format!("OUT parameter `{name}` is `{value}`; it takes {}", takes(&parameter.kind)));
        }
        values.insert(name, value);
    }
    match schema.output.iter().find(|parameter| !values.contains_key(&parameter.name)) {
        Some(missing) => Err(format!("OUT parameter `{}` is missing", missing.name)),
        None => Ok(values),
    }
}

fn tidy(value: ParameterValue) -> ParameterValue {
    match value {
        ParameterValue::Text(text) => {
            let mut text = text.replace('\0', "\u{fffd}");
            let mut end = text.len().min(EVENT_VALUE_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            ParameterValue::Text(text)
        }
        ParameterValue::Number(_) | ParameterValue::Flag(_) | ParameterValue::DurationMs(_) => value,
    }
}

/// A value as it is given on a command line, for a parameter of that kind; durations in milliseconds.
///
/// # Errors
/// What it takes, in words.
pub fn value_of_text(kind: &ParameterKind, text: &str) -> Result<ParameterValue, String> {
    let value = match kind {
        ParameterKind::Text | ParameterKind::Choice(_) => Some(ParameterValue::Text(text.to_owned())),
        ParameterKind::Number { .. } => text.parse().ok().map(ParameterValue::Number),
        ParameterKind::Flag => text.parse().ok().map(ParameterValue::Flag),
        ParameterKind::Duration { .. } => text.parse().ok().map(ParameterValue::DurationMs),
    };
    value.filter(|value| fits(kind, value)).ok_or_else(|| takes(kind))
}
