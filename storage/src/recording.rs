//! A disk that keeps every operation in the order in which it was begun: the raw material of crash points (protocol §8.3).
//!
//! Several paths to one disk share one [`Recorder`]. Whoever builds images of what a crash leaves needs to know which write came
//! when, what it was to survive, and who had read what before.
//!
//! For disks that answer at once and callers on one thread: an operation is recorded when it begins and has ended when the next one
//! begins.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block::{Block, BlockIndex};
use crate::disk::{Capabilities, Durability, Geometry, SharedDisk};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Blocks were read.
    Read {
        /// Path by which.
        by: u16,
        /// First block.
        first: BlockIndex,
        /// How many.
        count: u64,
    },
    /// Blocks were written.
    Write {
        /// Path by which.
        by: u16,
        /// First block.
        first: BlockIndex,
        /// What was written.
        blocks: Vec<Block>,
        /// What it was to survive.
        durability: Durability,
    },
    /// Whatever was written before was made durable.
    Flush,
    /// Nothing was done: the recorder was told that time has passed ([`Recorder::tick`]).
    Tick,
}

/// What was done to one disk, in order. Cheap to clone; every clone is the same list.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Recorder {
    /// Operations so far: the place of the next one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Nothing was done yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// Whatever is recorded from now on came later.
    pub fn tick(&self) {
        self.record(Operation::Tick);
    }

    /// Everything so far.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.list().clone()
    }

    fn record(&self, operation: Operation) {
        self.list().push(operation);
    }

    fn list(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module: one path to a disk.
pub struct RecordingDisk {
    disk: Arc<dyn SharedDisk>,
    by: u16,
    recorder: Recorder,
}

impl std::fmt::Debug for RecordingDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingDisk").field("by", &self.by).finish_non_exhaustive()
    }
}

impl RecordingDisk {
    /// The path with that number to `disk`.
    #[must_use]
    pub fn around(disk: Arc<dyn SharedDisk>, by: u16, recorder: Recorder) -> Self {
        Self { disk, by, recorder }
    }
}

impl SharedDisk for RecordingDisk {
    /// That of the disk below, but volatile writes are not durable: they must be seen to be flushed.
    fn geometry(&self) -> Geometry {
        let geometry = self.disk.geometry();
        let capabilities = Capabilities { durable_on_complete: false, ..geometry.capabilities };
        Geometry { capabilities, ..geometry }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        self.recorder.record(Operation::Read { by: self.by, first, count: blocks.len() as u64 });
        self.disk.read_blocks(first, blocks)
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        self.recorder.record(Operation::Write { by: self.by, first, blocks: blocks.to_vec(), durability });
        self.disk.write_blocks(first, blocks, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.recorder.record(Operation::Flush);
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

    #[test]
    fn two_paths_to_one_disk_are_one_list() {
        let (memory, recorder) = (Arc::new(MemoryDisk::new(4)), Recorder::default());
        let [one, two] = [0, 1].map(|by| RecordingDisk::around(memory.clone(), by, recorder.clone()));
        let mut read = Block::zeroes(2);
        one.write_blocks(BlockIndex(3), &Block::zeroes(1), Durability::Volatile).unwrap();
        recorder.tick();
        two.read_blocks(BlockIndex(1), &mut read).unwrap();
        two.flush().unwrap();
        assert_eq!(recorder.len(), 4);
        let write = Operation::Write {
            by: 0,
            first: BlockIndex(3),
            blocks: Block::zeroes(1),
            durability: Durability::Volatile,
        };
        let read = Operation::Read { by: 1, first: BlockIndex(1), count: 2 };
        assert_eq!(recorder.operations(), [write, Operation::Tick, read, Operation::Flush]);
        assert!(!recorder.is_empty() && !one.geometry().capabilities.durable_on_complete);
    }
}
