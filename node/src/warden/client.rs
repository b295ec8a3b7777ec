//! The daemon's side of its warden: requests, signs of life, and the end of both together.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use actix::io::{FramedWrite, WriteHandler};
use actix::prelude::*;
use futures_util::StreamExt;
use phalanx_actors::ports::NodePanic;
use phalanx_messages::launch::{LaunchResult, WardenRequest};
use phalanx_messages::register::FenceHandle;
use tokio::io::WriteHalf;
use tokio::sync::oneshot;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::frames::{self, Ask, FRAME_BYTES_MAX, WardenSays, Word};

/// Sent when the administrator wants this node to leave (SIGTERM at the warden).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct LeaveRequested;

/// What a daemon inherits from its warden.
#[derive(Debug)]
pub struct WardenLink {
    socket: UnixStream,
    words: Words,
    handle: FenceHandle,
    /// Held for as long as this process lives: the lock dies with the last holder.
    _id_lock: OwnedFd,
}

/// Says words to the warden, from any thread.
#[derive(Debug, Clone)]
pub struct Words(Arc<OwnedFd>);

impl Words {
    /// Says one word. A warden that is gone is noticed elsewhere.
    pub fn say(&self, word: Word) {
        rustix::io::write(&*self.0, &[word.byte()]).ok();
    }
}

impl WardenLink {
    /// Takes over stdin, which is the socket to the warden.
    ///
    /// # Errors
    /// If this process was not started by a warden.
    pub fn inherited() -> io::Result<Self> {
        let socket = UnixStream::from(rustix::io::dup(io::stdin().as_fd())?);
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        let (handle, pipe, id_lock) = frames::receive_welcome(&socket)?;
        Ok(Self { socket, words: Words(Arc::new(pipe)), handle, _id_lock: id_lock })
    }

    /// How this node can be fenced.
    #[must_use]
    pub fn fence_handle(&self) -> FenceHandle {
        self.handle.clone()
    }

    /// For the lease thread, and for the last word.
    #[must_use]
    pub fn words(&self) -> Words {
        self.words.clone()
    }

    /// Starts the actor that asks the warden. `panic` is told when the warden is gone, `leave` when it wants the node to leave.
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
        let lock = self._id_lock;
        Ok(WardenClient::create(move |ctx| {
            let (read, write) = tokio::io::split(stream);
            ctx.add_stream(FramedRead::new(read, framing()).map(|frame| match frame {
                Ok(bytes) => frames::value(&bytes),
                Err(error) => Err(error),
            }));
            let writer = FramedWrite::new(write, framing(), ctx);
            WardenClient { writer, panic, leave, asked: BTreeMap::new(), last_ticket: 0, _id_lock: lock }
        }))
    }
}

fn framing() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().little_endian().max_frame_length(FRAME_BYTES_MAX).new_codec()
}

/// Asks the warden on behalf of the node's actors. See the module.
pub struct WardenClient {
    writer: FramedWrite<bytes::Bytes, WriteHalf<tokio::net::UnixStream>, LengthDelimitedCodec>,
    panic: Recipient<NodePanic>,
    leave: Recipient<LeaveRequested>,
    asked: BTreeMap<u64, oneshot::Sender<LaunchResult>>,
    last_ticket: u64,
    _id_lock: OwnedFd,
}

impl WardenClient {
    fn heard(&mut self, said: WardenSays) {
        match said {
            WardenSays::Answer(ticket, result) => {
                if let Some(asked) = self.asked.remove(&ticket) {
                    asked.send(result).ok();
                }
            }
            WardenSays::Leave => self.leave.do_send(LeaveRequested),
            WardenSays::Welcome(_) => {}
        }
    }

    /// Nobody would kill this node's processes any more (architecture §4).
    fn lost(&self) {
        self.panic.do_send(NodePanic { reason: "the warden is gone".to_owned() });
    }
}

impl Actor for WardenClient {
    type Context = Context<Self>;
}

impl StreamHandler<io::Result<WardenSays>> for WardenClient {
    fn handle(&mut self, said: io::Result<WardenSays>, _: &mut Self::Context) {
        match said {
            Ok(said) => self.heard(said),
            Err(_) => self.lost(),
        }
    }

    fn finished(&mut self, _: &mut Self::Context) {
        self.lost();
    }
}

impl WriteHandler<io::Error> for WardenClient {
    fn error(&mut self, _: io::Error, _: &mut Self::Context) -> Running {
        self.lost();
        Running::Continue
    }
}

impl Handler<WardenRequest> for WardenClient {
    type Result = ResponseFuture<LaunchResult>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let gone = || LaunchResult::Failed { text: "the warden is gone".to_owned() };
        let ask = match phalanx_messages::codec::encode(&Ask { ticket, request }, FRAME_BYTES_MAX) {
            Ok(bytes) => bytes::Bytes::from(bytes),
            Err(error) => return Box::pin(async move { LaunchResult::Failed { text: error.to_string() } }),
        };
        let (answer, answered) = oneshot::channel();
        self.asked.insert(ticket, answer);
        self.writer.write(ask);
        Box::pin(async move { answered.await.unwrap_or_else(|_| gone()) })
    }
}
