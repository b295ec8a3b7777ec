//! What is decoded from the shared disk: one block, or the blocks of one record, by the readers that nodes use.
//!
//! An input is the blocks of one slot without the zeroes at their end. Half of the mutations get a right checksum, so that what lies behind
//! it is reached.

use std::sync::{Arc, LazyLock};

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{Incarnation, NodeId, codec};
use phalanx_storage::header::{self, Header, RecordType};
use phalanx_storage::{
    Area, AreaRecord, BLOCK_BYTES, Block, BlockIndex, ClusterDisk, Durability, MemoryDisk, SharedDisk,
};
use serde::de::DeserializeOwned;

use super::corpus;
use super::targets::{Target, again};

/// Superblock, registers and records.
pub const DISK_TARGETS: [Target; 7] = [
    Target { name: "superblock", run: superblock, mend: with_checksum },
    Target { name: "node-register", run: record::<NodeRegister>, mend: with_checksum },
    Target { name: "membership-record", run: record::<MembershipRecord>, mend: with_checksum },
    Target { name: "configuration-record", run: record::<ConfigurationRecord>, mend: with_checksum },
    Target { name: "decision-register", run: record::<DecisionRegister>, mend: with_checksum },
    Target { name: "registration-record", run: record::<RegistrationRecord>, mend: with_checksum },
    Target { name: "registration-redo", run: redo, mend: with_checksum },
];

/// A record with a place on the disk.
pub trait Placed: AreaRecord + DeserializeOwned + PartialEq + std::fmt::Debug {
    /// Where.
    fn area(disk: &ClusterDisk) -> &Area<Self>;
}

macro_rules! placed {
    ($($record:ty => $area:ident),*) => { $(
        impl Placed for $record {
            fn area(disk: &ClusterDisk) -> &Area<Self> {
                disk.$area()
            }
        }
    )* };
}
placed!(
    NodeRegister => registers,
    MembershipRecord => memberships,
    ConfigurationRecord => configurations,
    DecisionRegister => decisions,
    RegistrationRecord => registrations
);

/// The node whose slot 0 the input is. Its slot 1 is blank.
pub(super) const NODE: NodeId = NodeId(1);

static OPENED: LazyLock<ClusterDisk> = LazyLock::new(|| open(&corpus::formatted_disk()));
static WITH_BASE: LazyLock<Vec<Block>> = LazyLock::new(|| corpus::disk_with_log(false).snapshot());
static FORMATTED: LazyLock<Vec<Block>> = LazyLock::new(|| corpus::formatted_disk().snapshot());

/// The input as blocks.
fn blocks_of(bytes: &[u8], count_max: usize) -> Vec<Block> {
    let mut blocks = Block::zeroes(bytes.len().div_ceil(BLOCK_BYTES).clamp(1, count_max));
    for (block, chunk) in blocks.iter_mut().zip(bytes.chunks(BLOCK_BYTES)) {
        block.0[..chunk.len()].copy_from_slice(chunk);
    }
    blocks
}

fn with_blocks(first: BlockIndex, blocks: &[Block], blank: Option<(BlockIndex, usize)>) -> MemoryDisk {
    let disk = MemoryDisk::new(0);
    disk.restore(FORMATTED.clone());
    if let Some((first, count)) = blank {
        disk.write_blocks(first, &Block::zeroes(count), Durability::Volatile).expect("it is on the disk");
    }
    disk.write_blocks(first, blocks, Durability::Volatile).expect("it is on the disk");
    disk
}

fn record<T: Placed>(bytes: &[u8]) -> bool {
    let region = T::area(&OPENED).region();
    let count = usize::from(region.slot_blocks);
    let (first, blocks) = (region.slot(NODE, 0), blocks_of(bytes, count));
    let disk = open(&with_blocks(first, &blocks, Some((region.slot(NODE, 1), count))));
    let area = T::area(&disk);
    let [slot, _] = area.inspect(NODE).expect("memory is readable");
    // A pair that is torn is looked at again and again: only now and then.
    if slot.is_err() && !bytes.len().is_multiple_of(16) {
        return false;
    }
    let found = area.read(NODE).expect("memory is readable");
    assert_eq!(area.read_all().expect("memory is readable").remove(&NODE).flatten(), found);
    let readable = area.unreadable(NODE).expect("memory is readable").is_none();
    drop(area.newest());
    let Some(found) = found else { return false };
    assert!(readable);
    let header = believed(&blocks, first, disk.superblock().cluster);
    assert_eq!((header.owner, header.slot, header.record_type), (NODE, 0, T::RECORD_TYPE as u16));
    again(&found);
    drop(area.find(found.revision()).expect("memory is readable"));
    drop(area.writer(NODE, Incarnation(u64::MAX)));
    true
}

/// Whatever was believed is a block with a right checksum of this cluster in its place.
fn believed(blocks: &[Block], first: BlockIndex, cluster: uuid::Uuid) -> Header {
    let header = header::unseal(&blocks[0], first).expect("it was believed");
    assert_eq!((header.cluster, header.address), (cluster, first));
    for (at, block) in blocks.iter().enumerate().take(usize::from(header.parts)) {
        let part = header::unseal(block, first.plus(at as u64)).expect("a part of what was believed");
        assert_eq!((part.cluster, usize::from(part.part), part.write), (cluster, at, header.write));
    }
    header
}

/// The log of a slot that holds [`corpus::registration`]. True if something of it was applied.
fn redo(bytes: &[u8]) -> bool {
    let log = OPENED.layout().region(RecordType::RegistrationRedo).expect("every disk has one");
    let slot_blocks = usize::from(log.slot_blocks);
    let disk = MemoryDisk::new(0);
    disk.restore(WITH_BASE.clone());
    let mut blocks = blocks_of(bytes, slot_blocks);
    blocks.resize(slot_blocks, Block::default());
    disk.write_blocks(log.slot(NODE, 0), &blocks, Durability::Volatile).expect("it is on the disk");
    let disk = open(&disk);
    let area = disk.registrations();
    drop(area.inspect(NODE).expect("memory is readable"));
    let Some(found) = area.read(NODE).expect("memory is readable") else { return false };
    assert_eq!(area.read(NODE).expect("memory is readable").as_ref(), Some(&found), "going on where it was");
    drop(area.newest());
    drop(area.writer(NODE, Incarnation(u64::MAX)));
    again(&found);
    if found.revision == corpus::registration().revision {
        return false;
    }
    let header = header::unseal(&blocks[0], log.slot(NODE, 0)).expect("it was believed");
    assert_eq!((header.owner, header.slot, header.record_type), (NODE, 0, RecordType::RegistrationRedo as u16));
    true
}

fn open(disk: &MemoryDisk) -> ClusterDisk {
    ClusterDisk::open(Arc::new(disk.clone())).expect("its superblocks are whole")
}

/// The only copy of it.
fn superblock(bytes: &[u8]) -> bool {
    let blocks = blocks_of(bytes, 1);
    let disk = with_blocks(BlockIndex(0), &blocks, Some((BlockIndex(1), 1)));
    let last = BlockIndex(FORMATTED.len() as u64 - 1);
    disk.write_blocks(last, &Block::zeroes(1), Durability::Volatile).expect("it is on the disk");
    let Ok(opened) = ClusterDisk::open(Arc::new(disk)) else { return false };
    let header = header::unseal(&blocks[0], BlockIndex(0)).expect("it was believed");
    let superblock = opened.superblock();
    assert_eq!(superblock.profile.check(), Ok(()));
    assert!(opened.formatted_blocks() <= FORMATTED.len() as u64);
    let payload = header::payload(&blocks[0], &header);
    again(&codec::decode_prefix::<phalanx_storage::Superblock>(payload, payload.len()).expect("it was believed"));
    true
}

/// Every other input gets a right checksum in each block, by whether its length is odd.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() % 2 == 1 || bytes.len() < header::HEADER_BYTES {
        return bytes;
    }
    let count = bytes.len().div_ceil(BLOCK_BYTES);
    let blocks = blocks_of(&bytes, count);
    bytes.resize(count * BLOCK_BYTES, 0);
    for (chunk, mut block) in bytes.chunks_exact_mut(BLOCK_BYTES).zip(blocks) {
        header::reseal(&mut block);
        chunk.copy_from_slice(&block.0);
    }
    bytes
}
