//! Errors of the storage layer. Each names the values and where it stands.

use std::io;

use phalanx_messages::codec::CodecError;
use phalanx_messages::profile::TimingClash;
use phalanx_messages::{Incarnation, NodeId};
use uuid::Uuid;

use crate::block::BlockIndex;

/// Why one block is not what was looked for. A torn block shows as [`BlockFault::Checksum`] in nearly every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// All zero.
    #[error("the block was never written")]
    Blank,
    /// Something else is stored here.
    #[error("the block begins with {found:02x?}, not with the mark of a Phalanx block")]
    Magic {
        /// What is there instead.
        found: [u8; 4],
    },
    /// A newer program wrote it.
    #[error("format version {major}.{minor} is not known; this program reads major version {}", crate::header::MAJOR)]
    Version {
        /// Major version found.
        major: u8,
        /// Minor version found.
        minor: u8,
    },
    /// Torn or damaged.
    #[error("checksum {stored:08x} does not match the content ({computed:08x})")]
    Checksum {
        /// In the block.
        stored: u32,
        /// Of the block.
        computed: u32,
    },
    /// Another cluster's block.
    #[error("the block belongs to cluster {found}, not to {ours}")]
    Cluster {
        /// In the block.
        found: Uuid,
        /// This cluster.
        ours: Uuid,
    },
    /// A misdirected write.
    #[error("the block was written for block {found}")]
    Address {
        /// In the block.
        found: BlockIndex,
    },
    /// Another record, owner, slot or part than the address stands for.
    #[error("{field} is {found}, not {expected}")]
    Place {
        /// Which field of the header.
        field: &'static str,
        /// In the block.
        found: u64,
        /// By the layout.
        expected: u64,
    },
    /// A part of another write than the first part (protocol §2, "all parts must agree").
    #[error("part {part} belongs to another write than part 0")]
    MixedParts {
        /// Which part.
        part: u16,
    },
    /// An entry of the redo log of a slot is unreadable, and others follow it: what they say is not known.
    #[error("the redo log of this slot has an unreadable entry at block {at}, and others behind it")]
    LostEntry {
        /// Where it stands.
        at: BlockIndex,
    },
}

/// Why the shared disk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk did not read.
    #[error("failed to read {count} blocks at block {first}")]
    Read {
        /// Address.
        first: BlockIndex,
        /// How many.
        count: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk did not write. The write may have happened and may still happen (protocol R-2).
    #[error("failed to write {count} blocks at block {first}")]
    Write {
        /// Address.
        first: BlockIndex,
        /// How many.
        count: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// All copies of the superblock are zero.
    #[error("the disk of {block_count} blocks is not formatted: its superblocks are blank")]
    NotFormatted {
        /// Size of the disk.
        block_count: u64,
    },
    /// No copy of the superblock can be read.
    #[error("no superblock can be read; block {block}")]
    Superblock {
        /// The copy looked at.
        block: BlockIndex,
        /// What is wrong with it.
        #[source]
        source: BlockFault,
    },
    /// Two valid copies of the superblock differ: an interrupted format over an older one.
    #[error("the superblocks in block {first} and block {second} differ")]
    SuperblocksDiffer {
        /// One copy.
        first: BlockIndex,
        /// The other.
        second: BlockIndex,
    },
    /// The disk is another size than when it was formatted.
    #[error("the disk has {found} blocks; it was formatted with {formatted}")]
    Truncated {
        /// Now.
        found: u64,
        /// Then.
        formatted: u64,
    },
    /// The disk needs something of its program that this one does not have.
    #[error("the disk uses features (bits {features:#x}) that this program does not know")]
    Features {
        /// Bits of the superblock.
        features: u64,
    },
    /// The region table of the superblock makes no sense.
    #[error("the region table has no usable {record} region")]
    NoRegion {
        /// Which area.
        record: &'static str,
    },
    /// The layout does not fit.
    #[error(
        "{nodes_max} nodes and {services_max} services need a disk of {needed} blocks ({} bytes); this one has {found}",
        needed * crate::BLOCK_BYTES as u64
    )]
    DiskTooSmall {
        /// Nodes to format for.
        nodes_max: u16,
        /// Services to format for.
        services_max: u32,
        /// Blocks needed.
        needed: u64,
        /// Blocks there are.
        found: u64,
    },
    /// A number given to the formatter is out of range.
    #[error("{field} ({found}) must be from 1 to {max}")]
    OutOfRange {
        /// What.
        field: &'static str,
        /// Given.
        found: u64,
        /// Limit.
        max: u64,
    },
    /// The timing profile contradicts itself.
    #[error("the timing profile is wrong: {0}")]
    Profile(TimingClash),
    /// The record does not fit its slot.
    #[error("the {record} record of node {node} does not fit its slot of {limit} bytes")]
    TooLarge {
        /// Which area.
        record: &'static str,
        /// Whose.
        node: NodeId,
        /// Bytes of payload of one slot.
        limit: usize,
        /// By how much.
        #[source]
        source: CodecError,
    },
    /// A valid block holds something this program cannot decode.
    #[error("the record in block {block} is valid but cannot be decoded")]
    Undecodable {
        /// Its first block.
        block: BlockIndex,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// Both slots of a register are torn or damaged.
    #[error("both slots of the {record} area of node {node} are unreadable")]
    Unreadable {
        /// Which area.
        record: &'static str,
        /// Whose.
        node: NodeId,
    },
    /// A newer incarnation of the node has written already (protocol §3.7).
    #[error("incarnation {active} of node {node} has written its {record} area; this process has {ours}")]
    OldIncarnation {
        /// Which area.
        record: &'static str,
        /// Whose.
        node: NodeId,
        /// On the disk.
        active: Incarnation,
        /// Of the writer.
        ours: Incarnation,
    },
    /// The disk is formatted for fewer nodes.
    #[error("node {node} has no place on a disk formatted for {nodes_max} nodes")]
    NoSuchNode {
        /// Asked for.
        node: NodeId,
        /// Formatted for.
        nodes_max: u16,
    },
}

impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            StorageError::Read { source, .. } | StorageError::Write { source, .. } => source.kind(),
            StorageError::NotFormatted { .. }
            | StorageError::Superblock { .. }
            | StorageError::SuperblocksDiffer { .. }
            | StorageError::Truncated { .. }
            | StorageError::Features { .. }
            | StorageError::NoRegion { .. }
            | StorageError::Undecodable { .. }
            | StorageError::Unreadable { .. } => io::ErrorKind::InvalidData,
            StorageError::DiskTooSmall { .. }
            | StorageError::OutOfRange { .. }
            | StorageError::Profile(_)
            | StorageError::TooLarge { .. }
            | StorageError::OldIncarnation { .. }
            | StorageError::NoSuchNode { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
