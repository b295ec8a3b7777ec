//! Rows of the fault table (protocol §8.5, docs/faults.md) that the disk alone shows.

use std::io;
use std::sync::Arc;

use phalanx_messages::membership::{MemberEntry, MembershipRecord};
use phalanx_messages::register::NodeRegister;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use phalanx_storage::faults::PIECE_BYTES;
use phalanx_storage::header::{MAJOR, MINOR};
use phalanx_storage::{
    BLOCK_BYTES, BlockFault, BlockIndex, ClusterDisk, Durability, Fault, FaultyDisk, MemoryDisk, NewerProgram,
    StorageError, Target, format,
};

use crate::common::{N0, N1, blocks_needed, configuration, formatted, open, superblock};

const INC: Incarnation = Incarnation(1);

fn faulty() -> (FaultyDisk, ClusterDisk) {
    let faulty = FaultyDisk::around(Arc::new(formatted(2)));
    let disk = ClusterDisk::open(Arc::new(faulty.clone())).unwrap();
    (faulty, disk)
}

fn register(heartbeat: u64) -> NodeRegister {
    // Reaches into the last piece of its block.
    let pills = vec![phalanx_messages::register::Pill { target: N0, incarnation: INC, term: Term(heartbeat) }; 64];
    let fence = phalanx_messages::register::FenceHandle {
        id_lock: format!("{heartbeat:>2}").repeat(1_290),
        ..phalanx_messages::register::FenceHandle::default()
    };
    NodeRegister { incarnation: INC, heartbeat, pills, fence, ..NodeRegister::default() }
}

/// Two blocks, into the last piece.
fn membership(term: u64, seq: u64) -> MembershipRecord {
    let entry = MemberEntry { reason: format!("{seq:>2}").repeat(3_700), ..MemberEntry::default() };
    let revision = Revision { term: Term(term), seq };
    MembershipRecord { revision, nodes: [(N0, entry)].into(), ..MembershipRecord::default() }
}

/// Which pieces of a write that was interrupted have landed: none, each first and each last part, every second one, all.
fn tears(pieces: usize) -> Vec<Vec<bool>> {
    let first = (0..=pieces).map(|landed| (0..pieces).map(|piece| piece < landed).collect());
    let last = (0..=pieces).map(|lost| (0..pieces).map(|piece| piece >= lost).collect());
    let second = (0..2).map(|odd| (0..pieces).map(|piece| piece % 2 == odd).collect());
    first.chain(last).chain(second).collect()
}

/// Row 26: "torn NB slot: other slot used; no false expiry": a reader never sees less than what was completed, whatever of the next
/// heartbeat has landed, and the one after it is seen again.
#[test]
fn fault_26_a_torn_register_slot_costs_nothing_that_was_completed() {
    for pieces in tears(BLOCK_BYTES / PIECE_BYTES) {
        let whole = pieces.iter().all(|landed| *landed);
        let (faulty, disk) = faulty();
        let mut writer = disk.registers().writer(N1, INC).unwrap();
        for completed in 0..4 {
            let read = || disk.registers().read_all().unwrap().remove(&N1).flatten().map(|register| register.heartbeat);
            faulty.inject(Fault::Torn(Target::WRITES, pieces.clone()));
            writer.write(&register(2 * completed + 1), Durability::Volatile).unwrap_err();
            let before = if whole { 2 * completed + 1 } else { 2 * completed };
            assert_eq!(read(), Some(before), "{pieces:?}");
            writer.write(&register(2 * completed + 2), Durability::Volatile).unwrap();
            assert_eq!(read(), Some(2 * completed + 2), "{pieces:?}");
        }
    }
}

/// Row 29: "torn MA slot at crash: older slot; chain holds": the next master, on another node, loads what was committed last and goes
/// on from there; the node that crashed goes on as well, and nothing that was committed is lost.
#[test]
fn fault_29_a_torn_membership_slot_leaves_the_chain_as_it_was_committed() {
    for pieces in tears(2 * BLOCK_BYTES / PIECE_BYTES) {
        let whole = pieces.iter().all(|landed| *landed);
        let (faulty, disk) = faulty();
        let newest = || disk.memberships().newest().unwrap().unwrap();
        let mut master = disk.memberships().writer(N0, INC).unwrap();
        for seq in 0..3 {
            master.write(&membership(1, seq), Durability::Volatile).unwrap();
        }
        faulty.inject(Fault::Torn(Target::WRITES, pieces.clone()));
        master.write(&membership(1, 3), Durability::Volatile).unwrap_err();
        let loaded = newest();
        assert_eq!(loaded, membership(1, if whole { 3 } else { 2 }), "{pieces:?}");
        let mut next = disk.memberships().writer(N1, INC).unwrap();
        next.write(&membership(2, loaded.revision.seq), Durability::Volatile).unwrap();
        assert_eq!(newest().revision.term, Term(2));
        let mut again = disk.memberships().writer(N0, Incarnation(2)).unwrap();
        again.write(&membership(3, 0), Durability::Volatile).unwrap();
        assert_eq!(newest(), membership(3, 0), "{pieces:?}");
        assert_eq!(disk.memberships().find(membership(2, loaded.revision.seq).revision).unwrap().map(|_| ()), Some(()));
    }
}

/// Row 30: "misdirected write: lba check fails; slot counts as torn", wherever it lands: in the register of another node, in the
/// other slot, in another area.
#[test]
fn fault_30_a_misdirected_write_is_no_value_of_the_slot_it_hits() {
    let (_, disk) = faulty();
    let (registers, decisions) = (disk.registers().region(), disk.decisions().region());
    for to in [registers.slot(N1, 0), registers.slot(N1, 1), decisions.slot(N1, 0), decisions.slot(N0, 1)] {
        let (faulty, disk) = self::faulty();
        let mut writer = disk.registers().writer(N0, INC).unwrap();
        let mut victim = disk.registers().writer(N1, INC).unwrap();
        for heartbeat in 1..=2 {
            writer.write(&register(heartbeat), Durability::Volatile).unwrap();
            victim.write(&register(10 + heartbeat), Durability::Volatile).unwrap();
        }
        faulty.inject(Fault::Misdirected(Target::WRITES, to));
        writer.write(&register(3), Durability::Volatile).unwrap();
        let (node, slot) = if to.0 >= decisions.first.0 {
            let found = disk.decisions().inspect(if to == decisions.slot(N1, 0) { N1 } else { N0 }).unwrap();
            assert!(found.iter().any(|slot| matches!(slot, Err(BlockFault::Address { .. }))), "{found:?}");
            (N1, None)
        } else {
            (N1, Some(usize::from(to == registers.slot(N1, 1))))
        };
        if let Some(slot) = slot {
            let found = &disk.registers().inspect(node).unwrap()[slot];
            assert!(matches!(found, Err(BlockFault::Address { .. })), "{found:?}");
        }
        let read = disk.registers().read_all().unwrap();
        let heartbeat = |node: NodeId| read[&node].as_ref().map(|register| register.heartbeat).unwrap();
        assert!(heartbeat(N1) >= 11, "one of its own values, at worst the one before");
        assert_eq!(heartbeat(N0), 2, "its own register does not say what was reported as written");
        victim.write(&register(13), Durability::Volatile).unwrap();
        victim.write(&register(14), Durability::Volatile).unwrap();
        assert!(disk.registers().inspect(N1).unwrap().iter().all(Result::is_ok), "healed by its next two writes");
    }
}

/// Row 60: "rolling upgrade with unknown minor: works; unknown major refused": a node of the next minor version formats the disk, and
/// both write it and read each other.
#[test]
fn fault_60_programs_of_two_minor_versions_share_a_disk_and_another_major_is_refused() {
    let memory = MemoryDisk::new(blocks_needed(2, 4));
    let newer = Arc::new(NewerProgram::around(Arc::new(memory.clone())));
    format(&*newer, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
    let (newer, older) = (ClusterDisk::open(newer).unwrap(), open(&memory));
    assert_eq!(older.superblock(), &superblock(2, 4));
    let minor = |node| older.registers().inspect(node).unwrap().map(|slot| slot.unwrap().header.minor);
    assert_eq!(minor(N0), [MINOR + 1; 2]);
    let mut writers = [(&newer, N0), (&older, N1)].map(|(disk, node)| disk.registers().writer(node, INC).unwrap());
    let mut masters = [(&newer, N0), (&older, N1)].map(|(disk, node)| disk.memberships().writer(node, INC).unwrap());
    for round in 1..=6 {
        for (writer, heartbeat) in writers.iter_mut().zip([round, 10 + round]) {
            writer.write(&register(heartbeat), Durability::Volatile).unwrap();
        }
        let turn = usize::from(round % 2 == 1);
        masters[turn].write(&membership(round, 0), Durability::Volatile).unwrap();
        for disk in [&newer, &older] {
            let read = disk.registers().read_all().unwrap();
            assert_eq!([&read[&N0], &read[&N1]], [&Some(register(round)), &Some(register(10 + round))]);
            assert_eq!(disk.memberships().newest().unwrap(), Some(membership(round, 0)));
        }
    }
    // The older program takes the place of the newer one, and the other way round.
    older.registers().writer(N0, Incarnation(2)).unwrap().write(&register(50), Durability::Volatile).unwrap();
    newer.registers().writer(N1, Incarnation(2)).unwrap().write(&register(60), Durability::Volatile).unwrap();
    assert_eq!((minor(N0).iter().min(), minor(N1).iter().max()), (Some(&MINOR), Some(&(MINOR + 1))));

    for block in [BlockIndex(0), BlockIndex(1), BlockIndex(blocks_needed(2, 4) - 1)] {
        memory.with_block(block, |bytes| bytes[6] = MAJOR + 1);
    }
    let refused = ClusterDisk::open(Arc::new(memory)).unwrap_err();
    let other = BlockFault::Version { major: MAJOR + 1, minor: MINOR + 1 };
    assert!(matches!(&refused, StorageError::Superblock { source, .. } if *source == other), "{refused}");
}

/// Row 20 on one node: a path that fails, whole or in part, is an error with its place and never a value.
#[test]
fn a_disk_that_is_lost_for_a_while_is_an_error_and_no_value() {
    let (faulty, disk) = faulty();
    let mut writer = disk.registers().writer(N1, INC).unwrap();
    writer.write(&register(1), Durability::Volatile).unwrap();
    faulty.inject(Fault::Error(Target::ALL, io::ErrorKind::NotConnected));
    let failed = writer.write(&register(2), Durability::Volatile).unwrap_err();
    assert!(failed.to_string().starts_with("failed to write 1 blocks at block"), "{failed}");
    assert_eq!(disk.registers().read_all().unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(matches!(disk.memberships().newest().unwrap_err(), StorageError::Read { .. }));
    faulty.mend();
    assert_eq!(disk.registers().read(N1).unwrap(), Some(register(1)));
}

/// a write that was given up and lands when its node has gone on is never taken for a value. It may cost the newest one, whose slot
/// it hits, until the next write: then the one before is read, and never an older one (docs/design/disks.md).
#[test]
fn a_late_write_is_never_taken_for_a_value_and_costs_at_most_the_newest() {
    for later in 0..6 {
        let (faulty, disk) = faulty();
        let mut writer = disk.registers().writer(N1, INC).unwrap();
        let heartbeat = || disk.registers().read(N1).unwrap().map(|register| register.heartbeat);
        writer.write(&register(1), Durability::Volatile).unwrap();
        faulty.inject(Fault::Late(Target::WRITES));
        writer.write(&register(2), Durability::Volatile).unwrap_err();
        faulty.mend();
        for heartbeat in 3..3 + later {
            writer.write(&register(heartbeat), Durability::Volatile).unwrap();
        }
        let before = heartbeat().unwrap();
        assert!(faulty.land().unwrap());
        let after = heartbeat().unwrap();
        match later {
            0 => assert_eq!(after, 2, "nothing was written since: it may count"),
            _ => assert!(after == before || after + 1 == before, "{after} after {before}"),
        }
        writer.write(&register(20), Durability::Volatile).unwrap();
        assert_eq!(heartbeat(), Some(20));
    }
}
