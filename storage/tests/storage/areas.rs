//! The areas of a formatted disk, its superblocks, and what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{CLUSTER, N0, N1, blocks_needed, configuration, formatted, open, superblock};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister};
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use phalanx_storage::header::MAJOR;
use phalanx_storage::{
    Block, BlockFault, BlockIndex, ClusterDisk, Durability, MemoryDisk, SharedDisk, StorageError, Superblock, format,
};
use uuid::Uuid;

const INC: Incarnation = Incarnation(1);

fn revision(term: u64, seq: u64) -> Revision {
    Revision { term: Term(term), seq }
}

fn membership(term: u64, seq: u64) -> MembershipRecord {
    MembershipRecord { revision: revision(term, seq), ..MembershipRecord::default() }
}

fn configured(term: u64, seq: u64) -> ConfigurationRecord {
    ConfigurationRecord { revision: revision(term, seq), ..configuration() }
}

#[test]
fn a_formatted_disk_holds_a_valid_record_in_every_slot() {
    let disk = open(&formatted(3));
    assert_eq!(disk.superblock(), &superblock(3, 4));
    let never: BTreeMap<_, _> = (0..3).map(|node| (NodeId(node), Some(NodeRegister::default()))).collect();
    assert_eq!(disk.registers().read_all().unwrap(), never);
    assert_eq!(disk.configurations().newest().unwrap(), Some(configuration()));
    assert_eq!(disk.memberships().newest().unwrap(), Some(MembershipRecord::default()));
    assert_eq!(disk.registrations().newest().unwrap(), Some(RegistrationRecord::default()));
    assert_eq!(disk.decisions().read(NodeId(2)).unwrap(), Some(DecisionRegister::default()));
    for node in disk.memberships().region().node_ids() {
        let slots = disk.memberships().inspect(node).unwrap();
        assert_eq!(slots.map(|slot| slot.unwrap().header.sequence), [0, 1]);
    }
}

#[test]
fn the_membership_record_of_a_new_disk_names_its_configuration() {
    let memory = MemoryDisk::new(blocks_needed(2, 4));
    format(&memory, &superblock(2, 4), &configured(0, 7), &RegistrationRecord::default()).unwrap();
    let record = open(&memory).memberships().newest().unwrap().unwrap();
    assert_eq!(record.configuration, revision(0, 7));
}

#[test]
fn a_writer_alternates_and_goes_on_where_the_last_incarnation_stopped() {
    let memory = formatted(2);
    let disk = open(&memory);
    let sequences = || disk.decisions().inspect(N1).unwrap().map(|slot| slot.unwrap().header.sequence);
    let record = |term| DecisionRegister { claim: Claim { term: Term(term), ..Claim::default() }, incarnation: INC };
    let mut writer = disk.decisions().writer(N1, INC).unwrap();
    for (term, expected) in [(1, [2, 1]), (2, [2, 3]), (3, [4, 3])] {
        writer.write(&record(term), Durability::Durable).unwrap();
        assert_eq!(sequences(), expected);
    }
    let mut next = disk.decisions().writer(N1, INC.next()).unwrap();
    next.write(&record(4), Durability::Durable).unwrap();
    assert_eq!(sequences(), [4, 5], "the first write goes to the older slot");
    assert_eq!(disk.decisions().read(N1).unwrap(), Some(record(4)));
    assert_eq!(disk.decisions().read(N0).unwrap(), Some(DecisionRegister::default()));
}

/// Protocol §2, "MA and CF together": a configuration whose membership record was never committed is newer in its pair, and
/// gives way before the one that counts.
#[test]
fn the_record_that_counts_is_kept_although_it_is_the_older_one() {
    let memory = formatted(2);
    let disk = open(&memory);
    let mut writer = disk.configurations().writer(N1, INC).unwrap();
    let counts = revision(3, 1);
    for (term, seq) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        writer.keep(counts).unwrap();
        writer.write(&configured(term, seq), Durability::Durable).unwrap();
        assert_eq!(disk.configurations().find(counts).unwrap(), Some(configured(3, 1)), "after {term}.{seq}");
        assert_eq!(disk.configurations().newest().unwrap(), Some(configured(term, seq)));
    }
}

#[test]
fn a_writer_never_destroys_the_only_valid_slot() {
    let memory = formatted(2);
    let disk = open(&memory);
    let region = disk.registers().region();
    for damaged in [0, 1] {
        let before = memory.snapshot();
        memory.corrupt(region.slot(N1, damaged));
        let mut writer = disk.registers().writer(N1, INC).unwrap();
        memory.tear_next_write(200);
        writer.write(&NodeRegister::default(), Durability::Volatile).unwrap_err();
        assert_eq!(disk.registers().read(N1).unwrap(), Some(NodeRegister::default()), "slot {damaged}");
        memory.restore(before);
    }
}

#[test]
fn an_older_incarnation_gets_no_writer() {
    let disk = open(&formatted(2));
    let mut writer = disk.registers().writer(N1, Incarnation(7)).unwrap();
    writer.write(&NodeRegister::default(), Durability::Volatile).unwrap();
    let refused = disk.registers().writer(N1, Incarnation(6)).unwrap_err();
    assert_eq!(refused.to_string(), "incarnation 7 of node 1 has written its node register area; this process has 6");
    assert!(disk.registers().writer(N1, Incarnation(7)).is_ok());
    assert!(disk.registers().writer(NodeId(2), INC).is_err(), "no place for that node");
    assert!(disk.registers().read(NodeId(2)).is_err());
}

#[test]
fn an_unreadable_pair_is_told_apart_from_one_never_used_and_can_be_healed() {
    let memory = formatted(3);
    let disk = open(&memory);
    let region = disk.registers().region();
    memory.corrupt(region.slot(N1, 0));
    assert_eq!(disk.registers().read(N1).unwrap(), Some(NodeRegister::default()), "one slot is enough");
    memory.corrupt(region.slot(N1, 1));
    let all = disk.registers().read_all().unwrap();
    assert_eq!((all[&N0].is_some(), all[&N1].is_some(), all[&NodeId(2)].is_some()), (true, false, true));
    let mut writer = disk.registers().writer(N1, INC).unwrap();
    for heartbeat in 1..=3 {
        let register = NodeRegister { heartbeat, ..NodeRegister::default() };
        writer.write(&register, Durability::Volatile).unwrap();
        assert_eq!(disk.registers().read(N1).unwrap(), Some(register));
    }
    assert!(disk.registers().inspect(N1).unwrap().iter().all(Result::is_ok));
}

/// Protocol §3.8 for every area: whoever has written a record last heals it, and never touches the slot that is valid.
#[test]
fn the_last_completed_write_is_healed_in_its_own_slot() {
    let memory = formatted(3);
    let disk = open(&memory);
    let region = disk.memberships().region();
    let mut writer = disk.memberships().writer(N1, INC).unwrap();
    assert!(!writer.heal(&membership(1, 0), Durability::Volatile).unwrap(), "nothing was written yet");
    for seq in 0..4 {
        writer.write(&membership(1, seq), Durability::Volatile).unwrap();
        let valid =
            || disk.memberships().inspect(N1).unwrap().map(|slot| slot.ok().map(|it| it.record.unwrap().revision.seq));
        let before = valid();
        assert!(!writer.heal(&membership(1, seq), Durability::Volatile).unwrap());
        let newest = before.iter().position(|found| *found == Some(seq)).unwrap();
        for both in [false, true] {
            memory.corrupt(region.slot(N1, u16::try_from(newest).unwrap()));
            if both {
                memory.corrupt(region.slot(N1, 1 - u16::try_from(newest).unwrap()));
            }
            assert!(writer.heal(&membership(1, seq), Durability::Volatile).unwrap());
            let after = valid();
            assert_eq!(after[newest], Some(seq));
            assert_eq!(after[1 - newest], if both { None } else { before[1 - newest] });
        }
        assert_eq!(disk.memberships().read(N1).unwrap(), Some(membership(1, seq)));
    }
}

#[test]
fn an_unreadable_pair_is_known_by_its_bytes() {
    let memory = formatted(3);
    let disk = open(&memory);
    let region = disk.registers().region();
    memory.corrupt(region.slot(N1, 0));
    assert_eq!(disk.registers().unreadable(N1).unwrap(), None);
    memory.corrupt(region.slot(N1, 1));
    let found = disk.registers().unreadable(N1).unwrap();
    assert!(found.is_some() && disk.registers().unreadable(N1).unwrap() == found);
    memory.with_block(region.slot(N1, 1), |bytes| bytes[700] ^= 1);
    assert!(disk.registers().unreadable(N1).unwrap().is_some_and(|other| Some(other) != found));
}

#[test]
fn the_newest_record_is_the_one_of_the_highest_term_then_sequence() {
    let disk = open(&formatted(3));
    let mut writers = [0, 1, 2].map(|node| disk.memberships().writer(NodeId(node), INC).unwrap());
    for (node, term, seq) in [(0, 1, 0), (0, 1, 1), (2, 3, 0), (1, 2, 0), (1, 2, 9)] {
        writers[node].write(&membership(term, seq), Durability::Volatile).unwrap();
    }
    assert_eq!(disk.memberships().newest().unwrap(), Some(membership(3, 0)));
    writers[2].write(&membership(3, 1), Durability::Volatile).unwrap();
    assert_eq!(disk.memberships().newest().unwrap(), Some(membership(3, 1)));
}

#[test]
fn nothing_is_concluded_while_a_pair_that_may_hold_the_newest_is_unreadable() {
    let memory = formatted(3);
    let disk = open(&memory);
    disk.memberships().writer(N0, INC).unwrap().write(&membership(5, 0), Durability::Volatile).unwrap();
    let region = disk.memberships().region();
    memory.corrupt(region.slot(N1, 0));
    assert_eq!(disk.memberships().newest().unwrap(), Some(membership(5, 0)), "the other slot settles it");
    memory.corrupt(region.slot(N1, 1));
    let refused = disk.memberships().newest().unwrap_err();
    assert_eq!(refused.to_string(), "both slots of the membership area of node 1 are unreadable");
}

#[test]
fn a_revision_is_found_in_either_slot_of_any_node() {
    let memory = formatted(3);
    let disk = open(&memory);
    let mut writer = disk.configurations().writer(N1, INC).unwrap();
    writer.write(&configured(2, 0), Durability::Durable).unwrap();
    writer.write(&configured(2, 1), Durability::Durable).unwrap();
    for found in [configured(2, 0), configured(2, 1), configured(0, 0)] {
        assert_eq!(disk.configurations().find(found.revision).unwrap(), Some(found));
    }
    assert_eq!(disk.configurations().find(revision(2, 2)).unwrap(), None);
    writer.write(&configured(2, 2), Durability::Durable).unwrap();
    assert_eq!(disk.configurations().find(revision(2, 0)).unwrap(), None, "overwritten");
    memory.corrupt(disk.configurations().region().slot(N1, 0));
    assert_eq!(disk.configurations().find(revision(2, 1)).unwrap(), Some(configured(2, 1)));
    assert_eq!(disk.configurations().find(revision(2, 2)).unwrap(), None, "torn");
}

/// `read_all` of registers is called every few milliseconds during a failover.
#[test]
fn registers_are_read_in_one_contiguous_io() {
    let memory = formatted(16);
    let disk = open(&memory);
    let before = memory.counts();
    disk.registers().read_all().unwrap();
    let after = memory.counts();
    assert_eq!((after.reads - before.reads, after.blocks_read - before.blocks_read), (1, 32));
    memory.corrupt(disk.registers().region().slot(N1, 0));
    disk.registers().read_all().unwrap();
    assert_eq!(memory.counts().reads - after.reads, 2, "a torn pair is looked at once more, alone");
}

#[test]
fn a_record_writes_only_the_parts_in_use_and_is_as_durable_as_asked() {
    let memory = formatted(16);
    let disk = open(&memory);
    let region = disk.memberships().region();
    assert!(region.slot_blocks > 1);
    let beyond = region.slot(N1, 0).plus(1);
    let mark = Block([7; 4096]);
    memory.write_blocks(beyond, std::slice::from_ref(&mark), Durability::Volatile).unwrap();
    let mut writer = disk.memberships().writer(N1, INC).unwrap();
    let durable = memory.counts().durable_writes;
    writer.write(&membership(1, 0), Durability::Volatile).unwrap();
    assert_eq!(memory.counts().durable_writes, durable);
    writer.write(&membership(1, 1), Durability::Durable).unwrap();
    assert_eq!(memory.counts().durable_writes, durable + 1);
    assert_eq!(memory.with_block(beyond, |bytes| *bytes), mark.0);
    assert_eq!(disk.memberships().read(N1).unwrap(), Some(membership(1, 1)));
}

/// Protocol §1.1, D5: a block that lies where it does not belong is never believed.
#[test]
fn a_misdirected_block_is_seen() {
    let memory = formatted(2);
    let disk = open(&memory);
    let region = disk.registers().region();
    let copy = |from: BlockIndex, to: BlockIndex| {
        let bytes = memory.with_block(from, |bytes| *bytes);
        memory.with_block(to, |target| *target = bytes);
    };
    copy(region.slot(N0, 0), region.slot(N1, 0));
    let [first, second] = disk.registers().inspect(N1).unwrap();
    assert_eq!(first.unwrap_err(), BlockFault::Address { found: region.slot(N0, 0) });
    assert!(second.is_ok());
    assert_eq!(disk.registers().read(N1).unwrap(), Some(NodeRegister::default()));
}

#[test]
fn a_block_of_another_cluster_is_seen() {
    let (memory, other) = (formatted(2), MemoryDisk::new(blocks_needed(2, 4)));
    let foreign = Superblock { cluster: Uuid::from_u128(1), ..superblock(2, 4) };
    format(&other, &foreign, &configuration(), &RegistrationRecord::default()).unwrap();
    let disk = open(&memory);
    let at = disk.registers().region().slot(N1, 1);
    let bytes = other.with_block(at, |bytes| *bytes);
    memory.with_block(at, |target| *target = bytes);
    let [_, second] = disk.registers().inspect(N1).unwrap();
    assert_eq!(second.unwrap_err(), BlockFault::Cluster { found: Uuid::from_u128(1), ours: CLUSTER });
}

#[test]
fn one_copy_of_the_superblock_is_enough() {
    let last = BlockIndex(blocks_needed(2, 4) - 1);
    let copies = [BlockIndex(0), BlockIndex(1), last];
    for kept in copies {
        let memory = formatted(2);
        copies.into_iter().filter(|copy| *copy != kept).for_each(|copy| memory.corrupt(copy));
        assert_eq!(open(&memory).superblock().name, "alpha", "{kept}");
        memory.corrupt(kept);
        let refused = ClusterDisk::open(Arc::new(memory)).unwrap_err();
        assert!(matches!(refused, StorageError::Superblock { source: BlockFault::Checksum { .. }, .. }), "{refused}");
    }
}

#[test]
fn a_disk_that_has_grown_is_still_the_same_disk() {
    let memory = formatted(2);
    let mut blocks = memory.snapshot();
    blocks.extend(Block::zeroes(9));
    memory.restore(blocks);
    assert_eq!(open(&memory).superblock(), &superblock(2, 4));
}

#[test]
fn a_disk_that_is_not_ours_is_refused_and_said_why() {
    let blank = ClusterDisk::open(Arc::new(MemoryDisk::new(9))).unwrap_err();
    assert_eq!(blank.to_string(), "the disk of 9 blocks is not formatted: its superblocks are blank");

    let foreign = MemoryDisk::new(9);
    foreign.with_block(BlockIndex(0), |bytes| bytes[..8].copy_from_slice(b"LABELONE"));
    let error = ClusterDisk::open(Arc::new(foreign)).unwrap_err();
    assert!(
        matches!(error, StorageError::Superblock { source: BlockFault::Magic { found }, .. } if found == *b"LABE"),
        "{error}"
    );

    for other in [MAJOR - 1, MAJOR + 1] {
        let memory = formatted(2);
        memory.with_block(BlockIndex(1), |bytes| bytes[6] = other);
        let error = ClusterDisk::open(Arc::new(memory)).unwrap_err();
        assert!(
            matches!(error, StorageError::Superblock { source: BlockFault::Version { major, .. }, .. } if major == other),
            "one copy of another version is enough to keep off: {error}"
        );
    }

    let (memory, other) = (formatted(2), MemoryDisk::new(blocks_needed(2, 4)));
    let renamed = Superblock { name: "beta".to_owned(), ..superblock(2, 4) };
    format(&other, &renamed, &configuration(), &RegistrationRecord::default()).unwrap();
    let bytes = other.with_block(BlockIndex(1), |bytes| *bytes);
    memory.with_block(BlockIndex(1), |target| *target = bytes);
    let error = ClusterDisk::open(Arc::new(memory)).unwrap_err();
    assert_eq!(error.to_string(), "the superblocks in block 0 and block 1 differ");
}

#[test]
fn an_interrupted_format_leaves_a_disk_that_is_refused() {
    for over_an_old_one in [false, true] {
        let memory = if over_an_old_one { formatted(2) } else { MemoryDisk::new(blocks_needed(2, 4)) };
        let writes_before = memory.counts().writes;
        let whole = memory.snapshot();
        format(&memory, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap();
        let writes = memory.counts().writes - writes_before;
        for completed in 0..writes {
            memory.restore(whole.clone());
            let disk = FailsAfter { disk: memory.clone(), left: completed.into() };
            format(&disk, &superblock(2, 4), &configuration(), &RegistrationRecord::default()).unwrap_err();
            match ClusterDisk::open(Arc::new(memory.clone())) {
                // All copies of the old superblock but some are gone, and nothing else has been touched ...
                Ok(disk) if completed < 3 && over_an_old_one => assert!(disk.registers().read(N1).unwrap().is_some()),
                // ... or everything but a copy of the new one is there.
                Ok(disk) => {
                    assert!(completed >= writes - 2, "opened after {completed} of {writes} writes");
                    assert!(disk.registers().read(N1).unwrap().is_some());
                }
                Err(StorageError::NotFormatted { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// A disk that dies after some writes.
struct FailsAfter {
    disk: MemoryDisk,
    left: std::sync::atomic::AtomicU64,
}

impl SharedDisk for FailsAfter {
    fn geometry(&self) -> phalanx_storage::Geometry {
        self.disk.geometry()
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> std::io::Result<()> {
        self.disk.read_blocks(first, blocks)
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> std::io::Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        self.left
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .map_err(|_| std::io::Error::other("the disk has died"))?;
        self.disk.write_blocks(first, blocks, durability)
    }
}

#[test]
fn the_formatter_refuses_before_it_touches_the_disk() {
    let memory = MemoryDisk::new(blocks_needed(2, 4) - 1);
    let ours = superblock(2, 4);
    let refuse = |superblock: &Superblock, registration: &RegistrationRecord| {
        format(&memory, superblock, &configuration(), registration).unwrap_err().to_string()
    };
    let (needed, none) = (blocks_needed(2, 4), RegistrationRecord::default());
    assert_eq!(
        refuse(&ours, &none),
        format!(
            "2 nodes and 4 services need a disk of {needed} blocks ({} bytes); this one has {}",
            needed * 4096,
            needed - 1
        )
    );
    assert_eq!(refuse(&superblock(257, 4), &none), "nodes_max (257) must be from 1 to 256");
    assert_eq!(refuse(&superblock(2, 0), &none), "services_max (0) must be from 1 to 100000");
    let mut wrong = superblock(2, 4);
    wrong.profile.lease_ms = 10;
    assert!(refuse(&wrong, &none).starts_with("the timing profile is wrong: `lease` (10 ms)"));
    let nameless = Superblock { name: String::new(), ..superblock(1, 1) };
    assert_eq!(refuse(&nameless, &none), "bytes of the cluster name (0) must be from 1 to 64");
    assert_eq!(memory.counts().writes, 0);
}

#[test]
fn a_record_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let disk = open(&formatted(2));
    let mut writer = disk.registers().writer(N1, INC).unwrap();
    let register =
        NodeRegister { claim: Claim { phase: ClaimPhase::Claim, ..Claim::default() }, ..NodeRegister::default() };
    writer.write(&register, Durability::Volatile).unwrap();
    let mut large = register.clone();
    large.fence.id_lock = "x".repeat(4_000);
    let refused = writer.write(&large, Durability::Volatile).unwrap_err();
    assert_eq!(refused.to_string(), "the node register record of node 1 does not fit its slot of 4000 bytes");
    assert_eq!(disk.registers().read(N1).unwrap(), Some(register.clone()));
    writer.write(&NodeRegister { heartbeat: 2, ..register }, Durability::Volatile).unwrap();
    assert_eq!(disk.registers().read(N1).unwrap().unwrap().heartbeat, 2);
}
