//! The keeper: without cgroups, the process below which one launch and everything it leaves running stays.
//!
//! The warden starts one for each launch. It is a subreaper, so daemonized and orphaned processes come back below it, however
//! they detach. It tells the warden how the command ended, stays until its last descendant has ended, and kills them all if
//! the warden is gone. It decides nothing.
//!
//! Command line: `<keeper command> <node>/<owner> <program> <argument>...`; stdin is a socket to the warden, stdout and stderr are the log.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitOptions, WaitStatus};

use super::tree::{Scope, TreeKill};

/// The wait status of a process that ended with exit status 127.
const NOT_FOUND: i32 = 127 << 8;
/// How long the keeper tries to kill what is below it after the warden's death; then it leaves that to whoever comes.
const ORPHANED_KILL_MS: u64 = 60_000;

/// The body of the keeper process; `arguments` are those after the keeper command. Gives the exit code.
///
/// Must run in a process without other threads or children.
#[must_use]
pub fn keeper_main(arguments: &[OsString]) -> u8 {
    let [title, program, arguments @ ..] = arguments else {
        eprintln!("this command is for the warden only");
        return 2;
    };
    let mut command = Command::new(program);
    command.args(arguments);
    match keep(&mut command) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("keeper of {}: {error}", title.display());
            1
        }
    }
}

fn keep(command: &mut Command) -> io::Result<()> {
    let mut warden = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    become_subreaper()?;
    std::fs::write("/proc/self/oom_score_adj", "0").ok(); // the warden may have lowered it; services get the default
    let (children, at_end) = UnixStream::pair()?;
    children.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, at_end)?;
    let started = match command.stdin(Stdio::null()).process_group(0).spawn() {
        Ok(started) => started,
        Err(error) => {
            // As a shell says that there is no such program.
            eprintln!("{}: {error}", command.get_program().display());
            return warden.write_all(&[&NOT_FOUND.to_le_bytes()[..], &[0]].concat());
        }
    };
    let mut command_pid = Some(started.id());
    loop {
        let mut fds = [PollFd::new(&children, PollFlags::IN), PollFd::new(&warden, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let spoken = !fds[1].revents().is_empty();
        drain(&children);
        let mut ended = None;
        let alone = reap(|pid, status| {
            if command_pid == Some(pid) {
                (command_pid, ended) = (None, Some(status));
            }
        });
        if let Some(status) = ended {
            let words = [&status.as_raw().to_le_bytes()[..], &[u8::from(!alone)]].concat();
            warden.write_all(&words).ok(); // if it is gone, that is seen below
        }
        if alone {
            return Ok(());
        }
        if spoken {
            let until = super::now().plus(ORPHANED_KILL_MS);
            let scope = Scope::below(std::process::id());
            return TreeKill::new(super::now())
                .run(&scope, until, || {
                    reap(|_, _| {});
                })
                .map_err(io::Error::other);
        }
    }
}

/// Reads away the bytes that only wake a poll.
pub fn drain(mut stream: &UnixStream) {
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

/// From here on orphans below this process come back to it.
///
/// # Errors
/// If the kernel refuses.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Reaps every child that has ended and tells of each. `true` = there is no child left.
pub fn reap(mut ended: impl FnMut(u32, WaitStatus)) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended(pid.as_raw_nonzero().get().unsigned_abs(), status),
            Ok(None) => return false,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true, // ECHILD
        }
    }
}

/// How a command ended, in words; `None` = with success.
#[must_use]
pub fn failure(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some(signal)) => Some(format!("killed by signal {signal}")),
        (None, None) => Some("ended in a way that is not known".to_owned()),
    }
}
