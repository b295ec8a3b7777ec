//! Processes as `/proc` shows them, and handles that never hit a stranger who got a dead one's id.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use phalanx_messages::register::ProcessIdentity;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::timespec;

/// One line of `/proc/PID/stat`, as far as it is needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Parent.
    pub parent: u32,
    /// State letter; of the first thread only.
    pub state: u8,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Who this is.
    #[must_use]
    pub const fn identity(&self) -> ProcessIdentity {
        ProcessIdentity { pid: self.pid, start_ticks: self.start_ticks }
    }
}

/// Reads the state of one process.
///
/// # Errors
/// `NotFound` if there is none; whatever `/proc` says otherwise.
pub fn stat(pid: u32) -> io::Result<Stat> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be understood"))),
        // A process that ends between open and read answers ESRCH.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Err(io::ErrorKind::NotFound.into())
        }
        Err(error) => Err(error),
    }
}

/// Every process of this host.
///
/// # Errors
/// If `/proc` cannot be listed.
pub fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match stat(pid) {
            Ok(stat) => found.push(stat),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether a process can make another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stillness {
    /// Every thread is stopped or has ended.
    Stopped,
    /// Some sleep uninterruptibly, which a stop signal does not change: on I/O, or for good, because the child that a
    /// `vfork` waits for was stopped before its `exec`.
    Asleep,
    /// Some may run.
    Running,
}

/// What the threads of a process do.
#[must_use]
pub fn stillness(pid: u32) -> Stillness {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Stillness::Stopped }; // it is gone
    let of_thread = |stat: Stat| match stat.state {
        b'T' | b't' | b'Z' | b'X' => Stillness::Stopped,
        b'D' => Stillness::Asleep,
        _ => Stillness::Running,
    };
    let threads = tasks.flatten().map(|task| match fs::read_to_string(task.path().join("stat")) {
        Ok(text) => parse(&text).map_or(Stillness::Running, of_thread),
        Err(_) => Stillness::Stopped, // it has ended
    });
    threads.max().unwrap_or(Stillness::Stopped)
}

/// The command's name may hold spaces and parentheses, so the fields count from the last `)`.
fn parse(text: &str) -> Option<Stat> {
    let pid = text.split(' ').next()?.parse().ok()?;
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { pid, parent, state, start_ticks })
}

/// Who this process is.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn own_identity() -> io::Result<ProcessIdentity> {
    stat(std::process::id()).map(|stat| stat.identity())
}

/// A process that is certainly the one that was meant.
#[derive(Debug)]
pub struct Process {
    identity: ProcessIdentity,
    pidfd: OwnedFd,
}

impl Process {
    /// The process of that identity; `None` if it has ended and been reaped.
    ///
    /// # Errors
    /// If a descriptor cannot be had, or `/proc` cannot be read.
    pub fn open(identity: ProcessIdentity) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the descriptor was had: if the start time is right, the descriptor is of the right process.
        match stat(identity.pid) {
            Ok(stat) if stat.start_ticks == identity.start_ticks => Ok(Some(Self { identity, pidfd })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// Sends a signal; nothing happens if it has ended.
    ///
    /// # Errors
    /// If this process may not do that.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// True once every thread of it has ended (it may still be a zombie).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ends_within(0)
    }

    /// Waits at most `timeout_ms` for its end.
    #[must_use]
    pub fn ends_within(&self, timeout_ms: u64) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&timespec(timeout_ms))).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "77 (a) b (c)) S 12 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9\n";
        let expected = Stat { pid: 77, parent: 12, state: b'S', start_ticks: 987_654 };
        assert_eq!(parse(text), Some(expected));
    }

    #[test]
    fn a_process_with_another_start_time_is_a_stranger() {
        let me = own_identity().unwrap();
        assert!(Process::open(me).unwrap().is_some_and(|process| !process.has_ended()));
        let stranger = ProcessIdentity { start_ticks: me.start_ticks + 1, ..me };
        assert!(Process::open(stranger).unwrap().is_none());
        assert!(Process::open(ProcessIdentity::default()).unwrap().is_none());
    }

    #[test]
    fn an_ended_child_has_ended_before_it_is_reaped() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 0"]).spawn().unwrap();
        if let Some(process) = Process::open(stat(child.id()).unwrap().identity()).unwrap() {
            assert!(process.ends_within(10_000) && process.has_ended());
        }
        child.wait().unwrap();
        assert!(stat(child.id()).is_err());
    }
}
