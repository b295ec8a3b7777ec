//! A node as a library: [`Node::builder`] takes a disk, a network and a warden, and gives a running node (architecture §3).
//!
//! No globals: several nodes can run in one process, each with its own actors on the caller's executor. The `phalanx` binary
//! is a thin shell over this; embedders and in-process tests use it directly.

mod assemble;
mod error;
mod from_file;
pub(crate) mod hosts;
mod identity;

use std::collections::BTreeMap;
use std::path::PathBuf;

use actix::prelude::*;
use phalanx_actors::clock::Clock;
use phalanx_actors::command_subsystem::SubsystemCommands;
use phalanx_actors::disk::{DiskActor, IoMode};
use phalanx_actors::event_daemon::EventDaemon;
use phalanx_actors::event_manager::EventManager;
use phalanx_actors::fence_actor::{FenceActor, FenceMethods};
use phalanx_actors::gate::Gate;
use phalanx_actors::interconnect::{ClusterKeys, Interconnect, Network, StaticKeyPair};
use phalanx_actors::lease_thread::LeaseHandle;
use phalanx_actors::local_api::{Ask, LocalApi, LogSources};
use phalanx_actors::membership_manager::{MembershipEnded, MembershipManager};
use phalanx_actors::membership_watcher::MembershipWatcher;
use phalanx_actors::ports::{
    GetMembership, MembershipStatus, ProveDead, RequestLeave, RunFenceAgent, WardenLine, Watchdog,
};
use phalanx_actors::registration_and_launch::RegistrationAndLaunch;
use phalanx_actors::subsystem::{RegisterSubsystem, WithdrawSubsystem};
use phalanx_actors::supervisor::{NodeSupervisor, PanicAction};
use phalanx_messages::admin::{AdminAnswer, AdminRequest, Status};
use phalanx_messages::launch::WardenRequest;
use phalanx_messages::membership::{LevelRegistration, NodeState};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemNotification};
use phalanx_messages::register::{FenceHandle, WatchdogKind};
use phalanx_messages::{Level, NodeIncarnation};
use phalanx_protocol::lease::StallPolicy;
use phalanx_storage::ClusterDisk;
use tokio::sync::watch;

pub use error::BootError;
pub use identity::{HostIdentity, TEST_HOST_VARIABLE};
pub use phalanx_actors::service_actor::{ServiceAction, ServiceActionKind};
pub use phalanx_actors::subsystem::{DeathPolicy, Notification, RegisterError, Subsystem, SubsystemEvent};

/// What runs this node's commands, knows how to fence it, and waits for its signs of life.
pub struct WardenPort {
    /// Runs and kills commands.
    pub requests: Recipient<WardenRequest>,
    /// How survivors on this host can fence the node.
    pub fence: FenceHandle,
    /// Hears from the lease thread that the node may live, and of its lease.
    pub line: Option<Box<dyn WardenLine>>,
    /// Armed, and resets this host when it is not fed; with what it is worth as a proof.
    pub watchdog: Option<(Box<dyn Watchdog>, WatchdogKind)>,
}

/// Makes a level's actor; gets the membership manager's mailbox for its answers.
pub type MakeLevel = Box<dyn FnOnce(Recipient<SubsystemAcknowledged>) -> Recipient<SubsystemNotification>>;

/// A command subsystem of this node (`[[subsystem]]`).
#[derive(Debug, Clone)]
pub struct CommandLevel {
    /// What it registers.
    pub registration: LevelRegistration,
    /// What it runs.
    pub commands: SubsystemCommands,
}

/// Everything a node is made of.
pub struct NodeBuilder {
    disk: ClusterDisk,
    name: String,
    cluster_keys: ClusterKeys,
    key_file: Option<PathBuf>,
    key_pair: StaticKeyPair,
    network: Network,
    clock: Clock,
    io: IoMode,
    host: HostIdentity,
    socket: Option<PathBuf>,
    socket_group: Option<u32>,
    logs: LogSources,
    command_levels: Vec<CommandLevel>,
    levels: Vec<(LevelRegistration, MakeLevel)>,
    subsystems: Vec<Subsystem>,
    service_actors: BTreeMap<String, Recipient<ServiceAction>>,
    agent_runner: Vec<String>,
    fence_methods: FenceMethods,
    panic: PanicAction,
    refuse_connections: bool,
    samples_load: bool,
    stall: StallPolicy,
    /// The lock of the node id and its file, if the application holds it.
    lock: Option<(std::fs::File, PathBuf)>,
}

/// Start here.
#[derive(Debug, Clone, Copy)]
pub struct Node;

impl Node {
    /// A node named `name` of the cluster on `disk`, on a network of its own.
    #[must_use]
    pub fn builder(
        disk: ClusterDisk,
        name: impl Into<String>,
        cluster_keys: impl Into<ClusterKeys>,
        key_pair: StaticKeyPair,
        network: Network,
        host: HostIdentity,
    ) -> NodeBuilder {
        NodeBuilder {
            disk,
            name: name.into(),
            cluster_keys: cluster_keys.into(),
            key_file: None,
            key_pair,
            network,
            clock: Clock::Boot,
            io: IoMode::Thread,
            host,
            socket: None,
            socket_group: None,
            logs: LogSources::default(),
            command_levels: Vec::new(),
            levels: Vec::new(),
            subsystems: Vec::new(),
            service_actors: BTreeMap::new(),
            agent_runner: Vec::new(),
            fence_methods: FenceMethods::default(),
            panic: Box::new(|_| std::process::abort()),
            refuse_connections: false,
            samples_load: false,
            stall: StallPolicy::RideThrough,
            lock: None,
        }
    }
}

impl NodeBuilder {
    /// Runs on tokio's clock with inline disk calls, for disks in memory and simulated networks.
    #[must_use]
    pub fn simulated(mut self, clock: Clock) -> Self {
        (self.clock, self.io) = (clock, IoMode::Inline);
        self
    }

    /// Opens the local socket there.
    #[must_use]
    pub fn socket(mut self, path: PathBuf) -> Self {
        self.socket = Some(path);
        self
    }

    /// Lets the members of a group use the local socket too: the command line and subsystems.
    #[must_use]
    pub fn socket_group(mut self, group: Option<u32>) -> Self {
        self.socket_group = group;
        self
    }

    /// Where the cluster keys are read again when an administrator says that they have changed.
    #[must_use]
    pub fn key_file(mut self, path: PathBuf) -> Self {
        self.key_file = Some(path);
        self
    }

    /// What the local socket shows of logs; nothing if not given.
    #[must_use]
    pub fn logs(mut self, logs: LogSources) -> Self {
        self.logs = logs;
        self
    }

    /// Registers a level whose work is done by commands.
    #[must_use]
    pub fn command_level(mut self, level: CommandLevel) -> Self {
        self.command_levels.push(level);
        self
    }

    /// Registers a level of the embedder's own.
    #[must_use]
    pub fn level(mut self, registration: LevelRegistration, make: MakeLevel) -> Self {
        self.levels.push((registration, make));
        self
    }

    /// Registers a subsystem that joins with the node, at its level.
    #[must_use]
    pub fn subsystem(mut self, subsystem: Subsystem) -> Self {
        self.subsystems.push(subsystem);
        self
    }

    /// Registers the actor that performs services whose `agent` is `actor:NAME`. It runs on the executor of its own; a second one
    /// of a name takes the place of the first.
    #[must_use]
    pub fn service_actor(mut self, name: impl Into<String>, actor: Recipient<ServiceAction>) -> Self {
        self.service_actors.insert(name.into(), actor);
        self
    }

    /// The command line that becomes an agent when its name and an action follow it; the warden runs it.
    #[must_use]
    pub fn agent_runner(mut self, words: Vec<String>) -> Self {
        self.agent_runner = words;
        self
    }

    /// Fence method F3.
    #[must_use]
    pub fn local_fence(mut self, fence: Recipient<ProveDead>) -> Self {
        self.fence_methods.local = Some(fence);
        self
    }

    /// Fence method F2.
    #[must_use]
    pub fn fence_agents(mut self, agents: Recipient<RunFenceAgent>) -> Self {
        self.fence_methods.agents = Some(agents);
        self
    }

    /// What a panic of this node does instead of aborting the process. Called once, after the gate has closed.
    #[must_use]
    pub fn on_panic(mut self, action: PanicAction) -> Self {
        self.panic = action;
        self
    }

    /// The disk that it will use.
    pub(crate) const fn disk(&self) -> &ClusterDisk {
        &self.disk
    }

    /// What a lost lease means [default: ride the stall through]. A node with a watchdog must panic.
    #[must_use]
    pub const fn stall(mut self, stall: StallPolicy) -> Self {
        self.stall = stall;
        self
    }

    /// The host's pressure counts when nodes are chosen for services: for nodes that have hosts of their own.
    #[must_use]
    pub const fn samples_load(mut self, samples: bool) -> Self {
        self.samples_load = samples;
        self
    }

    /// Test hook: every connection of the interconnect is refused.
    #[must_use]
    pub const fn refuse_connections(mut self, refuse: bool) -> Self {
        self.refuse_connections = refuse;
        self
    }

    /// Starts the node on the current executor. `warden` is made last, with the mailbox that hears of its end.
    ///
    /// # Errors
    /// [`BootError`]: nothing of the node runs then.
    pub fn start(
        self,
        warden: impl FnOnce(&Addr<NodeSupervisor>) -> std::io::Result<WardenPort>,
    ) -> Result<NodeHandle, BootError> {
        assemble::assemble(self, warden)
    }
}

/// The mailboxes of one node, for tests and embedders.
#[derive(Clone)]
pub struct NodeActors {
    /// Root; owns panic.
    pub supervisor: Addr<NodeSupervisor>,
    /// Shared disk.
    pub disk: Addr<DiskActor>,
    /// Links to the peers.
    pub interconnect: Addr<Interconnect>,
    /// Membership.
    pub membership: Addr<MembershipManager>,
    /// Highest level.
    pub event_manager: Addr<EventManager>,
    /// Watches membership for registration-and-launch.
    pub membership_watcher: Addr<MembershipWatcher>,
    /// Watches for events and has their action functions run.
    pub event_daemon: Addr<EventDaemon>,
    /// Client services.
    pub registration: Addr<RegistrationAndLaunch>,
    /// Local socket.
    pub local_api: Addr<LocalApi>,
    /// Seeks proofs of death.
    pub fence: Addr<FenceActor>,
    /// Every level of this node.
    pub levels: std::collections::BTreeMap<Level, Recipient<SubsystemNotification>>,
}

/// A running node.
#[derive(Clone)]
pub struct NodeHandle {
    me: NodeIncarnation,
    actors: NodeActors,
    lease: LeaseHandle,
    gate: Gate,
    leaving: watch::Receiver<bool>,
    ended: watch::Receiver<Option<MembershipEnded>>,
}

impl NodeHandle {
    /// Which start of which node this is.
    #[must_use]
    pub const fn me(&self) -> NodeIncarnation {
        self.me
    }

    /// Its actors.
    #[must_use]
    pub const fn actors(&self) -> &NodeActors {
        &self.actors
    }

    /// Its lease.
    #[must_use]
    pub const fn lease(&self) -> &LeaseHandle {
        &self.lease
    }

    /// Whether it may act.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What it knows of the membership; none once it has ended.
    pub async fn membership(&self) -> Option<MembershipStatus> {
        self.actors.membership.send(GetMembership).await.ok()
    }

    /// What it shows: master, nodes with their levels, transitions, services; none once it has ended.
    pub async fn status(&self) -> Option<Status> {
        let answer = self.actors.local_api.send(Ask(AdminRequest::Status)).await.ok()?;
        let AdminAnswer::Status(status) = answer else { return None };
        Some(*status)
    }

    /// Asks for its graceful leave.
    pub async fn leave(&self) {
        // A node that has ended has left.
        drop(self.actors.membership.send(RequestLeave(self.me.node)).await);
    }

    /// Registers a subsystem while the node runs (protocol T-15), or the successor of one that died (T-17). Returns at once (spec,
    /// Figs. 7a to 7c): the notification of its own join, or [`SubsystemEvent::Refused`], comes to its mailbox.
    ///
    /// # Errors
    /// This node does not ask the cluster: the level is taken or built in, or the node is ending.
    pub async fn register(&self, subsystem: Subsystem) -> Result<(), RegisterError> {
        self.actors.membership.send(RegisterSubsystem(subsystem)).await.unwrap_or(Err(RegisterError::Ending))
    }

    /// Lets the subsystem at `level` leave alone. It is notified of that leave, then hears [`SubsystemEvent::Withdrawn`].
    ///
    /// # Errors
    /// No subsystem has registered there, or the node is ending.
    pub async fn withdraw(&self, level: Level) -> Result<(), RegisterError> {
        self.actors.membership.send(WithdrawSubsystem(level)).await.unwrap_or(Err(RegisterError::Ending))
    }

    /// Waits until it is joined. False if it ends before.
    pub async fn joined(&self) -> bool {
        loop {
            let Some(status) = self.membership().await else { return false };
            let entry = status.record.nodes.get(&self.me.node);
            if entry.is_some_and(|entry| entry.incarnation == self.me.incarnation && entry.state == NodeState::Joined) {
                return true;
            }
            if self.ended.borrow().is_some() {
                return false;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Waits until its graceful leave begins, whoever asked for it. Never returns if it ends otherwise.
    pub async fn leaving(&self) {
        if self.leaving.clone().wait_for(|leaving| *leaving).await.is_err() {
            std::future::pending().await // its actors have ended
        }
    }

    /// Waits for the end of its membership: it has left, or was refused.
    pub async fn ended(&self) -> MembershipEnded {
        let mut ended = self.ended.clone();
        let result = ended.wait_for(Option::is_some).await;
        result.ok().and_then(|end| end.clone()).unwrap_or(MembershipEnded::Left)
    }
}
