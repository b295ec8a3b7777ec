//! One area of the cluster disk: a regular single-writer register for each node (protocol §1.2, lemma REG).

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_messages::codec::{self, CodecError};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use uuid::Uuid;

use crate::block::{Block, BlockIndex};
use crate::disk::SharedDisk;
use crate::error::{BlockFault, StorageError};
use crate::header::{self, Header};
use crate::layout::Region;
use crate::record::AreaRecord;
use crate::redo::{LogWriter, Read, RedoLog, Replayed};
use crate::slots::{Content, LOOKS_MAX, Slots};
use crate::writer::AreaWriter;

/// Searches of [`Area::find`] before a revision counts as absent although a torn slot might have held it.
const SEARCHES_MAX: usize = 3;

/// One pair of slots for each node id. Cheap to clone.
pub struct Area<T> {
    slots: Arc<Slots>,
    log: Option<Arc<Log<T>>>,
    record: PhantomData<fn() -> T>,
}

/// The redo logs of an area, if it has some, and what was read of them last.
struct Log<T> {
    redo: RedoLog,
    known: Mutex<Option<Replayed<T>>>,
}

impl<T> Clone for Area<T> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), log: self.log.clone(), record: PhantomData }
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
    /// The record, with what its redo log has made of it; an error if a block is valid and this program cannot decode it.
    pub record: Result<T, CodecError>,
}

/// How the replay of a redo log went.
enum Replay {
    /// Every entry was applied.
    Whole,
    /// The entry in that block is valid and cannot be decoded: the record before it is not the newest value.
    Undecodable(BlockIndex, CodecError),
    /// The entry in that block is unreadable, and others follow it: likewise.
    Lost(BlockIndex),
}

/// What a pair holds.
struct Held<T> {
    /// Header of the slot.
    header: Header,
    /// The record; else the block that is valid and cannot be decoded.
    record: Result<T, (BlockIndex, CodecError)>,
}

impl<T: AreaRecord> Area<T> {
    pub(crate) fn new(disk: Arc<dyn SharedDisk>, cluster: Uuid, region: Region) -> Self {
        Self { slots: Arc::new(Slots::new(disk, cluster, region)), log: None, record: PhantomData }
    }

    /// The same area, whose records have redo logs.
    pub(crate) fn with_log(self, redo: RedoLog) -> Self {
        Self { log: Some(Arc::new(Log { redo, known: Mutex::default() })), ..self }
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
        if self.log.is_some() {
            return self.region().node_ids().map(|node| Ok((node, self.read(node)?))).collect();
        }
        let decoded = |content: Content| self.known_or_told(self.decoded(&content));
        Ok(self.slots.settle_all()?.into_iter().map(|(node, content)| (node, content.and_then(decoded))).collect())
    }

    /// Newest valid record of one node by rule R-4; none if its pair is unreadable.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` if the disk has no place for that node.
    pub fn read(&self, node: NodeId) -> io::Result<Option<T>> {
        self.check_node(node)?;
        Ok(self.held(node)?.and_then(|held| self.known_or_told(held)))
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
            let held = self.held(node).map_err(|source| self.read_error(node, source))?;
            let held = held.ok_or(StorageError::Unreadable { record: self.name(), node })?;
            let record = held.record.map_err(|(block, source)| StorageError::Undecodable { block, source })?;
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
                match self.slots.rest(node, header, &first)?.map(|content| self.known_or_told(self.decoded(&content))) {
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
        let log = self.log.as_ref().map(|log| LogWriter::new(log.redo.clone()));
        Ok(AreaWriter::new(Slots::clone(&self.slots), log, node, incarnation, next))
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
            let content = match whole {
                Ok(content) => content,
                Err(fault) => return Ok(Err(fault)),
            };
            let Held { header, record } = self.decoded(&content);
            let mut replayed = match record {
                Ok(record) => Replayed::new(header, record),
                Err((_, error)) => return Ok(Ok(SlotContent { header, record: Err(error) })),
            };
            Ok(match self.replay(&mut replayed)? {
                Replay::Whole => Ok(SlotContent { header, record: Ok(replayed.record) }),
                Replay::Undecodable(_, error) => Ok(SlotContent { header, record: Err(error) }),
                Replay::Lost(at) => Err(BlockFault::LostEntry { at }),
            })
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

    /// What a pair holds by rule R-4, and its redo log has made of it; none if the pair is unreadable.
    fn held(&self, node: NodeId) -> io::Result<Option<Held<T>>> {
        for _ in 0..LOOKS_MAX {
            let mut replayed = match self.known(node)? {
                Some(known) => known,
                None => match self.slots.settle(node)?.map(|content| self.decoded(&content)) {
                    Some(Held { header, record: Ok(record) }) => Replayed::new(header, record),
                    other => return Ok(other),
                },
            };
            if self.log.is_none() {
                return Ok(Some(Held { header: replayed.header, record: Ok(replayed.record) }));
            }
            let replay = self.replay(&mut replayed)?;
            // Nothing of the log was overwritten meanwhile: its slot would have been before. Else look again.
            let header = replayed.header;
            let now = self.slots.head(node, header.slot)?;
            if !now.is_ok_and(|(now, _)| replayed.is_of(&now)) {
                continue;
            }
            match replay {
                Replay::Whole => {
                    let record = replayed.record.clone();
                    self.remember(replayed);
                    return Ok(Some(Held { header, record: Ok(record) }));
                }
                Replay::Undecodable(place, error) => {
                    return Ok(Some(Held { header, record: Err((place, error)) }));
                }
                // It may have been written while the log was read.
                Replay::Lost(_) => {}
            }
        }
        Ok(None)
    }

    /// What was read last, if the newer slot of that pair still is that write.
    fn known(&self, node: NodeId) -> io::Result<Option<Replayed<T>>> {
        let Some(log) = &self.log else { return Ok(None) };
        let of_node = |known: &Option<Replayed<T>>| known.as_ref().is_some_and(|known| known.header.owner == node);
        if !of_node(&log.known.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(None);
        }
        let Some(newer) = self.slots.newer_head(node)? else { return Ok(None) };
        let known = log.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.as_ref().filter(|known| known.is_of(&newer)).cloned())
    }

    fn remember(&self, replayed: Replayed<T>) {
        if let Some(log) = &self.log {
            *log.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(replayed);
        }
    }

    /// Applies what the log of its slot says beyond what was applied already.
    fn replay(&self, replayed: &mut Replayed<T>) -> io::Result<Replay> {
        let Some(log) = &self.log else { return Ok(Replay::Whole) };
        let Read { entries, next, lost } = log.redo.read(&replayed.header, replayed.next, !replayed.looked)?;
        for entry in entries {
            let is_newer = entry.header.minor > header::MINOR;
            if let Err(error) = replayed.record.apply(&entry.change, is_newer) {
                return Ok(Replay::Undecodable(entry.header.address, error));
            }
        }
        (replayed.next, replayed.looked) = (next, true);
        Ok(lost.map_or(Replay::Whole, Replay::Lost))
    }

    /// The record of a slot alone.
    fn decoded(&self, content: &Content) -> Held<T> {
        let header = content.header;
        Held { header, record: decode(content).map_err(|error| (header.address, error)) }
    }

    /// A valid record that this program cannot decode is newer than it knows: never taken for an older one.
    fn known_or_told(&self, held: Held<T>) -> Option<T> {
        let owner = held.header.owner.0;
        held.record
            .inspect_err(|(BlockIndex(block), error)| {
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
