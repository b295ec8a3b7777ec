//! Persistent maps in records: written as any map, and read without believing the length that is written before it.
//!
//! `imbl` makes room for as many entries as a record says it has, so that a few damaged bytes would ask for all memory.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// As a map, by ascending key.
pub(crate) fn serialize<S, K, V>(map: &OrdMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    K: Serialize + Ord,
    V: Serialize,
{
    serializer.collect_map(map)
}

/// Entry by entry.
pub(crate) fn deserialize<'de, D, K, V>(deserializer: D) -> Result<OrdMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Clone,
    V: Deserialize<'de> + Clone,
{
    Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use crate::codec;
    use crate::registration::RegistrationRecord;
    use crate::service::ServiceDefinition;

    /// Found by the fuzzer: 4 KiB of a damaged disk asked for 120 MB.
    #[test]
    fn a_length_that_is_not_there_is_an_error_and_no_room_is_made_for_it() {
        let record = RegistrationRecord::of_definitions([ServiceDefinition::new("s")]);
        let mut bytes = codec::encode(&record, 4_096).unwrap();
        assert_eq!(codec::decode::<RegistrationRecord>(&bytes, 4_096).unwrap(), record);
        let length = 24; // after revision and formation
        assert_eq!(bytes[length..length + 8], 1_u64.to_le_bytes());
        bytes[length..length + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(codec::decode::<RegistrationRecord>(&bytes, 4_096).is_err());
    }
}
