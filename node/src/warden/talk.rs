//! The warden's lines on stderr. It reaps and speaks for the dead, so it never waits for whoever reads them.

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SendFlags;

use crate::containment::timespec;

/// What a pipe that is ready for writing takes without waiting.
const PIPE_BYTES: usize = 4096;

/// Writes a line, or drops it if it cannot be written at once.
pub fn line(text: &str) {
    let line = format!("{text}\n");
    let bytes = line.as_bytes();
    let stderr = std::io::stderr();
    let kind = rustix::fs::fstat(&stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::RegularFile) => drop(rustix::io::write(&stderr, bytes)),
        Ok(FileType::Socket) => {
            rustix::net::send(&stderr, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).ok(); // dropped
        }
        Ok(_) | Err(_) => write_to_pipe(&stderr, bytes),
    }
}

fn write_to_pipe(stderr: &std::io::Stderr, bytes: &[u8]) {
    // A file description of its own: the daemon shares the inherited one and must not find it non-blocking.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Ok(own) = rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
        rustix::io::write(&own, bytes).ok(); // dropped
        return;
    }
    let mut fds = [PollFd::new(stderr, PollFlags::OUT)];
    if rustix::event::poll(&mut fds, Some(&timespec(0))).is_ok_and(|ready| ready > 0) {
        rustix::io::write(stderr, &bytes[..bytes.len().min(PIPE_BYTES)]).ok(); // dropped
    }
}
