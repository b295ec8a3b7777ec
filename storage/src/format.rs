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
/// [`StorageError::DiskTooSmall`], [`StorageError::OutOfRange`], [`StorageError::Profile`] or [`StorageError::TooLarge`] before
/// anything is written; [`StorageError::Write`] leaves a disk that is refused as not formatted.
pub fn format(
    disk: &dyn SharedDisk,
    superblock: &Superblock,
    configuration: &ConfigurationRecord,
    registration: &RegistrationRecord,
) -> Result<(), StorageError> {
    let layout = checked(disk.geometry(), superblock)?;
    let stored = StoredSuperblock::new(superblock.clone(), &layout, disk.geometry().block_count);
    let membership = MembershipRecord { configuration: configuration.revision, ..MembershipRecord::default() };
    let formatter = Formatter { disk, cluster: superblock.cluster };

    // Everything that can be refused is made before the first block is written.
    let copies = copies(stored.block_count).map(|copy| Ok((copy, stored.seal(copy, next_write_id())?)));
    let copies = copies.into_iter().collect::<Result<Vec<_>, StorageError>>()?;
    let mut writes = Vec::new();
    for region in layout.regions().iter().copied() {
        writes.extend(match region.record_type {
            RecordType::NodeRegister => formatter.area(region, &NodeRegister::default())?,
            RecordType::Membership => formatter.area(region, &membership)?,
            RecordType::Configuration => formatter.area(region, configuration)?,
            RecordType::Decision => formatter.area(region, &DecisionRegister::default())?,
            RecordType::Registration => formatter.area(region, registration)?,
            RecordType::Superblock | RecordType::RegistrationRedo => continue, // no layout of ours has them
        });
    }

    for (copy, _) in &copies {
        formatter.write(*copy, &Block::zeroes(1))?;
    }
    for (first, blocks) in &writes {
        formatter.write(*first, blocks)?;
    }
    for (copy, block) in copies {
        formatter.write(copy, &[block])?;
    }
    Ok(())
}

fn checked(geometry: Geometry, superblock: &Superblock) -> Result<Layout, StorageError> {
    let layout = Layout::new(superblock.nodes_max, superblock.services_max)?;
    superblock.profile.check().map_err(StorageError::Profile)?;
    let name_bytes = superblock.name.len();
    if !(1..=NAME_BYTES_MAX).contains(&name_bytes) {
        let (found, max) = (name_bytes as u64, NAME_BYTES_MAX as u64);
        return Err(StorageError::OutOfRange { field: "bytes of the cluster name", found, max });
    }
    let (needed, found) = (layout.blocks_needed(), geometry.block_count);
    if found < needed {
        let (nodes_max, services_max) = (superblock.nodes_max, superblock.services_max);
        return Err(StorageError::DiskTooSmall { nodes_max, services_max, needed, found });
    }
    Ok(layout)
}

struct Formatter<'a> {
    disk: &'a dyn SharedDisk,
    cluster: Uuid,
}

impl Formatter<'_> {
    /// The writes that put `record` into both slots of every node, as sequence 0 and 1 of incarnation 0.
    fn area<T: AreaRecord>(&self, region: Region, record: &T) -> Result<Vec<(BlockIndex, Vec<Block>)>, StorageError> {
        let mut writes = Vec::new();
        for (node, slot) in region.node_ids().flat_map(|node| [(node, 0), (node, 1)]) {
            let blocks = sealed(self.cluster, &region, node, Incarnation(0), u64::from(slot), record)?;
            writes.push((region.slot(node, slot), blocks));
        }
        Ok(if region.blocks() <= REGION_BLOCKS_AT_ONCE { vec![joined(region, writes)] } else { writes })
    }

    fn write(&self, first: BlockIndex, blocks: &[Block]) -> Result<(), StorageError> {
        self.disk.write_blocks(first, blocks, Durability::Durable).map_err(|source| StorageError::Write {
            first,
            count: blocks.len(),
            source,
        })
    }
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
