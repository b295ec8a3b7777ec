//! A disk as it was read at one moment: every slot by itself, decoded.

use std::collections::BTreeMap;
use std::io;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use phalanx_storage::area::SlotContent;
use phalanx_storage::{Area, AreaRecord, BlockFault, BlockIndex, ClusterDisk, Region, Superblock};

use super::Place;

/// See the module.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the formatter fixed.
    pub superblock: Superblock,
    /// Each copy of the superblock, and what is wrong with it.
    pub superblock_copies: Vec<(BlockIndex, Option<String>)>,
    /// `NB`.
    pub registers: AreaImage<NodeRegister>,
    /// `MA`.
    pub memberships: AreaImage<MembershipRecord>,
    /// `CF`.
    pub configurations: AreaImage<ConfigurationRecord>,
    /// `DL`.
    pub decisions: AreaImage<DecisionRegister>,
    /// `RD`.
    pub registrations: AreaImage<RegistrationRecord>,
}

impl Image {
    /// Reads a disk.
    ///
    /// # Errors
    /// What the disk says; a block that can be read and is damaged is no error here.
    pub fn read(disk: &ClusterDisk) -> io::Result<Self> {
        let copies = disk.inspect_superblocks()?.into_iter();
        let told = |error: phalanx_storage::StorageError| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        };
        Ok(Self {
            superblock: disk.superblock().clone(),
            superblock_copies: copies.map(|(place, error)| (place, error.map(told))).collect(),
            registers: AreaImage::read(disk.registers())?,
            memberships: AreaImage::read(disk.memberships())?,
            configurations: AreaImage::read(disk.configurations())?,
            decisions: AreaImage::read(disk.decisions())?,
            registrations: AreaImage::read(disk.registrations())?,
        })
    }

    /// Name of a node by the newest configuration; its number if there is none.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.configurations.newest().map_or_else(|| format!("#{node}"), |(_, newest)| newest.name_of(node))
    }
}

/// One slot.
#[derive(Debug, Clone)]
pub enum Slot<T> {
    /// Valid in itself.
    Valid {
        /// Writer, by the header.
        incarnation: Incarnation,
        /// Term or depoch, by the header.
        epoch: Term,
        /// Sequence of the register.
        sequence: u64,
        /// What it holds.
        record: T,
    },
    /// Whole, and not to be understood.
    Undecodable {
        /// Why.
        why: String,
    },
    /// Torn, blank or damaged.
    Faulty {
        /// What is wrong.
        fault: BlockFault,
    },
}

impl<T> Slot<T> {
    /// The record, if the slot is valid.
    pub const fn record(&self) -> Option<&T> {
        match self {
            Self::Valid { record, .. } => Some(record),
            Self::Undecodable { .. } | Self::Faulty { .. } => None,
        }
    }

    /// What orders it in its pair, if the slot is valid.
    pub const fn order(&self) -> Option<(Incarnation, u64)> {
        match self {
            Self::Valid { incarnation, sequence, .. } => Some((*incarnation, *sequence)),
            Self::Undecodable { .. } | Self::Faulty { .. } => None,
        }
    }
}

/// Every pair of slots of one region.
#[derive(Debug, Clone)]
pub struct AreaImage<T> {
    /// Where it lies.
    pub region: Region,
    /// The pairs.
    pub pairs: BTreeMap<NodeId, [Slot<T>; 2]>,
}

impl<T: AreaRecord> AreaImage<T> {
    fn read(area: &Area<T>) -> io::Result<Self> {
        let slot = |content: Result<SlotContent<T>, BlockFault>| match content {
            Ok(SlotContent { header, record: Ok(record) }) => {
                let (incarnation, epoch, sequence) = (header.incarnation, header.epoch, header.sequence);
                Slot::Valid { incarnation, epoch, sequence, record }
            }
            Ok(SlotContent { record: Err(error), .. }) => Slot::Undecodable { why: error.to_string() },
            Err(fault) => Slot::Faulty { fault },
        };
        let pair = |node| area.inspect(node).map(|pair| (node, pair.map(slot)));
        Ok(Self { region: area.region(), pairs: area.region().node_ids().map(pair).collect::<io::Result<_>>()? })
    }

    /// The newer valid record of a pair.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<&T> {
        let pair = self.pairs.get(&node)?;
        pair.iter().max_by_key(|slot| slot.order()).and_then(Slot::record)
    }

    /// The newer valid record of every node that has one.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &T)> {
        self.pairs.keys().filter_map(|node| Some((*node, self.of(*node)?)))
    }

    /// Every valid record, both of a pair.
    pub fn every(&self) -> impl Iterator<Item = (NodeId, &T)> {
        self.pairs.iter().flat_map(|(node, pair)| pair.iter().filter_map(|slot| Some((*node, slot.record()?))))
    }

    /// The record with the highest revision of all, and whose it is.
    #[must_use]
    pub fn newest(&self) -> Option<(NodeId, &T)> {
        self.every().max_by_key(|(node, record)| (record.revision(), std::cmp::Reverse(*node)))
    }

    /// The record of exactly that revision.
    #[must_use]
    pub fn find(&self, revision: Revision) -> Option<&T> {
        self.every().find(|(_, record)| record.revision() == revision).map(|(_, record)| record)
    }

    /// The place of both slots of a node.
    #[must_use]
    pub fn place(&self, node: NodeId) -> Place {
        let last = self.region.slot(node, 1).plus(u64::from(self.region.slot_blocks) - 1);
        Place { region: self.region.names().0, node: Some(node), blocks: Some((self.region.slot(node, 0), last)) }
    }

    /// The place of one slot of a node.
    #[must_use]
    pub fn slot_place(&self, node: NodeId, slot: u16) -> Place {
        let first = self.region.slot(node, slot);
        let last = first.plus(u64::from(self.region.slot_blocks) - 1);
        Place { region: self.region.names().0, node: Some(node), blocks: Some((first, last)) }
    }
}
