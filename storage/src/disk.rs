//! The shared disk: two verbs and a geometry (protocol §1.2).

use std::io;

use crate::block::{Block, BlockIndex};

/// What a completed write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process; on a disk of one host, not the loss of the host (protocol §1.3, "What is durable, and when").
    Volatile,
    /// The loss of the host as well.
    Durable,
}

/// What a disk can promise beyond the two verbs, and what it must be expected to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It can refuse the writes of one node (protocol §1.4).
    pub storage_fence: bool,
    /// Once a writing process is reaped, no write of it lands any more: `T_late` is 0.
    pub late_writes_impossible: bool,
    /// Every completed write is durable, whatever was asked for.
    pub durable_on_complete: bool,
    /// Nodes of several hosts, and of several boots of one host, may use it at the same time.
    pub several_hosts: bool,
    /// An I/O may hang for any time (protocol D4): whoever must not wait for it has it done on a thread of its own.
    pub may_hang: bool,
}

/// Size of a disk and what it can promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of [`crate::BLOCK_BYTES`] bytes.
    pub block_count: u64,
    /// Its promises.
    pub capabilities: Capabilities,
}

/// A disk that every node of the cluster can reach.
///
/// Each block has exactly one writing node, so no two writes to it race. A read that begins after a write has completed, on
/// any node, returns that write or a newer one (protocol D3). Calls block: they are made only on the disk actor's I/O thread
/// and on the lease thread.
pub trait SharedDisk: Send + Sync {
    /// Block count and what this disk can promise.
    fn geometry(&self) -> Geometry;

    /// Reads consecutive blocks in one I/O. Any of them may be torn; the block checksum tells.
    ///
    /// # Errors
    /// `InvalidInput` if the range does not lie on the disk, else what the system says.
    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()>;

    /// Writes consecutive blocks in one I/O with at most one flush. Each block on its own is whole, absent or torn: nothing
    /// larger is atomic. `Ok` means: visible to every node, and as durable as was asked for.
    ///
    /// # Errors
    /// `InvalidInput` if the range does not lie on the disk, else what the system says. After any other error the write may
    /// have happened and may still happen (protocol R-2).
    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()>;

    /// Makes durable whatever was written before. Called in the background for volatile writes (protocol §1.3); nothing
    /// waits for it.
    ///
    /// # Errors
    /// What the system says.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Finds out, without touching them, whether these blocks are still there: a mapped file that was cut would kill whoever
    /// touches what it has lost.
    ///
    /// # Errors
    /// `UnexpectedEof` with what is left, or what the system says.
    fn verify(&self, first: BlockIndex, count: u64) -> io::Result<()> {
        let _ = (first, count);
        Ok(())
    }
}

/// Checks that `count` blocks from `first` lie on a disk of `block_count` blocks.
///
/// # Errors
/// `InvalidInput` with the numbers.
pub fn check_range(first: BlockIndex, count: usize, block_count: u64) -> io::Result<()> {
    let end = u64::try_from(count).ok().and_then(|count| first.0.checked_add(count));
    if end.is_some_and(|end| end <= block_count) {
        return Ok(());
    }
    let text = format!("{count} blocks at block {first} do not lie on a disk of {block_count} blocks");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}
