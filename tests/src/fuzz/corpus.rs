//! The committed inputs that mutations begin with: `tests/corpus/<target>/<name>`.
//!
//! [`write()`] makes them anew from values of every shape; inputs that were found to break something lie beside them, with names that begin
//! with [`FOUND`], and are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_actors::interconnect::fuzzing;
use phalanx_messages::admin::{AdminAnswer, AdminRequest, Status};
use phalanx_messages::codec;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::event::EventGroupDefinition;
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::limits::PEER_FRAME_BYTES_MAX;
use phalanx_messages::membership::{
    BarrierCounts, Certainty, FenceMethod, FenceState, LevelRegistration, MemberEntry, MembershipRecord, NodeState,
    Step, StepPhase, TransitionKind, Victim,
};
use phalanx_messages::order::{RegistrationOrder, RegistrationRequest, ServiceOrder};
use phalanx_messages::peer::{Heartbeat, JoinRefusal, MasterRequest, MembershipMessage, PeerMessage};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{Claim, ClaimPhase, Containment, FenceHandle, NodeRegister, Pill};
use phalanx_messages::registration::{
    CommandKind, DecisionRegister, Instance, OperationResult, Presence, RegistrationMessage, RegistrationRecord,
    ServiceRecord, ServiceRun, Sight,
};
use phalanx_messages::service::{ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, Level, NodeId, NodeIncarnation, OperationId, Revision, Term, TransitionId};
use phalanx_storage::header::{self, RecordType, WriteId};
use phalanx_storage::{Block, BlockIndex, ClusterDisk, Durability, Layout, MemoryDisk, SharedDisk, Superblock};
use uuid::Uuid;

use super::disk_targets::{NODE, Placed};
use super::targets::Target;

/// Begin of the names of inputs that broke something once.
pub const FOUND: &str = "found-";

/// Where the corpus of a target is.
#[must_use]
pub fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The corpus of a target, by name.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn read(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let directory = directory(target.name);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("a directory can be read");
        let bytes = std::fs::read(entry.path()).expect("a file can be read");
        (entry.file_name().to_string_lossy().into_owned(), bytes)
    };
    entries.map(file).collect()
}

/// Every input that is made, by target and name.
///
/// # Panics
/// Never: every value can be encoded.
#[must_use]
pub fn make() -> BTreeMap<&'static str, BTreeMap<String, Vec<u8>>> {
    let mut corpus: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    let mut add = |target, inputs: Vec<(&str, Vec<u8>)>| {
        let named = inputs.into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
        corpus.entry(target).or_default().extend(named);
    };
    add("interconnect-frames", frames());
    add("interconnect-messages", messages());
    add("local-requests", requests());
    add("local-answers", answers());
    add("superblock", vec![("formatted", trimmed(BlockIndex(0), &formatted_disk().snapshot()[..1]))]);
    add("node-register", record(register(), NodeRegister::default()));
    add("membership-record", record(membership(), MembershipRecord::default()));
    add("configuration-record", record(configuration(), ConfigurationRecord::default()));
    add("decision-register", record(decision(), DecisionRegister::default()));
    add("registration-record", record(registration(), RegistrationRecord::default()));
    add("registration-redo", redo());
    corpus
}

/// Writes what [`make`] gives, and a first message of a handshake, which no two runs have in common, if there is none yet.
///
/// # Errors
/// What the system says.
pub fn write() -> std::io::Result<()> {
    for (target, inputs) in make() {
        let directory = directory(target);
        std::fs::create_dir_all(&directory)?;
        for (name, bytes) in inputs {
            std::fs::write(directory.join(name), bytes)?;
        }
    }
    let handshake = directory("interconnect-handshake");
    std::fs::create_dir_all(&handshake)?;
    let first = handshake.join("first-message");
    if !first.exists() {
        let message = fuzzing::first_message();
        std::fs::write(handshake.join("first-and-garbage"), [&message[..], &[0, 0, 0, 4, 1, 2, 3, 4]].concat())?;
        std::fs::write(first, message)?;
    }
    Ok(())
}

const CLUSTER: Uuid = Uuid::from_u128(0x5eed);
const MEMBER: NodeIncarnation = NodeIncarnation { node: NODE, incarnation: Incarnation(7) };
const REVISION: Revision = Revision { term: Term(3), seq: 5 };

/// The disk that records are read from.
///
/// # Panics
/// Never: it is large enough.
#[must_use]
pub fn formatted_disk() -> MemoryDisk {
    let superblock = Superblock {
        cluster: CLUSTER,
        name: "alpha".to_owned(),
        nodes_max: 3,
        services_max: 20,
        profile: TimingProfile::DEV,
        created_at_ms: 0,
    };
    let layout = Layout::new(superblock.nodes_max, superblock.services_max).expect("a small disk");
    let disk = MemoryDisk::new(layout.blocks_needed());
    phalanx_storage::format(&disk, &superblock, &configuration(), &RegistrationRecord::default())
        .expect("memory takes everything");
    disk
}

/// Blocks without the zeroes at their end. Write ids are of one boot and process, so they are made the same.
fn trimmed(mut address: BlockIndex, blocks: &[Block]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in blocks {
        let mut header = header::unseal(block, address).expect("it was sealed");
        header.write = WriteId { boot: 1, counter: 1 };
        bytes.extend_from_slice(&header::seal(&header, header::payload(block, &header)).0);
        address = address.plus(1);
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// A rich record and an empty one, as they lie in a slot.
fn record<T: Placed>(rich: T, empty: T) -> Vec<(&'static str, Vec<u8>)> {
    let blocks = |record: &T| {
        let memory = formatted_disk();
        let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("just formatted");
        let area = T::area(&disk);
        let mut writer = area.writer(NODE, MEMBER.incarnation).expect("memory is readable");
        writer.write(record, Durability::Volatile).expect("memory takes everything"); // sequence 2: slot 0
        let mut blocks = Block::zeroes(usize::from(area.region().slot_blocks));
        let first = area.region().slot(NODE, 0);
        memory.read_blocks(first, &mut blocks).expect("memory is readable");
        let parts = blocks.iter().take_while(|block| header::has_magic(&block.0)).count();
        trimmed(first, &blocks[..parts])
    };
    vec![("rich", blocks(&rich)), ("empty", blocks(&empty))]
}

fn register() -> NodeRegister {
    let pill = Pill { target: NodeId(2), incarnation: Incarnation(4), term: Term(3) };
    let containment = Containment::Cgroup { path: "/sys/fs/cgroup/phalanx".to_owned() };
    let fence = FenceHandle { containment, id_lock: "/var/lib/phalanx/n1.lock".to_owned(), ..FenceHandle::default() };
    let claim = Claim { term: Term(3), phase: ClaimPhase::Owner, owned: Term(3) };
    NodeRegister {
        incarnation: MEMBER.incarnation,
        heartbeat: 99,
        seen: REVISION,
        claim,
        pills: vec![pill; 3],
        fence,
        ..NodeRegister::default()
    }
}

fn decision() -> DecisionRegister {
    let claim = Claim { term: Term(4), phase: ClaimPhase::Claim, owned: Term(2) };
    DecisionRegister { incarnation: MEMBER.incarnation, claim }
}

fn level() -> LevelRegistration {
    let barriers = BarrierCounts { joining: 2, leaving: 1, forced_leaving: 3 };
    LevelRegistration { level: Level::DLM, name: "dlm".to_owned(), barriers, needs: Certainty::Io, optional: true }
}

fn step(kind: TransitionKind) -> Step {
    Step {
        transition: TransitionId { term: Term(3), counter: 2 },
        kind,
        level: Level::DLM,
        barrier: 1,
        restart: 2,
        phase: StepPhase::Notifying,
        participants: [NodeId(0), NODE].into_iter().collect(),
    }
}

fn membership() -> MembershipRecord {
    let fence = FenceState { marked: true, io_certain: true, death_certain: true, method: Some(FenceMethod::Local) };
    let joined = MemberEntry {
        incarnation: MEMBER.incarnation,
        state: NodeState::Joined,
        levels: vec![Level::DLM, Level::EVENT_MANAGER],
        ..MemberEntry::default()
    };
    let forced = MemberEntry {
        incarnation: Incarnation(4),
        state: NodeState::ForcedLeaving,
        step: Some(step(TransitionKind::ForcedLeaving)),
        top: Some(Level::DLM),
        fence,
        reason: "its register is silent".to_owned(),
        ..MemberEntry::default()
    };
    let ghost = Victim {
        incarnation: Incarnation(3),
        top: None,
        fence,
        reason: "cold start".to_owned(),
        step: step(TransitionKind::ForcedLeaving),
    };
    MembershipRecord {
        revision: REVISION,
        nodes: [(NODE, joined), (NodeId(2), forced)].into(),
        ghosts: [(NodeId(2), ghost)].into(),
        transition_counter: 9,
        ..MembershipRecord::default()
    }
}

fn configuration() -> ConfigurationRecord {
    let node = |id: u16| (NodeId(id), NodeConfiguration::new(format!("n{id}"), format!("10.0.0.{id}:7600")));
    ConfigurationRecord { cluster: "alpha".to_owned(), nodes: (0..3).map(node).collect(), ..Default::default() }
}

fn definition(name: &str) -> ServiceDefinition {
    let command = |text: &str| Some(ServiceCommand::shell(text.repeat(60), 30_000));
    ServiceDefinition {
        start_command: command("/usr/local/bin/start "),
        stop_command: command("/usr/local/bin/stop "),
        ..ServiceDefinition::new(name)
    }
}

/// A disk whose newest database is [`registration`], in slot 0 of the node; or, in the log of that slot, what follows it.
pub(super) fn disk_with_log(with_entries: bool) -> MemoryDisk {
    let memory = formatted_disk();
    let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("just formatted");
    let mut writer = disk.registrations().writer(NODE, MEMBER.incarnation).expect("memory is readable");
    let mut record = registration();
    let mut write = |record: &RegistrationRecord| {
        writer.write(record, Durability::Durable).expect("memory takes everything");
    };
    write(&record);
    if !with_entries {
        return memory;
    }
    let mut next = |change: &dyn Fn(&mut RegistrationRecord)| {
        record.revision.seq += 1;
        change(&mut record);
        write(&record);
    };
    next(&|record| {
        let service = record.services.get_mut("web").expect("it is defined");
        service.run.want = true;
        service.instances.insert(NODE, service.run.clone());
    });
    next(&|record| {
        record.services.remove("clock");
        record.standby = [NODE].into_iter().collect();
        let sight = Sight { incarnation: MEMBER.incarnation, presence: Presence::Joined };
        record.view.insert(NODE, sight);
    });
    next(&|record| {
        let group = EventGroupDefinition { name: "disks".to_owned(), events: vec![], nodes: vec![NODE], enabled: true };
        record.event_groups.insert(group.name.clone(), group);
        record.services.insert("more".to_owned(), ServiceRecord::new(definition("more"), ServiceRun::default()));
    });
    memory
}

/// The first entry alone, and three.
fn redo() -> Vec<(&'static str, Vec<u8>)> {
    let memory = disk_with_log(true);
    let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("just formatted");
    let log = disk.layout().region(RecordType::RegistrationRedo).expect("every disk has one");
    let first = log.slot(NODE, 0);
    let mut blocks = Block::zeroes(usize::from(log.slot_blocks));
    memory.read_blocks(first, &mut blocks).expect("memory is readable");
    vec![("one", trimmed(first, &blocks[..1])), ("three", trimmed(first, &blocks[..3]))]
}

/// Of two blocks.
pub(super) fn registration() -> RegistrationRecord {
    let mut record = RegistrationRecord::of_definitions([definition("clock"), definition("web")]);
    record.revision = REVISION;
    record
}

fn encoded(message: &PeerMessage) -> Vec<u8> {
    codec::encode(message, PEER_FRAME_BYTES_MAX).expect("a small message")
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let hears = [NodeId(0), NODE].into_iter().collect();
    let heartbeat = PeerMessage::Heartbeat(Heartbeat { seq: 3, seen: REVISION, hears });
    let of_membership = |message| encoded(&PeerMessage::Membership(message));
    let of_registration = |message| encoded(&PeerMessage::Registration(message));
    let join = MembershipMessage::JoinRequest { levels: vec![level()], boot: CLUSTER, hears, public_key: [5; 32] };
    let refused = JoinRefusal::BarrierMismatch { have: level(), want: level() };
    let fence = MasterRequest::Fence { victim: MEMBER, reason: "by hand".to_owned() };
    let order =
        RegistrationOrder::Service { service: "web".to_owned(), order: ServiceOrder::Transfer { to: Some(NODE) } };
    let result = OperationResult {
        instance: Instance::only("web"),
        operation: OperationId::default(),
        kind: CommandKind::Start,
        outcome: LaunchResult::Failed { text: "exit status 1".to_owned() },
    };
    vec![
        ("heartbeat", encoded(&heartbeat)),
        ("join-request", of_membership(join)),
        ("join-refused", of_membership(MembershipMessage::JoinRefused(refused))),
        ("notify", of_membership(MembershipMessage::Notify(Arc::new(membership())))),
        ("request", of_membership(MembershipMessage::Request { counter: 4, request: fence })),
        ("results", of_registration(RegistrationMessage::Results(vec![result]))),
        (
            "requests",
            of_registration(RegistrationMessage::Requests(vec![RegistrationRequest {
                source: MEMBER,
                counter: 2,
                order,
            }])),
        ),
    ]
}

/// Plain frames: a whole message, one in three parts, an empty one, and one that never ends.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |flags: u8, text: &[u8]| {
        let length = u16::try_from(text.len() + 1).expect("a short frame").to_le_bytes();
        [&length[..], &[flags], text].concat()
    };
    vec![
        ("whole", frame(2, b"a message")),
        ("parts", [frame(3, b"one "), frame(1, b"mes"), frame(2, b"sage")].concat()),
        ("empty", [0, 0].to_vec()),
        ("endless", [frame(1, &[7; 200]), frame(1, &[8; 200])].concat()),
    ]
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let json = |request: &AdminRequest| serde_json::to_vec(request).expect("a request");
    let order = RegistrationOrder::Service { service: "web".to_owned(), order: ServiceOrder::Hold };
    vec![
        ("status", json(&AdminRequest::Status)),
        ("leave", json(&AdminRequest::Leave { node: Some("n1".to_owned()) })),
        ("order", json(&AdminRequest::Order(order))),
        ("fence", json(&AdminRequest::Fence { node: "n2".to_owned(), reason: "why".to_owned() })),
        ("logs", json(&AdminRequest::Logs { service: None, lines: 20, follow: true })),
    ]
}

fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let json = |answer: &AdminAnswer| serde_json::to_vec(answer).expect("an answer");
    vec![
        ("status", json(&AdminAnswer::Status(Box::new(Status { cluster: "alpha".to_owned(), ..Status::default() })))),
        ("definitions", json(&AdminAnswer::Definitions(vec![ServiceDefinition::new("web")]))),
        ("refused", json(&AdminAnswer::Refused { code: 105, text: "no such node".to_owned() })),
    ]
}
