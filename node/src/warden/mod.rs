//! The warden: parent of a node's daemon and services. It kills and proves, and speaks for a daemon that can no longer speak
//! (architecture §4, protocol §4.5, §4.6).
//!
//! One thread, no executor, no disk I/O but the register's. What always holds: nothing of the node is started before the
//! node-id lock is held and the leftovers of earlier starts are dead; `DeadDrained` is written only after the daemon and all
//! services have been seen dead and everything that may outlive them was cleaned; the lock is dropped last.

mod cells;
pub mod client;
pub mod desk;
pub mod frames;
pub mod id_lock;
mod notice;
mod settings;
mod watch;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use phalanx_messages::configuration::PanicPolicy;
use phalanx_messages::register::{Containment, FenceHandle, ProcessIdentity};

use crate::containment::cgroup::{self, NodeCgroup};
use crate::containment::process::{self, Process};
use crate::containment::tree::{Scope, TreeKill};
use crate::containment::{ContainmentChoice, keeper, now};

pub use crate::containment::keeper::keeper_main;
pub use notice::RegisterNotice;
pub use settings::{DeathNotice, WardenSettings};

use watch::{End, Watch};

/// Exit code of a node that was forced out or panicked (architecture §5).
pub const EXIT_FORCED_OUT: u8 = 90;
/// How long the leftovers of an earlier start may take to die, in milliseconds.
const LEFTOVERS_MS: u64 = 10_000;
/// Two lines about processes that do not die are this far apart, in milliseconds.
const STUCK_LINE_MS: u64 = 30_000;

/// How the node's processes are kept together.
pub(crate) enum Kept {
    /// By cgroup v2.
    Cgroup(NodeCgroup),
    /// Below this process, which is a subreaper.
    Tree,
}

/// The body of `phalanx node run`: everything from taking the node-id lock to dropping it. Gives the exit code.
///
/// Must run in a process without other threads or children.
///
/// # Errors
/// What kept the node from starting, for the administrator.
pub fn run(settings: WardenSettings) -> Result<u8, String> {
    let lock = id_lock::take(&settings.id_lock, settings.no_wait)?;
    kill_leftovers(&settings)?;
    let warden = process::own_identity().map_err(|error| format!("failed to read /proc: {error}"))?;
    let kept = make_containment(&settings, warden)?;
    std::fs::write("/proc/self/oom_score_adj", "-900").ok(); // without privilege it stays as it is
    let (mut watch, handle) = start_daemon(settings, kept, warden, &lock)?;
    let end = watch.run();
    let code = finish(watch, &handle, end);
    drop(lock);
    Ok(code)
}

/// Protocol §3.7 step 0: nothing of an earlier start of this node id may live, before anything of this one does.
fn kill_leftovers(settings: &WardenSettings) -> Result<(), String> {
    cgroup::kill_leftovers(&settings.containment_key, now().plus(LEFTOVERS_MS))?;
    let Some(last) = settings.notice.last_start()? else { return Ok(()) };
    match last.containment {
        Containment::Cgroup { path } if cgroup::is_start_directory(Path::new(&path)) => {
            cgroup::kill_and_verify(Path::new(&path), now().plus(LEFTOVERS_MS))
        }
        Containment::Cgroup { .. } | Containment::Subreaper | Containment::None => Ok(()),
    }
}

fn make_containment(settings: &WardenSettings, warden: ProcessIdentity) -> Result<Kept, String> {
    // In both kinds: orphans come back here, so that they can be reaped.
    keeper::become_subreaper().map_err(|error| format!("failed to become subreaper: {error}"))?;
    let made = || NodeCgroup::create(&settings.containment_key, warden);
    match settings.containment {
        ContainmentChoice::Subreaper => Ok(Kept::Tree),
        ContainmentChoice::Cgroup => {
            made().map(Kept::Cgroup).map_err(|error| format!("failed to use cgroup v2: {error}"))
        }
        ContainmentChoice::Best => Ok(made().map_or(Kept::Tree, Kept::Cgroup)),
    }
}

fn start_daemon(
    settings: WardenSettings,
    kept: Kept,
    warden: ProcessIdentity,
    lock: &File,
) -> Result<(Watch, FenceHandle), String> {
    let text = |error: std::io::Error| format!("failed to start the daemon: {error}");
    let (here, there) = UnixStream::pair().map_err(text)?;
    let (pipe, daemons_pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| text(e.into()))?;
    rustix::io::ioctl_fionbio(&pipe, true).map_err(|error| text(error.into()))?;
    let child = spawn_daemon(&settings, &kept, there).map_err(text)?;
    let identity = process::stat(child.id()).map_err(text)?.identity();
    let daemon = Process::open(identity).map_err(text)?.ok_or("the daemon ended at once")?;
    let containment = match &kept {
        Kept::Cgroup(group) => Containment::Cgroup { path: group.directory().display().to_string() },
        Kept::Tree => Containment::Subreaper,
    };
    let id_lock = settings.id_lock.display().to_string();
    let handle = FenceHandle { containment, warden, daemon: identity, id_lock };
    frames::send_welcome(&here, &handle, &[daemons_pipe.as_fd(), lock.as_fd()]).map_err(text)?;
    let watch = Watch::new(settings, kept, child, daemon, here, pipe).map_err(text)?;
    Ok((watch, handle))
}

/// The daemon's stdin is its socket to the warden. It starts inside its cgroup, so nothing of it is ever outside.
fn spawn_daemon(settings: &WardenSettings, kept: &Kept, socket: UnixStream) -> std::io::Result<Child> {
    let mut command = match kept {
        Kept::Tree => {
            let (program, arguments) = settings.daemon_command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        Kept::Cgroup(group) => cells::shell_in(&group.daemon(), &settings.daemon_command),
    };
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(socket))).process_group(0).spawn()
}

/// Kills and proves, cleans, says so, and gives the exit code.
fn finish(watch: Watch, handle: &FenceHandle, end: End) -> u8 {
    let Watch { settings, kept, desk, mut daemon_child, .. } = watch;
    kill_everything(&kept);
    let status = daemon_child.wait().ok();
    keeper::reap(|_, _| {});
    let exited = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    let code = match end {
        End::LeftCleanly => exited.unwrap_or(0),
        End::DaemonGone | End::NotFed | End::Killed => {
            let cleaned = cells::clean_up(&settings, &kept, &desk.clean_ups());
            keeper::reap(|_, _| {});
            speak_for_the_dead(&settings, handle, cleaned);
            exited.filter(|code| *code != 0).unwrap_or(EXIT_FORCED_OUT)
        }
    };
    if let Kept::Cgroup(group) = &kept
        && let Err(error) = group.dissolve()
    {
        eprintln!("failed to remove {}: {error}", group.directory().display());
    }
    code
}

fn speak_for_the_dead(settings: &WardenSettings, handle: &FenceHandle, cleaned: Result<(), String>) {
    let failure = match cleaned.and_then(|()| settings.notice.dead_drained(handle)) {
        Ok(_) => return,
        Err(failure) => failure,
    };
    eprintln!("node {} cannot be called dead: {failure}", settings.node_name);
    // Architecture §4: without the proof the panic policy is carried out, and the survivors wait for another one.
    match settings.panic {
        PanicPolicy::Exit | PanicPolicy::Watchdog => {}
        PanicPolicy::Reboot => drop(std::fs::write("/proc/sysrq-trigger", "b")),
        PanicPolicy::Crash => drop(std::fs::write("/proc/sysrq-trigger", "c")),
    }
}

/// Everything of the node but this process. Does not end before it is done: whoever waits may use another proof.
fn kill_everything(kept: &Kept) {
    let mut said = now();
    loop {
        let result = match kept {
            Kept::Cgroup(group) => match group.kill_all_but_warden() {
                Ok(true) => Ok(()),
                Ok(false) => {
                    group.wait_for_change(1);
                    Err("processes do not end".to_owned())
                }
                Err(error) => Err(error.to_string()),
            },
            Kept::Tree => {
                let scope = Scope::below(std::process::id());
                TreeKill::new(now()).run(&scope, now().plus(STUCK_LINE_MS), || {
                    keeper::reap(|_, _| {});
                })
            }
        };
        match result {
            Ok(()) => return,
            Err(text) if now().since(said) >= STUCK_LINE_MS => {
                said = now();
                eprintln!("still killing: {text}");
            }
            Err(_) => {}
        }
    }
}
