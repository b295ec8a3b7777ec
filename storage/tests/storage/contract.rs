//! What every disk promises (protocol §1.2), and what an mmap disk promises beside it (protocol §1.3).

use std::fs::OpenOptions;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{N0, N1, blocks_needed, configuration, released, superblock};
use phalanx_messages::Incarnation;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_storage::{
    Block, BlockIndex, ClusterDisk, Durability, MemoryDisk, MmapDisk, SharedDisk, StorageError, format,
};

/// The contract. `one` and `other` are two ways to one disk of at least 8 blocks, all zero.
pub fn contract(one: &dyn SharedDisk, other: &dyn SharedDisk) {
    let count = one.geometry().block_count;
    assert_eq!(one.geometry(), other.geometry());
    assert!(read(one, 0, count).iter().all(Block::is_blank));

    let blocks = [pattern(1), pattern(2), pattern(3)];
    one.write_blocks(BlockIndex(2), &blocks, Durability::Volatile).unwrap();
    assert_eq!(read(other, 2, 3), blocks, "what has completed is seen by everybody");
    assert!(read(other, 1, 1)[0].is_blank() && read(other, 5, 1)[0].is_blank(), "and nothing else has changed");

    other.write_blocks(BlockIndex(3), &[pattern(4)], Durability::Durable).unwrap();
    assert_eq!(read(one, 2, 3), [pattern(1), pattern(4), pattern(3)]);

    one.write_blocks(BlockIndex(count - 1), &[pattern(5)], Durability::Durable).unwrap();
    assert_eq!(read(other, count - 1, 1), [pattern(5)]);
    one.flush().unwrap();

    for (first, blocks) in [(count - 1, 2), (count, 1), (u64::MAX, 2)] {
        let mut buffer = Block::zeroes(blocks);
        let read = one.read_blocks(BlockIndex(first), &mut buffer).unwrap_err();
        let write = one.write_blocks(BlockIndex(first), &buffer, Durability::Volatile).unwrap_err();
        assert_eq!((read.kind(), write.kind()), (io::ErrorKind::InvalidInput, io::ErrorKind::InvalidInput));
    }
    assert_eq!(read(other, count - 1, 1), [pattern(5)], "a refused write has done nothing");
    one.read_blocks(BlockIndex(count), &mut []).unwrap();
    one.write_blocks(BlockIndex(count), &[], Durability::Durable).unwrap();
}

pub fn pattern(seed: u8) -> Block {
    let mut block = Block::default();
    block.0.iter_mut().zip(0_u8..=250).for_each(|(byte, index)| *byte = seed.wrapping_mul(31).wrapping_add(index));
    block.0[4095] = seed;
    block
}

pub fn read(disk: &dyn SharedDisk, first: u64, count: u64) -> Vec<Block> {
    let mut blocks = Block::zeroes(usize::try_from(count).unwrap());
    disk.read_blocks(BlockIndex(first), &mut blocks).unwrap();
    blocks
}

#[test]
fn a_disk_in_memory_keeps_the_contract() {
    let disk = MemoryDisk::new(9);
    contract(&disk, &disk.clone());
}

#[test]
fn an_mmap_disk_keeps_the_contract_between_two_mappings() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let one = MmapDisk::create(&path, 9).unwrap();
    one.share().unwrap();
    contract(&one, &MmapDisk::open(&path).unwrap());
}

#[test]
fn an_mmap_disk_is_there_after_it_was_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    MmapDisk::create(&path, 9).unwrap().write_blocks(BlockIndex(4), &[pattern(7)], Durability::Durable).unwrap();
    released(&path);
    assert_eq!(read(&MmapDisk::open(&path).unwrap(), 4, 1), [pattern(7)]);
    assert_eq!(read(&MmapDisk::open_read_only(&path).unwrap(), 4, 1), [pattern(7)]);
    let content = std::fs::read(&path).unwrap();
    assert_eq!(content[4 * 4096..5 * 4096], pattern(7).0, "the file is the disk, block by block");
    released(&path);
    drop(MmapDisk::create(&path, 9).unwrap());
    released(&path);
    assert!(read(&MmapDisk::open(&path).unwrap(), 4, 1)[0].is_blank(), "created anew: nothing is left");
}

#[test]
fn a_formatter_and_a_user_keep_each_other_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let formatter = MmapDisk::create(&path, 9).unwrap();
    let refused = MmapDisk::open(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(refused.to_string().contains("locked as in use"), "{refused}");
    formatter.share().unwrap();
    let (node, another) = (MmapDisk::open(&path).unwrap(), MmapDisk::open_read_only(&path).unwrap());
    drop(formatter);
    node.write_blocks(BlockIndex(0), &[pattern(1)], Durability::Volatile).unwrap();
    assert_eq!(MmapDisk::create(&path, 9).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(read(&another, 0, 1), [pattern(1)], "a refused formatter has changed nothing");
}

#[test]
fn a_disk_opened_to_be_read_refuses_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    drop(MmapDisk::create(&path, 9).unwrap());
    released(&path);
    let disk = MmapDisk::open_read_only(&path).unwrap();
    let refused = disk.write_blocks(BlockIndex(0), &[pattern(1)], Durability::Volatile).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    disk.flush().unwrap();
}

#[test]
fn a_file_that_is_no_disk_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    assert_eq!(MmapDisk::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    for bytes in [0, 4095, 4097] {
        std::fs::write(&path, vec![0; bytes]).unwrap();
        let refused = MmapDisk::open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{bytes}");
        assert!(refused.to_string().contains(&format!("has {bytes} bytes")), "{refused}");
    }
    assert_eq!(MmapDisk::create(&path, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(MmapDisk::create(&path, u64::MAX / 8).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_created_disk_is_fully_allocated_and_a_sparse_copy_is_filled_when_opened() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    drop(MmapDisk::create(&path, 64).unwrap());
    let allocated = |path| std::fs::metadata(path).unwrap().blocks() * 512;
    assert!(allocated(&path) >= 64 * 4096);

    let sparse = directory.path().join("sparse");
    OpenOptions::new().write(true).create_new(true).open(&sparse).unwrap().set_len(64 * 4096).unwrap();
    assert!(allocated(&sparse) < 64 * 4096);
    drop(MmapDisk::open(&sparse).unwrap());
    assert!(allocated(&sparse) >= 64 * 4096);
}

#[test]
fn a_shortened_disk_is_refused_when_the_cluster_opens_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let blocks = blocks_needed(2, 4);
    let disk = MmapDisk::create(&path, blocks).unwrap();
    format(&disk, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    drop(disk);
    released(&path);
    OpenOptions::new().write(true).open(&path).unwrap().set_len((blocks - 3) * 4096).unwrap();
    let refused = ClusterDisk::open(Arc::new(MmapDisk::open(&path).unwrap())).unwrap_err();
    assert!(
        matches!(refused, StorageError::Truncated { found, formatted } if (found, formatted) == (blocks - 3, blocks)),
        "{refused}"
    );
}

/// Protocol D3 on two mappings: a writer thread and a reader thread, as fast as they can.
#[test]
fn a_reader_beside_a_writer_never_sees_less_than_what_was_completed() {
    const WRITES: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let created = MmapDisk::create(&path, blocks_needed(2, 4)).unwrap();
    format(&created, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    created.share().unwrap();
    let mapping = || ClusterDisk::open(Arc::new(MmapDisk::open(&path).unwrap())).unwrap();
    let (writing, reading) = (mapping(), mapping());
    let completed = AtomicU64::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut writer = writing.registers().writer(N1, Incarnation(1)).unwrap();
            for heartbeat in 1..=WRITES {
                writer.write(&NodeRegister { heartbeat, ..NodeRegister::default() }, Durability::Volatile).unwrap();
                completed.store(heartbeat, Ordering::SeqCst);
            }
        });
        let mut settled = 0_u64;
        loop {
            let before = completed.load(Ordering::SeqCst);
            let registers = reading.registers().read_all().unwrap();
            // An unreadable pair is no value at all; at this speed it may happen, at the speed of heartbeats it does not.
            if let Some(register) = &registers[&N1] {
                assert!(register.heartbeat >= before, "{} after {before} had completed", register.heartbeat);
                settled += 1;
            }
            assert_eq!(registers[&N0], Some(NodeRegister::default()));
            if before == WRITES {
                break;
            }
        }
        assert!(settled > 0);
    });
    assert_eq!(reading.registers().read(N1).unwrap().unwrap().heartbeat, WRITES);
}

/// The same between two processes: this test starts itself once more as the writer.
#[test]
fn what_another_process_writes_is_seen() {
    const PATH_VARIABLE: &str = "PHALANX_STORAGE_TEST_DISK";
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        let disk = ClusterDisk::open(Arc::new(MmapDisk::open(path.as_ref()).unwrap())).unwrap();
        let register = NodeRegister { heartbeat: 77, ..NodeRegister::default() };
        disk.registers().writer(N1, Incarnation(1)).unwrap().write(&register, Durability::Volatile).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let created = MmapDisk::create(&path, blocks_needed(2, 4)).unwrap();
    format(&created, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    created.share().unwrap();
    let disk = ClusterDisk::open(Arc::new(created)).unwrap();
    assert_eq!(disk.registers().read(N1).unwrap().unwrap().heartbeat, 0);
    let other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "contract::what_another_process_writes_is_seen"])
        .env(PATH_VARIABLE, &path)
        .output()
        .unwrap();
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
    assert_eq!(disk.registers().read(N1).unwrap().unwrap().heartbeat, 77);
}
