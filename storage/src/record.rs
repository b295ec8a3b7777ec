//! What the records of the areas have in common.

use phalanx_messages::Revision;
use phalanx_messages::codec::{self, CodecError};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::registration_change::RegistrationChange;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::header::RecordType;

/// A record that has an area of its own: one pair of slots for each node.
pub trait AreaRecord: Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static {
    /// Which area.
    const RECORD_TYPE: RecordType;

    /// Place in the chain that all nodes write together; its term becomes the epoch of the header. Where each node has a
    /// record of its own, as for the registers, it orders that node's records only.
    fn revision(&self) -> Revision;

    /// What makes this record of that one, encoded, if such records have a redo log and this one is the next.
    fn change_from(&self, _before: &Self) -> Option<Vec<u8>> {
        None
    }

    /// Makes the next record of this one. `is_newer`: a newer minor version of the format wrote it, which may say more.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are no such change, or one of another record; then this one is what it was.
    fn apply(&mut self, _change: &[u8], _is_newer: bool) -> Result<(), CodecError> {
        Err(CodecError::Misplaced)
    }
}

impl AreaRecord for NodeRegister {
    const RECORD_TYPE: RecordType = RecordType::NodeRegister;

    fn revision(&self) -> Revision {
        Revision { term: self.claim.term, seq: self.heartbeat }
    }
}

impl AreaRecord for MembershipRecord {
    const RECORD_TYPE: RecordType = RecordType::Membership;

    fn revision(&self) -> Revision {
        self.revision
    }
}

impl AreaRecord for ConfigurationRecord {
    const RECORD_TYPE: RecordType = RecordType::Configuration;

    fn revision(&self) -> Revision {
        self.revision
    }
}

impl AreaRecord for DecisionRegister {
    const RECORD_TYPE: RecordType = RecordType::Decision;

    fn revision(&self) -> Revision {
        Revision { term: self.claim.term, seq: 0 }
    }
}

impl AreaRecord for RegistrationRecord {
    const RECORD_TYPE: RecordType = RecordType::Registration;

    fn revision(&self) -> Revision {
        self.revision
    }

    fn change_from(&self, before: &Self) -> Option<Vec<u8>> {
        codec::encode(&RegistrationChange::between(before, self)?, usize::MAX).ok()
    }

    fn apply(&mut self, change: &[u8], is_newer: bool) -> Result<(), CodecError> {
        let decode = if is_newer { codec::decode_prefix } else { codec::decode };
        let change: RegistrationChange = decode(change, change.len())?;
        change.apply(self)
    }
}
