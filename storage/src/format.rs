//! Formatting a disk: every register gets a valid record in both slots, so that "never used" differs from "unreadable"
//! (protocol §3.3), then the superblocks.
//!
//! A disk whose formatting was interrupted has no superblock and is refused.

use phalanx_messages::Incarnation;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::limits::NAME_BYTES_MAX;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use uuid::Uuid;

use crate::backend::Backend;
use crate::block::{Block, BlockIndex};
use crate::disk::{Durability, Geometry, SharedDisk};
use crate::error::StorageError;
use crate::header::RecordType;
use crate::layout::{Layout, Region};
use crate::record::AreaRecord;
use crate::superblock::{StoredSuperblock, Superblock, copies};
use crate::writer::{next_write_id, sealed};

/// Regions up to this size are written in one I/O, larger ones slot by slot.
const REGION_BLOCKS_AT_ONCE: u64 = 1024;

/// Formats a disk for the cluster of `superblock`. Every node's areas begin with `configuration` and `registration`, and with a
/// membership record that names that configuration. Whatever was on the disk is lost; asking first is the caller's task, and so
/// is keeping others away meanwhile.
///
/// # Errors
/// As [`Format::prepare`] before anything is written, and as [`Format::write`].
pub fn format(
    disk: &dyn SharedDisk,
    superblock: &Superblock,
    configuration: &ConfigurationRecord,
    registration: &RegistrationRecord,
) -> Result<(), StorageError> {
    let Geometry { block_count, capabilities } = disk.geometry();
    let backend = if capabilities.several_hosts { Backend::Direct } else { Backend::Mmap };
    Format::prepare(block_count, backend, superblock, configuration, registration)?.write(disk)
}

/// Everything that formatting will write. Whatever can be refused is refused before a disk is touched.
#[derive(Debug)]
pub struct Format {
    copies: Vec<(BlockIndex, Block)>,
    writes: Vec<(BlockIndex, Vec<Block>)>,
}

impl Format {
    /// Makes the blocks for a disk of `block_count` blocks that is reached in that way.
    ///
    /// # Errors
    /// [`StorageError::DiskTooSmall`], [`StorageError::OutOfRange`], [`StorageError::Profile`] or [`StorageError::TooLarge`].
    pub fn prepare(
        block_count: u64,
        backend: Backend,
        superblock: &Superblock,
        configuration: &ConfigurationRecord,
        registration: &RegistrationRecord,
    ) -> Result<Self, StorageError> {
        let layout = checked(block_count, superblock)?;
        let stored = StoredSuperblock::new(superblock.clone(), &layout, block_count, backend);
        let membership = MembershipRecord { configuration: configuration.revision, ..MembershipRecord::default() };
        let cluster = superblock.cluster;
        let copies = copies(block_count).map(|copy| Ok((copy, stored.seal(copy, next_write_id())?)));
        let copies = copies.into_iter().collect::<Result<Vec<_>, StorageError>>()?;
        let mut writes = Vec::new();
        for region in layout.regions().iter().copied() {
            writes.extend(match region.record_type {
                RecordType::NodeRegister => area(cluster, region, &NodeRegister::default())?,
                RecordType::Membership => area(cluster, region, &membership)?,
                RecordType::Configuration => area(cluster, region, configuration)?,
                RecordType::Decision => area(cluster, region, &DecisionRegister::default())?,
                RecordType::Registration => area(cluster, region, registration)?,
                // Whatever stands in a redo log belongs to another cluster, or to no write of this one.
                RecordType::RegistrationRedo => continue,
                RecordType::Superblock => continue, // no layout of ours has it
            });
        }
        Ok(Self { copies, writes })
    }

    /// Writes them: the superblocks last, and the places where they will lie are blank until then.
    ///
    /// # Errors
    /// [`StorageError::Write`] leaves a disk that is refused as not formatted.
    pub fn write(&self, disk: &dyn SharedDisk) -> Result<(), StorageError> {
        for (copy, _) in &self.copies {
            write(disk, *copy, &Block::zeroes(1))?;
        }
        for (first, blocks) in &self.writes {
            write(disk, *first, blocks)?;
        }
        for (copy, block) in &self.copies {
            write(disk, *copy, std::slice::from_ref(block))?;
        }
        Ok(())
    }
}

fn checked(found: u64, superblock: &Superblock) -> Result<Layout, StorageError> {
    let layout = Layout::new(superblock.nodes_max, superblock.services_max)?;
    superblock.profile.check().map_err(StorageError::Profile)?;
    let name_bytes = superblock.name.len();
    if !(1..=NAME_BYTES_MAX).contains(&name_bytes) {
        let (found, max) = (name_bytes as u64, NAME_BYTES_MAX as u64);
        return Err(StorageError::OutOfRange { field: "bytes of the cluster name", found, max });
    }
    let needed = layout.blocks_needed();
    if found < needed {
        let (nodes_max, services_max) = (superblock.nodes_max, superblock.services_max);
        return Err(StorageError::DiskTooSmall { nodes_max, services_max, needed, found });
    }
    Ok(layout)
}

/// The writes that put `record` into both slots of every node, as sequence 0 and 1 of incarnation 0.
fn area<T: AreaRecord>(
    cluster: Uuid,
    region: Region,
    record: &T,
) -> Result<Vec<(BlockIndex, Vec<Block>)>, StorageError> {
    let mut writes = Vec::new();
    for (node, slot) in region.node_ids().flat_map(|node| [(node, 0), (node, 1)]) {
        let (_, blocks) = sealed(cluster, &region, node, Incarnation(0), u64::from(slot), record)?;
        writes.push((region.slot(node, slot), blocks));
    }
    Ok(if region.blocks() <= REGION_BLOCKS_AT_ONCE { vec![joined(region, writes)] } else { writes })
}

fn write(disk: &dyn SharedDisk, first: BlockIndex, blocks: &[Block]) -> Result<(), StorageError> {
    let written = disk.write_blocks(first, blocks, Durability::Durable);
    written.map_err(|source| StorageError::Write { first, count: blocks.len(), source })
}

/// One write of a whole region, zero where no record lies.
fn joined(region: Region, writes: Vec<(BlockIndex, Vec<Block>)>) -> (BlockIndex, Vec<Block>) {
    let mut whole = Vec::new();
    for (first, blocks) in writes {
        whole.resize(usize::try_from(first.0 - region.first.0).unwrap_or(usize::MAX), Block::default());
        whole.extend(blocks);
    }
    (region.first, whole)
}
