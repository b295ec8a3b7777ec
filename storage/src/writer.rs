//! The writing end of one node's pair of slots (protocol ).

use std::io;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use phalanx_messages::{Incarnation, NodeId, Revision, codec};
use uuid::Uuid;

use crate::block::Block;
use crate::disk::Durability;
use crate::error::StorageError;
use crate::header::{self, Header, PAYLOAD_BYTES, WriteId};
use crate::layout::Region;
use crate::record::AreaRecord;
use crate::redo::{LogWriter, Ready};
use crate::slots::Slots;

/// Writes one node's pair of one area; there is at most one for a pair in the whole cluster.
///
/// Write k goes to slot k mod 2 and is issued only after write k-1 completed, so the newest completed value is never
/// overwritten. A write that failed may still land: its sequence is burnt and the next write goes to the *same* slot.
///
/// Where the area has redo logs, a record that follows the last one is written as an entry of the log of its slot instead, if
/// that is shorter and has room (`redo.rs`). An entry that failed ends its log: the next write is a whole record again.
///
/// A loss of power may leave some blocks of a volatile write and not others. So a record of several blocks is written only after
/// the value before is durable; one of a single block is old or new by itself, and has no entries. An entry overwrites only what
/// belonged to an older record than that value, but is worth nothing without those before it: they are made durable before one
/// that must be.
pub struct AreaWriter<T> {
    slots: Slots,
    node: NodeId,
    incarnation: Incarnation,
    next: u64,
    log: Option<LogWriter<T>>,
    /// Sequence of the last write of this writer that has completed.
    completed: Option<u64>,
    /// The newest value is durable, as far as this writer knows.
    durable: bool,
    record: PhantomData<fn(T)>,
}

impl<T> std::fmt::Debug for AreaWriter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, incarnation, next, .. } = self;
        write!(f, "AreaWriter({node}/{incarnation}, next {next})")
    }
}

impl<T: AreaRecord> AreaWriter<T> {
    pub(crate) const fn new(
        slots: Slots,
        log: Option<LogWriter<T>>,
        node: NodeId,
        incarnation: Incarnation,
        next: u64,
    ) -> Self {
        Self { slots, node, incarnation, next, log, completed: None, durable: false, record: PhantomData }
    }

    /// Lets the next write go to the other slot if it would overwrite the record of that revision: for a chain in which the
    /// newest write of a pair need not be the one that counts.
    ///
    /// # Errors
    /// What the disk says.
    pub fn keep(&mut self, revision: Revision) -> io::Result<()> {
        if let Ok((header, first)) = self.slots.head(self.node, slot_of(self.next))?
            && header.epoch == revision.term
            && let Ok(content) = self.slots.rest(self.node, header, &first)?
            && codec::decode_prefix::<T>(&content.payload, content.payload.len())
                .is_ok_and(|it| it.revision() == revision)
        {
            self.next += 1;
        }
        Ok(())
    }

    /// Writes the record into the older slot, or what has changed behind the newer one. `Ok` means that it is visible to every
    /// node, and as durable as was asked for.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`]: nothing was written. [`StorageError::Write`]: it may have happened and may still happen
    /// (protocol R-2); the last completed value is still there.
    pub fn write(&mut self, record: &T, durability: Durability) -> Result<(), StorageError> {
        match self.log.as_ref().and_then(|log| log.entry(record, durability)) {
            Some(entry) => self.append(record, &entry, durability),
            None => self.write_whole(record, durability),
        }
    }

    fn append(&mut self, record: &T, entry: &Ready, durability: Durability) -> Result<(), StorageError> {
        let Ready { first, blocks } = entry;
        let written = match durability {
            Durability::Durable => self.make_durable(),
            Durability::Volatile => Ok(()),
        };
        let written = written.and_then(|()| self.slots.disk.write_blocks(*first, blocks, durability));
        self.durable = written.is_ok() && durability == Durability::Durable;
        if let Some(log) = &mut self.log {
            match &written {
                Ok(()) => log.appended(record, blocks.len()),
                Err(_) => log.failed(),
            }
        }
        written.map_err(|source| StorageError::Write { first: *first, count: blocks.len(), source })
    }

    fn write_whole(&mut self, record: &T, durability: Durability) -> Result<(), StorageError> {
        let (header, blocks) =
            sealed(self.slots.cluster, &self.slots.region, self.node, self.incarnation, self.next, record)?;
        let first = header.address;
        if blocks.len() > 1 {
            self.make_durable().map_err(|source| StorageError::Write { first, count: blocks.len(), source })?;
        }
        let written = self.slots.disk.write_blocks(first, &blocks, durability);
        if let Some(log) = &mut self.log {
            log.rewritten(written.is_ok().then_some((header, record)));
        }
        match written {
            Ok(()) => {
                self.completed = Some(self.next);
                self.durable = durability == Durability::Durable;
                self.next += 1;
                Ok(())
            }
            Err(source) => {
                self.next += 2;
                Err(StorageError::Write { first, count: blocks.len(), source })
            }
        }
    }

    /// The newest value survives a loss of power from now on.
    fn make_durable(&mut self) -> io::Result<()> {
        if !self.durable && !self.slots.disk.geometry().capabilities.durable_on_complete {
            self.slots.disk.flush()?;
        }
        self.durable = true;
        Ok(())
    }

    /// Writes `record`, the one that was completed last, once more if its slot has become unreadable since (protocol D5, §3.8). The
    /// other slot is left as it is: the next write mends it. True if there was something to heal.
    ///
    /// # Errors
    /// What the disk says, and as [`AreaWriter::write`].
    pub fn heal(&mut self, record: &T, durability: Durability) -> Result<bool, StorageError> {
        let Some(completed) = self.completed else { return Ok(false) };
        let slot = slot_of(completed);
        let first = self.slots.region.slot(self.node, slot);
        let failed = |source| StorageError::Read { first, count: usize::from(self.slots.region.slot_blocks), source };
        let is_there = match self.slots.head(self.node, slot).map_err(failed)? {
            Ok((header, block)) => self.slots.rest(self.node, header, &block).map_err(failed)?.is_ok(),
            Err(_) => false,
        };
        let has_log = match &self.log {
            Some(log) => log.is_readable().map_err(failed)?,
            None => true,
        };
        if is_there && has_log {
            return Ok(false);
        }
        if !is_there {
            self.next += u64::from(slot_of(self.next) != slot);
        }
        self.write_whole(record, durability)?;
        Ok(true)
    }
}

/// The blocks of one record, as many parts as it needs, and the header of the first.
pub(crate) fn sealed<T: AreaRecord>(
    cluster: Uuid,
    region: &Region,
    node: NodeId,
    incarnation: Incarnation,
    sequence: u64,
    record: &T,
) -> Result<(Header, Vec<Block>), StorageError> {
    let (limit, name) = (region.payload_bytes(), region.names().1);
    let payload =
        codec::encode(record, limit).map_err(|source| StorageError::TooLarge { record: name, node, limit, source })?;
    let slot = slot_of(sequence);
    let first = Header {
        record_type: T::RECORD_TYPE as u16,
        minor: header::MINOR,
        cluster,
        address: region.slot(node, slot),
        owner: node,
        slot,
        part: 0,
        // The payload fits the slot, whose blocks are counted in 16 bits.
        parts: u16::try_from(payload.len().div_ceil(PAYLOAD_BYTES)).unwrap_or(u16::MAX).max(1),
        incarnation,
        epoch: record.revision().term,
        sequence,
        write: next_write_id(),
        payload_bytes: 0,
    };
    let part = |part: u16| {
        let begin = usize::from(part) * PAYLOAD_BYTES;
        let end = payload.len().min(begin + PAYLOAD_BYTES);
        let address = first.address.plus(u64::from(part));
        header::seal(&Header { part, address, ..first }, &payload[begin..end])
    };
    Ok((first, (0..first.parts).map(part).collect()))
}

const fn slot_of(sequence: u64) -> u16 {
    (sequence % 2) as u16
}

/// A write id that no other write of this process has, and on this boot no other write of this register: incarnation and
/// sequence stand beside it.
pub(crate) fn next_write_id() -> WriteId {
    static BOOT: OnceLock<u64> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let boot = *BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (front, back) = text.split_at(text.len() / 2);
        u64::from(crc32c::crc32c(front.as_bytes())) << 32 | u64::from(crc32c::crc32c(back.as_bytes()))
    });
    WriteId { boot, counter: COUNTER.fetch_add(1, Ordering::Relaxed) }
}
