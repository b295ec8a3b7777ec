//! What the disk may hold if everything stops at one point of a recording.
//!
//! *Crash*: every process ends while a write is under way. All earlier writes are there; of this one each block is absent, whole, or torn
//! at any of its 512-byte pieces. If the write after it did not depend on it, both may be under way.
//!
//! *Loss of power* on a disk in memory: what was made durable is there; of everything written since, any block may be there or
//! not, each as any of the writes since left it.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::register::NodeRegister;
use phalanx_storage::faults::PIECE_BYTES;
use phalanx_storage::header::{self, RecordType};
use phalanx_storage::{BLOCK_BYTES, Block, BlockIndex, Durability, Operation};

use super::scenario::Recording;
use crate::draw::Draw;

const PIECES: usize = BLOCK_BYTES / PIECE_BYTES;
/// Drawn mixtures of versions for each loss of power.
const MIXTURES: usize = 4;
/// Of a write of up to so many blocks every set of whole blocks is looked at.
const BLOCKS_ALL_SETS_MAX: usize = 4;

/// What stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Every process.
    Crash,
    /// The host.
    PowerLoss,
}

/// One content of the disk.
#[derive(Debug, Clone)]
pub struct Image {
    /// Operations that had ended.
    pub ended: usize,
    /// What stopped.
    pub stop: Stop,
    /// Which write was under way, and what is there of it.
    pub text: String,
    /// Another image of this point reads the same, or the next point has the same one with more that must hold.
    pub repeats: bool,
    /// The disk.
    pub blocks: Vec<Block>,
}

/// Counts of what was enumerated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub writes: usize,
    /// Pairs of writes that may be under way together.
    pub pairs: usize,
    /// Torn blocks of which the checksum was looked at.
    pub torn: usize,
}

/// On what an image is built.
#[derive(Debug, Clone, Copy)]
enum Base {
    /// Everything that was written.
    Seen,
    /// What is durable.
    Durable,
}

/// Walks through a recording.
struct Walk<'a, V> {
    recording: &'a Recording,
    /// What readers see.
    seen: Vec<Block>,
    /// What survives a loss of power.
    durable: Vec<Block>,
    /// What was written to a block since it was durable.
    dirty: BTreeMap<usize, Vec<Block>>,
    draw: Draw,
    counts: Counts,
    visit: V,
}

/// Gives every image of the recording to `visit`, in the order of its operations.
///
/// # Panics
/// If a torn block passes for a whole one.
pub fn enumerate(recording: &Recording, visit: impl FnMut(Image)) -> Counts {
    let mut walk = Walk {
        recording,
        seen: recording.blank.clone(),
        durable: recording.blank.clone(),
        dirty: BTreeMap::new(),
        draw: Draw::new(0x83),
        counts: Counts::default(),
        visit,
    };
    for (place, operation) in recording.operations.iter().enumerate() {
        match operation {
            Operation::Write { first, blocks, durability, .. } => {
                walk.counts.writes += 1;
                walk.crashes(place, *first, blocks);
                walk.pair(place, *first, blocks);
                walk.power_losses(place, *first, blocks);
                walk.write(*first, blocks, *durability);
            }
            Operation::Flush => walk.flush(),
            Operation::Read { .. } | Operation::Tick => {}
        }
    }
    let end = recording.operations.len();
    for (stop, blocks) in [(Stop::Crash, walk.seen.clone()), (Stop::PowerLoss, walk.durable.clone())] {
        (walk.visit)(Image { ended: end, stop, text: "after the last write".to_owned(), repeats: false, blocks });
    }
    walk.counts
}

impl<V: FnMut(Image)> Walk<'_, V> {
    fn write(&mut self, first: BlockIndex, blocks: &[Block], durability: Durability) {
        for (at, block) in (index(first)..).zip(blocks) {
            self.seen[at] = block.clone();
            match durability {
                Durability::Volatile => self.dirty.entry(at).or_default().push(block.clone()),
                Durability::Durable => {
                    self.durable[at] = block.clone();
                    self.dirty.remove(&at);
                }
            }
        }
    }

    fn flush(&mut self) {
        self.durable.clone_from(&self.seen);
        self.dirty.clear();
    }

    fn show(&mut self, ended: usize, stop: Stop, text: String, repeats: bool, base: Base, changes: &[(usize, Block)]) {
        let mut blocks = match base {
            Base::Seen => self.seen.clone(),
            Base::Durable => self.durable.clone(),
        };
        for (at, block) in changes {
            blocks[*at] = block.clone();
        }
        (self.visit)(Image { ended, stop, text, repeats, blocks });
    }

    fn crashes(&mut self, place: usize, first: BlockIndex, blocks: &[Block]) {
        let mut classes = BTreeSet::new();
        let pieces = blocks.len() * PIECES;
        for (name, landed) in tears(blocks.len()) {
            let torn = self.torn(first, blocks, &landed);
            let class = self.class(first, blocks, &torn);
            // Whole: the next write has the same image before it is begun.
            let is_whole = landed.iter().all(|piece| *piece);
            let repeats = is_whole || !classes.insert(class);
            let text = format!("{} of {pieces} pieces ({name}) of {}", count(&landed), self.name(place));
            let changes: Vec<_> = (index(first)..).zip(torn).collect();
            self.show(place, Stop::Crash, text, repeats, Base::Seen, &changes);
        }
    }

    /// What the disk holds if only these pieces have landed.
    fn torn(&self, first: BlockIndex, blocks: &[Block], landed: &[bool]) -> Vec<Block> {
        let mut torn = self.seen[index(first)..index(first) + blocks.len()].to_vec();
        for (piece, _) in landed.iter().enumerate().filter(|(_, landed)| **landed) {
            let (block, at) = (piece / PIECES, piece % PIECES * PIECE_BYTES);
            torn[block].0[at..at + PIECE_BYTES].copy_from_slice(&blocks[block].0[at..at + PIECE_BYTES]);
        }
        torn
    }

    /// How each block of a torn write reads: as the old one, as the new one, or as none.
    fn class(&mut self, first: BlockIndex, blocks: &[Block], torn: &[Block]) -> Vec<u8> {
        let class = |(offset, block): (usize, &Block)| {
            let at = index(first) + offset;
            if *block == self.seen[at] {
                return 0;
            }
            if *block == blocks[offset] {
                return 1;
            }
            self.counts.torn += 1;
            let address = BlockIndex(at as u64);
            assert!(header::unseal(block, address).is_err(), "D1: a torn block {address} passes for a whole one");
            2
        };
        torn.iter().enumerate().map(class).collect()
    }

    /// This write and the next one are both under way, in every combination that no single one has.
    fn pair(&mut self, place: usize, first: BlockIndex, blocks: &[Block]) {
        let Some(next) = independent_next(&self.recording.operations, place) else { return };
        let Operation::Write { first: next_first, blocks: next_blocks, .. } = &self.recording.operations[next] else {
            return;
        };
        self.counts.pairs += 1;
        let every = |step: usize, count: usize| (0..count * PIECES).map(|it| it % step == 0).collect::<Vec<_>>();
        let nothing = vec![false; blocks.len() * PIECES];
        for (name, landed) in [("nothing", nothing), ("half", every(2, blocks.len()))] {
            for (next_name, step) in [("all", 1), ("half", 2)] {
                let next_landed = every(step, next_blocks.len());
                let mut changes: Vec<_> = (index(first)..).zip(self.torn(first, blocks, &landed)).collect();
                changes.extend((index(*next_first)..).zip(self.torn(*next_first, next_blocks, &next_landed)));
                let text = format!("{name} of {}, {next_name} of {}", self.name(place), self.name(next));
                self.show(place, Stop::Crash, text, false, Base::Seen, &changes);
            }
        }
    }

    /// Power is lost while that write is under way: of what is not durable any block may be there, each in any of its versions.
    fn power_losses(&mut self, place: usize, first: BlockIndex, blocks: &[Block]) {
        let mut versions = self.dirty.clone();
        for (at, block) in (index(first)..).zip(blocks) {
            versions.entry(at).or_default().push(block.clone());
        }
        let newest = |at: &usize| (*at, versions[at].last().cloned().unwrap_or_default());
        let all: Vec<(usize, Block)> = versions.keys().map(newest).collect();
        let show = |walk: &mut Self, what: &str, repeats: bool, changes: &[(usize, Block)]| {
            let text = format!("{what} of {} blocks that are not durable, in {}", versions.len(), walk.name(place));
            walk.show(place, Stop::PowerLoss, text, repeats, Base::Durable, changes);
        };
        show(self, "nothing", false, &[]);
        show(self, "all", true, &all);
        for (skipped, (at, _)) in all.iter().enumerate() {
            show(self, &format!("block {at} alone"), all.len() == 1, &all[skipped..=skipped]);
            let rest: Vec<_> = all.iter().filter(|(other, _)| other != at).cloned().collect();
            show(self, &format!("all but block {at}"), all.len() == 1, &rest);
        }
        for mixture in 0..MIXTURES {
            let mixed = mix(&versions, &mut self.draw);
            show(self, &format!("mixture {mixture}"), false, &mixed);
        }
    }

    fn name(&self, place: usize) -> String {
        name(&self.recording.operations[place])
    }
}

/// Of each block one of its versions, or none.
fn mix(versions: &BTreeMap<usize, Vec<Block>>, draw: &mut Draw) -> Vec<(usize, Block)> {
    let choose = |(at, versions): (&usize, &Vec<Block>)| {
        let chosen = draw.below(versions.len() + 1);
        versions.get(chosen).map(|block| (*at, block.clone()))
    };
    versions.iter().filter_map(choose).collect()
}

/// The ways in which a write of so many blocks is torn, by the pieces that land: none, all, each prefix, each suffix, every other
/// piece, and each set of whole blocks.
fn tears(blocks: usize) -> Vec<(String, Vec<bool>)> {
    let pieces = blocks * PIECES;
    let named = |name: &str, landed: &dyn Fn(usize) -> bool| (name.to_owned(), (0..pieces).map(landed).collect());
    let mut tears = vec![named("absent", &|_| false), named("whole", &|_| true)];
    for end in 1..pieces {
        tears.push(named("prefix", &|piece| piece < end));
        tears.push(named("suffix", &|piece| piece >= end));
    }
    tears.push(named("even", &|piece| piece % 2 == 0));
    tears.push(named("odd", &|piece| piece % 2 == 1));
    if (2..=BLOCKS_ALL_SETS_MAX).contains(&blocks) {
        for set in 1..(1_usize << blocks) - 1 {
            tears.push(named("blocks", &|piece| set >> (piece / PIECES) & 1 == 1));
        }
    }
    tears
}

/// The write after that one, if it did not wait for it: another node made it within the same tick, in which it can have heard nothing
/// of it, and did not read it before; or the same node made it, and one of the two is a renewal that says nothing new.
fn independent_next(operations: &[Operation], place: usize) -> Option<usize> {
    let Operation::Write { by, first, blocks, .. } = &operations[place] else { return None };
    let end = first.0 + blocks.len() as u64;
    for (offset, operation) in operations[place + 1..].iter().enumerate() {
        match operation {
            Operation::Tick | Operation::Flush => return None,
            Operation::Read { by: reader, first: read, count } => {
                let overlaps = read.0 < end && first.0 < read.0 + count;
                if overlaps && reader != by {
                    return None; // whoever writes next may have been told by this reader's actors
                }
            }
            Operation::Write { by: writer, .. } => {
                let next = place + 1 + offset;
                let is_free = writer != by || is_renewal(operations, place) || is_renewal(operations, next);
                return is_free.then_some(next);
            }
        }
    }
    None
}

/// The write is of a register that says the same as the one before.
fn is_renewal(operations: &[Operation], place: usize) -> bool {
    let Operation::Write { by, first, .. } = &operations[place] else { return false };
    let Some(register) = register_in(&operations[place]) else { return false };
    let same_pair = |other: &BlockIndex| other.0.abs_diff(first.0) <= 1;
    let before = operations[..place].iter().rev().find(
        |operation| matches!(operation, Operation::Write { by: other, first, .. } if other == by && same_pair(first)),
    );
    let before = before.and_then(register_in);
    before.is_some_and(|before| NodeRegister { heartbeat: register.heartbeat, ..before } == register)
}

fn register_in(operation: &Operation) -> Option<NodeRegister> {
    let Operation::Write { first, blocks, .. } = operation else { return None };
    let header = header::unseal(&blocks[0], *first).ok()?;
    if header.record_type != RecordType::NodeRegister as u16 || blocks.len() != 1 {
        return None;
    }
    let payload = header::payload(&blocks[0], &header);
    phalanx_messages::codec::decode_prefix(payload, payload.len()).ok()
}

/// What a write is, for people.
fn name(operation: &Operation) -> String {
    let Operation::Write { by, first, blocks, durability } = operation else { return String::new() };
    let record = header::unseal(&blocks[0], *first).map_or_else(
        |_| "blank".to_owned(),
        |header| format!("record type {} {}.{}", header.record_type, header.epoch, header.sequence),
    );
    format!("{} blocks at {first} by n{by} ({record}, {durability:?})", blocks.len())
}

fn count(landed: &[bool]) -> usize {
    landed.iter().filter(|landed| **landed).count()
}

fn index(block: BlockIndex) -> usize {
    usize::try_from(block.0).expect("a small disk")
}
