//! A disk that misbehaves as it is told, around any other (protocol D1, D4, D5; §8.5 rows 20 to 30): for tests of every layer above.
//!
//! Each [`Fault`] hits the I/Os that touch its [`Target`]. Errors, stalls and late writes last until [`FaultyDisk::mend`]; a torn and a
//! misdirected write happen once. What no fault is meant for goes straight through, so a test says exactly what is broken.
//!
//! Never: a fault that nobody injected, and no randomness; a test that wants to draw faults draws what it injects.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::{BLOCK_BYTES, Block, BlockIndex};
use crate::disk::{Capabilities, Durability, Geometry, SharedDisk};

/// Pieces in which a write may be torn.
pub const PIECE_BYTES: usize = 512;

/// The I/Os that a fault is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    first: BlockIndex,
    count: u64,
    reads: bool,
    writes: bool,
}

impl Target {
    /// Every I/O on any block.
    pub const ALL: Self = Self { first: BlockIndex(0), count: u64::MAX, reads: true, writes: true };
    /// Every read.
    pub const READS: Self = Self { writes: false, ..Self::ALL };
    /// Every write.
    pub const WRITES: Self = Self { reads: false, ..Self::ALL };

    /// Those of them that touch one of these blocks.
    #[must_use]
    pub const fn on(self, first: BlockIndex, count: u64) -> Self {
        Self { first, count, ..self }
    }

    fn touches(&self, first: BlockIndex, count: usize) -> bool {
        let end = first.0.saturating_add(count as u64);
        first.0 < self.first.0.saturating_add(self.count) && self.first.0 < end
    }
}

/// One way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The I/Os fail with that kind of error and do nothing.
    Error(Target, io::ErrorKind),
    /// The I/Os hang until [`FaultyDisk::mend`], and then are done: a device whose path is lost for a while.
    Stall(Target),
    /// The writes are reported as failed and kept, and land when [`FaultyDisk::land`] says so (protocol R-2).
    Late(Target),
    /// Of the next write only the pieces marked true are put down, counted over all its blocks; those not named are not. It is
    /// reported as failed: the writer has crashed in the middle of it.
    Torn(Target, Vec<bool>),
    /// The next write is put down at that address, and reported as done.
    Misdirected(Target, BlockIndex),
}

impl Fault {
    const fn target(&self) -> &Target {
        match self {
            Self::Error(target, _)
            | Self::Stall(target)
            | Self::Late(target)
            | Self::Torn(target, _)
            | Self::Misdirected(target, _) => target,
        }
    }

    /// It happens to one write and is over then.
    const fn is_once(&self) -> bool {
        match self {
            Self::Torn(..) | Self::Misdirected(..) => true,
            Self::Error(..) | Self::Stall(_) | Self::Late(_) => false,
        }
    }
}

/// A write that has not landed yet.
#[derive(Debug, Clone)]
struct HeldBack {
    first: BlockIndex,
    blocks: Vec<Block>,
}

/// See the module. Cheap to clone; every clone is the same disk with the same faults.
#[derive(Clone)]
pub struct FaultyDisk {
    disk: Arc<dyn SharedDisk>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    held_back: Vec<HeldBack>,
    stalled: usize,
}

impl std::fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyDisk").field("faults", &self.state().faults).finish_non_exhaustive()
    }
}

impl FaultyDisk {
    /// A disk that behaves as `disk` does until it is told otherwise.
    #[must_use]
    pub fn around(disk: Arc<dyn SharedDisk>) -> Self {
        Self { disk, shared: Arc::default() }
    }

    /// Misbehaves in that way from now on, besides what it was told before; of several that hit one I/O the first counts.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Behaves from now on. Stalled I/Os are done; late writes are still kept.
    pub fn mend(&self) {
        self.state().faults.clear();
        self.shared.changed.notify_all();
    }

    /// Waits until so many I/Os hang. Only for I/O on threads of its own.
    pub fn wait_stalled(&self, count: usize) {
        drop(self.shared.changed.wait_while(self.state(), |state| state.stalled < count));
    }

    /// Writes that are kept back.
    #[must_use]
    pub fn late_writes(&self) -> usize {
        self.state().held_back.len()
    }

    /// The oldest write that was kept back lands. False if there is none.
    ///
    /// # Errors
    /// What the disk below says.
    pub fn land(&self) -> io::Result<bool> {
        if self.late_writes() == 0 {
            return Ok(false);
        }
        let HeldBack { first, blocks } = self.state().held_back.remove(0);
        self.disk.write_blocks(first, &blocks, Durability::Durable)?;
        Ok(true)
    }

    /// Every write that was kept back is lost.
    pub fn lose(&self) {
        self.state().held_back.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that hits this I/O, once it no longer hangs.
    fn fault_of(&self, is_write: bool, first: BlockIndex, count: usize) -> Option<Fault> {
        let hit = |fault: &Fault| {
            let target = fault.target();
            (if is_write { target.writes } else { target.reads }) && target.touches(first, count)
        };
        let stalls =
            |state: &State| state.faults.iter().find(|fault| hit(fault)).is_some_and(|f| matches!(f, Fault::Stall(_)));
        let mut state = self.state();
        if stalls(&state) {
            state.stalled += 1;
            self.shared.changed.notify_all();
            state =
                self.shared.changed.wait_while(state, |state| stalls(state)).unwrap_or_else(PoisonError::into_inner);
            state.stalled -= 1;
        }
        let index = state.faults.iter().position(hit)?;
        let once = state.faults[index].is_once();
        Some(if once { state.faults.remove(index) } else { state.faults[index].clone() })
    }

    fn tear(&self, first: BlockIndex, blocks: &[Block], pieces: &[bool], durability: Durability) -> io::Result<()> {
        let mut torn = Block::zeroes(blocks.len());
        self.disk.read_blocks(first, &mut torn)?;
        let per_block = BLOCK_BYTES / PIECE_BYTES;
        for (index, _) in pieces.iter().enumerate().filter(|(_, landed)| **landed).take(blocks.len() * per_block) {
            let (block, at) = (index / per_block, index % per_block * PIECE_BYTES);
            torn[block].0[at..at + PIECE_BYTES].copy_from_slice(&blocks[block].0[at..at + PIECE_BYTES]);
        }
        self.disk.write_blocks(first, &torn, durability)
    }
}

impl SharedDisk for FaultyDisk {
    /// That of the disk below, but nobody may trust an I/O to come back, or a write to be in time.
    fn geometry(&self) -> Geometry {
        let geometry = self.disk.geometry();
        let capabilities = Capabilities { late_writes_impossible: false, may_hang: true, ..geometry.capabilities };
        Geometry { capabilities, ..geometry }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        match self.fault_of(false, first, blocks.len()) {
            Some(Fault::Error(_, kind)) => Err(kind.into()),
            Some(Fault::Stall(_) | Fault::Late(_) | Fault::Torn(..) | Fault::Misdirected(..)) | None => {
                self.disk.read_blocks(first, blocks)
            }
        }
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        match self.fault_of(true, first, blocks.len()) {
            None | Some(Fault::Stall(_)) => self.disk.write_blocks(first, blocks, durability),
            Some(Fault::Error(_, kind)) => Err(kind.into()),
            Some(Fault::Late(_)) => {
                self.state().held_back.push(HeldBack { first, blocks: blocks.to_vec() });
                Err(io::ErrorKind::TimedOut.into())
            }
            Some(Fault::Torn(_, pieces)) => {
                self.tear(first, blocks, &pieces, durability)?;
                Err(io::Error::other("told to tear a write"))
            }
            Some(Fault::Misdirected(_, to)) => self.disk.write_blocks(to, blocks, durability),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    fn verify(&self, first: BlockIndex, count: u64) -> io::Result<()> {
        self.disk.verify(first, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;

    fn disk() -> (MemoryDisk, FaultyDisk) {
        let memory = MemoryDisk::new(8);
        (memory.clone(), FaultyDisk::around(Arc::new(memory)))
    }

    fn block(byte: u8) -> Block {
        Block([byte; BLOCK_BYTES])
    }

    fn first_byte(disk: &dyn SharedDisk, at: u64) -> u8 {
        let mut blocks = Block::zeroes(1);
        disk.read_blocks(BlockIndex(at), &mut blocks).unwrap();
        blocks[0].0[0]
    }

    fn write(disk: &dyn SharedDisk, at: u64, byte: u8) -> io::Result<()> {
        disk.write_blocks(BlockIndex(at), &[block(byte)], Durability::Durable)
    }

    #[test]
    fn an_error_hits_its_target_alone_until_it_is_mended() {
        let (_, disk) = disk();
        disk.inject(Fault::Error(Target::WRITES.on(BlockIndex(2), 2), io::ErrorKind::ConnectionReset));
        for at in [2, 3] {
            assert_eq!(write(&disk, at, 1).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(first_byte(&disk, at), 0, "reads are not meant");
        }
        write(&disk, 1, 1).unwrap();
        write(&disk, 4, 1).unwrap();
        let both = [block(1), block(1)];
        disk.write_blocks(BlockIndex(1), &both, Durability::Durable).unwrap_err();
        disk.mend();
        write(&disk, 2, 1).unwrap();
        disk.inject(Fault::Error(Target::READS, io::ErrorKind::TimedOut));
        let mut blocks = Block::zeroes(1);
        assert_eq!(disk.read_blocks(BlockIndex(7), &mut blocks).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_torn_write_puts_down_the_pieces_that_were_named_and_happens_once() {
        let (memory, disk) = disk();
        write(&disk, 2, 9).unwrap();
        disk.inject(Fault::Torn(Target::WRITES, vec![false, true, false, false, false, false, false, false, true]));
        disk.write_blocks(BlockIndex(1), &[block(1), block(2)], Durability::Durable).unwrap_err();
        let pieces = |at| memory.with_block(BlockIndex(at), |bytes| [bytes[0], bytes[512], bytes[1024]]);
        assert_eq!((pieces(1), pieces(2)), ([0, 1, 0], [2, 9, 9]));
        write(&disk, 1, 3).unwrap();
        assert_eq!(pieces(1), [3, 3, 3]);
    }

    #[test]
    fn a_late_write_is_a_failed_one_that_lands_when_it_is_told_to() {
        let (_, disk) = disk();
        disk.inject(Fault::Late(Target::WRITES));
        assert_eq!(write(&disk, 3, 1).unwrap_err().kind(), io::ErrorKind::TimedOut);
        disk.mend();
        write(&disk, 3, 2).unwrap();
        assert_eq!((first_byte(&disk, 3), disk.late_writes()), (2, 1));
        assert!(disk.land().unwrap());
        assert_eq!(first_byte(&disk, 3), 1, "over what was written since");
        assert!(!disk.land().unwrap());
        disk.inject(Fault::Late(Target::WRITES));
        write(&disk, 4, 1).unwrap_err();
        disk.lose();
        assert!(!disk.land().unwrap());
    }

    #[test]
    fn a_misdirected_write_is_reported_as_done_and_lies_elsewhere() {
        let (_, disk) = disk();
        disk.inject(Fault::Misdirected(Target::WRITES.on(BlockIndex(3), 1), BlockIndex(6)));
        write(&disk, 2, 5).unwrap();
        write(&disk, 3, 7).unwrap();
        assert_eq!([2, 3, 6].map(|at| first_byte(&disk, at)), [5, 0, 7]);
        write(&disk, 3, 8).unwrap();
        assert_eq!([3, 6].map(|at| first_byte(&disk, at)), [8, 7]);
    }

    #[test]
    fn a_stalled_write_hangs_alone_and_is_done_when_the_disk_is_mended() {
        let (memory, disk) = disk();
        disk.inject(Fault::Stall(Target::WRITES.on(BlockIndex(3), 1)));
        std::thread::scope(|threads| {
            let hung = threads.spawn(|| write(&disk, 3, 7));
            disk.wait_stalled(1);
            write(&disk, 4, 1).unwrap();
            assert_eq!((first_byte(&disk, 3), first_byte(&disk, 4)), (0, 1), "the others go on");
            disk.mend();
            hung.join().unwrap().unwrap();
        });
        assert_eq!(first_byte(&memory, 3), 7);
        assert!(disk.geometry().capabilities.may_hang);
    }
}
