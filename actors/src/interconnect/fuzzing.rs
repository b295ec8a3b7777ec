//! What the fuzzer of the tests gives to the wire side of the interconnect. Nothing else uses it; a feature of its own would build the actors
//! twice.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::BytesMut;
use phalanx_messages::NodeIncarnation;
use tokio::io::AsyncWriteExt;
use tokio_util::codec::Decoder;
use uuid::Uuid;

use super::admission::{Admission, Side};
use super::cluster_keys::ClusterKeys;
use super::handshake::{self, Secrets};
use super::keys::{ClusterKey, StaticKeyPair};
use super::noise::{self, Channel, NOISE_BYTES_MAX};

/// The cluster key of [`accept`].
pub const KEY: ClusterKey = ClusterKey([7; 32]);
/// Bytes that a stream holds: more than any input.
const PIPE_BYTES: usize = 1 << 20;

/// A connection that says these bytes and then nothing more is accepted, if it can be. True if its first message was authentic.
///
/// # Panics
/// If the accepting side does, which is what a fuzzer looks for; or if it takes the peer in, which nobody can bring about with bytes that
/// were written before.
pub async fn accept(bytes: &[u8]) -> bool {
    let (near, mut far) = tokio::io::duplex(PIPE_BYTES);
    far.write_all(bytes).await.expect("the pipe holds it");
    far.shutdown().await.expect("a pipe can be closed");
    let pair = StaticKeyPair::from_private([9; 32]);
    let secrets = Rc::new(Secrets { cluster_keys: ClusterKeys::from(KEY), pair });
    let admission = Rc::new(RefCell::new(Admission::new(NodeIncarnation::default(), Uuid::nil())));
    let ended = handshake::run(Box::new(near), Side::Accepted, 0, secrets, admission).await;
    assert!(ended.is_err(), "a peer is taken in by bytes that it wrote before it heard anything");
    // The answer to the first message is there if that one opened.
    let mut answer = [0; 1];
    tokio::io::AsyncReadExt::read(&mut far, &mut answer).await.is_ok_and(|count| count > 0)
}

/// The first message of a dialling node, as it lies on the wire.
///
/// # Panics
/// Never: the library is built with what it needs.
#[must_use]
pub fn first_message() -> Vec<u8> {
    let mut state = noise::handshake(true, &KEY, &StaticKeyPair::from_private([8; 32])).expect("a handshake");
    let mut frame = vec![0; 1024];
    let length = state.write_message(&[], &mut frame).expect("a short message");
    let prefix = u32::try_from(length).expect("a short message").to_be_bytes();
    [&prefix[..], &frame[..length]].concat()
}

/// An authentic peer that seals these plain frames, each of which begins with its length in two bytes. Gives the messages they make,
/// until one is refused.
///
/// # Panics
/// As [`accept`].
#[must_use]
pub fn open(plain: &[u8]) -> Vec<Vec<u8>> {
    let (mut left, mut right) = channels();
    let (mut messages, mut rest) = (Vec::new(), plain);
    while let Some((length, after)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]])).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        let mut wire = BytesMut::new();
        if left.seal_plain(frame, &mut wire).is_err() {
            break;
        }
        let mut codec = noise::frames(NOISE_BYTES_MAX);
        let Ok(Some(frame)) = codec.decode(&mut wire) else { break };
        match right.open(&frame) {
            Ok(opened) => messages.extend(opened.message),
            Err(_) => break,
        }
    }
    messages
}

/// Bytes of a wire, cut into frames: how many there are until one is over its limit.
#[must_use]
pub fn frames(wire: &[u8], bytes_max: usize) -> usize {
    let (mut codec, mut wire) = (noise::frames(bytes_max), BytesMut::from(wire));
    std::iter::from_fn(|| codec.decode(&mut wire).ok().flatten()).count()
}

/// Both ends of one connection.
fn channels() -> (Channel, Channel) {
    let pairs = [[1; 32], [2; 32]].map(StaticKeyPair::from_private);
    let mut dialler = noise::handshake(true, &KEY, &pairs[0]).expect("a handshake");
    let mut accepter = noise::handshake(false, &KEY, &pairs[1]).expect("a handshake");
    let (mut wire, mut payload) = (vec![0; 4096], vec![0; 4096]);
    for step in 0..3 {
        let (from, to) = if step % 2 == 0 { (&mut dialler, &mut accepter) } else { (&mut accepter, &mut dialler) };
        let written = from.write_message(b"", &mut wire).expect("a short message");
        to.read_message(&wire[..written], &mut payload).expect("the same key");
    }
    let end = |state| Channel::new(state).expect("the handshake has finished").0;
    (end(dialler), end(accepter))
}
