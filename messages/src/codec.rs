//! The one way to turn a value into bytes and back.
//!
//! bincode with fixed-width little-endian integers (protocol §1.2), a size limit, and a check that nothing trails:
//! bytes from the disk or the network that do not decode exactly are refused, never guessed.

use bincode::config::{Configuration, Fixint, LittleEndian, NoLimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONFIGURATION: Configuration<LittleEndian, Fixint, NoLimit> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding();

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
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIGURATION).map_err(CodecError::Decode)?;
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
    bincode::serde::decode_from_slice(bytes, CONFIGURATION).map(|(value, _)| value).map_err(CodecError::Decode)
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
}
