//! From a fresh byte stream to an authenticated peer, on either side.
//!
//! Three Noise messages, then each side says over the encrypted channel whether it takes the other in. The accepting side shows
//! itself in the second message, the dialling one in the third; both are encrypted, and nothing names a node in the clear.
//! Until the end frames are at most `HANDSHAKE_FRAME_BYTES_MAX` long. The caller limits the time.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::codec;
use phalanx_messages::configuration::PublicKey;
use phalanx_messages::limits::HANDSHAKE_FRAME_BYTES_MAX;
use snow::HandshakeState;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::codec::{Encoder, FramedRead, LengthDelimitedCodec};

use super::admission::{Admission, Hello, Side};
use super::closing::{CloseReason, Refusal};
use super::cluster_keys::ClusterKeys;
use super::keys::{ClusterKey, StaticKeyPair};
use super::network::Stream;
use super::noise::{self, Channel, NOISE_BYTES_MAX};

/// Incoming frames of a connection.
pub(super) type Reader = FramedRead<ReadHalf<Stream>, LengthDelimitedCodec>;

/// The secrets that a handshake uses.
#[derive(Clone)]
pub(super) struct Secrets {
    pub cluster_keys: ClusterKeys,
    pub pair: StaticKeyPair,
}

/// A connection that both sides want.
pub(super) struct Established {
    pub peer: NodeIncarnation,
    pub key: PublicKey,
    /// The cluster key that both sides know.
    pub cluster_key: ClusterKey,
    pub channel: Channel,
    pub reader: Reader,
    pub writer: WriteHalf<Stream>,
}

/// A connection that came to nothing.
#[derive(Debug)]
pub(super) struct Failed {
    /// Who it was, if that much is known.
    pub peer: Option<NodeIncarnation>,
    pub reason: CloseReason,
}

/// Runs the whole handshake. `attempt` chooses the cluster key to dial with; whoever is dialled takes any that it knows.
pub(super) async fn run(
    stream: Stream,
    side: Side,
    attempt: u32,
    secrets: Rc<Secrets>,
    admission: Rc<RefCell<Admission>>,
) -> Result<Established, Failed> {
    let (read, writer) = tokio::io::split(stream);
    let reader = FramedRead::new(read, noise::frames(HANDSHAKE_FRAME_BYTES_MAX));
    let mut wire = Wire { reader, writer };
    let own_hello = admission.borrow().hello();
    let unknown = |reason| Failed { peer: None, reason };
    let dialled = (side != Side::Accepted).then(|| secrets.cluster_keys.of_attempt(attempt));
    let (hello, state, cluster_key) = wire.greet(dialled, &secrets, &own_hello).await.map_err(unknown)?;

    let peer = hello.me;
    let failed = |reason| Failed { peer: Some(peer), reason };
    let (mut channel, key) = Channel::new(state).map_err(failed)?;
    let verdict = admission.borrow().judge(side, &hello, &key);
    let theirs = wire.exchange_verdicts(&mut channel, verdict).await;
    // Our own refusal is the more exact reason, whatever became of theirs.
    verdict.map_err(|refusal| failed(CloseReason::Refused(refusal)))?;
    theirs.map_err(failed)?.map_err(|refusal| failed(CloseReason::RefusedByPeer(refusal)))?;

    let Wire { mut reader, writer } = wire;
    reader.decoder_mut().set_max_frame_length(NOISE_BYTES_MAX);
    Ok(Established { peer, key, cluster_key, channel, reader, writer })
}

struct Wire {
    reader: Reader,
    writer: WriteHalf<Stream>,
}

impl Wire {
    /// The three messages; gives what the peer says of itself, and by which cluster key. `dialled` is the one to dial with.
    async fn greet(
        &mut self,
        dialled: Option<&ClusterKey>,
        secrets: &Secrets,
        own: &Hello,
    ) -> Result<(Hello, HandshakeState, ClusterKey), CloseReason> {
        let own = codec::encode(own, HANDSHAKE_FRAME_BYTES_MAX).map_err(|_| CloseReason::Oversized)?;
        let (hello, state, cluster_key) = if let Some(cluster_key) = dialled {
            let mut state = noise::handshake(true, cluster_key, &secrets.pair)?;
            self.say(&mut state, &[]).await?;
            let hello = self.hear(&mut state).await?;
            self.say(&mut state, &own).await?;
            (hello, state, cluster_key.clone())
        } else {
            let (mut state, cluster_key) = self.hear_first(secrets).await?;
            self.say(&mut state, &own).await?;
            (self.hear(&mut state).await?, state, cluster_key)
        };
        let hello = codec::decode(&hello, HANDSHAKE_FRAME_BYTES_MAX).map_err(|_| CloseReason::Undecodable)?;
        Ok((hello, state, cluster_key))
    }

    /// The first message shows which of the accepted keys the peer dials with: it opens with no other.
    async fn hear_first(&mut self, secrets: &Secrets) -> Result<(HandshakeState, ClusterKey), CloseReason> {
        let frame = self.frame().await?;
        for cluster_key in secrets.cluster_keys.accepted() {
            let mut state = noise::handshake(false, cluster_key, &secrets.pair)?;
            let mut payload = vec![0; HANDSHAKE_FRAME_BYTES_MAX];
            if state.read_message(&frame, &mut payload).is_ok() {
                return Ok((state, cluster_key.clone()));
            }
        }
        Err(CloseReason::NotAuthentic)
    }

    async fn exchange_verdicts(
        &mut self,
        channel: &mut Channel,
        own: Result<(), Refusal>,
    ) -> Result<Result<(), Refusal>, CloseReason> {
        let own = codec::encode(&own, HANDSHAKE_FRAME_BYTES_MAX).map_err(|_| CloseReason::Oversized)?;
        let mut bytes = BytesMut::new();
        channel.seal(&own, true, &mut bytes)?;
        self.writer.write_all(&bytes).await.map_err(|_| CloseReason::HandshakeCut)?;
        let frame = self.frame().await?;
        let message = channel.open(&frame)?.message.ok_or(CloseReason::Oversized)?;
        codec::decode(&message, HANDSHAKE_FRAME_BYTES_MAX).map_err(|_| CloseReason::Undecodable)
    }

    async fn say(&mut self, state: &mut HandshakeState, payload: &[u8]) -> Result<(), CloseReason> {
        let mut frame = vec![0; HANDSHAKE_FRAME_BYTES_MAX];
        let length = state.write_message(payload, &mut frame).map_err(|_| CloseReason::NotAuthentic)?;
        frame.truncate(length);
        let mut bytes = BytesMut::new();
        noise::frames(HANDSHAKE_FRAME_BYTES_MAX)
            .encode(Bytes::from(frame), &mut bytes)
            .map_err(|_| CloseReason::Oversized)?;
        self.writer.write_all(&bytes).await.map_err(|_| CloseReason::HandshakeCut)
    }

    async fn hear(&mut self, state: &mut HandshakeState) -> Result<Vec<u8>, CloseReason> {
        let frame = self.frame().await?;
        let mut payload = vec![0; HANDSHAKE_FRAME_BYTES_MAX];
        let length = state.read_message(&frame, &mut payload).map_err(|_| CloseReason::NotAuthentic)?;
        payload.truncate(length);
        Ok(payload)
    }

    async fn frame(&mut self) -> Result<BytesMut, CloseReason> {
        match self.reader.next().await {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(CloseReason::Oversized),
            Some(Err(_)) | None => Err(CloseReason::HandshakeCut),
        }
    }
}
