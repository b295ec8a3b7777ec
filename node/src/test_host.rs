//! The path of a test's host to the shared disk: a test makes it slow, hanging or lost, as a cable or a switch does (protocol §8.5,
//! rows 18 to 24).
//!
//! Never in production: only processes that take themselves for a host of a test ([`TEST_HOST_VARIABLE`]) look at the variable that
//! names the switch, and say so in their log. The switch is a file that every process of the host looks at before each I/O; what
//! stands in it counts from then on, also for the I/Os that hang.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_storage::opening::{self, OpenError};
use phalanx_storage::{
    Access, Block, BlockIndex, Capabilities, ClusterDisk, Durability, Geometry, NewerProgram, SharedDisk,
};

use crate::builder::TEST_HOST_VARIABLE;
use crate::containment::pause;

/// Names the file that switches the path of this host to the disk.
pub const TEST_PATH_VARIABLE: &str = "PHALANX_TEST_DISK_PATH";

/// A host of a test may be told to write the next minor version of the disk format, as after an upgrade of that host alone.
pub const TEST_MINOR_VARIABLE: &str = "PHALANX_TEST_NEXT_MINOR";

/// How the path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskPath {
    /// As if there was nothing.
    Good,
    /// Every I/O takes so many milliseconds longer.
    Slow(u64),
    /// I/Os hang, and are done when the path is back.
    Hanging,
    /// I/Os fail.
    Lost,
    /// Writes fail, as after a storage fence (F1).
    ShutOut,
}

impl DiskPath {
    /// What stands in the switch.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Good => "good".to_owned(),
            Self::Slow(ms) => format!("slow {ms}"),
            Self::Hanging => "hanging".to_owned(),
            Self::Lost => "lost".to_owned(),
            Self::ShutOut => "shut-out".to_owned(),
        }
    }

    /// No file, or one that is just being written, means a good path.
    fn read(switch: &Path) -> Self {
        let text = std::fs::read_to_string(switch).unwrap_or_default();
        match text.trim().split_once(' ') {
            Some(("slow", ms)) => Self::Slow(ms.parse().unwrap_or_default()),
            Some(_) => Self::Good,
            None => match text.trim() {
                "hanging" => Self::Hanging,
                "lost" => Self::Lost,
                "shut-out" => Self::ShutOut,
                _ => Self::Good,
            },
        }
    }
}

/// Between two looks of an I/O that hangs, in milliseconds.
const LOOK_MS: u64 = 5;

struct Switched {
    disk: Arc<dyn SharedDisk>,
    switch: PathBuf,
}

impl Switched {
    /// Returns when the I/O may be done.
    fn pass(&self, write: bool) -> io::Result<()> {
        loop {
            match DiskPath::read(&self.switch) {
                DiskPath::Lost => return Err(rustix::io::Errno::IO.into()),
                DiskPath::ShutOut if write => return Err(rustix::io::Errno::IO.into()),
                DiskPath::Good | DiskPath::ShutOut => return Ok(()),
                DiskPath::Hanging => pause(LOOK_MS),
                DiskPath::Slow(ms) => {
                    pause(ms);
                    return Ok(());
                }
            }
        }
    }
}

impl SharedDisk for Switched {
    fn geometry(&self) -> Geometry {
        let geometry = self.disk.geometry();
        Geometry { capabilities: Capabilities { may_hang: true, ..geometry.capabilities }, ..geometry }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        self.pass(false)?;
        self.disk.read_blocks(first, blocks)
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        self.pass(true)?;
        self.disk.write_blocks(first, blocks, durability)
    }

    fn flush(&self) -> io::Result<()> {
        self.pass(true)?;
        self.disk.flush()
    }

    fn verify(&self, first: BlockIndex, count: u64) -> io::Result<()> {
        self.disk.verify(first, count)
    }
}

/// Opens the disk of a node, through whatever stands before it on a host of a test.
///
/// # Errors
/// What keeps it from being used.
pub(crate) fn open_disk(path: &Path) -> Result<ClusterDisk, OpenError> {
    let variable = |name| std::env::var_os(TEST_HOST_VARIABLE).and_then(|_| std::env::var_os(name));
    let (switch, is_newer) = (variable(TEST_PATH_VARIABLE), variable(TEST_MINOR_VARIABLE).is_some());
    opening::open_through(path, Access::ReadWrite, |disk| {
        let disk: Arc<dyn SharedDisk> = if is_newer { Arc::new(NewerProgram::around(disk)) } else { disk };
        let Some(switch) = switch.map(PathBuf::from) else { return disk };
        tracing::warn!(switch = %switch.display(), "this is a host of a test: its path to the disk is switched");
        Arc::new(Switched { disk, switch })
    })
}

#[cfg(test)]
mod tests {
    use phalanx_storage::MemoryDisk;

    use super::*;

    #[test]
    fn an_io_goes_the_way_that_the_switch_says_and_one_that_hangs_is_done_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let switch = dir.path().join("switch");
        let memory = MemoryDisk::new(2);
        let disk = Switched { disk: Arc::new(memory), switch: switch.clone() };
        let set = |path: DiskPath| std::fs::write(&switch, path.text()).unwrap();
        let write = |byte| disk.write_blocks(BlockIndex(0), &[Block([byte; 4_096])], Durability::Durable);
        let first_byte = || {
            let mut blocks = Block::zeroes(1);
            disk.disk.read_blocks(BlockIndex(0), &mut blocks).unwrap();
            blocks[0].0[0]
        };
        write(1).unwrap();
        for path in [DiskPath::Good, DiskPath::Slow(1)] {
            set(path);
            write(2).unwrap();
        }
        set(DiskPath::Lost);
        assert_eq!(write(3).unwrap_err().raw_os_error(), Some(5));
        assert!(disk.read_blocks(BlockIndex(0), &mut Block::zeroes(1)).is_err());
        assert_eq!(first_byte(), 2);
        set(DiskPath::ShutOut);
        assert!(write(3).is_err() && disk.read_blocks(BlockIndex(0), &mut Block::zeroes(1)).is_ok());
        set(DiskPath::Hanging);
        std::thread::scope(|threads| {
            let hung = threads.spawn(|| write(4));
            pause(10 * LOOK_MS);
            assert!(!hung.is_finished());
            assert_eq!(first_byte(), 2);
            set(DiskPath::Good);
            hung.join().unwrap().unwrap();
        });
        assert_eq!(first_byte(), 4);
    }
}
