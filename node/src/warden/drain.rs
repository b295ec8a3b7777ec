//! After the daemon's end: kill and reap everything, clean what outlives processes, speak for the dead (architecture §4).
//!
//! `DeadDrained` is written only when the containment is empty, the daemon has been reaped, and every clean-up succeeded.

use phalanx_messages::configuration::PanicPolicy;
use phalanx_messages::launch::{LaunchResult, Owner};
use phalanx_messages::register::FenceHandle;

use super::cells::{Cells, Keep};
use super::desk::CleanUp;
use super::serve::Signals;
use super::settings::WardenSettings;
use super::talk;
use crate::containment::keeper::{drain, reap};
use crate::containment::tree::TreeKill;
use crate::containment::{now, owner_text, timespec};
use rustix::event::{PollFd, PollFlags};

/// Between two lines about processes that do not end, in milliseconds.
const LINE_MS: u64 = 30_000;

/// Kills and reaps until nothing is left. Tries without end: as long as something lives the lock must be held.
/// `overdue` is called once after `stop_ms`.
pub fn empty_out(cells: &Cells, signals: &Signals, stop_ms: u64, mut overdue: impl FnMut()) {
    let begun = now();
    let (mut tree, mut lines, mut told) = (TreeKill::new(begun), 1, false);
    loop {
        drain(signals.child());
        let childless = reap(|_, _| {});
        let problem = match cells.kill_everything(&mut tree) {
            Ok(true) if childless => return,
            Ok(_) => format!("processes {:?} do not end", tree.alive()),
            Err(error) => error.to_string(),
        };
        let waited_ms = now().since(begun);
        if waited_ms >= lines * LINE_MS {
            lines += 1;
            talk::line(&format!("waiting for the end of this node's processes: {problem}"));
        }
        if waited_ms >= stop_ms && !told {
            told = true;
            talk::line(&format!("this node's processes did not end within {stop_ms} ms: {problem}"));
            overdue();
        }
        wait(cells, signals);
    }
}

fn wait(cells: &Cells, signals: &Signals) {
    match cells.keep() {
        Keep::Cgroup(node) if reap(|_, _| {}) => node.wait_for_change(1),
        Keep::Cgroup(_) | Keep::Subreaper => {
            let mut fds = [PollFd::new(signals.child(), PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&timespec(1))).ok();
        }
    }
}

/// Runs all clean-ups in parallel and waits at most `stop_ms` for them.
///
/// # Errors
/// A line for each that failed.
pub fn clean_up(cells: &Cells, signals: &Signals, list: &[CleanUp], stop_ms: u64) -> Result<(), Vec<String>> {
    let mut failures = Vec::new();
    let mut running = Vec::new();
    for (number, entry) in (0..).zip(list) {
        let Some(command) = &entry.command else {
            failures.push(format!("{} has no command to clean up with", owner_text(&entry.owner)));
            continue;
        };
        match cells.start_clean_up(number, &entry.owner, command, &environment(entry)) {
            Ok(started) => running.push(started),
            Err(error) => failures.push(format!("failed to clean up {}: {error}", owner_text(&entry.owner))),
        }
    }
    let until = now().plus(stop_ms);
    while !running.is_empty() && now() < until {
        let mut fds = [PollFd::new(signals.child(), PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec(2))).ok();
        drain(signals.child());
        let mut reaped = Vec::new();
        reap(|pid, status| reaped.push((pid, status)));
        running.retain_mut(|cleaning| match cleaning.result(&reaped) {
            None => true,
            Some(LaunchResult::Succeeded) => false,
            Some(LaunchResult::Failed { text }) => {
                failures.push(format!("failed to clean up {}: {text}", owner_text(cleaning.owner())));
                false
            }
        });
    }
    failures.extend(running.iter().map(|late| {
        late.kill();
        format!("cleaning up {} took longer than {stop_ms} ms", owner_text(late.owner()))
    }));
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// What the command was given at its last start, but for the action.
fn environment(entry: &CleanUp) -> Vec<(String, String)> {
    let action = match &entry.owner {
        Owner::Service(_) => "stop",
        Owner::Subsystem(_) | Owner::Event(_) => "panic",
    };
    let mut environment = entry.environment.clone();
    environment.retain(|(name, _)| name != "PHALANX_ACTION");
    environment.push(("PHALANX_ACTION".to_owned(), action.to_owned()));
    environment
}

/// The whole way from a dead daemon to `DeadDrained`. Gives whether this incarnation is proved dead.
pub fn drain_and_speak(
    cells: &Cells,
    signals: &Signals,
    list: &[CleanUp],
    settings: &WardenSettings,
    handle: &FenceHandle,
) -> bool {
    let WardenSettings { stop_ms, notice, .. } = settings;
    let stop_ms = *stop_ms;
    let overdue = || carry_out(settings);
    cells.kill_children();
    empty_out(cells, signals, stop_ms, overdue);
    if !list.is_empty() {
        let cleaned = clean_up(cells, signals, list, stop_ms);
        empty_out(cells, signals, stop_ms, overdue); // what the clean-ups left running
        if let Err(failures) = cleaned {
            for line in failures {
                talk::line(&line);
            }
            talk::line(
                "this node may have left something behind; the others wait until its death is confirmed by hand",
            );
            carry_out(settings);
            return false;
        }
    }
    match notice.dead_drained(handle) {
        Ok(_) => true,
        Err(text) => {
            talk::line(&format!("failed to tell the cluster that this node is dead: {text}"));
            carry_out(settings);
            false
        }
    }
}

/// The panic policy (protocol §4.6, step 6). `Watchdog` is the device that nobody feeds any more.
fn carry_out(settings: &WardenSettings) {
    let order = match settings.panic {
        PanicPolicy::Exit | PanicPolicy::Watchdog => return,
        PanicPolicy::Reboot => "b",
        PanicPolicy::Crash => "c",
    };
    if let Err(error) = std::fs::write(&settings.sysrq, order) {
        talk::line(&format!("failed to reset this host: {error}"));
    }
}
