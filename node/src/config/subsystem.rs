//! Checks `[[subsystem]]`: levels whose work is done by commands.

use phalanx_messages::Level;
use phalanx_messages::limits::{BARRIERS_MAX, LEVELS_MAX};
use phalanx_messages::membership::BarrierCounts;

use super::check::Mistakes;
use super::document::Key;
use super::raw::{RawCommand, RawSubsystem};
use super::{SubsystemConfig, command, duration, names};

/// A command may take this long if nothing else is said.
const TIMEOUT_MS: u64 = 30_000;

/// Checks every subsystem and gives them by ascending level.
pub(super) fn check_all(
    raw: &[RawSubsystem],
    panic_may_exit: bool,
    mistakes: &mut Mistakes<'_>,
) -> Vec<SubsystemConfig> {
    // The event manager has a level of its own.
    if raw.len() >= LEVELS_MAX {
        let message = format!("{} subsystems and the event manager are more than {LEVELS_MAX} levels", raw.len());
        mistakes.add(&["subsystem".into()], message, "join subsystems into one level");
    }
    let mut checked: Vec<_> = raw.iter().enumerate().map(|(index, one)| {
        check_against_others(raw, index, mistakes);
        if one.on_panic.is_none() && !panic_may_exit {
            let message = format!("subsystem `{}` has no on_panic, and node.panic is \"exit\"", one.name);
            let hint = "add on_panic with a command that undoes what the subsystem leaves behind, or choose another node.panic";
            mistakes.clash(&at(index, "name"), &["node".into(), "panic".into()], message, hint);
        }
        check(one, index, mistakes)
    }).collect();
    checked.sort_by_key(|subsystem| subsystem.level);
    checked
}

fn at<'a>(index: usize, key: &'a str) -> [Key<'a>; 3] {
    [Key::Name("subsystem"), Key::Index(index), Key::Name(key)]
}

fn check_against_others(raw: &[RawSubsystem], index: usize, mistakes: &mut Mistakes<'_>) {
    let this = &raw[index];
    for (before, other) in raw[..index].iter().enumerate() {
        if this.level == other.level {
            let message = format!("subsystems `{}` and `{}` both have level {}", other.name, this.name, this.level);
            mistakes.clash(&at(index, "level"), &at(before, "level"), message, "give each subsystem its own level");
        }
        if this.name == other.name {
            let message = format!("two subsystems have the name `{}`", this.name);
            mistakes.clash(&at(index, "name"), &at(before, "name"), message, "give each subsystem its own name");
        }
    }
}

fn check(raw: &RawSubsystem, index: usize, mistakes: &mut Mistakes<'_>) -> SubsystemConfig {
    if let Some(message) = names::mistake_in_name(&raw.name) {
        mistakes.add(&at(index, "name"), message, "choose another name");
    }
    let top = i64::from(Level::EVENT_MANAGER.0);
    if raw.level == top {
        let message = format!("level {top} of subsystem `{}` belongs to the event manager", raw.name);
        mistakes.add(&at(index, "level"), message, format!("use a level in 1..{}", top - 1));
    } else if !(1..top).contains(&raw.level) {
        let message = format!("level of subsystem `{}` is {}; it must lie in 1..{}", raw.name, raw.level, top - 1);
        mistakes.add(&at(index, "level"), message, "the event manager must stay the highest level");
    }
    let mut program = |key: &str, raw: &Option<RawCommand>| {
        raw.as_ref().and_then(|raw| command::program(&at(index, key), key, raw, mistakes))
    };
    let on_joining = program("on_joining", &raw.on_joining);
    let on_leaving = program("on_leaving", &raw.on_leaving);
    let on_forced_leaving = program("on_forced_leaving", &raw.on_forced_leaving);
    let on_panic = program("on_panic", &raw.on_panic);
    SubsystemConfig {
        name: raw.name.clone(),
        level: Level(u16::try_from(raw.level).unwrap_or_default()),
        barriers: check_barriers(raw, index, mistakes),
        on_joining,
        on_leaving,
        on_forced_leaving,
        on_panic,
        timeout_ms: timeout_ms(&at(index, "timeout"), raw.timeout.as_deref(), TIMEOUT_MS, mistakes),
    }
}

fn check_barriers(raw: &RawSubsystem, index: usize, mistakes: &mut Mistakes<'_>) -> BarrierCounts {
    let mut count = |key: &'static str, given: Option<i64>| {
        let given = given.unwrap_or(1);
        let fits = u8::try_from(given).ok().filter(|count| (1..=BARRIERS_MAX).contains(count));
        fits.unwrap_or_else(|| {
            let path = [Key::Name("subsystem"), Key::Index(index), Key::Name("barriers"), Key::Name(key)];
            let message =
                format!("barriers.{key} of subsystem `{}` is {given}; it must lie in 1..{BARRIERS_MAX}", raw.name);
            mistakes.add(&path, message, "every level needs one barrier at least");
            1
        })
    };
    BarrierCounts {
        joining: count("joining", raw.barriers.joining),
        leaving: count("leaving", raw.barriers.leaving),
        forced_leaving: count("forced_leaving", raw.barriers.forced_leaving),
    }
}

/// A timeout above zero.
pub(super) fn timeout_ms(path: &[Key<'_>], given: Option<&str>, default_ms: u64, mistakes: &mut Mistakes<'_>) -> u64 {
    match given.map_or(Ok(default_ms), duration::parse_ms) {
        Ok(0) => {
            mistakes.add(path, "a timeout must be above 0", "as in \"10s\"");
            default_ms
        }
        Ok(timeout_ms) => timeout_ms,
        Err(message) => {
            mistakes.add(path, message, "as in \"10s\"");
            default_ms
        }
    }
}
