use super::*;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::membership::{MemberEntry, Step, StepPhase, TransitionKind, Victim};
use phalanx_messages::register::{Claim, ProcessIdentity};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Level, NodeId, TransitionId};
use uuid::Uuid;

use crate::expiry::RegistersReading;

const VICTIM: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };
const HERE: Uuid = Uuid::from_u128(1);
const ELSEWHERE: Uuid = Uuid::from_u128(2);

/// A master whose victim wrote `register`, with a fence agent configured for it.
fn manager(one_host: bool, register: Option<NodeRegister>) -> Manager {
    let agent = FenceAgent::new("fence_ipmilan");
    let node = NodeConfiguration { fence: vec![agent], ..NodeConfiguration::new("n1", "h:1") };
    let nodes = [(NodeId(0), NodeConfiguration::new("n0", "h:0")), (NodeId(1), node)].into();
    let settings = ManagerSettings {
        me: NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) },
        boot: HERE,
        one_host,
        profile: TimingProfile::SAN_FAST,
        levels: Vec::new(),
        public_key: [0; 32],
        nodes_max: 4,
        configuration: Arc::new(ConfigurationRecord { nodes, ..ConfigurationRecord::default() }),
        record: Arc::default(),
    };
    let mut manager = Manager::new(settings, Claim::default());
    let registers = [(NodeId(1), register)].into();
    manager.reading = Some(Arc::new(RegistersReading { begun: Instant(0), ended: Instant(0), registers }));
    manager
}

fn register(incarnation: u64, boot: Uuid) -> Option<NodeRegister> {
    let daemon = ProcessIdentity { pid: 7, start_ticks: 7 };
    let fence = FenceHandle { daemon, ..FenceHandle::default() };
    Some(NodeRegister { incarnation: Incarnation(incarnation), boot, fence, ..NodeRegister::default() })
}

/// Whether the victim is reached locally, and by how many agents; none if nothing may be tried.
fn methods(manager: &Manager) -> Option<(bool, usize)> {
    manager.target(VICTIM).map(|target| (target.local.is_some(), target.agents.len()))
}

#[test]
fn local_in_this_boot_and_agents_on_other_hosts_never_both() {
    /// One host, incarnation and boot of the register, methods.
    type Row = (bool, Option<(u64, Uuid)>, Option<(bool, usize)>);
    let rows: [Row; 7] = [
        (false, Some((4, HERE)), Some((true, 0))),
        (false, Some((4, ELSEWHERE)), Some((false, 1))),
        (false, None, Some((false, 1))), // unreadable: it may be anywhere
        (true, Some((4, HERE)), Some((true, 0))),
        (true, Some((4, ELSEWHERE)), Some((true, 0))), // an earlier boot of this host
        (true, None, Some((false, 0))),                // the only host there is must not be switched off
        (false, Some((5, ELSEWHERE)), None),           // a newer start must not be hit
    ];
    for (one_host, seen, expected) in rows {
        let register = seen.and_then(|(incarnation, boot)| register(incarnation, boot));
        assert_eq!(methods(&manager(one_host, register)), expected, "{one_host} {seen:?}");
    }
}

#[test]
fn the_host_of_a_ghost_is_left_alone_until_it_could_have_booted() {
    let mut manager = manager(false, register(4, ELSEWHERE));
    let ghost = Victim {
        incarnation: VICTIM.incarnation,
        top: None,
        fence: FenceState::default(),
        reason: String::new(),
        step: Step {
            transition: TransitionId::default(),
            kind: TransitionKind::ForcedLeaving,
            level: Level::DLM,
            barrier: 0,
            restart: 0,
            phase: StepPhase::Between,
            participants: NodeSet::default(),
        },
    };
    let record = MembershipRecord { ghosts: [(NodeId(1), ghost)].into(), ..MembershipRecord::default() };
    manager.newest = Arc::new(record);
    let mut agents_at = |ms| {
        manager.moment.now = Instant(ms);
        manager.seek_proofs();
        methods(&manager)
    };
    assert_eq!(agents_at(1_000), Some((false, 0)));
    assert_eq!(agents_at(1_000 + GHOST_GRACE_MS - 1), Some((false, 0)));
    assert_eq!(agents_at(1_000 + GHOST_GRACE_MS), Some((false, 1)));
    // A member that is forced out is another matter.
    let entry =
        MemberEntry { incarnation: VICTIM.incarnation, state: NodeState::ForcedLeaving, ..MemberEntry::default() };
    let record = MembershipRecord { nodes: [(NodeId(1), entry)].into(), ..MembershipRecord::default() };
    manager.newest = Arc::new(record);
    manager.moment.now = Instant(100_000);
    manager.seek_proofs();
    assert_eq!(methods(&manager), Some((false, 1)));
}

/// A master whose victim is forced out, with a register as `change` makes it.
fn forcing_out(attested: bool, change: impl FnOnce(&mut NodeRegister)) -> Manager {
    let mut register = register(4, ELSEWHERE).unwrap();
    register.watchdog = WatchdogKind::Hardware;
    change(&mut register);
    let mut manager = manager(false, Some(register));
    let mut configuration = (*manager.configuration).clone();
    configuration.nodes.get_mut(&NodeId(1)).unwrap().watchdog_attested = attested;
    manager.configuration = Arc::new(configuration);
    manager.newest = marked(FenceState { marked: true, ..FenceState::default() });
    manager
}

fn marked(fence: FenceState) -> Arc<MembershipRecord> {
    let state = NodeState::ForcedLeaving;
    let entry = MemberEntry { incarnation: VICTIM.incarnation, state, fence, ..MemberEntry::default() };
    Arc::new(MembershipRecord { nodes: [(NodeId(1), entry)].into(), ..MembershipRecord::default() })
}

/// The registers are read as often as in a renewing node until `ms`, each time with what `heartbeat` says.
fn read_until(manager: &mut Manager, ms: u64, heartbeat: impl Fn(u64) -> u64) {
    let (from, period) = (manager.moment.now.0, manager.settings.profile.renewal_ms);
    for at in (from..ms).step_by(usize::try_from(period).unwrap()).chain([ms]) {
        let mut registers = manager.reading.as_ref().unwrap().registers.clone();
        registers.get_mut(&NodeId(1)).unwrap().as_mut().unwrap().heartbeat = heartbeat(at);
        manager.watch.observe(Instant(at), Instant(at), &registers);
        manager.moment.now = Instant(at);
    }
}

/// Protocol §4.5, F4: `h + T_fence`, from the end of the first read that returned the last value.
#[test]
fn a_silent_victim_is_dead_when_its_watchdog_has_certainly_fired() {
    let mut manager = forcing_out(true, |_| {});
    let fence_ms = manager.settings.profile.fence_ms();
    read_until(&mut manager, 1_000, |_| 7);
    assert_eq!(manager.target(VICTIM).unwrap().deadline_ms, Some(fence_ms - 1_000));
    read_until(&mut manager, fence_ms - 1, |_| 7);
    assert_eq!(manager.proofs_on_disk(), []);
    read_until(&mut manager, fence_ms, |_| 7);
    assert_eq!(manager.proofs_on_disk(), [(VICTIM, FenceMethod::Deadline)]);
}

/// `c + T_fence`, from the commit of the mark by this master, though the victim still writes.
#[test]
fn a_victim_that_still_writes_is_dead_after_the_deadline_of_its_mark() {
    let mut manager = forcing_out(true, |_| {});
    let fence_ms = manager.settings.profile.fence_ms();
    read_until(&mut manager, 5_000, |at| at);
    manager.marks_committed(&manager.newest.clone());
    read_until(&mut manager, 5_000 + fence_ms - 1, |at| at);
    assert_eq!(manager.proofs_on_disk(), []);
    manager.marks_committed(&manager.newest.clone()); // a later commit does not begin anew
    read_until(&mut manager, 5_000 + fence_ms, |at| at);
    assert_eq!(manager.proofs_on_disk(), [(VICTIM, FenceMethod::Deadline)]);
}

/// Both must be there: the victim's own word that the device was armed, and the administrator's that it fires.
#[test]
fn no_time_proves_a_death_without_an_attested_hardware_watchdog_or_over_an_mmap_disk() {
    let attested = || forcing_out(true, |_| {});
    let mut cases = vec![
        ("no attestation", forcing_out(false, |_| {})),
        ("no device", forcing_out(true, |register| register.watchdog = WatchdogKind::None)),
        ("paused with its host", forcing_out(true, |register| register.watchdog = WatchdogKind::Software)),
        ("another start", forcing_out(true, |register| register.incarnation = Incarnation(3))),
        ("an mmap disk", attested()),
        ("never read", attested()),
    ];
    cases[4].1.settings.one_host = true;
    for (case, manager) in &mut cases {
        let ms = 100 * manager.settings.profile.fence_ms();
        if *case == "never read" {
            manager.moment.now = Instant(ms);
        } else {
            read_until(manager, ms, |_| 7);
        }
        assert_eq!(manager.proofs_on_disk(), [], "{case}");
    }
}

/// Protocol §4.5, F1: shut out once is enough, and only a death is sought from then on.
#[test]
fn storage_agents_are_left_out_once_the_victim_is_shut_out() {
    let mut manager = forcing_out(true, |_| {});
    let mut configuration = (*manager.configuration).clone();
    let storage = FenceAgent { level: 1, proves: Certainty::Io, ..FenceAgent::new("fence_scsi") };
    configuration.nodes.get_mut(&NodeId(1)).unwrap().fence.push(storage);
    manager.configuration = Arc::new(configuration);
    let agents = |manager: &Manager| -> Vec<String> {
        manager.target(VICTIM).unwrap().agents.into_iter().map(|agent| agent.agent).collect()
    };
    assert_eq!(agents(&manager), ["fence_ipmilan", "fence_scsi"]);
    manager.newest =
        marked(FenceState { marked: true, io_certain: true, death_certain: false, method: Some(FenceMethod::Storage) });
    assert_eq!(agents(&manager), ["fence_ipmilan"]);
}
