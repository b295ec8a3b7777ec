//! Encryption of one connection: `Noise_XXpsk0_25519_AESGCM_SHA256` with the cluster key as the pre-shared key.
//!
//! A Noise message holds at most 65535 bytes, so a larger message travels in several, each one frame on the wire. The first byte
//! inside each says whether more of the message follows and whether the sender beats this link regularly. Frames are counted by
//! the cipher: one that is changed, lost, repeated or out of order does not open, and then nothing after it does.

use bytes::{Bytes, BytesMut};
use phalanx_messages::configuration::PublicKey;
use phalanx_messages::limits::PEER_FRAME_BYTES_MAX;
use snow::{HandshakeState, TransportState};
use tokio_util::codec::{Encoder, LengthDelimitedCodec};

use super::closing::CloseReason;
use super::keys::{ClusterKey, StaticKeyPair};

const PATTERN: &str = "Noise_XXpsk0_25519_AESGCM_SHA256";
/// Mixed into the handshake on both sides, never sent: another protocol with the same key is not understood.
const PROLOGUE: &[u8] = b"phalanx interconnect 1";
/// Bytes of the largest Noise message, which is the largest frame after the handshake.
pub(super) const NOISE_BYTES_MAX: usize = 65_535;
/// Authentication tag of each Noise message.
const TAG_BYTES: usize = 16;
/// Bytes of a message that go into one frame, beside the byte of flags.
pub(super) const CHUNK_BYTES_MAX: usize = NOISE_BYTES_MAX - TAG_BYTES - 1;

const FLAG_MORE: u8 = 1;
const FLAG_BEATS: u8 = 2;

/// Frames with a length before each, none longer than `bytes_max`.
pub(super) fn frames(bytes_max: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(bytes_max).new_codec()
}

/// A handshake about to begin.
///
/// # Errors
/// [`CloseReason::NotAuthentic`] if the library has no randomness.
pub(super) fn handshake(
    initiator: bool,
    cluster_key: &ClusterKey,
    pair: &StaticKeyPair,
) -> Result<HandshakeState, CloseReason> {
    let build = || {
        let builder = snow::Builder::new(PATTERN.parse()?)
            .psk(0, &cluster_key.0)?
            .local_private_key(&pair.private)?
            .prologue(PROLOGUE)?;
        if initiator { builder.build_initiator() } else { builder.build_responder() }
    };
    build().map_err(|_: snow::Error| CloseReason::NotAuthentic)
}

/// Both directions of an encrypted connection.
pub(super) struct Channel {
    state: TransportState,
    codec: LengthDelimitedCodec,
    plain: Vec<u8>,
    cipher: Vec<u8>,
    /// The part of a message that has arrived.
    partial: Vec<u8>,
}

/// A frame that opened.
pub(super) struct Opened {
    /// The message that this frame completes.
    pub message: Option<Vec<u8>>,
    /// The peer beats this link regularly.
    pub beats: bool,
}

impl Channel {
    /// The channel that a finished handshake gives, and the static key of the peer.
    ///
    /// # Errors
    /// [`CloseReason::NotAuthentic`] if the handshake has not finished.
    pub fn new(handshake: HandshakeState) -> Result<(Self, PublicKey), CloseReason> {
        let state = handshake.into_transport_mode().map_err(|_| CloseReason::NotAuthentic)?;
        let key = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(CloseReason::NotAuthentic)?;
        let cipher = Vec::new();
        let channel = Self { state, codec: frames(NOISE_BYTES_MAX), plain: Vec::new(), cipher, partial: Vec::new() };
        Ok((channel, key))
    }

    /// Appends the frames of one message to `wire`.
    ///
    /// # Errors
    /// [`CloseReason::Garbled`] if the cipher is used up, which takes 2^64 frames.
    pub fn seal(&mut self, message: &[u8], beats: bool, wire: &mut BytesMut) -> Result<(), CloseReason> {
        let mut rest = message;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES_MAX));
            let more = if after.is_empty() { 0 } else { FLAG_MORE };
            self.plain.clear();
            self.plain.push(more | if beats { FLAG_BEATS } else { 0 });
            self.plain.extend_from_slice(chunk);
            self.seal_frame(wire)?;
            if after.is_empty() {
                return Ok(());
            }
            rest = after;
        }
    }

    /// Appends one frame that says `self.plain`.
    fn seal_frame(&mut self, wire: &mut BytesMut) -> Result<(), CloseReason> {
        self.cipher.resize(self.plain.len() + TAG_BYTES, 0);
        let sealed = self.state.write_message(&self.plain, &mut self.cipher).map_err(|_| CloseReason::Garbled)?;
        let frame = Bytes::copy_from_slice(&self.cipher[..sealed]);
        self.codec.encode(frame, wire).map_err(|_| CloseReason::Oversized)
    }

    /// As [`Self::seal`], one frame that says anything.
    pub fn seal_plain(&mut self, plain: &[u8], wire: &mut BytesMut) -> Result<(), CloseReason> {
        self.plain.clear();
        self.plain.extend_from_slice(plain);
        self.seal_frame(wire)
    }

    /// Opens one frame.
    ///
    /// # Errors
    /// [`CloseReason::Garbled`] or [`CloseReason::Oversized`]: the connection is of no more use.
    pub fn open(&mut self, frame: &[u8]) -> Result<Opened, CloseReason> {
        self.plain.resize(frame.len(), 0); // as long as it needs to be: a node has a channel to every other one
        let opened = self.state.read_message(frame, &mut self.plain).map_err(|_| CloseReason::Garbled)?;
        let Some((flags, chunk)) = self.plain[..opened].split_first() else { return Err(CloseReason::Garbled) };
        if self.partial.len() + chunk.len() > PEER_FRAME_BYTES_MAX {
            return Err(CloseReason::Oversized);
        }
        let beats = flags & FLAG_BEATS != 0;
        self.partial.extend_from_slice(chunk);
        let message = (flags & FLAG_MORE == 0).then(|| std::mem::take(&mut self.partial));
        Ok(Opened { message, beats })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio_util::codec::Decoder;

    use super::*;

    /// Both ends of one connection.
    pub fn channels() -> (Channel, Channel) {
        let cluster_key = ClusterKey::generate().unwrap();
        let pairs = [StaticKeyPair::generate().unwrap(), StaticKeyPair::generate().unwrap()];
        let mut dialler = handshake(true, &cluster_key, &pairs[0]).unwrap();
        let mut accepter = handshake(false, &cluster_key, &pairs[1]).unwrap();
        let (mut wire, mut payload) = (vec![0; 4096], vec![0; 4096]);
        for step in 0..3 {
            let (from, to) = if step % 2 == 0 { (&mut dialler, &mut accepter) } else { (&mut accepter, &mut dialler) };
            let written = from.write_message(b"", &mut wire).unwrap();
            to.read_message(&wire[..written], &mut payload).unwrap();
        }
        let (left, right) = (Channel::new(dialler).unwrap(), Channel::new(accepter).unwrap());
        assert_eq!((left.1, right.1), (pairs[1].public, pairs[0].public));
        (left.0, right.0)
    }

    fn sealed(channel: &mut Channel, message: &[u8]) -> Vec<BytesMut> {
        let mut wire = BytesMut::new();
        channel.seal(message, true, &mut wire).unwrap();
        let mut codec = frames(NOISE_BYTES_MAX);
        std::iter::from_fn(|| codec.decode(&mut wire).unwrap()).collect()
    }

    #[test]
    fn messages_of_every_size_arrive_whole() {
        let (mut left, mut right) = channels();
        for (size, count) in
            [(0, 1), (1, 1), (CHUNK_BYTES_MAX, 1), (CHUNK_BYTES_MAX + 1, 2), (PEER_FRAME_BYTES_MAX, 65)]
        {
            let message: Vec<u8> = (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect();
            let frames = sealed(&mut left, &message);
            assert_eq!(frames.len(), count);
            let opened: Vec<_> = frames.iter().map(|frame| right.open(frame).unwrap()).collect();
            assert!(opened.iter().all(|opened| opened.beats));
            let arrived: Vec<_> = opened.into_iter().filter_map(|opened| opened.message).collect();
            assert!(arrived == [message]);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_whole() {
        let (mut left, mut right) = channels();
        let frames = sealed(&mut left, &vec![0; PEER_FRAME_BYTES_MAX + 1]);
        let last = frames.iter().map(|frame| right.open(frame).err()).find_map(|error| error);
        assert_eq!(last, Some(CloseReason::Oversized));
    }

    /// A link that is made anew has other keys, with the same cluster key and another one.
    #[test]
    fn a_frame_of_one_link_opens_on_no_other_and_not_where_it_came_from() {
        let (mut left, _) = channels();
        let frame = sealed(&mut left, b"commit").remove(0);
        assert_eq!(left.open(&frame).err(), Some(CloseReason::Garbled), "sent back");
        for _ in 0..2 {
            let (_, mut other) = channels();
            assert_eq!(other.open(&frame).err(), Some(CloseReason::Garbled));
        }
    }

    #[test]
    fn a_frame_that_is_changed_repeated_or_skipped_does_not_open() {
        let changed = |frames: &[BytesMut], right: &mut Channel| {
            let mut frame = frames[0].clone();
            frame[3] ^= 1;
            right.open(&frame).err()
        };
        let (mut left, mut right) = channels();
        assert_eq!(changed(&sealed(&mut left, b"commit"), &mut right), Some(CloseReason::Garbled));

        let (mut left, mut right) = channels();
        let first = sealed(&mut left, b"first");
        assert!(right.open(&first[0]).is_ok());
        assert_eq!(right.open(&first[0]).err(), Some(CloseReason::Garbled), "repeated");

        let (mut left, mut right) = channels();
        let (first, second) = (sealed(&mut left, b"first"), sealed(&mut left, b"second"));
        assert_eq!(right.open(&second[0]).err(), Some(CloseReason::Garbled), "out of order");
        assert!(right.open(&first[0]).is_ok(), "nothing that is refused is counted");

        let (mut left, mut right) = channels();
        let _lost = sealed(&mut left, b"lost");
        assert_eq!(right.open(&sealed(&mut left, b"next")[0]).err(), Some(CloseReason::Garbled));
    }
}
