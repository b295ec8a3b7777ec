//! The superblock (`SB`, protocol §2): what the formatter fixed for the life of the disk. Three identical copies.

use phalanx_messages::profile::TimingProfile;
use phalanx_messages::{Incarnation, NodeId, Term, codec};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backend::Backend;
use crate::block::{Block, BlockIndex};
use crate::error::{BlockFault, StorageError};
use crate::header::{self, Header, PAYLOAD_BYTES, RecordType, WriteId};
use crate::layout::{Layout, StoredRegion};

/// What every node must agree on, read from the disk by each and never from a local file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    /// The cluster, for ever.
    pub cluster: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Nodes the disk has room for: ids `0..nodes_max`.
    pub nodes_max: u16,
    /// Client services the disk has room for.
    pub services_max: u32,
    /// Every time-out of the cluster.
    pub profile: TimingProfile,
    /// Wall clock at formatting, milliseconds since the Unix epoch; for people.
    pub created_at_ms: u64,
}

/// The payload of a superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSuperblock {
    pub superblock: Superblock,
    /// Size of the disk when it was formatted; the last copy lies in its last block.
    pub block_count: u64,
    /// Bits of features without which the disk must not be used ([`crate::Backend`]).
    pub features: u64,
    regions: Vec<StoredRegion>,
}

impl StoredSuperblock {
    pub fn new(superblock: Superblock, layout: &Layout, block_count: u64, backend: Backend) -> Self {
        Self { superblock, block_count, features: backend.features(), regions: layout.stored() }
    }

    pub fn layout(&self) -> Layout {
        Layout::from_stored(self.superblock.nodes_max, self.superblock.services_max, &self.regions)
    }

    /// The three places of the copies.
    pub fn copies(&self) -> [BlockIndex; 3] {
        copies(self.block_count)
    }

    /// The block of the copy at `address`.
    pub fn seal(&self, address: BlockIndex, write: WriteId) -> Result<Block, StorageError> {
        let payload = codec::encode(self, PAYLOAD_BYTES).map_err(|source| StorageError::TooLarge {
            record: "superblock",
            node: NodeId(0),
            limit: PAYLOAD_BYTES,
            source,
        })?;
        let header = Header {
            record_type: RecordType::Superblock as u16,
            minor: header::MINOR,
            cluster: self.superblock.cluster,
            address,
            owner: NodeId(0),
            slot: 0,
            part: 0,
            parts: 1,
            incarnation: Incarnation(0),
            epoch: Term(0),
            sequence: 0,
            write,
            payload_bytes: 0,
        };
        Ok(header::seal(&header, &payload))
    }

    /// Reads a copy.
    pub fn unseal(block: &Block, address: BlockIndex) -> Result<Self, StorageError> {
        let fault = |source| StorageError::Superblock { block: address, source };
        let found = header::unseal(block, address).map_err(fault)?;
        let expected = RecordType::Superblock as u16;
        if found.record_type != expected {
            let (found, expected) = (u64::from(found.record_type), u64::from(expected));
            return Err(fault(BlockFault::Place { field: "record type", found, expected }));
        }
        codec::decode_prefix(header::payload(block, &found), PAYLOAD_BYTES)
            .map_err(|source| StorageError::Undecodable { block: address, source })
    }
}

/// Where the copies lie on a disk of that size: 0, 1 and the last block.
pub(crate) const fn copies(block_count: u64) -> [BlockIndex; 3] {
    [BlockIndex(0), BlockIndex(1), BlockIndex(block_count.saturating_sub(1))]
}
