//! The shared disk as one node reaches it: its path can be cut without harm to the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phalanx_storage::{Block, BlockIndex, Capabilities, Durability, Geometry, SharedDisk};

/// See the module.
#[derive(Clone)]
pub(super) struct DiskPath {
    disk: Arc<dyn SharedDisk>,
    several_hosts: bool,
    cut: Arc<AtomicBool>,
}

impl DiskPath {
    pub fn new(disk: Arc<dyn SharedDisk>, several_hosts: bool) -> Self {
        Self { disk, several_hosts, cut: Arc::default() }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::SeqCst) { Err(io::Error::other("the path to the disk is cut")) } else { Ok(()) }
    }
}

impl SharedDisk for DiskPath {
    fn geometry(&self) -> Geometry {
        let Geometry { block_count, capabilities } = self.disk.geometry();
        let capabilities = Capabilities { several_hosts: self.several_hosts, ..capabilities };
        Geometry { block_count, capabilities }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        self.check()?;
        self.disk.read_blocks(first, blocks)
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        self.check()?;
        self.disk.write_blocks(first, blocks, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.check()?;
        self.disk.flush()
    }
}
