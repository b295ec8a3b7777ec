//! One area of the cluster disk: a regular single-writer register for each node (protocol §1.2, lemma REG).

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use phalanx_messages::codec::{self, CodecError};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use uuid::Uuid;

use crate::block::{Block, BlockIndex};
use crate::disk::SharedDisk;
use crate::error::{BlockFault, StorageError};
use crate::header::{self, Header};
use crate::layout::Region;
use crate::record::AreaRecord;
use crate::slots::{Content, Slots};
use crate::writer::AreaWriter;

/// Searches of [`Area::find`] before a revision counts as absent although a torn slot might have held it.
const SEARCHES_MAX: usize = 3;

/// One pair of slots for each node id. Cheap to clone.
pub struct Area<T> {
    slots: Arc<Slots>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for Area<T> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), record: PhantomData }
    }
}

impl<T> std::fmt::Debug for Area<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Area").field("region", &self.slots.region).finish_non_exhaustive()
    }
}

/// What one slot holds, for `disk show` and `disk check`.
#[derive(Debug)]
pub struct SlotContent<T> {
    /// Header of the first part.
    pub header: Header,
    /// The record; an error if the block is valid and this program cannot decode it.
    pub record: Result<T, CodecError>,
}

impl<T: AreaRecord> Area<T> {
    pub(crate) fn new(disk: Arc<dyn SharedDisk>, cluster: Uuid, region: Region) -> Self {
        Self { slots: Arc::new(Slots::new(disk, cluster, region)), record: PhantomData }
    }

    /// Where it lies.
    #[must_use]
    pub fn region(&self) -> Region {
        self.slots.region
    }

    /// Newest valid record of every node id by rule R-4, none for a node whose pair is unreadable. One contiguous I/O if a
    /// slot is one block and no pair is being written meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read_all(&self) -> io::Result<BTreeMap<NodeId, Option<T>>> {
        let all = self.slots.settle_all()?;
        Ok(all.into_iter().map(|(node, content)| (node, content.and_then(|content| self.decoded(&content)))).collect())
    }

    /// Newest valid record of one node by rule R-4; none if its pair is unreadable.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` if the disk has no place for that node.
    pub fn read(&self, node: NodeId) -> io::Result<Option<T>> {
        self.check_node(node)?;
        Ok(self.slots.settle(node)?.and_then(|content| self.decoded(&content)))
    }

    /// The record with the highest revision over all nodes. After formatting there is always one.
    ///
    /// Only records that can be the newest are loaded whole.
    ///
    /// # Errors
    /// [`StorageError::Unreadable`] if a pair that may hold it is unreadable: nothing may be concluded then.
    pub fn newest(&self) -> Result<Option<T>, StorageError> {
        let mut bounds: Vec<(Option<Term>, NodeId)> = Vec::new();
        for node in self.region().node_ids() {
            bounds.push((self.highest_epoch(node).map_err(|source| self.read_error(node, source))?, node));
        }
        // A pair with a torn slot has no bound and is looked at first.
        bounds.sort_by_key(|(bound, _)| std::cmp::Reverse(bound.unwrap_or(Term(u64::MAX))));
        let mut newest: Option<T> = None;
        for (bound, node) in bounds {
            let revision = newest.as_ref().map(T::revision);
            if bound < revision.map(|revision| revision.term) && bound.is_some() {
                break;
            }
            let content = self.slots.settle(node).map_err(|source| self.read_error(node, source))?;
            let content = content.ok_or(StorageError::Unreadable { record: self.name(), node })?;
            let block = content.header.address;
            let record = decode::<T>(&content).map_err(|source| StorageError::Undecodable { block, source })?;
            if Some(record.revision()) > revision {
                newest = Some(record);
            }
        }
        Ok(newest)
    }

    /// The record of exactly that revision, in any slot of any node; none if no valid slot holds it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn find(&self, revision: Revision) -> io::Result<Option<T>> {
        for _ in 0..SEARCHES_MAX {
            let mut torn = false;
            for (node, slot) in self.region().node_ids().flat_map(|node| [(node, 0), (node, 1)]) {
                let (header, first) = match self.slots.head(node, slot)? {
                    Ok((header, _)) if header.epoch != revision.term => continue,
                    Ok(head) => head,
                    Err(_) => {
                        torn = true;
                        continue;
                    }
                };
                match self.slots.rest(node, header, &first)?.map(|content| self.decoded(&content)) {
                    Ok(Some(record)) if record.revision() == revision => return Ok(Some(record)),
                    Ok(_) => {}
                    Err(_) => torn = true,
                }
            }
            if !torn {
                break;
            }
        }
        Ok(None)
    }

    /// The one writer of a node's pair. It goes on with the sequence of the newest valid slot, so that its first write goes to
    /// the other one and never destroys the only valid copy (protocol §1.2).
    ///
    /// # Errors
    /// What the disk says; [`StorageError::OldIncarnation`] inside an `InvalidInput` if a newer incarnation has written, and
    /// `InvalidInput` if the disk has no place for that node.
    pub fn writer(&self, node: NodeId, incarnation: Incarnation) -> io::Result<AreaWriter<T>> {
        self.check_node(node)?;
        let newest = self.slots.settle(node)?;
        let active = newest.as_ref().map_or(Incarnation(0), |content| content.header.incarnation);
        if active > incarnation {
            let (record, ours) = (self.name(), incarnation);
            return Err(StorageError::OldIncarnation { record, node, active, ours }.into());
        }
        let next = newest.map_or(0, |content| content.header.sequence + 1);
        Ok(AreaWriter::new(Slots::clone(&self.slots), node, incarnation, next))
    }

    /// Finds out whether a node's pair is still on the disk, without touching it.
    ///
    /// # Errors
    /// As [`SharedDisk::verify`]; `InvalidInput` if the disk has no place for that node.
    pub fn verify(&self, node: NodeId) -> io::Result<()> {
        self.check_node(node)?;
        self.slots.disk.verify(self.region().slot(node, 0), 2 * u64::from(self.region().slot_blocks))
    }

    /// Both slots of a node as they are, each by itself and without rule R-4: for `disk show` and `disk check`.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` if the disk has no place for that node.
    pub fn inspect(&self, node: NodeId) -> io::Result<[Result<SlotContent<T>, BlockFault>; 2]> {
        self.check_node(node)?;
        let slot = |slot| -> io::Result<Result<SlotContent<T>, BlockFault>> {
            let whole = match self.slots.head(node, slot)? {
                Ok((header, first)) => self.slots.rest(node, header, &first)?,
                Err(fault) => Err(fault),
            };
            Ok(whole.map(|content| SlotContent { header: content.header, record: decode(&content) }))
        };
        Ok([slot(0)?, slot(1)?])
    }

    /// What the blocks of a node's pair are, if nothing in them can be believed: the same number as long as they stay the same
    /// (protocol §3.8). None while the pair is readable.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` if the disk has no place for that node.
    pub fn unreadable(&self, node: NodeId) -> io::Result<Option<u32>> {
        self.check_node(node)?;
        if self.slots.settle(node)?.is_some() {
            return Ok(None);
        }
        let mut blocks = Block::zeroes(2 * usize::from(self.region().slot_blocks));
        self.slots.disk.read_blocks(self.region().slot(node, 0), &mut blocks)?;
        Ok(Some(blocks.iter().fold(0, |sum, block| crc32c::crc32c_append(sum, &block.0))))
    }

    /// Highest epoch in the first parts of a pair; none if one of them is torn.
    fn highest_epoch(&self, node: NodeId) -> io::Result<Option<Term>> {
        let (Ok((first, _)), Ok((second, _))) = (self.slots.head(node, 0)?, self.slots.head(node, 1)?) else {
            return Ok(None);
        };
        Ok(Some(first.epoch.max(second.epoch)))
    }

    /// Decodes a valid record. One that this program cannot decode is newer than it knows: never taken for an older one.
    fn decoded(&self, content: &Content) -> Option<T> {
        decode(content)
            .inspect_err(|error| {
                let (block, owner) = (content.header.address.0, content.header.owner.0);
                tracing::warn!(record = self.name(), owner, block, %error, "valid record cannot be decoded");
            })
            .ok()
    }

    fn name(&self) -> &'static str {
        self.region().names().1
    }

    fn read_error(&self, node: NodeId, source: io::Error) -> StorageError {
        let first: BlockIndex = self.region().slot(node, 0);
        StorageError::Read { first, count: 2 * usize::from(self.region().slot_blocks), source }
    }

    fn check_node(&self, node: NodeId) -> io::Result<()> {
        let nodes_max = self.region().nodes;
        if node.0 < nodes_max { Ok(()) } else { Err(StorageError::NoSuchNode { node, nodes_max }.into()) }
    }
}

fn decode<T: AreaRecord>(content: &Content) -> Result<T, CodecError> {
    let limit = content.payload.len();
    if content.header.minor > header::MINOR {
        codec::decode_prefix(&content.payload, limit)
    } else {
        codec::decode(&content.payload, limit)
    }
}
