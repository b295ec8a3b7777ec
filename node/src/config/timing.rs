//! `disk.timing`: the name of a profile, or a table of a profile and the inputs that differ from it (protocol §3.11).
//!
//! An input with a formula follows from the others unless it is given. Whatever comes out keeps every relation of the protocol,
//! or both keys are named with their values and their places.

use std::collections::BTreeMap;

use phalanx_messages::profile::{TimingClash, TimingInput, TimingProfile};
use phalanx_storage::Backend;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};

use super::check::Mistakes;
use super::document::Key;
use super::duration::parse_ms;

/// The profile if nothing is said.
const fn default_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Mmap => "local-mmap",
        Backend::Direct => "san-fast",
    }
}

/// A profile with the name of the one it began as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timing {
    pub name: String,
    pub profile: TimingProfile,
}

/// The key as it is written.
#[derive(Debug)]
pub(super) enum RawTiming {
    Named(String),
    Table(Box<RawTimingTable>),
}

/// The table form. Durations, except where the key ends in a unit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTimingTable {
    profile: Option<String>,
    io_timeout: Option<String>,
    renewal: Option<String>,
    lease: Option<String>,
    warn: Option<String>,
    watchdog: Option<String>,
    stop: Option<String>,
    watchdog_delta: Option<String>,
    late_write: Option<String>,
    drift_ppm: Option<u64>,
    granularity: Option<String>,
    net: Option<String>,
    settle: Option<String>,
    guard: Option<String>,
    restart: Option<String>,
    stable: Option<String>,
    kill: Option<String>,
}

impl RawTimingTable {
    /// The duration written for an input, if one is.
    fn duration(&self, input: TimingInput) -> Option<&str> {
        let text = match input {
            TimingInput::IoTimeout => &self.io_timeout,
            TimingInput::Renewal => &self.renewal,
            TimingInput::Lease => &self.lease,
            TimingInput::Warn => &self.warn,
            TimingInput::Watchdog => &self.watchdog,
            TimingInput::Stop => &self.stop,
            TimingInput::WatchdogDelta => &self.watchdog_delta,
            TimingInput::LateWrite => &self.late_write,
            TimingInput::Drift => return None, // a number of its own
            TimingInput::Granularity => &self.granularity,
            TimingInput::Net => &self.net,
            TimingInput::Settle => &self.settle,
            TimingInput::Guard => &self.guard,
            TimingInput::Restart => &self.restart,
            TimingInput::Stable => &self.stable,
            TimingInput::Kill => &self.kill,
        };
        text.as_deref()
    }
}

/// By hand, because an untagged enum forgets where in the table a mistake is.
impl<'de> Deserialize<'de> for RawTiming {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = RawTiming;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "the name of a timing profile, or a table such as { profile = \"local-mmap\", lease = \"6s\" }",
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<RawTiming, E> {
                Ok(RawTiming::Named(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTiming, A::Error> {
                RawTimingTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| RawTiming::Table(Box::new(table)))
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

fn at(key: &'static str) -> [Key<'static>; 3] {
    [Key::Name("disk"), Key::Name("timing"), Key::Name(key)]
}

/// Checks the key.
pub(super) fn check(raw: Option<&RawTiming>, backend: Backend, mistakes: &mut Mistakes<'_>) -> Timing {
    let (empty, default) = (RawTimingTable::default(), default_of(backend));
    let (name, table, path) = match raw {
        None => (default, &empty, None),
        Some(RawTiming::Named(name)) => (name.as_str(), &empty, None),
        Some(RawTiming::Table(table)) => (table.profile.as_deref().unwrap_or(default), &**table, Some(at("profile"))),
    };
    let Some(base) = TimingProfile::named(name) else {
        let names: Vec<&str> = TimingProfile::NAMED.iter().map(|(name, _)| *name).collect();
        let key = if path.is_some() { "disk.timing.profile" } else { "disk.timing" };
        let path = path.as_ref().map_or(&at("")[..2], |path| &path[..]).to_vec();
        let hint = format!("use one of {}; `phalanx timing` explains them", names.join(", "));
        mistakes.add(&path, format!("{key} `{name}` is no profile"), hint);
        return Timing { name: name.to_owned(), profile: TimingProfile::LOCAL_MMAP };
    };
    let given = given(table, mistakes);
    let profile = base.with(&given);
    for clash in profile.clashes() {
        report(&clash, &given, mistakes);
    }
    Timing { name: name.to_owned(), profile }
}

fn given(table: &RawTimingTable, mistakes: &mut Mistakes<'_>) -> BTreeMap<TimingInput, u64> {
    let mut given = BTreeMap::new();
    if let Some(drift) = table.drift_ppm {
        given.insert(TimingInput::Drift, drift);
    }
    for input in TimingInput::ALL {
        match table.duration(input).map(parse_ms) {
            Some(Ok(value)) => {
                given.insert(input, value);
            }
            Some(Err(message)) => mistakes.add(&at(input.key()), message, "as in \"400ms\""),
            None => {}
        }
    }
    given
}

/// Shown at the key that is written in the file: what follows from it has no line of its own.
fn report(clash: &TimingClash, given: &BTreeMap<TimingInput, u64>, mistakes: &mut Mistakes<'_>) {
    let others = clash.others.iter().flatten().map(|(other, _)| *other);
    let mut written = [clash.input].into_iter().chain(others).filter(|input| given.contains_key(input));
    let message = format!("disk.timing: {clash}");
    match (written.next(), written.next()) {
        (Some(first), Some(second)) => mistakes.clash(&at(first.key()), &at(second.key()), message, clash.hint()),
        (Some(first), None) => mistakes.add(&at(first.key()), message, clash.hint()),
        (None, _) => mistakes.add(&at("")[..2], message, clash.hint()), // no named profile breaks a relation
    }
}
