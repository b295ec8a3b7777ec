//! The areas are large enough for what has to fit into them (protocol §2, "Sizes"; `docs/design/disk-layout.md`).

use crate::common::superblock;
use phalanx_messages::configuration::{ConfigurationRecord, Consumed, FenceAgent, NodeConfiguration};
use phalanx_messages::launch::Leaves;
use phalanx_messages::limits::{
    FENCE_BYTES_MAX, FENCE_METHODS_MAX, FENCE_PARAMETERS_MAX, LEVELS_MAX, NAME_BYTES_MAX, NODES_DEFAULT, PILLS_MAX,
    REASON_BYTES_MAX, SERVICES_DEFAULT,
};
use phalanx_messages::membership::{
    BarrierCounts, Certainty, FenceMethod, FenceState, LevelRegistration, MemberEntry, MembershipRecord, NodeState,
    Step, StepPhase, TransitionKind, Victim,
};
use phalanx_messages::register::{Containment, FenceHandle, NodeRegister, Pill};
use phalanx_messages::registration::{RegistrationRecord, ServiceRecord, ServiceRun};
use phalanx_messages::service::{
    AllowableNodes, AutoRegister, NodePreferences, ServiceCommand, ServiceDefinition, StopFailure,
};
use phalanx_messages::{Incarnation, Level, NodeId, Term, TransitionId, codec};
use phalanx_storage::header::{PAYLOAD_BYTES, RecordType};
use phalanx_storage::{Block, Layout, MemoryDisk, format};

fn nodes(count: u16) -> impl Iterator<Item = NodeId> {
    (0..count).map(NodeId)
}

fn name(kind: &str, index: usize) -> String {
    format!("{kind}-{index:0>width$}", width = NAME_BYTES_MAX - kind.len() - 1)
}

fn capacity(nodes_max: u16, services_max: u32, record_type: RecordType) -> usize {
    Layout::new(nodes_max, services_max).unwrap().region(record_type).unwrap().payload_bytes()
}

fn bytes<T: serde::Serialize>(record: &T) -> usize {
    codec::encode(record, usize::MAX).unwrap().len()
}

/// Every node with a transition, a ghost, every level and reasons of full length.
fn largest_membership(nodes_max: u16) -> MembershipRecord {
    let step = Step {
        transition: TransitionId { term: Term(u64::MAX), counter: u64::MAX },
        kind: TransitionKind::ForcedLeaving,
        level: Level(1000),
        barrier: 15,
        restart: u32::MAX,
        phase: StepPhase::Notifying,
        participants: nodes(nodes_max).collect(),
    };
    let levels: Vec<_> = (0..LEVELS_MAX).map(|level| Level(u16::try_from(level).unwrap())).collect();
    let fence =
        FenceState { marked: true, io_certain: true, death_certain: true, method: Some(FenceMethod::NewIncarnation) };
    let reason = "r".repeat(REASON_BYTES_MAX);
    let entry = MemberEntry {
        incarnation: Incarnation(u64::MAX),
        state: NodeState::ForcedLeaving,
        step: Some(step.clone()),
        levels: levels.clone(),
        top: Some(Level(1000)),
        leave_requested: true,
        withdrawing: true,
        fence,
        reason: reason.clone(),
    };
    let ghost = Victim { incarnation: Incarnation(u64::MAX), top: Some(Level(1000)), fence, reason, step };
    let registration = |level: &Level| LevelRegistration {
        level: *level,
        name: name("level", usize::from(level.0)),
        barriers: BarrierCounts { joining: 16, leaving: 16, forced_leaving: 16 },
        needs: Certainty::Death,
        optional: true,
    };
    MembershipRecord {
        nodes: nodes(nodes_max).map(|node| (node, entry.clone())).collect(),
        ghosts: nodes(nodes_max).map(|node| (node, ghost.clone())).collect(),
        levels: levels.iter().map(|level| (*level, registration(level))).collect(),
        ..MembershipRecord::default()
    }
}

#[test]
fn the_largest_membership_record_fits() {
    for nodes_max in [1, 2, 16, 64, 256] {
        let (record, capacity) =
            (bytes(&largest_membership(nodes_max)), capacity(nodes_max, 1, RecordType::Membership));
        assert!(record <= capacity, "{nodes_max} nodes: {record} bytes, {capacity} there");
    }
}

/// As many methods and parameters as are allowed, with as many bytes.
fn largest_fence() -> Vec<FenceAgent> {
    let (each, share) = (FENCE_PARAMETERS_MAX / FENCE_METHODS_MAX, FENCE_BYTES_MAX / FENCE_METHODS_MAX);
    let method = |index: usize| {
        let agent = format!("agent-{index}");
        let value = |index: usize| "v".repeat(if index == 0 { share - agent.len() - each } else { 0 });
        let parameters = (0..each).map(|index| (index.to_string(), value(index))).collect();
        FenceAgent { parameters, level: 3, ..FenceAgent::new(agent) }
    };
    let fence: Vec<_> = (0..FENCE_METHODS_MAX).map(method).collect();
    assert_eq!(bytes_of_fence(&fence), FENCE_BYTES_MAX);
    fence
}

fn bytes_of_fence(fence: &[FenceAgent]) -> usize {
    let parameters = fence.iter().flat_map(|method| &method.parameters);
    let parameters: usize = parameters.map(|(name, value)| name.len() + value.len()).sum();
    parameters + fence.iter().map(|method| method.agent.len()).sum::<usize>()
}

#[test]
fn the_largest_configuration_fits() {
    for nodes_max in [1, 2, 16, 256] {
        let node = |id: NodeId| NodeConfiguration {
            name: name("node", usize::from(id.0)),
            address: format!("{}:65535", "a".repeat(255)), // the longest host name
            public_key: Some([7; 32]),
            fence: largest_fence(),
            ..NodeConfiguration::new("", "")
        };
        let consumed = Consumed { incarnation: Incarnation(u64::MAX), counter: u64::MAX, revision: Default::default() };
        let record = ConfigurationRecord {
            cluster: name("cluster", 0),
            nodes: nodes(nodes_max).map(|id| (id, node(id))).collect(),
            consumed: nodes(nodes_max).map(|id| (id, consumed)).collect(),
            disk_votes: Some(u16::MAX),
            ..ConfigurationRecord::default()
        };
        assert!(bytes(&record) <= capacity(nodes_max, 1, RecordType::Configuration), "{nodes_max} nodes");
    }
}

#[test]
fn a_register_with_every_pill_and_long_paths_fits_one_block() {
    let pill = Pill { target: NodeId(255), incarnation: Incarnation(u64::MAX), term: Term(u64::MAX) };
    let fence = FenceHandle {
        containment: Containment::Cgroup { path: "c".repeat(1_024) },
        id_lock: "l".repeat(1_024),
        ..FenceHandle::default()
    };
    let register =
        NodeRegister { hears: nodes(256).collect(), pills: vec![pill; PILLS_MAX], fence, ..NodeRegister::default() };
    assert!(bytes(&register) <= PAYLOAD_BYTES, "{}", bytes(&register));
}

/// Four commands of 80 characters, 8 nodes.
fn definition(index: usize) -> ServiceDefinition {
    let command = || Some(ServiceCommand::shell("c".repeat(80), 60_000));
    ServiceDefinition {
        name: format!("service-{index:0>16}"),
        allowable_nodes: AllowableNodes::Listed(nodes(8).collect()),
        node_preferences: NodePreferences::Ordered(nodes(8).collect()),
        auto_register: AutoRegister::PowerUp,
        maturity_count: Some(3),
        maturity_time_ms: Some(30_000),
        start_command: command(),
        stop_command: command(),
        notify_command: command(),
        recovery_command: command(),
        leaves: Leaves::State,
        start_retries: 3,
        stop_failure: StopFailure::Fence,
        recover_lost_start: true,
        ..ServiceDefinition::new("")
    }
}

/// 8 nodes notified, and a text of what failed.
fn run() -> ServiceRun {
    let notified = nodes(8).map(|node| (node, Incarnation(1))).collect();
    ServiceRun { notified, failure: Some("f".repeat(240)), ..ServiceRun::default() }
}

#[test]
fn as_many_realistic_services_as_the_disk_is_formatted_for_fit() {
    for services_max in [4, SERVICES_DEFAULT] {
        let mut record = RegistrationRecord::of_definitions((0..services_max).map(definition));
        let loaded = record.services.into_iter().map(|(name, service)| (name, ServiceRecord { run: run(), ..service }));
        record.services = loaded.collect();
        let capacity = capacity(16, u32::try_from(services_max).unwrap(), RecordType::Registration);
        let record = bytes(&record);
        assert!(record <= capacity, "{services_max} services: {record} bytes, {capacity} there");
    }
}

#[test]
fn the_region_table_is_gapless_and_as_written_down() {
    let layout = Layout::new(u16::try_from(NODES_DEFAULT).unwrap(), u32::try_from(SERVICES_DEFAULT).unwrap()).unwrap();
    assert_eq!(
        layout.to_string(),
        "\
region                  first     blocks       a slot  writer
SB superblock               0          2            -  disk create
NB node register            2         32            1  each node its own
MA membership              34        160            5  each node its own, while it is master
CF configuration          194        256            8  each node its own, while it is master
DL decision               450         32            1  each node its own
RD registration           482       9600          300  each node its own, while it is decision maker
RL registration redo      10082       4800          150  each node its own, while it is decision maker
SB superblock            last          1            -  disk create
14883 blocks (59 MiB) for 16 nodes and 1000 services"
    );
    for (nodes_max, services_max) in [(1, 1), (16, 1_000), (256, 100_000)] {
        let layout = Layout::new(nodes_max, services_max).unwrap();
        let mut next = 2;
        for region in layout.regions() {
            assert_eq!(region.first.0, next, "{nodes_max} nodes");
            next += region.blocks();
            let last = region.slot(NodeId(nodes_max - 1), 1).0 + u64::from(region.slot_blocks);
            assert_eq!(last, next);
        }
        assert_eq!(layout.blocks_needed(), next + 1);
    }
}

/// `docs/design/disk-layout.md` shows the same table.
#[test]
fn the_written_table_is_the_computed_one() {
    let page = include_str!("../../../docs/design/disk-layout.md");
    let layout = Layout::new(16, 1_000).unwrap();
    for line in layout.to_string().lines() {
        assert!(page.contains(line.trim_end()), "docs/design/disk-layout.md lacks: {line}");
    }
}

#[test]
fn the_disk_of_the_default_size_can_be_formatted_full() {
    let services = u32::try_from(SERVICES_DEFAULT).unwrap();
    let memory = MemoryDisk::new(Layout::new(16, services).unwrap().blocks_needed());
    let registration = RegistrationRecord::of_definitions((0..SERVICES_DEFAULT).map(definition));
    format(&memory, &superblock(16, services), &crate::common::configuration(), &registration).unwrap();
    let disk = crate::common::open(&memory);
    assert_eq!(disk.registrations().newest().unwrap().as_ref(), Some(&registration));
    assert!(!memory.snapshot().iter().all(Block::is_blank));
}
