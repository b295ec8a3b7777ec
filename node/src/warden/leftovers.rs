//! What an earlier start of this node left running is killed before this one begins (protocol §3.7 step 0).
//!
//! The caller holds the node-id lock, so no warden or daemon of this node lives.

use std::collections::BTreeMap;

use phalanx_messages::register::Containment;
use rustix::process::Signal;

use super::cells::MARK;
use super::settings::WardenSettings;
use crate::containment::process::{self, Process};
use crate::containment::{cgroup, now, pause};

/// How long leftovers may take to end, in milliseconds.
const KILL_MS: u64 = 10_000;

/// Kills them and verifies that none is left.
///
/// # Errors
/// What does not end.
pub fn kill(settings: &WardenSettings) -> Result<(), String> {
    let until = now().plus(KILL_MS);
    cgroup::kill_leftovers(&settings.containment_key, until)?;
    if let Some(handle) = settings.notice.last_start()?
        && let Containment::Cgroup { path } = &handle.containment
        && cgroup::is_start_directory(path.as_ref())
    {
        cgroup::kill_and_verify(path.as_ref(), until)?;
        cgroup::remove(path.as_ref()).ok();
    }
    loop {
        let marked =
            marked(&settings.containment_key).map_err(|error| format!("failed to look for leftovers: {error}"))?;
        if marked.is_empty() {
            return Ok(());
        }
        for process in marked.values() {
            process.signal(Signal::KILL).map_err(|error| format!("failed to kill a leftover: {error}"))?;
        }
        if now() >= until {
            return Err(format!("processes {:?} of an earlier start do not end", marked.keys()));
        }
        pause(5);
    }
}

/// Living processes whose environment carries the mark of this node. One that cleared it is found only in its cgroup.
fn marked(key: &str) -> std::io::Result<BTreeMap<u32, Process>> {
    let mark = format!("{MARK}={key}");
    let mut found = BTreeMap::new();
    for stat in process::all()? {
        let Ok(environment) = std::fs::read(format!("/proc/{}/environ", stat.pid)) else { continue }; // not ours
        if stat.pid == std::process::id() || !environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        {
            continue;
        }
        if let Some(process) = Process::open(stat.identity())?.filter(|process| !process.has_ended()) {
            found.insert(stat.pid, process);
        }
    }
    Ok(found)
}
