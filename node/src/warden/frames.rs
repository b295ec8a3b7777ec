//! What warden and daemon say to each other.
//!
//! Two channels. The socket carries frames: a little-endian length of four bytes, then the value; the first one brings the
//! descriptors of the second channel and of the id lock. The second channel is a pipe from daemon to warden; each byte is a
//! word, so that any thread can say it at any time without an executor.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use phalanx_messages::codec;
use phalanx_messages::launch::{LaunchResult, WardenRequest};
use phalanx_messages::register::FenceHandle;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes of one frame.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// From the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ask {
    /// Repeated in the answer.
    pub ticket: u64,
    /// What is asked.
    pub request: WardenRequest,
}

/// From the warden.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum WardenSays {
    /// First of all, with the descriptors of the pipe and the id lock.
    Welcome(FenceHandle),
    /// The answer to [`Ask`] of that ticket.
    Answer(u64, LaunchResult),
    /// The administrator wants this node to leave.
    Leave,
}

/// A byte on the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Said at least every W / 3 while the lease thread renews and all critical actors are alive.
    Alive,
    /// The register says `CleanDown`; the daemon is about to end.
    LeftCleanly,
    /// The node panics: kill everything.
    Panicking,
    /// The node's graceful leave has begun, whoever asked for it.
    Leaving,
    /// The lease is lost: freeze everything that runs for services and subsystems (protocol §4.7).
    LeaseLost,
    /// The lease is valid, for the first time or again: thaw it.
    LeaseValid,
}

impl Word {
    /// As it is on the pipe.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Alive => b'.',
            Self::LeftCleanly => b'C',
            Self::Panicking => b'P',
            Self::Leaving => b'L',
            Self::LeaseLost => b'F',
            Self::LeaseValid => b'V',
        }
    }

    /// The word of that byte.
    #[must_use]
    pub const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'.' => Some(Self::Alive),
            b'C' => Some(Self::LeftCleanly),
            b'P' => Some(Self::Panicking),
            b'L' => Some(Self::Leaving),
            b'F' => Some(Self::LeaseLost),
            b'V' => Some(Self::LeaseValid),
            _ => None,
        }
    }
}

/// A value as a frame.
///
/// # Errors
/// If it is too large or cannot be encoded.
pub fn frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let body = codec::encode(value, FRAME_BYTES_MAX).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

/// The value of a frame's body.
///
/// # Errors
/// If the body is not exactly one such value.
pub fn value<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    codec::decode(body, FRAME_BYTES_MAX).map_err(io::Error::other)
}

/// Sends the first frame.
///
/// # Errors
/// If the socket refuses.
pub fn send_welcome(socket: &UnixStream, handle: &FenceHandle, fds: &[BorrowedFd<'_>; 2]) -> io::Result<()> {
    let frame = frame(&WardenSays::Welcome(handle.clone()))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(fds));
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)?;
    (&*socket).write_all(&frame[sent..])
}

/// Receives the first frame: how this node can be fenced, the pipe, the lock.
///
/// # Errors
/// If something else comes, or the warden is gone.
pub fn receive_welcome(mut socket: &UnixStream) -> io::Result<(FenceHandle, OwnedFd, OwnedFd)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut ancillary, flags)?.bytes;
    socket.read_exact(&mut length[received..])?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let mut body = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX)];
    socket.read_exact(&mut body)?;
    match (value(&body)?, <[OwnedFd; 2]>::try_from(fds)) {
        (WardenSays::Welcome(handle), Ok([pipe, lock])) => Ok((handle, pipe, lock)),
        (WardenSays::Welcome(_) | WardenSays::Answer(..) | WardenSays::Leave, _) => {
            Err(io::Error::other("the warden did not begin with a welcome and two descriptors"))
        }
    }
}

/// The warden's end of the socket: never blocks, keeps what does not go through at once.
#[derive(Debug)]
pub struct Line {
    socket: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Line {
    /// Makes the socket non-blocking.
    ///
    /// # Errors
    /// If that fails.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, received: Vec::new(), unsent: Vec::new() })
    }

    /// Says something, now or as soon as it goes through.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn say(&mut self, what: &WardenSays) -> io::Result<()> {
        self.unsent.extend(frame(what)?);
        self.flush()
    }

    /// Sends what is left.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// True while something waits to be sent.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Everything that has come in since. `None` at the end = the daemon has closed its end.
    ///
    /// # Errors
    /// If a frame cannot be understood.
    pub fn hear(&mut self) -> io::Result<(Vec<Ask>, bool)> {
        let mut open = true;
        let mut bytes = [0; 16 * 1024];
        loop {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => open = false,
                Ok(count) => {
                    self.received.extend(&bytes[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => open = false,
                Err(error) => return Err(error),
            }
            return Ok((self.take_frames()?, open));
        }
    }

    fn take_frames(&mut self) -> io::Result<Vec<Ask>> {
        let mut asks = Vec::new();
        while let Some((length, rest)) = self.received.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length > FRAME_BYTES_MAX {
                return Err(io::Error::other(format!("a frame of {length} bytes is too large")));
            }
            let Some(body) = rest.get(..length) else { break };
            asks.push(value(body)?);
            self.received.drain(..4 + length);
        }
        Ok(asks)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::launch::Owner;

    use super::*;

    #[test]
    fn a_welcome_brings_descriptors_and_frames_arrive_whole() {
        let (warden, daemon) = UnixStream::pair().unwrap();
        let (pipe, lock) = UnixStream::pair().unwrap();
        let handle = FenceHandle { id_lock: "/run/n0.lock".to_owned(), ..FenceHandle::default() };
        send_welcome(&warden, &handle, &[pipe.as_fd(), lock.as_fd()]).unwrap();
        let (received, pipe_here, lock_here) = receive_welcome(&daemon).unwrap();
        assert_eq!(received, handle);
        (&UnixStream::from(pipe_here)).write_all(b"x").unwrap();
        let mut byte = [0];
        (&UnixStream::from(lock_here)).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");

        let mut line = Line::new(warden).unwrap();
        let owner = Owner::Service("clock".to_owned());
        let kill = WardenRequest::Kill { owner, operation: None, timeout_ms: 5 };
        let bytes = frame(&Ask { ticket: 7, request: kill }).unwrap();
        (&daemon).write_all(&bytes[..5]).unwrap();
        assert!(matches!(line.hear().unwrap(), (asks, true) if asks.is_empty()), "half a frame is none");
        (&daemon).write_all(&bytes[5..]).unwrap();
        assert_eq!(line.hear().unwrap().0[0].ticket, 7);
        drop(daemon);
        assert!(!line.hear().unwrap().1);
    }
}
