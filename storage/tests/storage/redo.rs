//! The redo log of the registration database (protocol §2): what it costs, what a crash leaves of it, what a reader makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::registration::{RegistrationRecord, ServiceRecord, ServiceRun};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{Incarnation, Revision, Term};
use phalanx_storage::header::{RecordType, reseal};
use phalanx_storage::{
    AreaWriter, Block, BlockFault, BlockIndex, ClusterDisk, Durability, MemoryDisk, Operation, Region, SharedDisk,
};
use proptest::prelude::*;

use crate::common::{N1, SECTOR_BYTES, formatted, open, recorded, writes};

/// Entries of one block that a log of [`formatted`] has room for.
const LOG_BLOCKS: u64 = 4;
/// So often the larger service changes as well, and the change takes as many blocks as the whole record.
const LARGE_EVERY: u64 = 7;

/// A database of two blocks that says its number in several places.
pub fn numbered(term: u64, number: u64) -> RegistrationRecord {
    let service = |name: &str, run| (name.to_owned(), ServiceRecord::new(ServiceDefinition::new(name), run));
    let retries = u32::try_from(number).unwrap();
    let large = Some(format!("{:>2}", number / LARGE_EVERY).repeat(2_400));
    RegistrationRecord {
        revision: Revision { term: Term(term), seq: number },
        services: [
            service("large", ServiceRun { failure: large, ..ServiceRun::default() }),
            service("small", ServiceRun { retries, ..ServiceRun::default() }),
        ]
        .into_iter()
        .collect(),
        ..RegistrationRecord::default()
    }
}

fn writer(disk: &ClusterDisk, incarnation: u64) -> AreaWriter<RegistrationRecord> {
    disk.registrations().writer(N1, Incarnation(incarnation)).unwrap()
}

fn newest(disk: &ClusterDisk) -> RegistrationRecord {
    disk.registrations().newest().unwrap().unwrap()
}

fn log_region(disk: &ClusterDisk) -> Region {
    disk.layout().region(RecordType::RegistrationRedo).unwrap()
}

#[test]
fn a_record_that_follows_is_an_entry_until_the_log_is_full_or_the_change_is_large() {
    let memory = formatted(2);
    let (disk, recorder) = recorded(&memory);
    let mut writer = writer(&disk, 1);
    for number in 1..=13 {
        writer.write(&numbered(1, number), Durability::Volatile).unwrap();
        assert_eq!(newest(&disk), numbered(1, number));
        assert_eq!(newest(&open(&memory)), numbered(1, number), "for somebody who reads it for the first time");
        assert_eq!(disk.registrations().read(N1).unwrap(), Some(numbered(1, number)));
    }
    let (whole, log) = (disk.registrations().region(), log_region(&disk));
    let place = |(first, blocks): (BlockIndex, Vec<Block>)| {
        let places =
            [("A", whole.slot(N1, 0)), ("B", whole.slot(N1, 1)), ("a", log.slot(N1, 0)), ("b", log.slot(N1, 1))];
        let (name, begin) =
            places.into_iter().rev().filter(|(_, begin)| *begin <= first).max_by_key(|it| it.1).unwrap();
        format!("{name}{}+{}", first.0 - begin.0, blocks.len())
    };
    let places: Vec<String> = writes(&recorder).into_iter().map(place).collect();
    // 7: as large as a whole record. 12: the log has no room.
    assert_eq!(places.join(" "), "A0+2 a0+1 a1+1 a2+1 a3+1 B0+2 A0+2 a0+1 a1+1 a2+1 a3+1 B0+2 b0+1");
    assert_eq!(u64::from(log.slot_blocks), LOG_BLOCKS);
}

#[test]
fn another_depoch_or_a_gap_begins_with_a_whole_record() {
    for next in [numbered(2, 0), numbered(1, 3), numbered(1, 1)] {
        let memory = formatted(2);
        let (disk, recorder) = recorded(&memory);
        let mut writer = writer(&disk, 1);
        writer.write(&numbered(1, 1), Durability::Volatile).unwrap();
        writer.write(&next, Durability::Volatile).unwrap();
        assert_eq!(writes(&recorder).iter().map(|(_, blocks)| blocks.len()).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(disk.registrations().read(N1).unwrap(), Some(next));
    }
}

/// What is read when one service of many has changed does not grow with the others.
#[test]
fn a_reader_goes_on_where_it_was() {
    let services_max = 1_000;
    let blocks = crate::common::blocks_needed(2, services_max);
    let memory = MemoryDisk::new(blocks);
    let services = (0..services_max).map(|number| ServiceDefinition::new(format!("s{number}")));
    let mut record = RegistrationRecord::of_definitions(services);
    let superblock = crate::common::superblock(2, services_max);
    phalanx_storage::format(&memory, &superblock, &crate::common::configuration(), &record).unwrap();
    let mut writer = writer(&open(&memory), 1);
    let (disk, recorder) = recorded(&memory);
    let mut read = Vec::new();
    for seq in 0..4 {
        record.revision = Revision { term: Term(1), seq };
        record.services.get_mut("s500").unwrap().run.retries = u32::try_from(seq).unwrap();
        writer.write(&record, Durability::Volatile).unwrap();
        let before = recorder.len();
        assert_eq!(newest(&disk), record);
        let count = |operation: &Operation| match operation {
            Operation::Read { count, .. } => *count,
            Operation::Write { .. } | Operation::Flush | Operation::Tick => 0,
        };
        read.push(recorder.operations()[before..].iter().map(count).sum::<u64>());
    }
    assert!(read[0] > 50, "the whole record was read once: {read:?}");
    assert!(read[1..].iter().all(|blocks| *blocks < 40), "{read:?}");
}

/// An entry torn at any sector is not there, and the next incarnation goes on from what was before it.
#[test]
fn a_torn_entry_leaves_the_record_before_it() {
    for (completed, parts) in [(2, 1), (4, 1), (5, 2), (6, 2)] {
        for torn_at in (0..=parts * 4096).step_by(SECTOR_BYTES) {
            let memory = formatted(2);
            let disk = open(&memory);
            let mut writer = writer(&disk, 1);
            for number in 1..=completed {
                writer.write(&numbered(1, number), Durability::Volatile).unwrap();
            }
            memory.tear_next_write(torn_at);
            writer.write(&numbered(1, completed + 1), Durability::Volatile).unwrap_err();
            let left = newest(&disk);
            // What the log held before is blank, so an entry may be whole although the end of its block was not written.
            let may_be = if torn_at == 0 {
                0..=0
            } else if torn_at == parts * 4096 {
                1..=1
            } else {
                0..=1
            };
            let is_one = may_be.map(|more| numbered(1, completed + more)).any(|record| left == record);
            assert!(is_one, "write {} torn at {torn_at}: {:?}", completed + 1, left.revision);
            let mut next = self::writer(&disk, 2);
            for number in 0..6 {
                next.write(&numbered(2, number), Durability::Volatile).unwrap();
                assert_eq!((newest(&disk), newest(&open(&memory))), (numbered(2, number), numbered(2, number)));
            }
        }
    }
}

/// Protocol R-2: whatever failed may land at any time later, and must not undo what has completed since.
#[test]
fn an_entry_that_failed_is_never_followed_and_may_land_at_any_time() {
    for failing in 2..=5 {
        let memory = formatted(2);
        let (disk, recorder) = recorded(&memory);
        let mut writer = writer(&disk, 1);
        for number in 1..failing {
            writer.write(&numbered(1, number), Durability::Volatile).unwrap();
        }
        memory.tear_next_write(0);
        writer.write(&numbered(1, failing), Durability::Volatile).unwrap_err();
        let (late_at, late) = writes(&recorder).pop().unwrap();
        assert!(late_at >= log_region(&disk).first, "it was an entry");
        assert_eq!(newest(&disk), numbered(1, failing - 1));
        for number in failing..failing + 20 {
            writer.write(&numbered(1, number), Durability::Volatile).unwrap();
            memory.write_blocks(late_at, &late, Durability::Volatile).unwrap();
            assert_eq!(newest(&open(&memory)), numbered(1, number), "{failing} landed after {number}");
            assert_eq!(newest(&disk), numbered(1, number), "{failing} landed after {number}");
        }
    }
}

#[test]
fn what_was_written_last_is_healed_whether_its_slot_or_its_log_has_rotted() {
    for (region, block) in [("slot", 0), ("slot", 1), ("log", 0), ("log", 1)] {
        let memory = formatted(2);
        let disk = open(&memory);
        let mut writer = writer(&disk, 1);
        for number in 1..=3 {
            writer.write(&numbered(1, number), Durability::Volatile).unwrap();
        }
        assert!(!writer.heal(&numbered(1, 3), Durability::Durable).unwrap(), "nothing is wrong yet");
        let first = if region == "slot" { disk.registrations().region() } else { log_region(&disk) }.slot(N1, 0);
        memory.with_block(first.plus(block), |bytes| bytes[2_000] ^= 1);
        assert!(writer.heal(&numbered(1, 3), Durability::Durable).unwrap(), "{region} {block}");
        assert_eq!(newest(&open(&memory)), numbered(1, 3), "{region} {block}");
        assert!(!writer.heal(&numbered(1, 3), Durability::Durable).unwrap());
        for number in 4..=12 {
            writer.write(&numbered(1, number), Durability::Volatile).unwrap();
            assert_eq!(newest(&disk), numbered(1, number));
        }
    }
}

/// An entry that is whole and cannot be understood hides the newest value: nothing may be concluded.
#[test]
fn an_entry_that_cannot_be_decoded_is_an_error_that_names_its_block() {
    let memory = formatted(2);
    let disk = open(&memory);
    let mut writer = writer(&disk, 1);
    for number in 1..=3 {
        writer.write(&numbered(1, number), Durability::Volatile).unwrap();
    }
    let second = log_region(&disk).slot(N1, 0).plus(1);
    memory.with_block(second, |bytes| {
        let mut block = Block(*bytes);
        block.0[96 + 1 + 8] ^= 1; // the sequence of the revision
        reseal(&mut block);
        *bytes = block.0;
    });
    let error = disk.registrations().newest().unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains(&second.0.to_string()) && text.contains("does not follow"), "{text}");
    let [a, _] = disk.registrations().inspect(N1).unwrap();
    assert!(a.unwrap().record.is_err());
}

#[test]
fn both_slots_are_shown_with_what_their_logs_have_made_of_them() {
    let disk = open(&formatted(2));
    let mut writer = writer(&disk, 1);
    for number in 1..=8 {
        writer.write(&numbered(1, number), Durability::Volatile).unwrap();
    }
    let [a, b] = disk.registrations().inspect(N1).unwrap().map(|slot| slot.unwrap().record.unwrap());
    assert_eq!((a, b), (numbered(1, 8), numbered(1, 6)));
}

/// What of a block may be on the disk after a loss of power: what was made durable last, or anything written since.
struct Surviving {
    durable: BTreeMap<BlockIndex, Block>,
    volatile: BTreeMap<BlockIndex, Vec<Block>>,
}

impl Surviving {
    fn of(before: &[Block], operations: &[Operation]) -> Self {
        let durable = (0..).map(BlockIndex).zip(before.iter().cloned()).collect();
        let mut it = Self { durable, volatile: BTreeMap::new() };
        for operation in operations {
            match operation {
                Operation::Write { first, blocks, durability, .. } => {
                    for (address, block) in (0..).map(|at| first.plus(at)).zip(blocks) {
                        it.volatile.entry(address).or_default().push(block.clone());
                        if *durability == Durability::Durable {
                            it.settle(address);
                        }
                    }
                }
                Operation::Flush => {
                    for address in it.volatile.keys().copied().collect::<Vec<_>>() {
                        it.settle(address);
                    }
                }
                Operation::Read { .. } | Operation::Tick => {}
            }
        }
        it
    }

    fn settle(&mut self, address: BlockIndex) {
        let newest = self.volatile.remove(&address).and_then(|mut blocks| blocks.pop());
        newest.into_iter().for_each(|block| {
            self.durable.insert(address, block);
        });
    }

    fn image(&self, mut choose: impl FnMut(usize) -> usize) -> Vec<Block> {
        let mut image = self.durable.clone();
        for (address, blocks) in &self.volatile {
            let chosen = choose(blocks.len() + 1).checked_sub(1).map(|at| blocks[at].clone());
            chosen.into_iter().for_each(|block| {
                image.insert(*address, block);
            });
        }
        image.into_values().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Protocol §1.3: a loss of power leaves of volatile writes any blocks whatever; what was durable is not lost, and what is read
    /// is a record that was written.
    #[test]
    fn a_loss_of_power_takes_nothing_that_was_durable(
        durable in proptest::collection::vec(proptest::bool::weighted(0.3), 1..20),
        cut in any::<proptest::sample::Index>(),
        choices in proptest::collection::vec(any::<proptest::sample::Index>(), 200),
    ) {
        let memory = formatted(2);
        let before = memory.snapshot();
        let (disk, recorder) = recorded(&memory);
        let mut writer = writer(&disk, 1);
        let mut ends = vec![(recorder.len(), false)];
        for (number, durable) in (1..).zip(&durable) {
            let durability = if *durable { Durability::Durable } else { Durability::Volatile };
            writer.write(&numbered(1, number), durability).unwrap();
            ends.push((recorder.len(), *durable));
        }
        let operations = recorder.operations();
        let cut = cut.index(operations.len() + 1);
        let promised = ends.iter().rposition(|(end, durable)| *durable && *end <= cut).unwrap_or(0) as u64;
        let begun = ends.iter().filter(|(end, _)| *end < cut).count() as u64;

        let mut choices = choices.iter().cycle();
        let image = Surviving::of(&before, &operations[..cut]).image(|count| choices.next().expect("endless").index(count));
        let left = MemoryDisk::new(image.len() as u64);
        left.restore(image);
        let found = newest(&ClusterDisk::open(Arc::new(left)).unwrap());
        let number = found.revision.seq;
        prop_assert!((promised..=begun).contains(&number), "{number}, but {promised} was durable and {begun} begun");
        prop_assert!(number == 0 || found == numbered(1, number));
    }
}

/// The harness has teeth: without the flush before a whole record something durable is lost.
#[test]
fn without_waiting_for_the_flush_something_would_be_lost() {
    let memory = formatted(2);
    let before = memory.snapshot();
    let (disk, recorder) = recorded(&memory);
    let mut writer = writer(&disk, 1);
    for number in 1..=18 {
        let durability = if number == 3 { Durability::Durable } else { Durability::Volatile };
        writer.write(&numbered(1, number), durability).unwrap();
    }
    let operations: Vec<Operation> =
        recorder.operations().into_iter().filter(|operation| *operation != Operation::Flush).collect();
    let mut random = 7_u64;
    let mut lost = BTreeSet::new();
    for cut in 0..=operations.len() {
        let number = |image: Vec<Block>| {
            let left = MemoryDisk::new(image.len() as u64);
            left.restore(image);
            let disk = ClusterDisk::open(Arc::new(left)).unwrap();
            disk.registrations().newest().ok().flatten().map(|record| record.revision.seq)
        };
        let durable =
            operations[..cut].iter().any(|it| matches!(it, Operation::Write { durability: Durability::Durable, .. }));
        for _ in 0..20 {
            let image = Surviving::of(&before, &operations[..cut]).image(|count| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(random >> 33).unwrap() % count
            });
            if durable && number(image).is_none_or(|number| number < 3) {
                lost.insert(cut);
            }
        }
    }
    assert!(!lost.is_empty());
}

/// Bit rot in the middle of a log (protocol D5): what followed had counted, so what was before must not be taken for the newest.
#[test]
fn an_entry_that_has_rotted_hides_those_behind_it_and_is_told() {
    let memory = formatted(2);
    let disk = open(&memory);
    let mut writer = writer(&disk, 1);
    for number in 1..=4 {
        writer.write(&numbered(1, number), Durability::Durable).unwrap();
    }
    let first = log_region(&disk).slot(N1, 0);
    memory.with_block(first.plus(1), |bytes| bytes[2_000] ^= 1);
    let error = disk.registrations().newest().unwrap_err();
    assert!(error.to_string().contains("unreadable"), "{error}");
    let [a, _] = disk.registrations().inspect(N1).unwrap();
    assert_eq!(a.unwrap_err(), BlockFault::LostEntry { at: first.plus(1) });
    assert!(writer.heal(&numbered(1, 4), Durability::Durable).unwrap());
    assert_eq!(newest(&disk), numbered(1, 4));
}
