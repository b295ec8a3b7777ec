//! A program of the next minor version of the disk format, as far as this one can be it: for tests of rolling upgrades (protocol §2,
//! "unknown minor = ignore extra bytes"; §8.5 row 60).
//!
//! Whatever is written through [`NewerProgram`] says that minor version and has more at the end of each record than this program knows.

use std::io;
use std::sync::Arc;

use crate::block::{Block, BlockIndex};
use crate::disk::{Durability, Geometry, SharedDisk};
use crate::header::{self, Header, MINOR, PAYLOAD_BYTES};

/// What a record has at its end beside what this program knows, where there is room for it.
const MORE: [u8; 9] = [0xee; 9];

/// A path to a disk by which that program writes.
pub struct NewerProgram(Arc<dyn SharedDisk>);

impl std::fmt::Debug for NewerProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewerProgram")
    }
}

impl NewerProgram {
    /// Writes to `disk`.
    #[must_use]
    pub fn around(disk: Arc<dyn SharedDisk>) -> Self {
        Self(disk)
    }
}

/// The block as that program would have written it; none if it is no block of ours.
#[must_use]
pub fn of_next_minor(block: &Block, address: BlockIndex) -> Option<Block> {
    let found = header::unseal(block, address).ok()?;
    let mut payload = header::payload(block, &found).to_vec();
    if found.part + 1 == found.parts && payload.len() + MORE.len() <= PAYLOAD_BYTES {
        payload.extend(MORE);
    }
    Some(header::seal(&Header { minor: MINOR + 1, ..found }, &payload))
}

impl SharedDisk for NewerProgram {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        self.0.read_blocks(first, blocks)
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        // The zeroes of a formatter stay.
        let newer = |(at, block): (u64, &Block)| of_next_minor(block, first.plus(at)).unwrap_or_else(|| block.clone());
        let blocks: Vec<Block> = (0..).zip(blocks).map(newer).collect();
        self.0.write_blocks(first, &blocks, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn verify(&self, first: BlockIndex, count: u64) -> io::Result<()> {
        self.0.verify(first, count)
    }
}
