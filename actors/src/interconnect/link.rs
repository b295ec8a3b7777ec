//! One established connection: the queue towards the peer, and the session that reads from it.
//!
//! A message is written in the turn in which it is sent, as long as the socket takes it; only what the socket refuses waits, in
//! a bounded queue of plain messages (they are encrypted when they leave, so a heartbeat that is no longer worth sending can be
//! dropped). When the queue is full the oldest heartbeat goes, and where there is none, the connection.
//!
//! Everything here runs on the actor's thread; nothing is held across an await.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::configuration::PublicKey;
use phalanx_messages::limits::{PEER_QUEUE_BYTES_MAX, PEER_QUEUE_MAX};
use tokio::io::{AsyncWrite, WriteHalf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::closing::CloseReason;
use super::handshake::{Established, Reader};
use super::keys::ClusterKey;
use super::network::Stream;
use super::noise::Channel;

/// Encrypted bytes that are given to the socket at once.
const WIRE_BYTES: usize = 64 * 1024;

/// How long a peer may say nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    /// On a link whose peer beats it regularly: T_net.
    pub regular: Duration,
    /// On a link that is only probed.
    pub probed: Duration,
}

/// Handle of a connection, held by the actor and by the connection's session.
#[derive(Clone)]
pub(super) struct Link(Rc<RefCell<Shared>>);

struct Shared {
    id: u64,
    peer: NodeIncarnation,
    key: PublicKey,
    cluster_key: ClusterKey,
    channel: Channel,
    /// Gone once the link is closed.
    writer: Option<WriteHalf<Stream>>,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    wire: BytesMut,
    session: Option<Waker>,
    closing: Option<CloseReason>,
    beats: bool,
    since: Instant,
    heard: Instant,
    peer_beats: bool,
}

struct Queued {
    bytes: Vec<u8>,
    heartbeat: bool,
}

impl Link {
    /// The link over a connection, and the session that the caller must run. `id` tells it from every other link.
    pub fn new(id: u64, established: Established, silence: Silence) -> (Self, Session) {
        let Established { peer, key, cluster_key, channel, reader, writer } = established;
        let now = Instant::now();
        let link = Self(Rc::new(RefCell::new(Shared {
            id,
            peer,
            key,
            cluster_key,
            channel,
            writer: Some(writer),
            queue: VecDeque::new(),
            queue_bytes: 0,
            wire: BytesMut::new(),
            session: None,
            closing: None,
            beats: true,
            since: now,
            heard: now,
            peer_beats: true,
        })));
        let timer = Box::pin(sleep_until(now + silence.regular));
        (link.clone(), Session { link, reader, silence, timer })
    }

    /// The peer, authenticated.
    pub fn peer(&self) -> NodeIncarnation {
        self.0.borrow().peer
    }

    /// Its static key.
    pub fn key(&self) -> PublicKey {
        self.0.borrow().key
    }

    /// The cluster key that it was established with.
    pub fn cluster_key(&self) -> ClusterKey {
        self.0.borrow().cluster_key.clone()
    }

    /// When the link was established.
    pub fn since(&self) -> Instant {
        self.0.borrow().since
    }

    /// True if the peer was heard as lately as the link demands.
    pub fn hears(&self, silence: Silence) -> bool {
        let shared = self.0.borrow();
        shared.closing.is_none() && shared.heard.elapsed() < shared.allowed(silence)
    }

    /// Tells this link from every other.
    pub fn id(&self) -> u64 {
        self.0.borrow().id
    }

    /// From the next frame on the peer is told whether this node beats the link regularly; true if that is a change.
    pub fn set_beats(&self, beats: bool) -> bool {
        std::mem::replace(&mut self.0.borrow_mut().beats, beats) != beats
    }

    /// Writes a message, or queues it if the socket is full.
    pub fn send(&self, bytes: Vec<u8>, heartbeat: bool) {
        let mut shared = self.0.borrow_mut();
        if shared.closing.is_some() {
            return;
        }
        if !shared.make_room(bytes.len()) {
            shared.close(CloseReason::QueueFull);
            return;
        }
        shared.queue_bytes += bytes.len();
        shared.queue.push_back(Queued { bytes, heartbeat });
        match shared.pump(&mut Context::from_waker(Waker::noop())) {
            // The socket now remembers a waker that does nothing: the session must ask again with its own.
            Poll::Pending => shared.wake(),
            Poll::Ready(Err(reason)) => shared.close(reason),
            Poll::Ready(Ok(())) => {}
        }
    }

    /// Ends the connection; its session ends with this reason.
    pub fn close(&self, reason: CloseReason) {
        self.0.borrow_mut().close(reason);
    }
}

impl Shared {
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.queue.len() >= PEER_QUEUE_MAX || self.queue_bytes + bytes > PEER_QUEUE_BYTES_MAX {
            let Some(oldest) = self.queue.iter().position(|queued| queued.heartbeat) else { return false };
            if let Some(dropped) = self.queue.remove(oldest) {
                self.queue_bytes -= dropped.bytes.len();
            }
        }
        true
    }

    /// Gives the socket all it takes. Ready = nothing waits.
    fn pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let Some(mut writer) = self.writer.as_mut() else { return Poll::Ready(Ok(())) };
        loop {
            while self.wire.len() < WIRE_BYTES {
                let Some(queued) = self.queue.pop_front() else { break };
                self.queue_bytes -= queued.bytes.len();
                self.channel.seal(&queued.bytes, self.beats, &mut self.wire)?;
            }
            if self.wire.is_empty() {
                return Pin::new(&mut writer).poll_flush(cx).map_err(|_| CloseReason::Ended);
            }
            match ready!(Pin::new(&mut writer).poll_write(cx, &self.wire)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(CloseReason::Ended)),
                Ok(written) => self.wire.advance(written),
            }
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(reason);
            self.writer = None;
            self.queue.clear();
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(session) = &self.session {
            session.wake_by_ref();
        }
    }

    const fn allowed(&self, silence: Silence) -> Duration {
        if self.peer_beats { silence.regular } else { silence.probed }
    }
}

/// Reads a connection to its end, and keeps its queue moving.
pub(super) struct Session {
    link: Link,
    reader: Reader,
    silence: Silence,
    timer: Pin<Box<Sleep>>,
}

impl Session {
    /// The next message.
    ///
    /// # Errors
    /// Why the connection ended.
    pub async fn next(&mut self) -> Result<Vec<u8>, CloseReason> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, CloseReason>> {
        let mut shared = self.link.0.borrow_mut();
        if !shared.session.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.session = Some(cx.waker().clone());
        }
        if let Poll::Ready(Err(reason)) = shared.pump(cx) {
            shared.close(reason);
        }
        if let Some(reason) = shared.closing {
            return Poll::Ready(Err(reason));
        }
        while let Poll::Ready(frame) = self.reader.poll_next_unpin(cx) {
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Poll::Ready(Err(CloseReason::Oversized));
                }
                Some(Err(_)) | None => return Poll::Ready(Err(CloseReason::Ended)),
            };
            let opened = shared.channel.open(&frame)?;
            shared.heard = Instant::now();
            if std::mem::replace(&mut shared.peer_beats, opened.beats) != opened.beats {
                let deadline = shared.heard + shared.allowed(self.silence);
                self.timer.as_mut().reset(deadline);
            }
            if let Some(message) = opened.message {
                return Poll::Ready(Ok(message));
            }
        }
        // The timer is only moved when it fires: what was heard meanwhile gives the next deadline.
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let deadline = shared.heard + shared.allowed(self.silence);
            if deadline <= Instant::now() {
                return Poll::Ready(Err(CloseReason::Silent));
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

impl Drop for Session {
    /// Also if the session's task is dropped: nothing more leaves through a link that nobody reads.
    fn drop(&mut self) {
        self.link.close(CloseReason::Ended);
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::limits::PEER_FRAME_BYTES_MAX;
    use tokio::io::{DuplexStream, ReadHalf};
    use tokio_util::codec::FramedRead;

    use super::*;
    use crate::interconnect::noise::{NOISE_BYTES_MAX, frames, tests::channels};

    const SILENCE: Silence = Silence { regular: Duration::from_secs(1), probed: Duration::from_secs(60) };

    /// A link over a pipe that holds `pipe_bytes`, and the peer's end of both.
    fn link(pipe_bytes: usize) -> (Link, Session, Channel, DuplexStream) {
        let (near, far) = tokio::io::duplex(pipe_bytes);
        let (channel, peer_channel) = channels();
        let (read, writer): (ReadHalf<Stream>, _) = tokio::io::split(Box::new(near) as Stream);
        let reader = FramedRead::new(read, frames(NOISE_BYTES_MAX));
        let (peer, cluster_key) = (NodeIncarnation::default(), ClusterKey([0; 32]));
        let (link, session) =
            Link::new(1, Established { peer, key: [0; 32], cluster_key, channel, reader, writer }, SILENCE);
        (link, session, peer_channel, far)
    }

    /// What the peer reads: the messages, until `count` of them are there.
    async fn read(far: DuplexStream, mut channel: Channel, count: usize) -> Vec<Vec<u8>> {
        let mut reader = FramedRead::new(far, frames(NOISE_BYTES_MAX));
        let mut messages = Vec::new();
        while messages.len() < count {
            let frame = reader.next().await.unwrap().unwrap();
            messages.extend(channel.open(&frame).unwrap().message);
        }
        messages
    }

    /// A message that fills the pipe and the bytes given to it at once, so that everything after it waits.
    fn plug(link: &Link) {
        link.send(vec![0; 2 * WIRE_BYTES], false);
    }

    fn numbered(number: usize) -> Vec<u8> {
        number.to_le_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_message_leaves_in_the_turn_in_which_it_is_sent() {
        let (link, _session, mut channel, mut far) = link(4096);
        link.send(b"now".to_vec(), false);
        let mut bytes = [0; 64];
        // One poll: neither the session nor anything else has run.
        let read = tokio::io::AsyncReadExt::read(&mut far, &mut bytes);
        let length = futures_util::FutureExt::now_or_never(read).unwrap().unwrap();
        assert_eq!(channel.open(&bytes[4..length]).unwrap().message.unwrap(), b"now");
    }

    #[tokio::test]
    async fn a_full_queue_lets_go_of_heartbeats_and_then_of_the_connection() {
        let (link, mut session, channel, far) = link(64);
        plug(&link);
        link.send(b"beat".to_vec(), true);
        for number in 0..PEER_QUEUE_MAX {
            link.send(numbered(number), false);
        }
        assert!(link.hears(SILENCE), "the heartbeat made room for the last message");
        let reading = read(far, channel, PEER_QUEUE_MAX + 1);
        let messages = tokio::select! {
            messages = reading => messages,
            ended = session.next() => panic!("{ended:?}"),
        };
        let expected: Vec<_> = (0..PEER_QUEUE_MAX).map(numbered).collect();
        assert!(messages[1..] == expected, "every message but the heartbeat, in order");
    }

    #[tokio::test]
    async fn one_message_too_many_closes_the_connection() {
        let (link, mut session, _channel, _far) = link(64);
        plug(&link);
        for number in 0..=PEER_QUEUE_MAX {
            assert!(link.hears(SILENCE), "message {number} still fits");
            link.send(numbered(number), false);
        }
        assert!(!link.hears(SILENCE));
        assert_eq!(session.next().await, Err(CloseReason::QueueFull));
    }

    #[tokio::test]
    async fn too_many_bytes_close_the_connection() {
        let (link, mut session, _channel, _far) = link(64);
        plug(&link);
        for _ in 0..PEER_QUEUE_BYTES_MAX / PEER_FRAME_BYTES_MAX {
            link.send(vec![0; PEER_FRAME_BYTES_MAX], false);
        }
        assert!(link.hears(SILENCE));
        link.send(vec![0; 1], false);
        assert_eq!(session.next().await, Err(CloseReason::QueueFull));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_link_that_beats_after_t_net_and_one_that_is_probed_later() {
        let begun = Instant::now();
        let (_link, mut session, _channel, _far) = link(4096);
        assert_eq!(session.next().await, Err(CloseReason::Silent));
        assert_eq!(begun.elapsed().as_secs(), 1);

        let begun = Instant::now();
        let (_link, mut session, mut channel, mut far) = link(4096);
        let mut wire = BytesMut::new();
        channel.seal(b"rarely", false, &mut wire).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut far, &wire).await.unwrap();
        assert_eq!(session.next().await.unwrap(), b"rarely");
        assert_eq!(session.next().await, Err(CloseReason::Silent));
        assert_eq!(begun.elapsed().as_secs(), 60);
    }
}
