//! The redo log of an area: what made the newest record of the whole one that stands in its slot (protocol §2, "Registration
//! database").
//!
//! Each slot of each node has a log of its own, so the log of slot A stays as it is while slot B and its log are written. An
//! entry has one or more blocks, and names in its headers the write of the slot that it continues: incarnation, sequence and
//! epoch. The entries of that write stand one behind the other from the begin of the log; the first block that is none of them
//! ends it. So an entry that is being written, was torn by a crash or is left of an older write is not there, and the value is
//! what it was before.
//!
//! An entry is begun only after those before it were complete, and one that was to be durable after they were durable. So a durable
//! one that stands behind the end tells that something between has rotted, or was written while the log was read. A volatile one
//! may be all that a loss of power has left.
//!
//! The log of a slot is overwritten only after the slot itself was. A reader that finds the slot unchanged after it has read the
//! log has therefore read a log of that slot's write, with every entry that was complete when the reading began: slot and log
//! together are a regular register as the slot alone was (lemma REG, protocol §1.2).

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use crate::block::{Block, BlockIndex};
use crate::disk::{Durability, SharedDisk};
use crate::header::{self, Header, PAYLOAD_BYTES};
use crate::layout::Region;
use crate::record::AreaRecord;
use crate::two_passes::SlotValue;
use crate::writer::next_write_id;

/// Blocks read in one I/O.
const BLOCKS_AT_ONCE: u16 = 16;

/// The logs of one area on one disk.
#[derive(Clone)]
pub(crate) struct RedoLog {
    disk: Arc<dyn SharedDisk>,
    cluster: Uuid,
    pub region: Region,
}

/// What was read of a log.
pub(crate) struct Read {
    pub entries: Vec<Entry>,
    /// The place behind the last one.
    pub next: u16,
    /// That place, if a durable entry stands behind it that belongs to the same write: something between is lost.
    pub lost: Option<BlockIndex>,
}

/// One entry that was read.
pub(crate) struct Entry {
    /// Header of its first part.
    pub header: Header,
    /// The change: the payload of all parts but its first byte, which says how durable it is.
    pub change: Vec<u8>,
}

/// First byte of an entry that was written after everything before it was durable.
const DURABLE: u8 = 1;
/// First byte of any other entry.
const VOLATILE: u8 = 0;

impl RedoLog {
    pub fn new(disk: Arc<dyn SharedDisk>, cluster: Uuid, region: Region) -> Self {
        Self { disk, cluster, region }
    }

    /// The entries of the write of that slot, from a place in its log on. `rest`: look at what follows them to the end of the log,
    /// not only at what is at hand.
    pub fn read(&self, slot: &Header, from: u16, rest: bool) -> io::Result<Read> {
        let mut blocks = Blocks { log: self, slot, first: 0, read: Vec::new() };
        let (mut entries, mut next) = (Vec::new(), from);
        while let Some(entry) = self.entry(&mut blocks, next)? {
            next += entry.header.parts;
            entries.push(entry);
        }
        let end = if rest { self.region.slot_blocks } else { blocks.end() };
        let mut lost = None;
        let is_durable = |(header, payload): (Header, Vec<u8>)| header.part == 0 && payload.first() == Some(&DURABLE);
        for at in next.saturating_add(1)..end {
            if self.part(&mut blocks, at)?.is_some_and(is_durable) {
                lost = Some(self.address(slot, next));
                break;
            }
        }
        Ok(Read { entries, next, lost })
    }

    fn entry(&self, blocks: &mut Blocks<'_>, at: u16) -> io::Result<Option<Entry>> {
        let Some((header, mut payload)) = self.part(blocks, at)?.filter(|(header, _)| header.part == 0) else {
            return Ok(None);
        };
        if header.parts == 0 || u32::from(at) + u32::from(header.parts) > u32::from(self.region.slot_blocks) {
            return Ok(None);
        }
        for part in 1..header.parts {
            let is_next =
                |(found, _): &(Header, _)| (found.part, found.parts, found.write) == (part, header.parts, header.write);
            let Some((_, more)) = self.part(blocks, at + part)?.filter(is_next) else { return Ok(None) };
            payload.extend(more);
        }
        if !payload.is_empty() {
            payload.remove(0);
        }
        Ok(Some(Entry { header, change: payload }))
    }

    /// A block of an entry of that write, if it is one.
    fn part(&self, blocks: &mut Blocks<'_>, at: u16) -> io::Result<Option<(Header, Vec<u8>)>> {
        if at >= self.region.slot_blocks {
            return Ok(None);
        }
        let slot = blocks.slot;
        let address = self.address(slot, at);
        let block = blocks.get(at)?;
        Ok(header::unseal(block, address).ok().filter(|found| self.belongs(found, slot)).map(|found| {
            let payload = header::payload(block, &found).to_vec();
            (found, payload)
        }))
    }

    fn belongs(&self, found: &Header, slot: &Header) -> bool {
        let name = |header: &Header| (header.owner, header.slot, header.incarnation, header.epoch, header.sequence);
        found.cluster == self.cluster
            && found.record_type == self.region.record_type as u16
            && name(found) == name(slot)
    }

    fn address(&self, slot: &Header, at: u16) -> BlockIndex {
        self.region.slot(slot.owner, slot.slot).plus(u64::from(at))
    }

    /// The blocks of an entry at a place in the log of the slot that was written with this header.
    fn sealed(&self, slot: &Header, at: u16, payload: &[u8]) -> Vec<Block> {
        let parts = blocks_of(payload);
        let entry = Header { record_type: self.region.record_type as u16, parts, write: next_write_id(), ..*slot };
        let seal = |(part, chunk): (u16, &[u8])| {
            header::seal(&Header { part, address: self.address(slot, at + part), ..entry }, chunk)
        };
        (0..parts).zip(payload.chunks(PAYLOAD_BYTES)).map(seal).collect()
    }
}

/// Blocks of one log, read some at a time.
struct Blocks<'a> {
    log: &'a RedoLog,
    slot: &'a Header,
    /// Place of the first one that was read.
    first: u16,
    read: Vec<Block>,
}

impl Blocks<'_> {
    /// Place behind the last block that was read.
    fn end(&self) -> u16 {
        self.first.saturating_add(u16::try_from(self.read.len()).unwrap_or(u16::MAX))
    }

    /// The block at a place inside the log.
    fn get(&mut self, at: u16) -> io::Result<&Block> {
        let is_there = at >= self.first && usize::from(at - self.first) < self.read.len();
        if !is_there {
            let count = BLOCKS_AT_ONCE.min(self.log.region.slot_blocks - at);
            let mut read = Block::zeroes(usize::from(count));
            self.log.disk.read_blocks(self.log.address(self.slot, at), &mut read)?;
            (self.first, self.read) = (at, read);
        }
        Ok(&self.read[usize::from(at - self.first)])
    }
}

/// Blocks that an entry with this payload takes; no entry is empty.
fn blocks_of(payload: &[u8]) -> u16 {
    u16::try_from(payload.len().div_ceil(PAYLOAD_BYTES)).unwrap_or(u16::MAX)
}

/// The record that a reader has made last of a slot and its log: the next reading goes on from there.
#[derive(Clone)]
pub(crate) struct Replayed<T> {
    /// Header of the slot.
    pub header: Header,
    pub record: T,
    /// Place in the log behind the last entry that was applied.
    pub next: u16,
    /// The log was looked at to its end.
    pub looked: bool,
}

impl<T> Replayed<T> {
    /// The record of a slot, of whose log nothing was read yet.
    pub const fn new(header: Header, record: T) -> Self {
        Self { header, record, next: 0, looked: false }
    }

    pub fn is_of(&self, header: &Header) -> bool {
        self.header.owner == header.owner && SlotValue::of(&self.header) == SlotValue::of(header)
    }
}

/// Where the writer of a pair stands in its log.
pub(crate) struct LogWriter<T> {
    log: RedoLog,
    /// The whole record that was written last, and what has become of it; none if the next write must be whole.
    base: Option<Base<T>>,
    /// For each slot, the place from which on its log is not used any more: an entry that failed there may still land.
    usable: [u16; 2],
}

struct Base<T> {
    header: Header,
    /// What slot and log say together.
    record: T,
    next: u16,
}

/// An entry that is ready to be written.
pub(crate) struct Ready {
    pub first: BlockIndex,
    pub blocks: Vec<Block>,
}

impl<T: AreaRecord> LogWriter<T> {
    pub const fn new(log: RedoLog) -> Self {
        let usable = [log.region.slot_blocks; 2];
        Self { log, base: None, usable }
    }

    /// The entry that makes `record` of the last one: if it is its next one, takes less room than the whole record did and has
    /// room.
    pub fn entry(&self, record: &T, durability: Durability) -> Option<Ready> {
        let Base { header, record: last, next } = self.base.as_ref()?;
        let mut payload = vec![if durability == Durability::Durable { DURABLE } else { VOLATILE }];
        payload.extend(record.change_from(last)?);
        let parts = blocks_of(&payload);
        let has_room = u32::from(*next) + u32::from(parts) <= u32::from(self.usable[usize::from(header.slot)]);
        if parts >= header.parts || !has_room {
            return None;
        }
        let blocks = self.log.sealed(header, *next, &payload);
        Some(Ready { first: self.log.address(header, *next), blocks })
    }

    /// The entry was written.
    pub fn appended(&mut self, record: &T, blocks: usize) {
        if let Some(base) = &mut self.base {
            base.record = record.clone();
            base.next += u16::try_from(blocks).unwrap_or(u16::MAX); // it has room in the log
        }
    }

    /// The entry was not written, or was, or will be: nothing may follow it, and nothing may ever stand where it may land.
    pub fn failed(&mut self) {
        if let Some(base) = self.base.take() {
            let usable = &mut self.usable[usize::from(base.header.slot)];
            *usable = base.next.min(*usable);
        }
    }

    /// A whole record was written with this header, or (none) something of it.
    pub fn rewritten(&mut self, whole: Option<(Header, &T)>) {
        self.base = whole.map(|(header, record)| Base { header, record: record.clone(), next: 0 });
    }

    /// Every entry that was written can be read.
    pub fn is_readable(&self) -> io::Result<bool> {
        let Some(base) = &self.base else { return Ok(true) };
        Ok(self.log.read(&base.header, 0, false)?.next >= base.next)
    }
}
