//! Boot order of a node: who it is, its lease, then the actors from the disk up to the local socket (architecture §3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_actors::client_service::CommandSurroundings;
use phalanx_actors::command_subsystem::{CommandSubsystem, CommandSubsystemSettings};
use phalanx_actors::disk::DiskActor;
use phalanx_actors::event_daemon::{DaemonSettings, EventDaemon};
use phalanx_actors::event_manager::EventManager;
use phalanx_actors::fence_actor::FenceActor;
use phalanx_actors::gate::Gate;
use phalanx_actors::guard::PanicGuard;
use phalanx_actors::interconnect::{Interconnect, InterconnectSettings, PeerListener};
use phalanx_actors::lease_thread::{self, LeaseEdges, LeaseHandle, LeaseSettings};
use phalanx_actors::load_sampler::LoadSampler;
use phalanx_actors::local_api::{self, LocalApi, LocalApiEdges};
use phalanx_actors::membership_manager::{
    Edges, LeaveBegun, ManagerSettings, MembershipEnded, MembershipManager, UseFence,
};
use phalanx_actors::membership_watcher::MembershipWatcher;
use phalanx_actors::ports::ConfigurationChanged;
use phalanx_actors::register_repair::RegisterRepair;
use phalanx_actors::registration_and_launch::{RegistrationAndLaunch, RegistrationEdges, RegistrationSettings};
use phalanx_actors::restart::Restarts;
use phalanx_actors::service_actor::ServiceActors;
use phalanx_actors::supervisor::{Guarded, NodeSupervisor};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::LevelRegistration;
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::register::{Claim, WatchdogKind};
use phalanx_messages::{Level, NodeIncarnation};
use phalanx_protocol::proxy_repair::ProxyRepair;
use phalanx_protocol::registration::DatabaseRoom;
use phalanx_storage::Backend;
use tokio::sync::watch;

use super::identity::{self, Start};
use super::{BootError, NodeActors, NodeBuilder, NodeHandle, WardenPort};
use crate::timing::probe_ms;

/// Takes the word of the membership manager to the handle.
struct EndListener {
    leaving: watch::Sender<bool>,
    ended: watch::Sender<Option<MembershipEnded>>,
    supervisor: Addr<NodeSupervisor>,
}

impl Actor for EndListener {
    type Context = Context<Self>;
}

impl Handler<MembershipEnded> for EndListener {
    type Result = ();

    fn handle(&mut self, end: MembershipEnded, _: &mut Self::Context) {
        self.supervisor.do_send(phalanx_actors::supervisor::StandDown);
        self.ended.send_replace(Some(end));
    }
}

impl Handler<LeaveBegun> for EndListener {
    type Result = ();

    fn handle(&mut self, _: LeaveBegun, _: &mut Self::Context) {
        self.leaving.send_replace(true);
    }
}

/// What every part is given.
struct Common {
    me: NodeIncarnation,
    gate: Gate,
    supervisor: Addr<NodeSupervisor>,
    configuration: Arc<ConfigurationRecord>,
    warden: Recipient<phalanx_messages::launch::WardenRequest>,
}

impl Common {
    fn guard(&self, name: &'static str) -> PanicGuard {
        PanicGuard::new(name, self.gate.clone(), self.supervisor.clone().recipient())
    }
}

pub(super) fn assemble(
    mut builder: NodeBuilder,
    warden: impl FnOnce(&Addr<NodeSupervisor>) -> std::io::Result<WardenPort>,
) -> Result<NodeHandle, BootError> {
    let configuration = newest_configuration(&builder)?;
    let gate = Gate::new(builder.clock);
    let panic = std::mem::replace(&mut builder.panic, Box::new(|_| {}));
    let supervisor = NodeSupervisor::new(gate.clone(), panic).start();
    let WardenPort { requests, fence, line, watchdog } = warden(&supervisor).map_err(BootError::Disk)?;
    let nonce = random_nonce()?;
    let Start { me, mut register } =
        identity::start(&builder.disk, &builder.name, &configuration, builder.host, fence, nonce)?;
    let claim = register.claim;
    register.watchdog = watchdog.as_ref().map_or(WatchdogKind::None, |(_, kind)| *kind);
    let common = Common { me, gate, supervisor, configuration, warden: requests };
    let edges = LeaseEdges {
        registers: Vec::new(),
        lease: Vec::new(),
        panic: common.supervisor.clone().recipient(),
        gate: common.gate.clone(),
        warden: line,
        watchdog: watchdog.map(|(device, _)| device),
    };
    let lease = start_lease(&builder, me, register, edges)?;
    let disk = DiskActor::new(builder.disk.clone(), me, builder.clock, builder.io, common.guard("disk"))
        .map_err(BootError::Disk)?
        .start();
    start_actors(builder, common, lease, disk, claim)
}

fn newest_configuration(builder: &NodeBuilder) -> Result<Arc<ConfigurationRecord>, BootError> {
    // The membership record names the configuration it belongs to (protocol §2, "MA and CF together").
    let record = builder.disk.memberships().newest().map_err(BootError::Storage)?;
    let named = match record {
        Some(record) => builder.disk.configurations().find(record.configuration).map_err(BootError::Disk)?,
        None => None,
    };
    let configuration = match named {
        Some(configuration) => Some(configuration),
        None => builder.disk.configurations().newest().map_err(BootError::Storage)?,
    };
    configuration.map(Arc::new).ok_or(BootError::NoConfiguration)
}

fn random_nonce() -> Result<u64, BootError> {
    use rand::TryRngCore;
    rand::rngs::OsRng.try_next_u64().map_err(|error| BootError::Random(std::io::Error::other(error)))
}

fn start_lease(
    builder: &NodeBuilder,
    me: NodeIncarnation,
    first: phalanx_messages::register::NodeRegister,
    edges: LeaseEdges,
) -> Result<LeaseHandle, BootError> {
    let profile = builder.disk.superblock().profile;
    let settings = LeaseSettings { me, profile, clock: builder.clock, first, stall: builder.stall };
    let disk = builder.disk.clone();
    let lease = match builder.io {
        phalanx_actors::disk::IoMode::Thread => lease_thread::spawn(settings, disk, edges),
        phalanx_actors::disk::IoMode::Inline => lease_thread::spawn_inline(settings, disk, edges),
    };
    lease.map_err(BootError::Disk)
}

/// Everything above lease and disk. The membership manager's mailbox exists before it starts, because levels, fence and
/// registration-and-launch all answer to it.
fn start_actors(
    builder: NodeBuilder,
    common: Common,
    lease: LeaseHandle,
    disk: Addr<DiskActor>,
    claim: Claim,
) -> Result<NodeHandle, BootError> {
    let listener = match &builder.socket {
        Some(path) => Some((local_api::listen(path, builder.socket_group).map_err(BootError::Socket)?, path.clone())),
        None => None,
    };
    let superblock = builder.disk.superblock().clone();
    let several_hosts = builder.disk.geometry().capabilities.several_hosts;
    let record = Arc::new(builder.disk.memberships().newest().map_err(BootError::Storage)?.unwrap_or_default());
    let (profile, clock) = (superblock.profile, builder.clock);
    let (ended_sender, ended) = watch::channel(None);
    let (leaving_sender, leaving) = watch::channel(false);
    let public_key = builder.key_pair.public;
    let mut parts = None;
    let membership = MembershipManager::create(|ctx| {
        let membership = ctx.address();
        let restarts = Restarts::new(common.guard("restarts"), clock);
        let room = DatabaseRoom {
            bytes: builder.disk.registrations().region().payload_bytes(),
            services: superblock.services_max as usize,
        };
        let interconnect = InterconnectSettings {
            me: common.me,
            cluster: superblock.cluster,
            cluster_keys: builder.cluster_keys.clone(),
            key_pair: builder.key_pair.clone(),
            profile,
            clock,
            refuse_connections: builder.refuse_connections,
        };
        let surroundings = CommandSurroundings {
            socket: builder.socket.as_ref().map_or_else(String::new, |path| path.display().to_string()),
            cluster: common.configuration.cluster.clone(),
            node: builder.name.clone(),
            agent_runner: builder.agent_runner.clone(),
        };
        let local_api_edges =
            |registration: &Addr<RegistrationAndLaunch>, interconnect: &Addr<Interconnect>, events| LocalApiEdges {
                membership: membership.clone().recipient(),
                traces: membership.clone().recipient(),
                leave: membership.clone().recipient(),
                services: registration.clone(),
                events,
                master: membership.clone().recipient(),
                try_change: membership.clone().recipient(),
                register: membership.clone().recipient(),
                withdraw: membership.clone().recipient(),
                use_keys: interconnect.clone().recipient(),
                keys_in_use: interconnect.clone().recipient(),
                restarts: restarts.clone(),
            };
        // registration-and-launch, the interconnect and the local socket know each other: each gets a mailbox before it starts.
        let registration_context = Context::<RegistrationAndLaunch>::new();
        let registration = registration_context.address();
        let events = vec![
            PeerListener::new(membership.clone().recipient(), |it| !matches!(it, PeerMessage::Registration(_))),
            PeerListener::new(registration.clone().recipient(), |it| matches!(it, PeerMessage::Registration(_))),
        ];
        let interconnect =
            Interconnect::new(interconnect, builder.network, events, common.guard("interconnect")).start();
        let event_daemon = EventDaemon::new(DaemonSettings {
            me: common.me,
            clock,
            gate: common.gate.clone(),
            surroundings: surroundings.clone(),
            kill_ms: profile.kill_ms,
            warden: common.warden.clone(),
        })
        .start();
        let event_manager_context = Context::<EventManager>::new();
        let event_manager = event_manager_context.address();
        let local_api = LocalApi::new(
            local_api_edges(&registration, &interconnect, event_daemon.clone()),
            listener,
            common.me.node,
            common.configuration.clone(),
        )
        .logs(builder.logs)
        .key_file(builder.key_file.clone())
        .start();
        let edges = RegistrationEdges {
            read_decisions: disk.clone().recipient(),
            write_decision: disk.clone().recipient(),
            read_registration: disk.clone().recipient(),
            write_registration: disk.clone().recipient(),
            peers: interconnect.clone().recipient(),
            warden: common.warden.clone(),
            actors: ServiceActors::new(builder.service_actors),
            force: membership.clone().recipient(),
            happened: vec![local_api.clone().recipient()],
            committed: vec![event_manager.clone().recipient()],
        };
        let settings = RegistrationSettings {
            me: common.me,
            profile,
            clock,
            gate: common.gate.clone(),
            guard: common.guard("registration and launch"),
            surroundings: surroundings.clone(),
            room,
        };
        registration_context.run(RegistrationAndLaunch::new(settings, edges));
        if builder.samples_load {
            LoadSampler::new(clock, restarts.clone(), registration.clone().recipient()).start();
        }
        let watcher = MembershipWatcher::new(common.me, restarts, registration.clone().recipient()).start();
        let watchers = vec![watcher.clone().recipient()];
        event_manager_context.run(
            EventManager::new(common.guard("event manager"), membership.clone().recipient(), watchers)
                .with_daemon(event_daemon.clone()),
        );
        let mut registrations = vec![EventManager::registration()];
        let mut levels: BTreeMap<Level, Recipient<SubsystemNotification>> =
            [(Level::EVENT_MANAGER, event_manager.clone().recipient())].into();
        let mut configured: Vec<Recipient<ConfigurationChanged>> = vec![
            interconnect.clone().recipient(),
            local_api.clone().recipient(),
            registration.clone().recipient(),
            event_daemon.clone().recipient(),
        ];
        for level in builder.command_levels {
            let settings = CommandSubsystemSettings {
                me: common.me.node,
                registration: level.registration.clone(),
                commands: level.commands,
                environment: vec![
                    ("PHALANX_SOCKET".to_owned(), surroundings.socket.clone()),
                    ("PHALANX_CLUSTER".to_owned(), surroundings.cluster.clone()),
                ],
                configuration: common.configuration.clone(),
                guard: common.guard("command subsystem"),
            };
            let answers = membership.clone().recipient();
            let subsystem = CommandSubsystem::new(settings, common.warden.clone(), answers).start();
            configured.push(subsystem.clone().recipient());
            add_level(&mut registrations, &mut levels, level.registration, subsystem.recipient());
        }
        for (registration, make) in builder.levels {
            let level = make(membership.clone().recipient());
            add_level(&mut registrations, &mut levels, registration, level);
        }
        registrations.extend(builder.subsystems.iter().map(|subsystem| subsystem.registration.clone()));
        registrations.sort_by_key(|registration| registration.level);
        for interested in &configured {
            interested.do_send(ConfigurationChanged(common.configuration.clone()));
        }
        let listener =
            EndListener { leaving: leaving_sender, ended: ended_sender, supervisor: common.supervisor.clone() }.start();
        let edges = Edges {
            clock,
            lease: lease.clone(),
            disk: disk.clone(),
            gate: common.gate.clone(),
            guard: common.guard("membership manager"),
            peers: interconnect.clone().recipient(),
            many: interconnect.clone().recipient(),
            seen: interconnect.clone().recipient(),
            master: interconnect.clone().recipient(),
            targets: interconnect.clone().recipient(),
            fence: None,
            levels: levels.clone(),
            subsystems: builder.subsystems,
            observers: vec![local_api.clone().recipient()],
            configuration: configured,
            leases: vec![registration.clone().recipient()],
            probe: Duration::from_millis(probe_ms(if several_hosts { Backend::Direct } else { Backend::Mmap })),
            leaving: listener.clone().recipient(),
            ended: listener.recipient(),
        };
        let settings = ManagerSettings {
            me: common.me,
            boot: builder.host.boot,
            one_host: !several_hosts,
            profile,
            levels: registrations,
            public_key,
            nodes_max: superblock.nodes_max,
            configuration: common.configuration.clone(),
            record: record.clone(),
        };
        parts = Some((interconnect, event_manager, event_daemon, watcher, registration, local_api, levels));
        MembershipManager::new(settings, edges, claim)
    });
    let fence = FenceActor::new(builder.fence_methods, membership.clone().recipient(), common.guard("fence")).start();
    membership.do_send(UseFence(fence.clone()));
    lease.watch(membership.clone().recipient(), membership.clone().recipient());
    let repair = RegisterRepair::new(
        ProxyRepair::new(profile),
        common.me.node,
        clock,
        common.gate.clone(),
        common.guard("register repair"),
        disk.clone(),
        membership.clone().recipient(),
    )
    .start();
    lease.watch(repair.clone().recipient(), repair.recipient());
    lease.renew_now();
    let Some((interconnect, event_manager, event_daemon, membership_watcher, registration, local_api, levels)) = parts
    else {
        unreachable!("the context is created at once");
    };
    let supervisor = common.supervisor.clone();
    let actors = NodeActors {
        supervisor,
        disk,
        interconnect,
        membership,
        event_manager,
        membership_watcher,
        event_daemon,
        registration,
        local_api,
        fence,
        levels,
    };
    guard_mailboxes(&actors);
    Ok(NodeHandle { me: common.me, actors, lease, gate: common.gate, leaving, ended })
}

fn add_level(
    registrations: &mut Vec<LevelRegistration>,
    levels: &mut BTreeMap<Level, Recipient<SubsystemNotification>>,
    registration: LevelRegistration,
    level: Recipient<SubsystemNotification>,
) {
    levels.insert(registration.level, level);
    registrations.push(registration);
}

/// The second line behind every handler's guard: a kernel-level mailbox that closes is the node's end.
fn guard_mailboxes(actors: &NodeActors) {
    fn watch<A: Actor>(name: &'static str, address: &Addr<A>) -> Guarded {
        let address = address.clone();
        Guarded { name, connected: Box::new(move || address.connected()) }
    }
    let guarded = [
        watch("disk", &actors.disk),
        watch("fence", &actors.fence),
        watch("interconnect", &actors.interconnect),
        watch("membership manager", &actors.membership),
        watch("event manager", &actors.event_manager),
        watch("registration and launch", &actors.registration),
    ];
    for guarded in guarded {
        actors.supervisor.do_send(guarded);
    }
}
