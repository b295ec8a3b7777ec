//! The formatted disk of one cluster. Everything but formatting goes through it.

use std::io;
use std::sync::Arc;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};

use crate::area::Area;
use crate::backend::Backend;
use crate::block::{Block, BlockIndex};
use crate::disk::{Durability, Geometry, SharedDisk};
use crate::error::{BlockFault, StorageError};
use crate::header::RecordType;
use crate::layout::{Layout, Region, names};
use crate::record::AreaRecord;
use crate::redo::RedoLog;
use crate::superblock::{StoredSuperblock, Superblock, copies};
use crate::writer::next_write_id;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct ClusterDisk {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn SharedDisk>,
    superblock: Superblock,
    backend: Backend,
    /// Blocks of the disk when it was formatted.
    formatted: u64,
    layout: Layout,
    registers: Area<NodeRegister>,
    memberships: Area<MembershipRecord>,
    configurations: Area<ConfigurationRecord>,
    decisions: Area<DecisionRegister>,
    registrations: Area<RegistrationRecord>,
}

impl std::fmt::Debug for ClusterDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterDisk").field("superblock", &self.shared.superblock).finish_non_exhaustive()
    }
}

impl ClusterDisk {
    /// Reads and compares the superblocks and checks that the disk is as large as it was. A copy that is damaged is reported in
    /// the log and does no harm while another is valid.
    ///
    /// # Errors
    /// Any [`StorageError`] of the superblocks; each says what was found.
    pub fn open(disk: Arc<dyn SharedDisk>) -> Result<Self, StorageError> {
        let stored = agreed_superblock(&*disk)?;
        let layout = stored.layout();
        let (formatted, superblock) = (stored.block_count, stored.superblock.clone());
        let region = |record_type| checked_region(&layout, record_type, stored.block_count);
        let registers = area(&disk, &superblock, region(NodeRegister::RECORD_TYPE)?);
        let memberships = area(&disk, &superblock, region(MembershipRecord::RECORD_TYPE)?);
        let configurations = area(&disk, &superblock, region(ConfigurationRecord::RECORD_TYPE)?);
        let decisions = area(&disk, &superblock, region(DecisionRegister::RECORD_TYPE)?);
        let redo = RedoLog::new(Arc::clone(&disk), superblock.cluster, region(RecordType::RegistrationRedo)?);
        let registrations = area(&disk, &superblock, region(RegistrationRecord::RECORD_TYPE)?).with_log(redo);
        let shared = Shared {
            disk,
            superblock,
            backend: Backend::of_features(stored.features),
            formatted,
            layout,
            registers,
            memberships,
            configurations,
            decisions,
            registrations,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the formatter fixed.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.shared.superblock
    }

    /// How nodes must reach it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.shared.backend
    }

    /// Where everything lies.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// The copies of the superblock, each by itself: its block, and what is wrong with it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn inspect_superblocks(&self) -> io::Result<Vec<(BlockIndex, Option<StorageError>)>> {
        let disk = &*self.shared.disk;
        let inspect = |place: BlockIndex| match read_copy(disk, place) {
            Err(StorageError::Read { source, .. }) => Err(source),
            read => Ok((place, read.err())),
        };
        copies(self.shared.formatted).into_iter().map(inspect).collect()
    }

    /// Writes every copy of the superblock that is damaged anew, from one that is not. For a caller that has the disk alone.
    ///
    /// # Errors
    /// As [`ClusterDisk::open`], and [`StorageError::Write`].
    pub fn mend_superblocks(&self) -> Result<(), StorageError> {
        let disk = &*self.shared.disk;
        let stored = agreed_superblock(disk)?;
        for place in stored.copies() {
            if read_copy(disk, place).is_err() {
                let block = stored.seal(place, next_write_id())?;
                let written = disk.write_blocks(place, std::slice::from_ref(&block), Durability::Durable);
                written.map_err(|source| StorageError::Write { first: place, count: 1, source })?;
            }
        }
        Ok(())
    }

    /// Blocks of the disk when it was formatted: everything of the cluster lies in them.
    #[must_use]
    pub fn formatted_blocks(&self) -> u64 {
        self.shared.formatted
    }

    /// Blocks as they are, for a copy of the whole disk.
    ///
    /// # Errors
    /// As [`SharedDisk::read_blocks`].
    pub fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        self.shared.disk.read_blocks(first, blocks)
    }

    /// Size and promises of the disk below.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.shared.disk.geometry()
    }

    /// Makes earlier volatile writes durable (protocol §1.3: once a second, in the background).
    ///
    /// # Errors
    /// What the disk says.
    pub fn flush(&self) -> io::Result<()> {
        self.shared.disk.flush()
    }

    /// Finds out whether the disk is still as long as it was formatted.
    ///
    /// # Errors
    /// As [`SharedDisk::verify`].
    pub fn verify(&self) -> io::Result<()> {
        self.shared.disk.verify(BlockIndex(0), self.shared.formatted)
    }

    /// The node registers (`NB`).
    #[must_use]
    pub fn registers(&self) -> &Area<NodeRegister> {
        &self.shared.registers
    }

    /// The membership areas (`MA`).
    #[must_use]
    pub fn memberships(&self) -> &Area<MembershipRecord> {
        &self.shared.memberships
    }

    /// The configuration areas (`CF`).
    #[must_use]
    pub fn configurations(&self) -> &Area<ConfigurationRecord> {
        &self.shared.configurations
    }

    /// The decision registers (`DL`).
    #[must_use]
    pub fn decisions(&self) -> &Area<DecisionRegister> {
        &self.shared.decisions
    }

    /// The registration areas (`RD`) with their redo logs (`RL`).
    #[must_use]
    pub fn registrations(&self) -> &Area<RegistrationRecord> {
        &self.shared.registrations
    }
}

fn area<T: AreaRecord>(disk: &Arc<dyn SharedDisk>, superblock: &Superblock, region: Region) -> Area<T> {
    Area::new(Arc::clone(disk), superblock.cluster, region)
}

/// The one superblock that all valid copies agree on.
fn agreed_superblock(disk: &dyn SharedDisk) -> Result<StoredSuperblock, StorageError> {
    let found = disk.geometry().block_count;
    let mut agreed: Option<(BlockIndex, StoredSuperblock)> = None;
    let mut faults = Vec::new();
    let mut places = copies(found);
    // The disk may have grown since: then the last copy is where the others say.
    for index in 0..places.len() {
        match read_copy(disk, places[index]) {
            Ok(copy) => match &agreed {
                Some((first, other)) if *other != copy => {
                    return Err(StorageError::SuperblocksDiffer { first: *first, second: places[index] });
                }
                Some(_) => {}
                None => {
                    check_usable(&copy, found)?;
                    places = copy.copies();
                    agreed = Some((places[index], copy));
                }
            },
            Err(error @ StorageError::Superblock { source: BlockFault::Version { .. }, .. }) => return Err(error),
            Err(error) => faults.push(error),
        }
    }
    let blank = |fault: &StorageError| matches!(fault, StorageError::Superblock { source: BlockFault::Blank, .. });
    match agreed {
        Some((_, superblock)) => {
            for error in faults {
                tracing::warn!(error = &error as &dyn std::error::Error, "a copy of the superblock is damaged");
            }
            Ok(superblock)
        }
        None if faults.iter().all(blank) => Err(StorageError::NotFormatted { block_count: found }),
        None => Err(faults.swap_remove(0)),
    }
}

fn read_copy(disk: &dyn SharedDisk, address: BlockIndex) -> Result<StoredSuperblock, StorageError> {
    let mut block = Block::zeroes(1);
    disk.read_blocks(address, &mut block).map_err(|source| StorageError::Read { first: address, count: 1, source })?;
    StoredSuperblock::unseal(&block[0], address)
}

fn check_usable(stored: &StoredSuperblock, found: u64) -> Result<(), StorageError> {
    let features = Backend::unknown(stored.features);
    if features != 0 {
        return Err(StorageError::Features { features });
    }
    if found < stored.block_count {
        return Err(StorageError::Truncated { found, formatted: stored.block_count });
    }
    // A node that ran with such numbers could not keep the promises that others wait for.
    stored.superblock.profile.check().map_err(StorageError::Profile)
}

fn checked_region(layout: &Layout, record_type: RecordType, block_count: u64) -> Result<Region, StorageError> {
    let on_disk = |region: &Region| {
        region.slot_blocks > 0
            && region.nodes == layout.nodes_max()
            && region.first.0.checked_add(region.blocks()).is_some_and(|end| end < block_count)
    };
    layout.region(record_type).filter(on_disk).ok_or(StorageError::NoRegion { record: names(record_type).1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;
    use phalanx_messages::profile::TimingProfile;

    /// Protocol §3.11, "Checks made at start": the formatter refuses such a profile, but another program may have written it.
    #[test]
    fn a_superblock_with_a_profile_that_contradicts_itself_is_refused() {
        let layout = Layout::new(2, 4).unwrap();
        let memory = MemoryDisk::new(layout.blocks_needed());
        let superblock = Superblock {
            cluster: uuid::Uuid::from_u128(7),
            name: "alpha".to_owned(),
            nodes_max: 2,
            services_max: 4,
            profile: TimingProfile { lease_ms: 10, ..TimingProfile::DEV },
            created_at_ms: 0,
        };
        let stored = StoredSuperblock::new(superblock, &layout, layout.blocks_needed(), Backend::Mmap);
        for place in stored.copies() {
            let block = stored.seal(place, next_write_id()).unwrap();
            memory.write_blocks(place, &[block], Durability::Durable).unwrap();
        }
        let error = ClusterDisk::open(Arc::new(memory)).unwrap_err();
        assert!(
            error.to_string().starts_with("the timing profile is wrong: `lease` (10 ms) must be at least"),
            "{error}"
        );
    }
}
