//! Where everything lies on the disk (protocol §2): the region table, computed once by the formatter and then kept in the
//! superblock, so that a later program with other formulae still reads an older disk.
//!
//! The sizes, and why they are what they are, are in `docs/design/disk-layout.md`.

use std::fmt;

use phalanx_messages::NodeId;
use phalanx_messages::limits::{NODES_MAX, SERVICES_MAX};
use serde::{Deserialize, Serialize};

use crate::block::{BLOCK_BYTES, BlockIndex};
use crate::error::StorageError;
use crate::header::{PAYLOAD_BYTES, RecordType};

/// Bytes of the membership record beside its nodes: the level registry.
const MEMBERSHIP_BASE_BYTES: usize = 4_000;
/// Bytes of one node in the membership record, with its ghost and two reasons of full length.
const MEMBER_BYTES: usize = 800;
/// Bytes of one service in the registration record: definition, run state and the text of its last failure.
const SERVICE_BYTES: usize = 1_200;
/// A redo log has half the blocks of a whole registration record, and at least so many.
const REDO_BLOCKS_MIN: u16 = 4;
/// Bytes of one node in the configuration record.
const NODE_CONFIGURATION_BYTES: usize = 2_000;

/// One area of the disk: a pair of slots for each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// What it holds.
    pub record_type: RecordType,
    /// First block.
    pub first: BlockIndex,
    /// Blocks of one slot.
    pub slot_blocks: u16,
    /// Nodes that have a pair of slots here.
    pub nodes: u16,
}

impl Region {
    /// Blocks of the whole region.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        2 * self.nodes as u64 * self.slot_blocks as u64
    }

    /// Bytes of payload of one slot: the largest record.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        self.slot_blocks as usize * PAYLOAD_BYTES
    }

    /// First block of one slot (0 or 1) of a node.
    #[must_use]
    pub const fn slot(&self, node: NodeId, slot: u16) -> BlockIndex {
        self.first.plus((2 * node.0 as u64 + slot as u64) * self.slot_blocks as u64)
    }

    /// The node ids that have a place here, ascending.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes).map(NodeId)
    }

    /// Short name, as protocol §2 has it, and what people read.
    #[must_use]
    pub const fn names(&self) -> (&'static str, &'static str) {
        names(self.record_type)
    }

    /// Who writes it.
    #[must_use]
    pub const fn writer(&self) -> &'static str {
        match self.record_type {
            RecordType::Superblock => "disk create",
            RecordType::NodeRegister | RecordType::Decision => "each node its own",
            RecordType::Membership | RecordType::Configuration => "each node its own, while it is master",
            RecordType::Registration | RecordType::RegistrationRedo => "each node its own, while it is decision maker",
        }
    }
}

/// Short and long name of a record type.
#[must_use]
pub const fn names(record_type: RecordType) -> (&'static str, &'static str) {
    match record_type {
        RecordType::Superblock => ("SB", "superblock"),
        RecordType::NodeRegister => ("NB", "node register"),
        RecordType::Membership => ("MA", "membership"),
        RecordType::Configuration => ("CF", "configuration"),
        RecordType::Decision => ("DL", "decision"),
        RecordType::Registration => ("RD", "registration"),
        RecordType::RegistrationRedo => ("RL", "registration redo"),
    }
}

/// The region table of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    nodes_max: u16,
    services_max: u32,
    regions: Vec<Region>,
}

impl Layout {
    /// The table for at most `nodes_max` nodes and `services_max` services.
    ///
    /// # Errors
    /// [`StorageError::OutOfRange`] beyond the limits of `messages::limits`.
    pub fn new(nodes_max: u16, services_max: u32) -> Result<Self, StorageError> {
        in_range("nodes_max", u64::from(nodes_max), NODES_MAX)?;
        in_range("services_max", u64::from(services_max), SERVICES_MAX)?;
        let (nodes, services) = (usize::from(nodes_max), services_max as usize);
        let sizes = [
            (RecordType::NodeRegister, PAYLOAD_BYTES),
            (RecordType::Membership, MEMBERSHIP_BASE_BYTES + nodes * MEMBER_BYTES),
            (RecordType::Configuration, nodes * NODE_CONFIGURATION_BYTES),
            (RecordType::Decision, PAYLOAD_BYTES),
            (RecordType::Registration, services * SERVICE_BYTES),
        ];
        // At most 30,000 by the limits.
        let blocks = |bytes: usize| u16::try_from(bytes.div_ceil(PAYLOAD_BYTES)).unwrap_or(u16::MAX);
        let redo_blocks = (blocks(services * SERVICE_BYTES) / 2).max(REDO_BLOCKS_MIN);
        let sizes = sizes.map(|(record_type, bytes)| (record_type, blocks(bytes))).into_iter();
        let mut first = BlockIndex(2); // two superblocks lie before
        let mut regions = Vec::new();
        for (record_type, slot_blocks) in sizes.chain([(RecordType::RegistrationRedo, redo_blocks)]) {
            let region = Region { record_type, first, slot_blocks, nodes: nodes_max };
            first = first.plus(region.blocks());
            regions.push(region);
        }
        Ok(Self { nodes_max, services_max, regions })
    }

    /// Nodes this disk has room for: ids `0..nodes_max`.
    #[must_use]
    pub const fn nodes_max(&self) -> u16 {
        self.nodes_max
    }

    /// Services this disk has room for.
    #[must_use]
    pub const fn services_max(&self) -> u32 {
        self.services_max
    }

    /// The regions, ascending by address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region of that record type.
    #[must_use]
    pub fn region(&self, record_type: RecordType) -> Option<Region> {
        self.regions.iter().find(|region| region.record_type == record_type).copied()
    }

    /// Blocks a disk must have at least, the last superblock included.
    #[must_use]
    pub fn blocks_needed(&self) -> u64 {
        self.regions.iter().map(|region| region.first.0 + region.blocks()).max().unwrap_or(2) + 1
    }

    pub(crate) fn stored(&self) -> Vec<StoredRegion> {
        let stored = |region: &Region| StoredRegion {
            record_type: region.record_type as u16,
            first: region.first.0,
            slot_blocks: region.slot_blocks,
            nodes: region.nodes,
        };
        self.regions.iter().map(stored).collect()
    }

    /// The table of a superblock. Regions this program does not know are left out.
    pub(crate) fn from_stored(nodes_max: u16, services_max: u32, stored: &[StoredRegion]) -> Self {
        let region = |stored: &StoredRegion| {
            let record_type = known(stored.record_type)?;
            let (first, slot_blocks, nodes) = (BlockIndex(stored.first), stored.slot_blocks, stored.nodes);
            Some(Region { record_type, first, slot_blocks, nodes })
        };
        Self { nodes_max, services_max, regions: stored.iter().filter_map(region).collect() }
    }
}

/// The table as people read it: what `disk create` and `disk show` print.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18} {:>10} {:>10} {:>12}  writer", "region", "first", "blocks", "a slot")?;
        writeln!(f, "{:<18} {:>10} {:>10} {:>12}  disk create", "SB superblock", 0, 2, "-")?;
        for region in &self.regions {
            let (short, long) = region.names();
            let name = format!("{short} {long}");
            let (first, blocks, slot, writer) = (region.first.0, region.blocks(), region.slot_blocks, region.writer());
            writeln!(f, "{name:<18} {first:>10} {blocks:>10} {slot:>12}  {writer}")?;
        }
        writeln!(f, "{:<18} {:>10} {:>10} {:>12}  disk create", "SB superblock", "last", 1, "-")?;
        let (blocks, mib) = (self.blocks_needed(), (self.blocks_needed() * BLOCK_BYTES as u64).div_ceil(1 << 20));
        write!(f, "{blocks} blocks ({mib} MiB) for {} nodes and {} services", self.nodes_max, self.services_max)
    }
}

/// One row of the table in the superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredRegion {
    record_type: u16,
    first: u64,
    slot_blocks: u16,
    nodes: u16,
}

fn known(record_type: u16) -> Option<RecordType> {
    use RecordType::{Configuration, Decision, Membership, NodeRegister, Registration, RegistrationRedo, Superblock};
    [Superblock, NodeRegister, Membership, Configuration, Decision, Registration, RegistrationRedo]
        .into_iter()
        .find(|known| *known as u16 == record_type)
}

fn in_range(field: &'static str, found: u64, max: usize) -> Result<(), StorageError> {
    let max = max as u64;
    if (1..=max).contains(&found) { Ok(()) } else { Err(StorageError::OutOfRange { field, found, max }) }
}
