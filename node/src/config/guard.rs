//! What stops this host's node if it hangs, and what a lost lease means to it: `watchdog`, `watchdog_pretimeout` and `stall` under
//! `[node]` (protocol §3.3, §4.7).

use std::path::PathBuf;

use phalanx_messages::configuration::PanicPolicy;
use phalanx_messages::profile::TimingProfile;
use phalanx_protocol::lease::StallPolicy;

use super::check::Mistakes;
use super::document::{Documents, Key};
use super::duration;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGuard {
    /// The hardware watchdog of this host.
    pub watchdog: Option<PathBuf>,
    /// So long before it fires the kernel panics, in seconds; 0 = never.
    pub pretimeout_s: u32,
    /// What a lost lease means.
    pub stall: StallPolicy,
}

impl Default for HostGuard {
    fn default() -> Self {
        Self { watchdog: None, pretimeout_s: 0, stall: StallPolicy::RideThrough }
    }
}

const fn at(key: &str) -> [Key<'_>; 2] {
    [Key::Name("node"), Key::Name(key)]
}

pub(super) fn check(
    documents: &Documents,
    panic: Option<PanicPolicy>,
    profile: &TimingProfile,
    mistakes: &mut Mistakes<'_>,
) -> HostGuard {
    let Some(raw) = &documents.raw.node else { return HostGuard::default() };
    let watchdog = raw.watchdog.as_ref().map(|path| documents.directory().join(path));
    if watchdog.is_none() && panic == Some(PanicPolicy::Watchdog) {
        let message = "`panic` is \"watchdog\", and [node] names no `watchdog`";
        mistakes.add(&at("panic"), message, "add `watchdog = \"/dev/watchdog\"` under [node]");
    }
    let stall = check_stall(raw.stall.as_deref(), watchdog.is_some(), mistakes);
    let pretimeout_s = check_pretimeout(raw.watchdog_pretimeout.as_deref(), watchdog.is_some(), profile, mistakes);
    HostGuard { watchdog, pretimeout_s, stall }
}

/// A host that is reset when its lease ends cannot ride a stall through.
fn check_stall(given: Option<&str>, has_watchdog: bool, mistakes: &mut Mistakes<'_>) -> StallPolicy {
    match given {
        None if has_watchdog => StallPolicy::Panic,
        None => StallPolicy::RideThrough,
        Some("panic") => StallPolicy::Panic,
        Some("ride_through") => {
            if has_watchdog {
                let message = "node.stall is \"ride_through\", and a `watchdog` resets this host when its lease ends";
                mistakes.clash(&at("stall"), &at("watchdog"), message.to_owned(), "leave one of both out");
            }
            StallPolicy::RideThrough
        }
        Some(other) => {
            mistakes.add(&at("stall"), format!("node.stall `{other}` is unknown"), "use panic or ride_through");
            StallPolicy::Panic
        }
    }
}

fn check_pretimeout(
    given: Option<&str>,
    has_watchdog: bool,
    profile: &TimingProfile,
    mistakes: &mut Mistakes<'_>,
) -> u32 {
    let Some(given) = given else { return 0 };
    let key = at("watchdog_pretimeout");
    if !has_watchdog {
        let hint = "add `watchdog = \"/dev/watchdog\"`, or leave it out";
        mistakes.add(&key, "`watchdog_pretimeout` is given, and no `watchdog`", hint);
    }
    match duration::parse_ms(given) {
        Err(message) => mistakes.add(&key, message, "as in `2s`"),
        Ok(ms) if ms == 0 || !ms.is_multiple_of(1_000) || ms >= profile.watchdog_ms => {
            let message =
                format!("node.watchdog_pretimeout is {given}; W of this timing is {} ms", profile.watchdog_ms);
            mistakes.add(&key, message, "give whole seconds, less than W");
        }
        Ok(ms) => return u32::try_from(ms / 1_000).unwrap_or(u32::MAX),
    }
    0
}
