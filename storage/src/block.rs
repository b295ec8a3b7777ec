//! The unit of I/O.

use std::fmt;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;

/// Address of a block, counted in blocks from the begin of the disk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u64);

impl BlockIndex {
    /// The address `blocks` further on.
    #[must_use]
    pub const fn plus(self, blocks: u64) -> Self {
        Self(self.0 + blocks)
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One block in this process's own memory.
///
/// Not aligned as direct I/O wants it: a function that had such a value on its stack would have to align the stack to 4096 bytes,
/// which LLVM 22 gets wrong in optimised code (it left the alignment out, and the process died).
#[derive(Clone, PartialEq, Eq)]
#[repr(transparent)]
pub struct Block(pub [u8; BLOCK_BYTES]);

impl Block {
    /// That many blocks of zeroes.
    #[must_use]
    pub fn zeroes(count: usize) -> Vec<Self> {
        vec![Self::default(); count]
    }

    /// True if every byte is zero: never written.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl Default for Block {
    fn default() -> Self {
        Self([0; BLOCK_BYTES])
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:02x?}..)", &self.0[..16])
    }
}
