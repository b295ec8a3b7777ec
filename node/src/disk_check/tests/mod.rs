//! A sound disk has no finding, and each kind of damage has its own.

mod registration;

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::membership::{
    BarrierCounts, Certainty, FenceMethod, FenceState, LevelRegistration, MemberEntry, MembershipRecord, NodeState,
    Step, StepPhase, TransitionKind, Victim,
};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister};
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord, RunState, ServiceRecord, ServiceRun};
use phalanx_messages::{Incarnation, Level, NodeId, NodeIncarnation, OperationId, Revision, Term, TransitionId};
use phalanx_storage::{AreaRecord, BlockFault, BlockIndex, ClusterDisk, Layout, MemoryDisk, Superblock, format};
use uuid::Uuid;

use super::*;

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);
const REVISION: Revision = Revision { term: Term(3), seq: 7 };
const LEVEL: Level = Level(200);

fn configuration() -> ConfigurationRecord {
    let node = |id: u16| (NodeId(id), NodeConfiguration::new(format!("n{id}"), format!("127.0.0.1:760{id}")));
    let nodes = [node(0), node(1)].into();
    ConfigurationRecord { cluster: "alpha".to_owned(), nodes, ..ConfigurationRecord::default() }
}

fn formatted() -> (MemoryDisk, ClusterDisk) {
    let layout = Layout::new(2, 4).unwrap();
    let memory = MemoryDisk::new(layout.blocks_needed());
    let superblock = Superblock {
        cluster: Uuid::from_u128(7),
        name: "alpha".to_owned(),
        nodes_max: 2,
        services_max: 4,
        profile: TimingProfile::DEV,
        created_at_ms: 0,
    };
    format(&memory, &superblock, &configuration(), &RegistrationRecord::default()).unwrap();
    let disk = ClusterDisk::open(Arc::new(memory.clone())).unwrap();
    (memory, disk)
}

/// Puts a record into the newer slot of a node's pair.
fn put<T: AreaRecord>(area: &mut AreaImage<T>, node: NodeId, record: T) {
    let epoch = record.revision().term;
    area.pairs.get_mut(&node).unwrap()[1] = Slot::Valid { incarnation: Incarnation(1), epoch, sequence: 1, record };
}

fn owner(term: u64) -> Claim {
    Claim { term: Term(term), phase: ClaimPhase::Owner, owned: Term(term) }
}

fn entry(state: NodeState, step: Option<Step>) -> MemberEntry {
    MemberEntry { incarnation: Incarnation(1), state, step, levels: vec![LEVEL], ..MemberEntry::default() }
}

fn step(kind: TransitionKind, counter: u64) -> Step {
    Step {
        transition: TransitionId { term: Term(3), counter },
        kind,
        level: LEVEL,
        barrier: 0,
        restart: 0,
        phase: StepPhase::Notifying,
        participants: [N0].into_iter().collect(),
    }
}

/// n0 is master and decides; n1 is joining.
fn membership() -> MembershipRecord {
    let barriers = BarrierCounts { joining: 2, leaving: 1, forced_leaving: 1 };
    let level =
        LevelRegistration { level: LEVEL, name: "a".to_owned(), barriers, needs: Certainty::Io, optional: false };
    MembershipRecord {
        revision: REVISION,
        formation: Term(1),
        configuration: Revision::default(),
        transition_counter: 4,
        nodes: [
            (N0, entry(NodeState::Joined, None)),
            (N1, entry(NodeState::Joining, Some(step(TransitionKind::Joining, 4)))),
        ]
        .into(),
        ghosts: BTreeMap::new(),
        levels: [(LEVEL, level)].into(),
    }
}

fn registration(run: ServiceRun) -> RegistrationRecord {
    let definition = crate::config::ClusterTemplate::of_text("t", "[[service]]\nname = \"s\"\n", &["n0".to_owned()]);
    let definition = definition.unwrap().services.remove(0);
    let services = [("s".to_owned(), ServiceRecord::new(definition, run))].into_iter().collect();
    RegistrationRecord { revision: REVISION, services, ..RegistrationRecord::default() }
}

fn running() -> ServiceRun {
    let operation = OperationId { revision: REVISION, index: 0 };
    let node = NodeIncarnation { node: N0, incarnation: Incarnation(1) };
    ServiceRun { state: RunState::Registered, node, operation, generation: operation, ..ServiceRun::default() }
}

fn image() -> Image {
    let mut image = Image::read(&formatted().1).unwrap();
    for (node, claim) in [(N0, owner(3)), (N1, Claim::default())] {
        let register = NodeRegister { incarnation: Incarnation(1), claim, ..NodeRegister::default() };
        put(&mut image.registers, node, register);
        put(&mut image.decisions, node, DecisionRegister { incarnation: Incarnation(1), claim });
    }
    put(&mut image.memberships, N0, membership());
    put(&mut image.registrations, N0, registration(running()));
    image
}

/// The one error of a disk that `change` has spoilt.
#[track_caller]
fn error_after(change: impl FnOnce(&mut Image)) -> Finding {
    let mut image = image();
    change(&mut image);
    let findings = check(&image);
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{findings:#?}");
    assert!(!is_sound(&findings) && !errors[0].advice.is_empty());
    errors[0].clone()
}

#[track_caller]
fn membership_error(change: impl FnOnce(&mut MembershipRecord)) -> String {
    let found = error_after(|image| {
        let mut record = membership();
        change(&mut record);
        put(&mut image.memberships, N0, record);
    });
    assert_eq!((found.place.region, found.place.node), ("MA", Some(N0)));
    found.what
}

#[test]
fn a_formatted_disk_and_one_at_work_are_sound() {
    assert_eq!(check(&Image::read(&formatted().1).unwrap()), []);
    assert_eq!(check(&image()), []);
}

#[test]
fn a_torn_slot_beside_a_valid_one_is_a_note_with_its_blocks() {
    let (memory, disk) = formatted();
    let block = disk.registers().region().slot(N1, 1);
    memory.corrupt(block);
    let findings = check(&Image::read(&disk).unwrap());
    assert_eq!(findings.len(), 1);
    let Finding { severity, place, what, .. } = &findings[0];
    assert_eq!(
        (*severity, *place),
        (Severity::Note, Place { region: "NB", node: Some(N1), blocks: Some((block, block)) })
    );
    assert!(what.contains("checksum") && is_sound(&findings), "{what}");
}

#[test]
fn two_torn_slots_are_an_error_that_names_both_blocks() {
    let (memory, disk) = formatted();
    let blocks = [0, 1].map(|slot| disk.memberships().region().slot(N1, slot));
    blocks.iter().for_each(|block| memory.corrupt(*block));
    let findings = check(&Image::read(&disk).unwrap());
    let found = &findings[0];
    assert_eq!((findings.len(), found.severity), (1, Severity::Error));
    assert_eq!(found.place.blocks.map(|(first, _)| first), Some(blocks[0]));
    assert!(found.what.starts_with("both slots are unreadable: checksum "), "{}", found.what);
}

#[test]
fn a_damaged_copy_of_the_superblock_is_an_error() {
    let (memory, disk) = formatted();
    memory.corrupt(BlockIndex(1));
    let findings = check(&Image::read(&disk).unwrap());
    assert_eq!((findings.len(), findings[0].place.region), (1, "SB"));
    assert_eq!(findings[0].place.blocks, Some((BlockIndex(1), BlockIndex(1))));
}

#[test]
fn a_record_that_cannot_be_decoded_is_never_taken_for_torn() {
    let found = error_after(|image| {
        image.decisions.pairs.get_mut(&N1).unwrap()[0] = Slot::Undecodable { why: "too long".to_owned() };
    });
    assert!(found.what.contains("cannot be decoded: too long") && found.place.region == "DL");
}

#[test]
fn the_slots_of_a_pair_follow_each_other() {
    let older = |epoch: u64, incarnation: u64, sequence: u64| {
        let record = NodeRegister {
            claim: Claim { term: Term(epoch), phase: ClaimPhase::Withdrawn, owned: Term(0) },
            ..NodeRegister::default()
        };
        Slot::Valid { incarnation: Incarnation(incarnation), epoch: Term(epoch), sequence, record }
    };
    let found = error_after(|image| image.registers.pairs.get_mut(&N1).unwrap()[0] = older(2, 0, 0));
    assert_eq!(found.what, "the newer slot says term 0, the older one 2");
    let found = error_after(|image| image.registers.pairs.get_mut(&N1).unwrap()[0] = older(0, 0, 8));
    assert_eq!(found.what, "a newer incarnation has sequence 1, below 8 of the older one");
    let found = error_after(|image| {
        let Slot::Valid { epoch, .. } = &mut image.registers.pairs.get_mut(&N1).unwrap()[1] else { panic!("valid") };
        *epoch = Term(5);
    });
    assert_eq!(found.what, "the header says term 5, the record term 0");
}

#[test]
fn no_term_has_two_owners() {
    let twice = |image: &mut Image| {
        put(
            &mut image.registers,
            N1,
            NodeRegister { incarnation: Incarnation(1), claim: owner(3), ..NodeRegister::default() },
        );
    };
    assert_eq!(error_after(twice).what, "term 3 has two owners: n0 and n1 (I-M1)");
    let found = error_after(|image| {
        put(&mut image.decisions, N1, DecisionRegister { incarnation: Incarnation(1), claim: owner(3) })
    });
    assert_eq!((found.place.region, found.place.node), ("DL", Some(N1)));
    let resigned = Claim { phase: ClaimPhase::Owner, owned: Term(2), ..owner(3) };
    let found = error_after(|image| {
        put(
            &mut image.registers,
            N0,
            NodeRegister { incarnation: Incarnation(1), claim: resigned, ..NodeRegister::default() },
        )
    });
    assert!(found.what.starts_with("the claim contradicts itself: term 3 in phase Owner"), "{}", found.what);
}

#[test]
fn the_records_form_one_chain() {
    let findings = |change: &dyn Fn(&mut Image)| {
        let mut image = image();
        change(&mut image);
        check(&image).into_iter().map(|finding| finding.what).collect::<Vec<_>>().join("\n")
    };
    let other = MembershipRecord { transition_counter: 9, ..membership() };
    let two = findings(&|image| put(&mut image.memberships, N1, other.clone()));
    for part in [
        "revision 3.7 has two contents (I-M2)",
        "n0 and n1 both have written records of term 3",
        "n1 has claimed none beyond 0 (I-M6)",
    ] {
        assert!(two.contains(part), "{part} is not in\n{two}");
    }
}

#[test]
fn a_step_that_a_node_has_processed_and_the_disk_lost_is_a_note() {
    let mut image = image();
    let seen = Revision { seq: 8, ..REVISION };
    put(&mut image.registers, N1, NodeRegister { incarnation: Incarnation(1), seen, ..NodeRegister::default() });
    let findings = check(&image);
    assert!(
        is_sound(&findings) && findings[0].what == "n1 has processed membership 3.8, and the newest on the disk is 3.7"
    );
}

#[test]
fn the_membership_names_a_configuration_that_exists() {
    let what = membership_error(|record| record.configuration = REVISION);
    assert_eq!(what, "membership 3.7 names configuration 3.7, which is nowhere on the disk");
}

#[test]
fn the_configuration_is_of_this_cluster_and_its_nodes_are_distinct() {
    let found = |change: fn(&mut ConfigurationRecord)| {
        let found = error_after(|image| {
            let mut record = configuration();
            change(&mut record);
            for node in [N0, N1] {
                let (epoch, incarnation) = (Term(0), Incarnation(0));
                let pair = [0, 1].map(|sequence| Slot::Valid { incarnation, epoch, sequence, record: record.clone() });
                image.configurations.pairs.insert(node, pair);
            }
        });
        assert_eq!(found.place.region, "CF");
        found.what
    };
    assert!(
        found(|record| record.cluster = "beta".to_owned()).contains("of cluster `beta`, the superblock of `alpha`")
    );
    assert_eq!(found(|record| record.nodes.get_mut(&N1).unwrap().name = "n0".to_owned()), "two nodes are named `n0`");
    let same = found(|record| record.nodes.get_mut(&N1).unwrap().address = "127.0.0.1:7600".to_owned());
    assert_eq!(same, "two nodes have the address 127.0.0.1:7600");
    let beyond = found(|record| {
        let node = NodeConfiguration { name: "n9".to_owned(), address: "x:1".to_owned(), ..record.nodes[&N1].clone() };
        record.nodes.insert(NodeId(9), node);
    });
    assert_eq!(beyond, "node id 9 lies beyond the 2 nodes of this disk");
}

#[test]
fn a_member_is_configured_and_no_newer_than_its_register() {
    let what = membership_error(|record| drop(record.nodes.insert(NodeId(5), entry(NodeState::Joined, None))));
    assert_eq!(what, "node #5 is Joined and not configured");
    let what = membership_error(|record| record.nodes.get_mut(&N1).unwrap().incarnation = Incarnation(2));
    assert_eq!(what, "node n1 is Joining with incarnation 2, and its register has 1 (I-M6)");
    let what = membership_error(|record| record.formation = Term(4));
    assert_eq!(what, "the cluster was formed in term 4, after term 3");
}

#[test]
fn state_step_and_fence_of_a_member_agree() {
    let what = membership_error(|record| drop(record.nodes.insert(N1, entry(NodeState::Joining, None))));
    assert_eq!(what, "node n1 is Joining with a step of kind None");
    // Protocol T-15, T-17: one level of a joined node comes or goes. Nothing else runs while it is joined.
    for (kind, fits) in [
        (TransitionKind::JoinExtending, true),
        (TransitionKind::Leaving, true),
        (TransitionKind::Joining, false),
        (TransitionKind::ForcedLeaving, false),
    ] {
        let change = |record: &mut MembershipRecord| {
            record.nodes.insert(N1, entry(NodeState::Joined, Some(step(kind, 4))));
        };
        if fits {
            let (mut image, mut record) = (image(), membership());
            change(&mut record);
            put(&mut image.memberships, N0, record);
            assert_eq!(check(&image), [], "{kind:?}");
        } else {
            assert_eq!(membership_error(change), format!("node n1 is Joined with a step of kind Some({kind:?})"));
        }
    }
    let what = membership_error(|record| record.nodes.get_mut(&N0).unwrap().levels = vec![LEVEL, Level(100)]);
    assert_eq!(what, "the levels of n0 are not in order");
    let forced = |fence, top| {
        membership_error(|record| {
            let step = step(TransitionKind::ForcedLeaving, 4);
            let forced = MemberEntry { fence, top: Some(top), ..entry(NodeState::ForcedLeaving, Some(step)) };
            record.nodes.insert(N1, forced);
        })
    };
    let marked = FenceState { marked: true, ..FenceState::default() };
    assert_eq!(forced(FenceState::default(), LEVEL), "n1 is being forced out without a mark");
    let certain = FenceState { death_certain: true, ..marked };
    assert_eq!(forced(certain, LEVEL), "the death of n1 is certain by no method (I-F1)");
    assert_eq!(forced(marked, Level(100)), "n1 is recovered at level 200, above its top 100 (I-T5)");
}

#[test]
fn a_ghost_belongs_to_a_configured_node_and_to_an_incarnation_that_is_gone() {
    let fence = FenceState { marked: true, io_certain: true, death_certain: true, method: Some(FenceMethod::Local) };
    let ghost = |incarnation: u64, kind| Victim {
        incarnation: Incarnation(incarnation),
        top: Some(LEVEL),
        fence,
        reason: String::new(),
        step: step(kind, 3),
    };
    let forced = TransitionKind::ForcedLeaving;
    let what = membership_error(|record| drop(record.ghosts.insert(NodeId(5), ghost(1, forced))));
    assert_eq!(what, "#5 has a ghost and is not configured");
    let what = membership_error(|record| drop(record.ghosts.insert(N1, ghost(1, forced))));
    assert_eq!(what, "n1 is a member beside a ghost of incarnation 1");
    let what = membership_error(|record| drop(record.ghosts.insert(N1, ghost(0, TransitionKind::Leaving))));
    assert_eq!(what, "the ghost of n1 has a step of kind Leaving");
    let what = membership_error(|record| {
        record.nodes.remove(&N1);
        record.ghosts.insert(N1, ghost(2, forced));
    });
    assert_eq!(what, "the ghost of n1 has incarnation 2, its register 1");
}

#[test]
fn a_step_is_known_counted_and_awaits_members_only() {
    let of_step = |change: fn(&mut Step)| {
        membership_error(|record| change(record.nodes.get_mut(&N1).unwrap().step.as_mut().unwrap()))
    };
    let ahead = of_step(|step| step.transition.counter = 5);
    assert_eq!(ahead, "transition 3.5 of n1 lies ahead of the record (3.7, counter 4)");
    assert!(of_step(|step| step.level = Level(300)).ends_with("runs at level 300, which nobody has registered"));
    assert_eq!(of_step(|step| step.barrier = 2), "transition 3.4 of n1 is at barrier 2 of 2 (I-T12)");
    let gone = of_step(|step| step.participants = [NodeId(7)].into_iter().collect());
    assert_eq!(gone, "transition 3.4 of n1 awaits #7, which is Inactive (I-T18)");
    assert!(of_step(|step| step.phase = StepPhase::Held).ends_with("awaits nodes although it rests"));
    let what = membership_error(|record| {
        let twin = entry(NodeState::Leaving, Some(step(TransitionKind::Leaving, 4)));
        record.nodes.insert(N0, twin);
    });
    assert_eq!(what, "transition 3.4 belongs to two nodes (I-T11)");
}

#[test]
fn a_torn_slot_never_hides_that_the_other_is_torn_too() {
    let torn = || Slot::Faulty { fault: BlockFault::Blank };
    let found = error_after(|image| drop(image.registers.pairs.insert(N1, [torn(), torn()])));
    assert_eq!(found.what, "both slots are unreadable: the block was never written; the block was never written");
}

mod repair {
    use super::*;
    use crate::disk_check::repair::plan;

    fn rot<T: AreaRecord>(area: &mut AreaImage<T>, node: NodeId) {
        for slot in area.pairs.get_mut(&node).unwrap() {
            *slot = Slot::Faulty { fault: BlockFault::Blank };
        }
    }

    /// n0 owns term 3 and depoch 4 and has written in both.
    fn used() -> Image {
        let (_, disk) = formatted();
        let mut image = Image::read(&disk).unwrap();
        put(
            &mut image.registers,
            N0,
            NodeRegister { incarnation: Incarnation(2), claim: owner(3), ..NodeRegister::default() },
        );
        let member = MemberEntry { incarnation: Incarnation(5), ..entry(NodeState::Joined, None) };
        let record =
            MembershipRecord { revision: REVISION, nodes: [(N1, member)].into(), ..MembershipRecord::default() };
        put(&mut image.memberships, N0, record);
        put(&mut image.decisions, N0, DecisionRegister { incarnation: Incarnation(2), claim: owner(4) });
        let revision = Revision { term: Term(4), seq: 1 };
        put(&mut image.registrations, N0, RegistrationRecord { revision, ..RegistrationRecord::default() });
        image
    }

    #[test]
    fn a_sound_disk_needs_nothing() {
        assert_eq!(plan(&used(), false), Default::default());
    }

    /// Protocol §3.8: "with owned = highest term seen". The register of a member proves no death, that of a node that is out has an
    /// incarnation it never had.
    #[test]
    fn a_lost_register_claims_every_term_on_the_disk() {
        let mut image = used();
        rot(&mut image.registers, N1);
        rot(&mut image.decisions, N1);
        let planned = plan(&image, false);
        let claim = |term| Claim { term: Term(term), phase: ClaimPhase::Withdrawn, owned: Term(term) };
        let [register] = &planned.registers[..] else { panic!("{planned:?}") };
        assert_eq!((register.record.claim, register.record.incarnation), (claim(3), Incarnation(5)), "a member");
        assert_eq!((register.incarnation, register.one_slot), (Incarnation(5), false));
        assert_eq!(planned.decisions[0].record.claim, claim(4));
        assert!(planned.losses.is_empty());

        let mut image = used();
        rot(&mut image.registers, N0);
        assert_eq!(plan(&image, false).registers[0].record.incarnation, Incarnation(1_000), "not in the record");
    }

    #[test]
    fn a_record_that_cannot_have_counted_is_replaced_by_the_newest_and_one_that_may_have_is_a_loss() {
        let mut image = used();
        for node in [N0, N1] {
            let mut image = image.clone();
            rot(&mut image.memberships, node);
            rot(&mut image.registrations, node);
            let planned = plan(&image, false);
            let losses: Vec<_> = planned.losses.iter().map(|loss| (loss.place.region, loss.may_be_given_up)).collect();
            if node == N1 {
                assert_eq!(planned.memberships[0].record.revision, REVISION, "n1 never owned a term");
                assert_eq!((losses.len(), planned.registrations.len()), (0, 1));
            } else {
                assert_eq!(losses, [("MA", true), ("RD", true)], "n0 may have committed");
                assert!(planned.memberships.is_empty());
                let given_up = plan(&image, true);
                assert_eq!((given_up.memberships.len(), given_up.losses.len()), (1, 0));
            }
        }
        // Where it is not known what a node owned, nothing of it may be replaced.
        rot(&mut image.registers, N1);
        rot(&mut image.memberships, N1);
        assert_eq!(plan(&image, false).losses.len(), 1);
        rot(&mut image.memberships, N0);
        assert!(plan(&image, true).losses.iter().all(|loss| !loss.may_be_given_up), "nothing is left");
    }

    #[test]
    fn a_torn_slot_gets_the_record_of_the_other_one_and_what_a_newer_program_wrote_is_left_alone() {
        let mut image = used();
        let newest = image.memberships.pairs.get_mut(&N0).unwrap();
        newest[0] = Slot::Faulty { fault: BlockFault::Blank };
        image.registrations.pairs.get_mut(&N1).unwrap()[0] = Slot::Undecodable { why: "newer".to_owned() };
        let planned = plan(&image, true);
        assert_eq!((planned.memberships[0].record.revision, planned.memberships[0].one_slot), (REVISION, true));
        let [loss] = &planned.losses[..] else { panic!("{planned:?}") };
        assert_eq!((loss.place.region, loss.may_be_given_up), ("RD", false));
    }
}
