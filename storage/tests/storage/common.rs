//! A small formatted disk, and disks of which every write is recorded or that move a writer while a reader reads.

use std::io;
use std::sync::{Arc, Mutex};

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_storage::{
    Block, BlockIndex, ClusterDisk, Durability, Geometry, Layout, MemoryDisk, Operation, Recorder, RecordingDisk,
    SharedDisk, Superblock, format,
};
use uuid::Uuid;

pub const CLUSTER: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
pub const N0: NodeId = NodeId(0);
pub const N1: NodeId = NodeId(1);
/// Bytes that a crash may leave of a write are tried at this distance.
pub const SECTOR_BYTES: usize = 512;

pub fn superblock(nodes_max: u16, services_max: u32) -> Superblock {
    let (cluster, name, profile) = (CLUSTER, "alpha".to_owned(), TimingProfile::DEV);
    Superblock { cluster, name, nodes_max, services_max, profile, created_at_ms: 1_700_000_000_000 }
}

pub fn configuration() -> ConfigurationRecord {
    let node = |name: &str, port: u16| NodeConfiguration::new(name, format!("127.0.0.1:{port}"));
    let nodes = [(N0, node("n0", 7001)), (N1, node("n1", 7002))].into();
    ConfigurationRecord { cluster: "alpha".to_owned(), nodes, ..ConfigurationRecord::default() }
}

pub fn blocks_needed(nodes_max: u16, services_max: u32) -> u64 {
    Layout::new(nodes_max, services_max).unwrap().blocks_needed()
}

/// Waits until nobody holds the lock of a file that this process has closed: a child that another test is just starting has it
/// between fork and exec.
pub fn released(path: &std::path::Path) {
    while phalanx_storage::opening::is_in_use(path).unwrap() {
        std::thread::yield_now();
    }
}

/// A formatted disk in memory for that many nodes.
pub fn formatted(nodes_max: u16) -> MemoryDisk {
    let disk = MemoryDisk::new(blocks_needed(nodes_max, 4));
    format(&disk, &superblock(nodes_max, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    disk
}

pub fn open(disk: &MemoryDisk) -> ClusterDisk {
    ClusterDisk::open(Arc::new(disk.clone())).unwrap()
}

/// One write as it was asked for.
pub type Write = (BlockIndex, Vec<Block>);

/// A path to the disk that is recorded.
pub fn recorded(disk: &MemoryDisk) -> (ClusterDisk, Recorder) {
    let recorder = Recorder::default();
    let path = RecordingDisk::around(Arc::new(disk.clone()), 0, recorder.clone());
    (ClusterDisk::open(Arc::new(path)).unwrap(), recorder)
}

/// The writes so far.
pub fn writes(recorder: &Recorder) -> Vec<Write> {
    let write = |operation| match operation {
        Operation::Write { first, blocks, .. } => Some((first, blocks)),
        Operation::Read { .. } | Operation::Flush | Operation::Tick => None,
    };
    recorder.operations().into_iter().filter_map(write).collect()
}

/// Replays recorded writes sector by sector *while* it is read: before each sector of a read, the schedule says how many
/// sectors the writer puts down.
#[derive(Clone)]
pub struct SteppedDisk {
    pub disk: MemoryDisk,
    state: Arc<Mutex<Stepped>>,
}

struct Stepped {
    writes: Vec<Write>,
    /// Sectors put down so far, over all writes.
    done: usize,
    /// In which order the sectors of a write land: multiplied by this, modulo their number.
    stride: usize,
    schedule: std::vec::IntoIter<u8>,
}

impl SteppedDisk {
    /// The disk as it was before `writes`. `stride` is odd, so that every sector lands once.
    pub fn new(before: Vec<Block>, writes: Vec<Write>, stride: usize) -> Self {
        assert_eq!(stride % 2, 1);
        let disk = MemoryDisk::new(before.len() as u64);
        disk.restore(before);
        let state = Stepped { writes, done: 0, stride, schedule: Vec::new().into_iter() };
        Self { disk, state: Arc::new(Mutex::new(state)) }
    }

    /// Lets the writer move from now on.
    pub fn follow(&self, schedule: Vec<u8>) {
        self.state.lock().unwrap().schedule = schedule.into_iter();
    }

    /// Writes that have completed, and writes that have begun.
    pub fn progress(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        let (mut completed, mut begun, mut left) = (0, 0, state.done);
        for (_, blocks) in &state.writes {
            let sectors = sectors(blocks);
            completed += usize::from(left >= sectors);
            begun += usize::from(left > 0);
            left = left.saturating_sub(sectors);
        }
        (completed, begun)
    }
}

impl Stepped {
    fn step(&mut self, disk: &MemoryDisk) {
        let mut sector = self.done;
        for (first, blocks) in &self.writes {
            let count = sectors(blocks);
            if sector >= count {
                sector -= count;
                continue;
            }
            self.done += 1;
            let lands = sector * self.stride % count; // count is a power of two times small: see `sectors`
            let (block, at) = (lands * SECTOR_BYTES / 4096, lands * SECTOR_BYTES % 4096);
            return disk.with_block(first.plus(block as u64), |bytes| {
                bytes[at..at + SECTOR_BYTES].copy_from_slice(&blocks[block].0[at..at + SECTOR_BYTES]);
            });
        }
    }
}

/// Sectors of a write; the tests use records of one, two or four blocks, so an odd stride reaches each of them.
fn sectors(blocks: &[Block]) -> usize {
    assert!(blocks.len().is_power_of_two());
    blocks.len() * 4096 / SECTOR_BYTES
}

impl SharedDisk for SteppedDisk {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        for (address, block) in (0..).map(|index| first.plus(index)).zip(blocks) {
            for at in (0..4096).step_by(SECTOR_BYTES) {
                for _ in 0..state.schedule.next().unwrap_or(0) {
                    state.step(&self.disk);
                }
                let sector = |bytes: &mut [u8; 4096]| {
                    block.0[at..at + SECTOR_BYTES].copy_from_slice(&bytes[at..at + SECTOR_BYTES])
                };
                self.disk.with_block(address, sector);
            }
        }
        Ok(())
    }

    fn write_blocks(&self, _: BlockIndex, _: &[Block], _: Durability) -> io::Result<()> {
        Err(io::Error::other("only the recorded writes happen here"))
    }
}
