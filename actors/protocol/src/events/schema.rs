//! What each built-in watcher takes and tells.

use phalanx_messages::event::ParameterValue;
use phalanx_messages::limits::EVENT_VALUE_BYTES_MAX;
use phalanx_messages::watcher::{Parameter, ParameterKind, WatcherSchema};

/// The built-in watchers.
pub const WATCHERS: [&str; 10] =
    ["membership", "process", "health", "tcp", "http", "space", "link", "load", "log", "timer"];

/// A watcher of that prefix is a program outside the node.
pub const EXTERNAL: &str = "external:";

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
const SHORTEST_MS: u64 = 100;

/// The watcher is a program outside the node, whose schema is known when it connects.
#[must_use]
pub fn is_external(watcher: &str) -> bool {
    watcher.starts_with(EXTERNAL)
}

/// The schema of a built-in watcher; none if there is no such watcher.
#[must_use]
pub fn builtin(watcher: &str) -> Option<WatcherSchema> {
    let (input, output) = match watcher {
        "membership" => membership(),
        "process" => process(),
        "health" => health(),
        "tcp" => tcp(),
        "http" => http(),
        "space" => space(),
        "link" => link(),
        "load" => load(),
        "log" => log(),
        "timer" => timer(),
        _ => return None,
    };
    Some(WatcherSchema { input, output })
}

type Both = (Vec<Parameter>, Vec<Parameter>);

fn optional(name: &str, kind: ParameterKind) -> Parameter {
    Parameter { name: name.to_owned(), kind, required: false, default: None }
}

fn required(name: &str, kind: ParameterKind) -> Parameter {
    Parameter { required: true, ..optional(name, kind) }
}

fn with_default(name: &str, kind: ParameterKind, default: ParameterValue) -> Parameter {
    Parameter { default: Some(default), ..optional(name, kind) }
}

fn duration(name: &str, default_ms: u64) -> Parameter {
    let kind = ParameterKind::Duration { least_ms: SHORTEST_MS, most_ms: DAY_MS };
    with_default(name, kind, ParameterValue::DurationMs(default_ms))
}

fn number(name: &str, least: i64, most: i64, default: i64) -> Parameter {
    with_default(name, ParameterKind::Number { least, most }, ParameterValue::Number(default))
}

fn text(name: &str) -> Parameter {
    optional(name, ParameterKind::Text)
}

fn count(name: &str) -> Parameter {
    optional(name, ParameterKind::Number { least: 0, most: i64::MAX })
}

fn choice(words: &[&str]) -> ParameterKind {
    ParameterKind::Choice(words.iter().map(|word| (*word).to_owned()).collect())
}

/// Between two looks, and how many bad ones in a row are an occurrence.
fn looks(interval_ms: u64, timeout_ms: u64) -> [Parameter; 3] {
    [duration("interval", interval_ms), duration("timeout", timeout_ms), number("tolerance", 1, 1_000, 3)]
}

fn membership() -> Both {
    let kinds = choice(&["joining", "join-extending", "leaving", "forced-leaving"]);
    let output = vec![text("node"), optional("kind", kinds.clone()), text("transition")];
    (vec![text("node"), optional("kind", kinds)], output)
}

fn process() -> Both {
    let input = vec![text("pid_file"), text("name"), duration("interval", SECOND_MS)];
    (input, vec![count("pid"), text("process")])
}

fn health() -> Both {
    let mut input = vec![required("command", ParameterKind::Text)];
    input.extend(looks(10 * SECOND_MS, 10 * SECOND_MS));
    (input, vec![count("bad"), text("error")])
}

fn tcp() -> Both {
    let mut input = vec![required("address", ParameterKind::Text)];
    input.extend(looks(5 * SECOND_MS, 2 * SECOND_MS));
    (input, vec![text("address"), count("bad"), text("error")])
}

fn http() -> Both {
    let mut input =
        vec![required("url", ParameterKind::Text), optional("status", ParameterKind::Number { least: 100, most: 599 })];
    input.extend(looks(5 * SECOND_MS, 2 * SECOND_MS));
    (input, vec![text("url"), count("status"), count("bad"), text("error")])
}

fn space() -> Both {
    let input = vec![
        required("path", ParameterKind::Text),
        optional("percent", ParameterKind::Number { least: 1, most: 100 }),
        optional("free_bytes", ParameterKind::Number { least: 1, most: i64::MAX }),
        duration("interval", 30 * SECOND_MS),
    ];
    (input, vec![text("path"), count("percent"), count("free_bytes")])
}

fn link() -> Both {
    let input = vec![required("interface", ParameterKind::Text), duration("interval", SECOND_MS)];
    (input, vec![text("interface"), text("state")])
}

fn load() -> Both {
    let resource = choice(&["cpu", "memory", "io"]);
    let input = vec![
        with_default("resource", resource.clone(), ParameterValue::Text("cpu".to_owned())),
        number("percent", 1, 100, 80),
        duration("interval", 5 * SECOND_MS),
        number("tolerance", 1, 1_000, 3),
    ];
    (input, vec![optional("resource", resource), count("percent")])
}

fn log() -> Both {
    let input = vec![
        required("path", ParameterKind::Text),
        required("pattern", ParameterKind::Text),
        duration("interval", SECOND_MS),
    ];
    (input, vec![text("path"), text("line")])
}

fn timer() -> Both {
    let interval = ParameterKind::Duration { least_ms: SHORTEST_MS, most_ms: 366 * DAY_MS };
    (vec![required("interval", interval)], vec![count("count")])
}

/// What a parameter takes, in words.
pub(super) fn takes(kind: &ParameterKind) -> String {
    match kind {
        ParameterKind::Text => format!("a text of at most {EVENT_VALUE_BYTES_MAX} bytes without a zero byte"),
        ParameterKind::Choice(words) => format!("one of {}", words.join(", ")),
        ParameterKind::Number { least, most: i64::MAX } => format!("a whole number from {least} on"),
        ParameterKind::Number { least, most } => format!("a whole number in {least}..{most}"),
        ParameterKind::Flag => "true or false".to_owned(),
        ParameterKind::Duration { least_ms, most_ms } => {
            format!("a duration such as \"10s\", from {least_ms} ms to {most_ms} ms")
        }
    }
}
