//! Descriptors that a process got from whoever started it: services must not get them (architecture §4).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// From here on no descriptor but stdin, stdout and stderr passes to a process that this one starts.
///
/// # Errors
/// If the own descriptors cannot be listed.
pub fn keep_to_oneself() -> io::Result<()> {
    let listed: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
        .collect();
    listed.into_iter().filter(|fd| *fd > 2).for_each(close_on_exec);
    Ok(())
}

#[expect(unsafe_code, reason = "an inherited descriptor has no owner in this process; only its number is known")]
fn close_on_exec(fd: RawFd) {
    // SAFETY: the descriptor is borrowed for one call that neither reads nor closes it. The listing's own is closed by now;
    // the call then fails, as it may.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl_setfd(fd, FdFlags::CLOEXEC).ok();
}
