//! The one way to turn a value into bytes and back.
//!
//! bincode with fixed-width little-endian integers (protocol §1.2), a size limit, and a check that nothing trails:
//! bytes from the disk or the network that do not decode exactly are refused, never guessed. Lengths in them are not trusted: the
//! decoder would make room for a text before it looks whether the text is there, so it is told how much there can be.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, NoLimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONFIGURATION: Configuration<LittleEndian, Fixint, NoLimit> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding();

/// Nothing in a value of up to so many bytes is larger: nearly all there are.
const SMALL_BYTES: usize = 64 * 1024;
/// No value is larger: the registration database of the largest disk has 40 MB.
const LARGE_BYTES: usize = 64 * 1024 * 1024;
const SMALL: Configuration<LittleEndian, Fixint, Limit<SMALL_BYTES>> = CONFIGURATION.with_limit::<SMALL_BYTES>();
const LARGE: Configuration<LittleEndian, Fixint, Limit<LARGE_BYTES>> = CONFIGURATION.with_limit::<LARGE_BYTES>();

/// Why bytes could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value does not fit where it goes.
    #[error("{bytes} bytes do not fit the limit of {limit}")]
    TooLarge {
        /// Bytes of the value.
        bytes: usize,
        /// The limit that applies.
        limit: usize,
    },
    /// The value cannot be written.
    #[error("failed to encode")]
    Encode(#[source] bincode::error::EncodeError),
    /// The bytes are not a value of this type.
    #[error("failed to decode")]
    Decode(#[source] bincode::error::DecodeError),
    /// A value was read, and something follows it.
    #[error("{trailing} bytes follow the value")]
    Trailing {
        /// Bytes left over.
        trailing: usize,
    },
    /// A change was read that is not one of the record it stands behind.
    #[error("the change does not follow the record before it")]
    Misplaced,
}

/// Encodes `value` into at most `limit` bytes.
///
/// # Errors
/// [`CodecError::TooLarge`] if it does not fit, [`CodecError::Encode`] if serde refuses it.
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIGURATION).map_err(CodecError::Encode)?;
    if bytes.len() > limit {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit });
    }
    Ok(bytes)
}

/// Decodes exactly one value from all of `bytes`, of which there may be at most `limit`.
///
/// # Errors
/// [`CodecError::TooLarge`], [`CodecError::Decode`] or [`CodecError::Trailing`]: the bytes are refused as a whole.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit });
    }
    let (value, used) = decode_from(bytes).map_err(CodecError::Decode)?;
    if used != bytes.len() {
        return Err(CodecError::Trailing { trailing: bytes.len() - used });
    }
    Ok(value)
}

/// Decodes one value from the begin of `bytes` and ignores what follows it: a record of a newer minor version of its format
/// has more fields at its end (protocol §2, "unknown minor = ignore extra bytes").
///
/// # Errors
/// [`CodecError::TooLarge`] or [`CodecError::Decode`].
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLarge { bytes: bytes.len(), limit });
    }
    decode_from(bytes).map(|(value, _)| value).map_err(CodecError::Decode)
}

fn decode_from<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), bincode::error::DecodeError> {
    if bytes.len() <= SMALL_BYTES {
        bincode::serde::decode_from_slice(bytes, SMALL)
    } else {
        bincode::serde::decode_from_slice(bytes, LARGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Level, NodeId, NotificationId, Term, TransitionId};

    #[test]
    fn golden_bytes_are_fixed_width_and_little_endian() {
        let nid = NotificationId {
            transition: TransitionId { term: Term(3), counter: 17 },
            level: Level(100),
            barrier: 2,
            restart: 1,
        };
        let bytes = encode(&nid, 64).unwrap();
        assert_eq!(bytes, [3, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 100, 0, 2, 1, 0, 0, 0]);
        assert_eq!(decode::<NotificationId>(&bytes, 64).unwrap(), nid);
    }

    #[test]
    fn refuses_what_is_too_large_cut_short_or_followed_by_something() {
        assert!(matches!(encode(&"a name", 4), Err(CodecError::TooLarge { limit: 4, .. })));
        let bytes = encode(&NodeId(7), 16).unwrap();
        assert!(matches!(decode::<NodeId>(&bytes, 1), Err(CodecError::TooLarge { .. })));
        assert!(matches!(decode::<NodeId>(&bytes[..1], 16), Err(CodecError::Decode(_))));
        assert!(matches!(decode::<NodeId>(&[7, 0, 9], 16), Err(CodecError::Trailing { trailing: 1 })));
        assert_eq!(decode_prefix::<NodeId>(&[7, 0, 9], 16).unwrap(), NodeId(7));
        assert!(matches!(decode_prefix::<NodeId>(&[7], 16), Err(CodecError::Decode(_))));
        assert!(decode::<Vec<u64>>(&u64::MAX.to_le_bytes(), 16).is_err(), "a length is not trusted");
    }

    /// Found by the fuzzer: room was made for a text of any length, and the process ended where there was none.
    #[test]
    fn a_length_of_a_text_is_not_trusted() {
        for length in [SMALL_BYTES as u64, 1 << 40, u64::MAX] {
            assert!(matches!(decode::<String>(&length.to_le_bytes(), 16), Err(CodecError::Decode(_))), "{length}");
        }
        for bytes in [SMALL_BYTES - 8, SMALL_BYTES, 10 * SMALL_BYTES] {
            let text = "x".repeat(bytes);
            assert_eq!(decode::<String>(&encode(&text, usize::MAX).unwrap(), usize::MAX).unwrap(), text);
        }
        let names = vec!["a name of thirty-two bytes or so".to_owned(); SMALL_BYTES / 40];
        assert_eq!(decode::<Vec<String>>(&encode(&names, usize::MAX).unwrap(), usize::MAX).unwrap(), names);
    }
}
