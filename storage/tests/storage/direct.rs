//! A disk for direct I/O keeps what every disk promises, on a file and on a real block device (protocol §1.2, §1.4).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phalanx_messages::Incarnation;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_storage::opening::{self, OpenError};
use phalanx_storage::{
    Access, BLOCK_BYTES, Backend, Block, BlockIndex, ClusterDisk, DirectDisk, Durability, MmapDisk, Occupant,
    Reservation, SharedDisk, format,
};

use crate::common::{N1, blocks_needed, configuration, released, superblock};
use crate::contract::{contract, pattern, read};
use crate::loop_device::LoopDevice;
use crate::requirement::{Requirement, available};

/// A device as large as that many blocks, if this machine can have one.
fn device(blocks: u64, sector_bytes: u32) -> Option<LoopDevice> {
    let possible = available(&[Requirement::Root, Requirement::Mount, Requirement::Loop]);
    possible.then(|| LoopDevice::new(blocks * BLOCK_BYTES as u64, sector_bytes))
}

fn made(path: &Path, blocks: u64) {
    drop(Reservation::take(path).unwrap().allocate_direct(blocks).unwrap());
    released(path);
}

fn formatted(path: &Path) {
    let mut reservation = Reservation::take(path).unwrap();
    let disk = reservation.allocate_direct(blocks_needed(2, 4)).unwrap();
    format(&disk, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    drop((reservation, disk));
    released(path);
}

#[test]
fn a_direct_disk_on_a_file_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    made(&path, 9);
    contract(&DirectDisk::open(&path).unwrap(), &DirectDisk::open(&path).unwrap());
    let content = std::fs::read(&path).unwrap();
    assert_eq!(content[3 * 4096..4 * 4096], pattern(4).0, "the file is the disk, block by block");
}

#[test]
fn a_direct_disk_on_a_block_device_keeps_the_contract_with_sectors_of_any_size() {
    for sector_bytes in [512, 4096] {
        let Some(device) = device(9, sector_bytes) else { return };
        made(device.path(), 9);
        contract(&DirectDisk::open(device.path()).unwrap(), &DirectDisk::open(device.path()).unwrap());
    }
}

/// More blocks than the system takes in one call.
#[test]
fn a_long_read_or_write_is_moved_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    made(&path, 2_500);
    let disk = DirectDisk::open(&path).unwrap();
    let blocks: Vec<Block> = (0..2_400_u32).map(|index| pattern(u8::try_from(index % 251).unwrap())).collect();
    disk.write_blocks(BlockIndex(7), &blocks, Durability::Durable).unwrap();
    assert!(read(&disk, 7, 2_400) == blocks && read(&disk, 6, 1)[0].is_blank() && read(&disk, 2_407, 1)[0].is_blank());
}

#[test]
fn every_write_is_durable_and_nothing_is_promised_of_late_ones() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    made(&path, 9);
    let capabilities = DirectDisk::open(&path).unwrap().geometry().capabilities;
    assert!(capabilities.durable_on_complete && capabilities.several_hosts && capabilities.may_hang);
    assert!(!capabilities.late_writes_impossible && !capabilities.storage_fence);
}

#[test]
fn a_formatter_and_a_user_of_a_direct_disk_keep_each_other_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let device = device(9, 512);
    for path in device.iter().map(LoopDevice::path).chain([path.as_path()]) {
        let mut reservation = Reservation::take(path).unwrap();
        let disk = reservation.allocate_direct(9).unwrap();
        assert_eq!(DirectDisk::open(path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        disk.write_blocks(BlockIndex(3), &[pattern(1)], Durability::Durable).unwrap();
        drop((reservation, disk));
        released(path);
        let node = DirectDisk::open(path).unwrap();
        assert_eq!(Reservation::take(path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(read(&node, 3, 1), [pattern(1)]);
    }
}

#[test]
fn a_direct_disk_opened_to_be_read_refuses_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    made(&path, 9);
    let disk = DirectDisk::open_read_only(&path).unwrap();
    let refused = disk.write_blocks(BlockIndex(0), &[pattern(1)], Durability::Durable).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_device_that_is_too_small_keeps_what_it_holds() {
    let Some(device) = device(9, 512) else { return };
    made(device.path(), 9);
    DirectDisk::open(device.path()).unwrap().write_blocks(BlockIndex(0), &[pattern(1)], Durability::Durable).unwrap();
    released(device.path());
    let refused = Reservation::take(device.path()).unwrap().allocate_direct(10).unwrap_err();
    released(device.path());
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert!(refused.to_string().ends_with("needs 40960 bytes; the device has 36864"), "{refused}");
    assert_eq!(read(&DirectDisk::open(device.path()).unwrap(), 0, 1), [pattern(1)]);
    released(device.path());
    assert_eq!(Reservation::take(device.path()).unwrap().allocate(9).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// What was formatted for direct I/O is opened so by whoever asks, and says so; a device uses its whole length.
#[test]
fn a_disk_is_opened_as_it_was_formatted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("direct");
    let device = device(blocks_needed(2, 4) + 100, 512);
    for path in device.iter().map(LoopDevice::path).chain([path.as_path()]) {
        assert!(!matches!(Occupant::at(path).unwrap(), Occupant::Phalanx { .. }));
        formatted(path);
        let disk = opening::open(path, Access::ReadOnly).unwrap();
        assert_eq!((disk.backend(), Backend::of(path).unwrap()), (Backend::Direct, Backend::Direct));
        assert!(disk.geometry().capabilities.several_hosts);
        assert!(matches!(Occupant::at(path).unwrap(), Occupant::Phalanx { .. }));
    }
    let path = directory.path().join("mapped");
    let mapped = MmapDisk::create(&path, blocks_needed(2, 4)).unwrap();
    format(&mapped, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    mapped.share().unwrap();
    let disk = opening::open(&path, Access::ReadWrite).unwrap();
    assert_eq!((disk.backend(), disk.geometry().capabilities.several_hosts), (Backend::Mmap, false));
}

#[test]
fn a_device_that_holds_nothing_of_ours_says_what_it_holds() {
    let Some(device) = device(64, 512) else { return };
    let open = || opening::open(device.path(), Access::ReadOnly).unwrap_err();
    assert!(matches!(open(), OpenError::Blank { bytes: 262_144, .. }), "{}", open());
    std::fs::write(device.path(), "notes\n").unwrap();
    File::open(device.path()).unwrap().sync_all().unwrap();
    assert!(matches!(open(), OpenError::Foreign { .. }), "{}", open());
}

/// Formatting again leaves no superblock of the disk before, wherever its last copy was.
#[test]
fn no_superblock_of_a_device_outlives_its_formatting() {
    let Some(device) = device(blocks_needed(2, 4) + 100, 512) else { return };
    formatted(device.path());
    made(device.path(), 9);
    assert!(matches!(Occupant::at(device.path()).unwrap(), Occupant::Headless { .. }));
}

/// Protocol D3 on two openings of one device: a writer thread and a reader thread, as fast as they can.
#[test]
fn a_reader_beside_a_writer_of_a_direct_disk_never_sees_less_than_what_was_completed() {
    const WRITES: u64 = 300;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let device = device(blocks_needed(2, 4), 512);
    for path in device.iter().map(LoopDevice::path).chain([path.as_path()]) {
        formatted(path);
        let opened = || ClusterDisk::open(Arc::new(DirectDisk::open(path).unwrap())).unwrap();
        let (writing, reading, completed) = (opened(), opened(), AtomicU64::new(0));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut writer = writing.registers().writer(N1, Incarnation(1)).unwrap();
                for heartbeat in 1..=WRITES {
                    writer.write(&NodeRegister { heartbeat, ..NodeRegister::default() }, Durability::Volatile).unwrap();
                    completed.store(heartbeat, Ordering::SeqCst);
                }
            });
            loop {
                let before = completed.load(Ordering::SeqCst);
                if let Some(register) = reading.registers().read(N1).unwrap() {
                    assert!(register.heartbeat >= before, "{} after {before} had completed", register.heartbeat);
                }
                if before == WRITES {
                    break;
                }
            }
        });
    }
}

#[test]
fn a_file_that_was_cut_is_found_out_without_touching_it() {
    let directory = tempfile::tempdir().unwrap();
    let (direct, mapped) = (directory.path().join("direct"), directory.path().join("mapped"));
    made(&direct, 9);
    drop(MmapDisk::create(&mapped, 9).unwrap());
    released(&mapped);
    let disks: [(&Path, Box<dyn SharedDisk>); 2] = [
        (&direct, Box::new(DirectDisk::open(&direct).unwrap())),
        (&mapped, Box::new(MmapDisk::open(&mapped).unwrap())),
    ];
    for (path, disk) in disks {
        disk.verify(BlockIndex(0), 9).unwrap();
        OpenOptions::new().write(true).open(path).unwrap().set_len(5 * 4096 + 7).unwrap();
        disk.verify(BlockIndex(3), 2).unwrap();
        let lost = disk.verify(BlockIndex(4), 2).unwrap_err();
        assert_eq!(lost.kind(), io::ErrorKind::UnexpectedEof);
        assert!(lost.to_string().ends_with("was cut under a running node: 5 blocks are left of it"), "{lost}");
    }
}
