//! Reading the slots of one area as bytes, by rule R-4 of protocol §1.2.
//!
//! A slot of several blocks is believed only if all its parts belong to one write. Of a pair, the first part of each slot is
//! read, then the rest of the newer one; the rest of the older one only if the newer one turns out to be torn.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx_messages::NodeId;
use uuid::Uuid;

use crate::block::{Block, BlockIndex};
use crate::disk::SharedDisk;
use crate::error::BlockFault;
use crate::header::{self, Header};
use crate::layout::Region;
use crate::two_passes::{SlotValue, TwoPasses};

/// Looks at one pair before it counts as unreadable. A writer that tears each of them would have to write as fast as we read.
pub(crate) const LOOKS_MAX: usize = 32;

/// A whole record, not decoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Header of its first part.
    pub header: Header,
    /// Payload of all parts.
    pub payload: Vec<u8>,
}

type Whole = Result<Content, BlockFault>;

/// The slots of one area on one disk.
#[derive(Clone)]
pub(crate) struct Slots {
    pub disk: Arc<dyn SharedDisk>,
    pub cluster: Uuid,
    pub region: Region,
    /// What the last reading of all pairs was read into: it is read each renewal period, and fresh memory costs more than reading.
    buffer: Arc<Mutex<Vec<Block>>>,
}

impl Slots {
    pub fn new(disk: Arc<dyn SharedDisk>, cluster: Uuid, region: Region) -> Self {
        Self { disk, cluster, region, buffer: Arc::default() }
    }

    /// The newest write of a node's pair, or `None` if the pair is unreadable.
    pub fn settle(&self, node: NodeId) -> io::Result<Option<Content>> {
        self.settle_from(node, TwoPasses::default())
    }

    /// The same for every node. One contiguous I/O if a slot is one block; torn pairs are looked at again one by one.
    pub fn settle_all(&self) -> io::Result<Vec<(NodeId, Option<Content>)>> {
        if self.region.slot_blocks > 1 {
            return self.region.node_ids().map(|node| Ok((node, self.settle(node)?))).collect();
        }
        let mut blocks = std::mem::take(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        blocks.resize(2 * usize::from(self.region.nodes), Block::default());
        self.disk.read_blocks(self.region.first, &mut blocks)?;
        let mut all = Vec::with_capacity(usize::from(self.region.nodes));
        for (node, pair) in self.region.node_ids().zip(blocks.chunks_exact(2)) {
            let mut passes = TwoPasses::default();
            let content = match believe(self.judge_pair(node, pair), &mut passes) {
                Some(content) => Some(content),
                None => self.settle_from(node, passes)?,
            };
            all.push((node, content));
        }
        *self.buffer.lock().unwrap_or_else(PoisonError::into_inner) = blocks;
        Ok(all)
    }

    fn settle_from(&self, node: NodeId, mut passes: TwoPasses) -> io::Result<Option<Content>> {
        for _ in 0..LOOKS_MAX {
            if let Some(content) = believe(self.look(node)?, &mut passes) {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// One look at both slots of a pair.
    fn look(&self, node: NodeId) -> io::Result<[Seen; 2]> {
        if self.region.slot_blocks == 1 {
            let mut pair = Block::zeroes(2);
            self.disk.read_blocks(self.region.slot(node, 0), &mut pair)?;
            return Ok(self.judge_pair(node, &pair));
        }
        let mut heads = [self.head(node, 0)?, self.head(node, 1)?];
        let value =
            |head: &Result<(Header, Block), BlockFault>| head.as_ref().ok().map(|(head, _)| SlotValue::of(head));
        let newer = usize::from(value(&heads[1]) > value(&heads[0]));
        let mut seen = [Seen::Torn, Seen::Torn];
        for slot in [newer, 1 - newer] {
            let Ok((header, first)) = &heads[slot] else { continue };
            if let Ok(content) = self.rest(node, *header, first)? {
                seen[slot] = Seen::Whole(content);
                // The older slot of a settled pair is not loaded: its first part says how old it is.
                if let (true, Ok((older, _))) = (slot == newer, &mut heads[1 - newer]) {
                    seen[1 - newer] = Seen::FirstPart(SlotValue::of(older));
                }
                break;
            }
        }
        Ok(seen)
    }

    fn judge_pair(&self, node: NodeId, pair: &[Block]) -> [Seen; 2] {
        [0, 1].map(|slot: u16| {
            let block = &pair[usize::from(slot)];
            match self.check(block, node, slot, 0) {
                Ok(header) => Seen::Whole(Content { header, payload: header::payload(block, &header).to_vec() }),
                Err(_) => Seen::Torn,
            }
        })
    }

    /// Header of the newer slot of a pair, if the first parts of both are valid: whoever has seen that write whole needs no more.
    pub fn newer_head(&self, node: NodeId) -> io::Result<Option<Header>> {
        let (Ok((first, _)), Ok((second, _))) = (self.head(node, 0)?, self.head(node, 1)?) else { return Ok(None) };
        Ok(Some(if SlotValue::of(&second) > SlotValue::of(&first) { second } else { first }))
    }

    /// The first part of a slot.
    pub fn head(&self, node: NodeId, slot: u16) -> io::Result<Result<(Header, Block), BlockFault>> {
        let mut block = Block::zeroes(1);
        self.disk.read_blocks(self.region.slot(node, slot), &mut block)?;
        Ok(self.check(&block[0], node, slot, 0).map(|header| (header, block.swap_remove(0))))
    }

    /// The whole record whose first part was read.
    pub fn rest(&self, node: NodeId, header: Header, first: &Block) -> io::Result<Whole> {
        let mut payload = header::payload(first, &header).to_vec();
        if header.parts > 1 {
            let mut parts = Block::zeroes(usize::from(header.parts) - 1);
            self.disk.read_blocks(header.address.plus(1), &mut parts)?;
            for (part, block) in (1..header.parts).zip(&parts) {
                match self.check(block, node, header.slot, part) {
                    Ok(found) if same_write(&found, &header) => payload.extend(header::payload(block, &found)),
                    Ok(_) => return Ok(Err(BlockFault::MixedParts { part })),
                    Err(fault) => return Ok(Err(fault)),
                }
            }
        }
        Ok(Ok(Content { header, payload }))
    }

    /// Checks a block against its place: cluster, record type, owner, slot and part.
    fn check(&self, block: &Block, node: NodeId, slot: u16, part: u16) -> Result<Header, BlockFault> {
        let address: BlockIndex = self.region.slot(node, slot).plus(u64::from(part));
        let header = header::unseal(block, address)?;
        if header.cluster != self.cluster {
            return Err(BlockFault::Cluster { found: header.cluster, ours: self.cluster });
        }
        let places = [
            ("record type", u64::from(header.record_type), self.region.record_type as u64),
            ("owner", u64::from(header.owner.0), u64::from(node.0)),
            ("slot", u64::from(header.slot), u64::from(slot)),
            ("slot of the sequence", header.sequence % 2, u64::from(slot)),
            ("part", u64::from(header.part), u64::from(part)),
            ("part count", u64::from(header.parts), u64::from(header.parts.clamp(1, self.region.slot_blocks))),
        ];
        match places.into_iter().find(|(_, found, expected)| found != expected) {
            Some((field, found, expected)) => Err(BlockFault::Place { field, found, expected }),
            None => Ok(header),
        }
    }
}

/// What one look saw of a slot.
#[derive(Debug)]
enum Seen {
    Torn,
    /// Valid so far, and older than the other slot.
    FirstPart(SlotValue),
    Whole(Content),
}

/// Takes the content of the slot that the rule settles on.
fn believe(mut seen: [Seen; 2], passes: &mut TwoPasses) -> Option<Content> {
    let values = [&seen[0], &seen[1]].map(|seen| match seen {
        Seen::Torn => None,
        Seen::FirstPart(value) => Some(*value),
        Seen::Whole(content) => Some(SlotValue::of(&content.header)),
    });
    let slot = passes.look(values)?;
    match std::mem::replace(&mut seen[slot], Seen::Torn) {
        Seen::Whole(content) => Some(content),
        // A first part alone is never the newer one.
        Seen::FirstPart(_) | Seen::Torn => None,
    }
}

fn same_write(part: &Header, first: &Header) -> bool {
    SlotValue::of(part) == SlotValue::of(first) && (part.epoch, part.parts) == (first.epoch, first.parts)
}
