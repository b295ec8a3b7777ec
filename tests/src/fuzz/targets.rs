//! What is decoded from the wire and from the local socket.

use phalanx_actors::interconnect::fuzzing;
use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::codec;
use phalanx_messages::limits::{HANDSHAKE_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use phalanx_messages::peer::PeerMessage;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One decoder.
pub struct Target {
    /// Name of its directory in the corpus.
    pub name: &'static str,
    /// Decodes; true if that gave something. Panics if what must hold does not.
    pub run: fn(&[u8]) -> bool,
    /// Makes a mutation pass a check that no mutation would pass by chance, in some of the cases.
    pub mend: fn(Vec<u8>) -> Vec<u8>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Frames, handshake and messages of the interconnect; requests and answers of the local socket.
pub const WIRE_TARGETS: [Target; 5] = [
    Target { name: "interconnect-handshake", run: handshake, mend: as_it_is },
    Target { name: "interconnect-frames", run: frames, mend: as_it_is },
    Target { name: "interconnect-messages", run: peer_message, mend: as_it_is },
    Target { name: "local-requests", run: json::<AdminRequest>, mend: as_it_is },
    Target { name: "local-answers", run: json::<AdminAnswer>, mend: as_it_is },
];

fn as_it_is(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Bytes of a stranger.
fn handshake(bytes: &[u8]) -> bool {
    let frames = fuzzing::frames(bytes, HANDSHAKE_FRAME_BYTES_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answered = runtime.block_on(fuzzing::accept(bytes));
    assert!(!answered || frames > 0, "an answer to something that is no frame");
    answered
}

/// Plain frames of an authentic peer that says anything.
fn frames(bytes: &[u8]) -> bool {
    let messages = fuzzing::open(bytes);
    assert!(messages.iter().all(|message| message.len() <= PEER_FRAME_BYTES_MAX));
    assert!(messages.iter().map(Vec::len).sum::<usize>() <= bytes.len(), "more came out than went in");
    !messages.is_empty()
}

fn peer_message(bytes: &[u8]) -> bool {
    let Ok(message) = codec::decode::<PeerMessage>(bytes, PEER_FRAME_BYTES_MAX) else { return false };
    again(&message);
    true
}

/// What was decoded can be encoded, and is the same then.
pub(super) fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = codec::encode(value, PEER_FRAME_BYTES_MAX).expect("it was decoded");
    let decoded = codec::decode::<T>(&bytes, PEER_FRAME_BYTES_MAX).expect("it was encoded");
    assert_eq!(decoded, *value);
}

fn json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return false };
    let text = serde_json::to_vec(&value).expect("it was decoded");
    let decoded = serde_json::from_slice::<T>(&text).expect("it was encoded");
    assert_eq!(decoded, value);
    true
}
