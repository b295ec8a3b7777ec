//! A disk in memory, for tests: every clone is the same disk, and it can be told to misbehave.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::{BLOCK_BYTES, Block, BlockIndex};
use crate::disk::{Capabilities, Durability, Geometry, SharedDisk, check_range};

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    resumed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    blocks: Vec<Block>,
    counts: IoCounts,
    fail_reads: bool,
    fail_writes: bool,
    stalled: bool,
    tear_next_write: Option<usize>,
}

/// I/Os since the disk was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IoCounts {
    /// Reads, failed ones included.
    pub reads: u64,
    /// Blocks read.
    pub blocks_read: u64,
    /// Writes, failed ones included.
    pub writes: u64,
    /// Writes that were to be durable.
    pub durable_writes: u64,
    /// Calls of [`SharedDisk::flush`].
    pub flushes: u64,
}

impl MemoryDisk {
    /// A disk of zeroes.
    #[must_use]
    pub fn new(block_count: u64) -> Self {
        let blocks = Block::zeroes(usize::try_from(block_count).unwrap_or(usize::MAX));
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State { blocks, ..State::default() }),
                resumed: Condvar::new(),
            }),
        }
    }

    /// Changes one byte of a block, as a torn or decayed one would have it. Doing it again mends the block.
    pub fn corrupt(&self, block: BlockIndex) {
        self.with_block(block, |bytes| bytes[BLOCK_BYTES - 1] ^= 0x5a);
    }

    /// The next write puts down only its first `bytes` bytes and then fails: a crash in the middle of it.
    pub fn tear_next_write(&self, bytes: usize) {
        self.state().tear_next_write = Some(bytes);
    }

    /// Reads fail from now on, or no longer.
    pub fn fail_reads(&self, fail: bool) {
        self.state().fail_reads = fail;
    }

    /// Writes fail from now on without touching a block, or no longer.
    pub fn fail_writes(&self, fail: bool) {
        self.state().fail_writes = fail;
    }

    /// Every I/O that begins from now on hangs until this is called with `false`. Only for I/O on threads of its own.
    pub fn stall(&self, stall: bool) {
        self.state().stalled = stall;
        self.shared.resumed.notify_all();
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> IoCounts {
        self.state().counts
    }

    /// All blocks as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Block> {
        self.state().blocks.clone()
    }

    /// Puts back what a [`MemoryDisk::snapshot`] took, or what a test made of it.
    pub fn restore(&self, blocks: Vec<Block>) {
        self.state().blocks = blocks;
    }

    /// Lets a test look at or change the bytes of one block.
    pub fn with_block<R>(&self, block: BlockIndex, change: impl FnOnce(&mut [u8; BLOCK_BYTES]) -> R) -> R {
        change(&mut self.state().blocks[index(block)].0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_when_not_stalled(&self) -> MutexGuard<'_, State> {
        self.shared.resumed.wait_while(self.state(), |state| state.stalled).unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedDisk for MemoryDisk {
    fn geometry(&self) -> Geometry {
        let capabilities =
            Capabilities { late_writes_impossible: true, durable_on_complete: true, ..Capabilities::default() };
        Geometry { block_count: self.state().blocks.len() as u64, capabilities }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        let mut state = self.state_when_not_stalled();
        state.counts.reads += 1;
        state.counts.blocks_read += blocks.len() as u64;
        check_range(first, blocks.len(), state.blocks.len() as u64)?;
        if state.fail_reads {
            return Err(io::Error::other("told to fail reads"));
        }
        blocks.clone_from_slice(&state.blocks[index(first)..index(first) + blocks.len()]);
        Ok(())
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        let mut state = self.state_when_not_stalled();
        state.counts.writes += 1;
        state.counts.durable_writes += u64::from(durability == Durability::Durable);
        check_range(first, blocks.len(), state.blocks.len() as u64)?;
        if state.fail_writes {
            return Err(io::Error::other("told to fail writes"));
        }
        let torn = state.tear_next_write.take();
        let mut left = torn.unwrap_or(usize::MAX);
        for (target, block) in state.blocks[index(first)..].iter_mut().zip(blocks) {
            let bytes = left.min(BLOCK_BYTES);
            target.0[..bytes].copy_from_slice(&block.0[..bytes]);
            left -= bytes;
        }
        match torn {
            Some(bytes) => Err(io::Error::other(format!("told to tear a write after {bytes} bytes"))),
            None => Ok(()),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.state_when_not_stalled().counts.flushes += 1;
        Ok(())
    }
}

fn index(block: BlockIndex) -> usize {
    usize::try_from(block.0).unwrap_or(usize::MAX)
}
