//! The daemon's side: requests to the warden, the feed, and what follows from the warden's end.
//!
//! A daemon that loses its warden kills what the warden kept, where it can, and panics at once (architecture §4).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use actix::io::{FramedWrite, WriteHandler};
use actix::prelude::*;
use phalanx_actors::ports::NodePanic;
use phalanx_messages::codec;
use phalanx_messages::launch::{LaunchResult, WardenRequest};
use phalanx_messages::register::{Containment, FenceHandle};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use tokio::io::WriteHalf;
use tokio::sync::oneshot;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::frames::{self, Ask, FRAME_BYTES_MAX, WardenSays, Word};
use crate::containment::cgroup;

/// Sent by the warden's client when the administrator stops `phalanx node run` (SIGTERM, Ctrl-C): leave the cluster.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LeaveRequested;

/// What the warden gave this daemon.
#[derive(Debug)]
pub struct WardenLink {
    fence: FenceHandle,
    socket: UnixStream,
    words: Words,
}

impl WardenLink {
    /// Takes over stdin, which is the socket to the warden. To be called once, first of all in the daemon.
    ///
    /// # Errors
    /// If this process was not started by a warden.
    pub fn inherited() -> io::Result<Self> {
        let stdin = io::stdin();
        if FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode) != FileType::Socket {
            return Err(io::Error::other("stdin is not the socket to a warden"));
        }
        let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
        let (fence, pipe, lock) = frames::receive_welcome(&socket)?;
        // Held until the process ends, whatever becomes of the link: a free lock is a proof of death.
        let _: &'static OwnedFd = Box::leak(Box::new(lock));
        Ok(Self { fence, socket, words: Words(Arc::new(pipe)) })
    }

    /// For this node's register.
    #[must_use]
    pub fn fence_handle(&self) -> FenceHandle {
        self.fence.clone()
    }

    /// What can be said to the warden from any thread.
    #[must_use]
    pub fn words(&self) -> Words {
        self.words.clone()
    }

    /// True if the warden has said something, or is gone. Before the client is started that can only be: end.
    #[must_use]
    pub fn speaks(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&crate::containment::timespec(0))).is_ok_and(|ready| ready > 0)
    }

    /// Starts the client in the current actix system. `leave` hears of the administrator's wish, `panic` of the warden's end.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub fn start(
        self,
        panic: Recipient<NodePanic>,
        leave: Recipient<LeaveRequested>,
    ) -> io::Result<Addr<WardenClient>> {
        self.socket.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(self.socket)?;
        let (read, write) = tokio::io::split(stream);
        Ok(WardenClient::create(move |ctx| {
            WardenClient::add_stream(FramedRead::new(read, codec()), ctx);
            let line = FramedWrite::new(write, codec(), ctx);
            WardenClient { fence: self.fence, line, leave, panic, tickets: 0, waiting: BTreeMap::new() }
        }))
    }
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().little_endian().max_frame_length(FRAME_BYTES_MAX).new_codec()
}

/// Single words to the warden; cheap to clone, usable from any thread, never blocks.
#[derive(Debug, Clone)]
pub struct Words(Arc<OwnedFd>);

impl Words {
    /// Says one word. A full pipe is a warden that does not run; a broken one is a dead warden, which the client sees.
    pub fn say(&self, word: Word) {
        rustix::io::write(&*self.0, &[word.byte()]).ok();
    }
}

/// Kills the services of a node whose warden is gone, as far as that can be done from here: its cgroup without the daemon.
pub fn kill_services(fence: &FenceHandle) {
    match &fence.containment {
        Containment::Cgroup { path } => {
            for part in ["services", "subsystems", "events", "cleanup"] {
                if let Err(error) = cgroup::kill(&std::path::Path::new(path).join(part)) {
                    tracing::error!(%error, part, "failed to kill what the warden kept");
                }
            }
        }
        // The keepers see for themselves that the warden is gone.
        Containment::Subreaper | Containment::None => {}
    }
}

/// Sends [`WardenRequest`]s to the warden and gives its answers.
pub struct WardenClient {
    fence: FenceHandle,
    line: FramedWrite<Bytes, WriteHalf<tokio::net::UnixStream>, LengthDelimitedCodec>,
    leave: Recipient<LeaveRequested>,
    panic: Recipient<NodePanic>,
    tickets: u64,
    waiting: BTreeMap<u64, oneshot::Sender<LaunchResult>>,
}

impl WardenClient {
    fn lost(&mut self, reason: &str) {
        self.panic.do_send(NodePanic { reason: format!("the warden is gone: {reason}") });
        kill_services(&self.fence);
        self.waiting.clear();
    }

    fn heard(&mut self, says: WardenSays) {
        match says {
            WardenSays::Answer(ticket, result) => {
                if let Some(asker) = self.waiting.remove(&ticket) {
                    asker.send(result).ok(); // whoever asked may have gone
                }
            }
            WardenSays::Leave => self.leave.do_send(LeaveRequested),
            WardenSays::Welcome(_) => self.lost("it began anew"),
        }
    }
}

impl Actor for WardenClient {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for WardenClient {
    type Result = ResponseFuture<LaunchResult>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        self.tickets += 1;
        let (sender, answer) = oneshot::channel();
        match codec::encode(&Ask { ticket: self.tickets, request }, FRAME_BYTES_MAX) {
            Ok(bytes) => {
                self.waiting.insert(self.tickets, sender);
                self.line.write(bytes.into());
            }
            Err(error) => {
                let text = format!("the request cannot be sent to the warden: {error}");
                sender.send(LaunchResult::Failed { text }).ok();
            }
        }
        Box::pin(async {
            answer.await.unwrap_or_else(|_| LaunchResult::Failed { text: "the warden is gone".to_owned() })
        })
    }
}

impl StreamHandler<Result<BytesMut, io::Error>> for WardenClient {
    fn handle(&mut self, item: Result<BytesMut, io::Error>, ctx: &mut Self::Context) {
        match item.and_then(|body| frames::value(&body)) {
            Ok(says) => self.heard(says),
            Err(error) => {
                self.lost(&error.to_string());
                ctx.stop();
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.lost("it closed its socket");
        ctx.stop();
    }
}

impl WriteHandler<io::Error> for WardenClient {
    fn error(&mut self, error: io::Error, _: &mut Self::Context) -> Running {
        self.lost(&error.to_string());
        Running::Stop
    }
}
