//! Lemma REG (protocol §1.2): a pair of slots is a regular register although a block write is not atomic.
//!
//! The writer is real, its writes are replayed sector by sector while the reader reads.

use crate::common::{self, CLUSTER, N0, N1, SECTOR_BYTES, SteppedDisk, Write, formatted, open};
use crate::redo;
use phalanx_messages::membership::{MemberEntry, MembershipRecord};
use phalanx_messages::register::{FenceHandle, NodeRegister};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{Incarnation, NodeId, Revision, Term};
use phalanx_storage::header::unseal;
use phalanx_storage::{Area, AreaRecord, Block, BlockIndex, ClusterDisk, Durability, Operation, SharedDisk};
use proptest::prelude::*;
use std::sync::Arc;

/// A record that carries a number and fills as many blocks as the test wants.
trait Numbered: AreaRecord {
    /// How many are written while the reader reads.
    const WRITES: usize = 6;

    fn numbered(number: u64) -> Self;
    fn number(&self) -> u64;
    fn area(disk: &ClusterDisk) -> &Area<Self>;
}

impl Numbered for NodeRegister {
    /// Reaches into the last sector of its block.
    fn numbered(number: u64) -> Self {
        let fence = FenceHandle { id_lock: format!("{number:>2}").repeat(1_750), ..FenceHandle::default() };
        Self { heartbeat: number, fence, ..Self::default() }
    }

    fn number(&self) -> u64 {
        assert!(self.heartbeat == 0 || *self == Self::numbered(self.heartbeat), "sectors of different writes");
        self.heartbeat
    }

    fn area(disk: &ClusterDisk) -> &Area<Self> {
        disk.registers()
    }
}

impl Numbered for MembershipRecord {
    /// Two blocks, with the number in both, and into the last sector.
    fn numbered(number: u64) -> Self {
        let entry = MemberEntry { reason: format!("{number:>2}").repeat(3_700), ..MemberEntry::default() };
        let revision = Revision { term: Term(1), seq: number };
        Self { revision, nodes: [(N0, entry)].into(), transition_counter: number, ..Self::default() }
    }

    fn number(&self) -> u64 {
        let number = self.revision.seq;
        let parts_agree = number == 0 || *self == Self::numbered(number);
        assert!(parts_agree, "parts of different writes were put together");
        number
    }

    fn area(disk: &ClusterDisk) -> &Area<Self> {
        disk.memberships()
    }
}

impl Numbered for RegistrationRecord {
    /// Enough to go through both slots and their logs several times.
    const WRITES: usize = 24;

    fn numbered(number: u64) -> Self {
        redo::numbered(1, number)
    }

    fn number(&self) -> u64 {
        let number = self.revision.seq;
        assert!(number == 0 || *self == Self::numbered(number), "entries of different records were put together");
        number
    }

    fn area(disk: &ClusterDisk) -> &Area<Self> {
        disk.registrations()
    }
}

/// The disk before, and the writes 1..=WRITES of node 1.
fn recorded<T: Numbered>() -> (Vec<Block>, Vec<Write>) {
    let memory = formatted(2);
    let before = memory.snapshot();
    let (disk, recorder) = common::recorded(&memory);
    let mut writer = T::area(&disk).writer(N1, Incarnation(1)).unwrap();
    for number in 1..=T::WRITES as u64 {
        writer.write(&T::numbered(number), Durability::Volatile).unwrap();
    }
    (before, common::writes(&recorder))
}

/// Reads again and again while the writer moves by the schedule; every reading must lie between what had completed when it
/// began and what had begun when it ended. The writer may stop for ever in the middle of a write.
fn never_stale<T: Numbered>(
    stride: usize,
    schedule: Vec<u8>,
    read: impl Fn(&Area<T>) -> Option<T>,
) -> Result<(), TestCaseError> {
    let (before, writes) = recorded::<T>();
    let stepped = SteppedDisk::new(before, writes, stride);
    let disk = ClusterDisk::open(Arc::new(stepped.clone())).unwrap();
    stepped.follow(schedule);
    for _ in 0..12 {
        let (completed, _) = stepped.progress();
        let number = read(T::area(&disk)).map(|record| record.number());
        let (_, begun) = stepped.progress();
        // Few writes cannot tear every look, so there is always an answer.
        prop_assert!(
            number.is_some_and(|number| (completed as u64..=begun as u64).contains(&number)),
            "read {number:?} although {completed} had completed and {begun} begun"
        );
    }
    Ok(())
}

fn schedules() -> impl Strategy<Value = Vec<u8>> {
    // Mostly idle, at times a few sectors, at times more than a whole write between two sectors of the reader: staleness needs
    // a writer that is much faster than the reader at one point, and torn slots one that stops.
    proptest::collection::vec(prop_oneof![12 => Just(0), 1 => 1..8_u8, 2 => 8..20_u8], 0..200)
}

fn strides() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(3), Just(5), Just(7)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn one_block_slots_read_together(stride in strides(), schedule in schedules()) {
        never_stale::<NodeRegister>(stride, schedule, |area| area.read_all().unwrap().remove(&N1).unwrap())?;
    }

    #[test]
    fn one_block_slots_read_alone(stride in strides(), schedule in schedules()) {
        never_stale::<NodeRegister>(stride, schedule, |area| area.read(N1).unwrap())?;
    }

    #[test]
    fn slots_of_several_blocks(stride in strides(), schedule in schedules()) {
        never_stale::<MembershipRecord>(stride, schedule, |area| area.read(N1).unwrap())?;
    }

    /// Slot and redo log together are a regular register as well.
    #[test]
    fn a_record_with_a_redo_log(
        stride in strides(),
        schedule in proptest::collection::vec(prop_oneof![6 => Just(0), 1 => 1..8_u8, 1 => 8..60_u8], 0..900),
    ) {
        never_stale::<RegistrationRecord>(stride, schedule, |area| area.newest().unwrap())?;
    }

    #[test]
    fn the_newest_over_all_nodes(stride in strides(), schedule in schedules()) {
        never_stale::<MembershipRecord>(stride, schedule, |area| area.newest().unwrap())?;
    }
}

/// The harness has teeth: a reader that looks once is stale for some schedule (protocol §1.2 says after 3 writes).
#[test]
fn one_look_is_not_enough() {
    let (before, writes) = recorded::<NodeRegister>();
    let first = writes[0].0.0 & !1; // slot 0 of node 1: registers begin at an even block
    let mut random = 1_u64;
    let stale = (0..5_000).find(|_| {
        let stepped = SteppedDisk::new(before.clone(), writes.clone(), 1);
        let steps = (0..90).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let steps = u8::try_from((random >> 33) % 20).unwrap();
            if (random >> 53).is_multiple_of(8) { steps } else { 0 }
        });
        stepped.follow(steps.collect());
        (0..6).any(|_| {
            let (completed, _) = stepped.progress();
            let mut pair = Block::zeroes(2);
            stepped.read_blocks(BlockIndex(first), &mut pair).unwrap();
            let valid = (first..).zip(&pair).filter_map(|(address, block)| unseal(block, BlockIndex(address)).ok());
            // Format left sequence 1, so write k has sequence k + 1.
            valid.map(|header| header.sequence.saturating_sub(1)).max().is_some_and(|number| number < completed as u64)
        })
    });
    assert!(stale.is_some(), "no schedule in which one look is stale");
}

/// Crash points: write k torn at any sector leaves k-1 or k; the next incarnation goes on without losing it, even if it is torn
/// as well.
fn crash_points<T: Numbered>(parts: usize) {
    for torn_at in (0..=parts * 4096).step_by(SECTOR_BYTES) {
        for completed in 0..3 {
            let memory = formatted(2);
            let disk = open(&memory);
            let mut writer = T::area(&disk).writer(N1, Incarnation(1)).unwrap();
            for number in 1..=completed {
                writer.write(&T::numbered(number), Durability::Volatile).unwrap();
            }
            memory.tear_next_write(torn_at);
            writer.write(&T::numbered(completed + 1), Durability::Volatile).unwrap_err();
            let left = number::<T>(&disk);
            assert!((completed..=completed + 1).contains(&left), "torn at {torn_at}: {left} after {completed}");
            assert_eq!(left == completed + 1, torn_at == parts * 4096, "whole or not at all");

            // The next incarnation is torn as well, then writes twice.
            let mut next = T::area(&disk).writer(N1, Incarnation(2)).unwrap();
            memory.tear_next_write(torn_at / 2);
            next.write(&T::numbered(10), Durability::Volatile).unwrap_err();
            assert_eq!(number::<T>(&disk), left, "torn twice at {torn_at}");
            for number in [11, 12] {
                next.write(&T::numbered(number), Durability::Volatile).unwrap();
                assert_eq!(self::number::<T>(&disk), number);
            }
        }
    }
}

fn number<T: Numbered>(disk: &ClusterDisk) -> u64 {
    T::area(disk).read(N1).unwrap().expect("one slot is valid").number()
}

#[test]
fn a_torn_register_write_leaves_the_one_before() {
    crash_points::<NodeRegister>(1);
}

#[test]
fn a_torn_record_of_two_blocks_leaves_the_one_before() {
    crash_points::<MembershipRecord>(2);
}

/// A write that failed may land late (protocol R-2): it must not undo what the same incarnation has completed since.
#[test]
fn a_write_that_lands_late_is_never_taken_for_the_newest() {
    let memory = formatted(2);
    let (disk, recorder) = common::recorded(&memory);
    let mut writer = disk.registers().writer(N1, Incarnation(1)).unwrap();
    writer.write(&NodeRegister::numbered(1), Durability::Volatile).unwrap();
    memory.tear_next_write(0);
    writer.write(&NodeRegister::numbered(2), Durability::Volatile).unwrap_err();
    let (late_at, late) = common::writes(&recorder).pop().unwrap();
    writer.write(&NodeRegister::numbered(3), Durability::Volatile).unwrap();
    let (newest, _) = common::writes(&recorder).pop().unwrap();
    assert_eq!(newest, late_at, "the slot of the failed write is used again, not that of the last completed one");
    writer.write(&NodeRegister::numbered(4), Durability::Volatile).unwrap();
    memory.write_blocks(late_at, &late, Durability::Volatile).unwrap();
    assert_eq!(disk.registers().read(N1).unwrap().unwrap().heartbeat, 4);
}

/// Golden bytes of a whole block: what one version writes the next must read.
#[test]
fn golden_bytes_of_a_node_register() {
    let memory = formatted(2);
    let disk = open(&memory);
    let register = NodeRegister { incarnation: Incarnation(5), heartbeat: 0x0102, nonce: 9, ..NodeRegister::default() };
    disk.registers().writer(N1, Incarnation(5)).unwrap().write(&register, Durability::Volatile).unwrap();
    let at = disk.registers().region().slot(N1, 0);
    let block = memory.with_block(at, |bytes| *bytes);
    assert_eq!(block[..8], *b"PHLX\x02\x00\x05\x00");
    assert_eq!(block[8..24], *CLUSTER.as_bytes());
    assert_eq!(block[24..64], le([at.0, u64::from(N1.0) | 1 << 48, 5, 0, 2]));
    let payload_bytes = 208;
    assert_eq!(block[80..84], u32::to_le_bytes(payload_bytes));
    assert_eq!(block[88..96], [0; 8]);
    let mut payload = Vec::new();
    payload.extend(5_u64.to_le_bytes()); // incarnation
    payload.extend(le([16]).into_iter().chain([0; 16])); // host
    payload.extend(le([16]).into_iter().chain([0; 16])); // boot
    payload.extend(le([9, 0x0102])); // nonce, heartbeat
    payload.extend([0; 4]); // own state
    payload.extend(le([0, 0])); // seen
    payload.extend(le([0]).into_iter().chain([0; 4]).chain(le([0]))); // claim
    payload.extend(le([0, 0, 0, 0])); // hears
    payload.extend(le([0, 0])); // round, announced round
    payload.extend(le([0])); // pills
    payload.extend([0; 4]); // containment
    payload.extend([0; 24]); // warden, daemon
    payload.extend(le([0])); // id lock
    payload.extend([0; 4]); // watchdog
    assert_eq!(block[96..96 + payload.len()], payload);
    assert_eq!(payload.len(), payload_bytes as usize);
    assert!(block[96 + payload.len()..].iter().all(|byte| *byte == 0));
}

fn le<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

#[test]
fn a_disk_that_fails_says_so_and_loses_nothing() {
    let memory = formatted(2);
    let disk = open(&memory);
    let mut writer = disk.registers().writer(NodeId(0), Incarnation(1)).unwrap();
    writer.write(&NodeRegister::numbered(1), Durability::Volatile).unwrap();
    memory.fail_writes(true);
    let failed = writer.write(&NodeRegister::numbered(2), Durability::Volatile).unwrap_err();
    assert!(failed.to_string().starts_with("failed to write 1 blocks at block"), "{failed}");
    memory.fail_writes(false);
    assert_eq!(disk.registers().read(N0).unwrap().unwrap().heartbeat, 1);
    memory.fail_reads(true);
    assert!(disk.registers().read_all().is_err() && disk.registers().newest().is_err());
}

/// Protocol §1.3, found by the crash points of a whole scenario: a durable record is never under one of which a loss of power may leave
/// one block and not the other. A single block is old or new, so it waits for nothing.
#[test]
fn a_record_of_several_blocks_waits_until_the_one_before_it_is_durable() {
    fn order<T: Numbered>(durabilities: &[Durability]) -> String {
        let (disk, recorder) = common::recorded(&formatted(2));
        let mut writer = T::area(&disk).writer(N1, Incarnation(1)).unwrap();
        for (number, durability) in (1..).zip(durabilities) {
            writer.write(&T::numbered(number), *durability).unwrap();
        }
        let letter = |operation| match operation {
            Operation::Write { durability: Durability::Durable, .. } => Some('d'),
            Operation::Write { durability: Durability::Volatile, .. } => Some('v'),
            Operation::Flush => Some('f'),
            Operation::Read { .. } | Operation::Tick => None,
        };
        recorder.operations().into_iter().filter_map(letter).collect()
    }
    use Durability::{Durable, Volatile};
    let durabilities = [Durable, Volatile, Volatile, Durable, Volatile];
    assert_eq!(order::<MembershipRecord>(&durabilities), "fdvfvfdv", "what an earlier writer left may be volatile");
    assert_eq!(order::<NodeRegister>(&durabilities), "dvvdv");
}
