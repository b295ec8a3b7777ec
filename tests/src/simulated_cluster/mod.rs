//! A cluster of whole nodes, all actors of each, in one process: turmoil's network and clock, one disk in memory that all share.
//!
//! Every node has a subsystem with two barriers below the event manager, and one service runs somewhere. Processes are hosts of
//! turmoil: a kill ends one with all that it ran, and its warden says so on the disk a moment later; a power cut says nothing.
//! The journal has everything that happened, with simulated times; one seed gives one journal.
//!
//! What always holds is looked at after every step: the service never runs twice. [`SimulatedCluster::check`] looks at the order
//! of all steps of all subsystems.

mod disk;
mod host;
mod look;
mod options;
mod stage;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use phalanx_actors::ports::RequestLeave;
use phalanx_messages::configuration::{ConfigurationRecord, FenceAgent};
use phalanx_messages::membership::NodeState;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_messages::service::{ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, NodeId};
use phalanx_node::builder::NodeActors;
use phalanx_storage::{ClusterDisk, Durability, MemoryDisk, RecordingDisk, SharedDisk};
use turmoil::{Builder, Sim};

use crate::node_cluster::{configuration_of, format_for};
use disk::DiskPath;
use stage::{Stage, millis};

pub use options::{Hosts, Keys, Options};
pub use stage::{Event, Happened, Served};

const PORT: u16 = 7700;
/// Simulated time within which everything must have happened.
const PATIENCE_MS: u64 = 60_000;
/// From the end of a process to the word of its warden.
const WARDEN_MS: u64 = 10;
/// Between two flushes of what is volatile (protocol §1.3).
const FLUSH_MS: u64 = 1_000;
/// How often a condition is looked at.
const LOOK_MS: u64 = 5;
/// Timing of every simulated cluster.
pub const PROFILE: TimingProfile = TimingProfile::DEV;

/// Name of a node and of its host.
#[must_use]
pub fn host_name(id: u16) -> String {
    format!("n{id}")
}

/// One step of simulated time.
const TICK: Duration = Duration::from_millis(1);

/// See the module.
pub struct SimulatedCluster {
    sim: Sim<'static>,
    stage: Rc<Stage>,
    memory: MemoryDisk,
    disk: ClusterDisk,
    paths: BTreeMap<u16, DiskPath>,
    /// Wardens that will speak for a dead node, and when.
    words: Vec<(u64, u16, Incarnation)>,
    /// Nodes whose processes do not end, whatever is asked of them.
    stuck: BTreeSet<u16>,
}

impl SimulatedCluster {
    /// `count` nodes that are powered down. Whoever is forced out finds its order itself; nobody fences it.
    ///
    /// # Panics
    /// If there is no memory for the disk.
    #[must_use]
    pub fn new(count: u16, seed: u64) -> Self {
        Self::build(count, seed, Options::default())
    }

    /// The same, where survivors fence whom they force out (F3).
    ///
    /// # Panics
    /// If there is no memory for the disk.
    #[must_use]
    pub fn with_local_fence(count: u16, seed: u64) -> Self {
        Self::build(count, seed, Options { hosts: Hosts::OneFenced, ..Options::default() })
    }

    /// The same with a host for each node, whose hardware watchdog the administrator vouches for (F4). The only fence agent is
    /// installed nowhere. A lost lease is the end of a node.
    ///
    /// # Panics
    /// If there is no memory for the disk.
    #[must_use]
    pub fn with_watchdogs(count: u16, seed: u64) -> Self {
        Self::build(count, seed, Options { hosts: Hosts::Guarded, ..Options::default() })
    }

    fn build(count: u16, seed: u64, options: Options) -> Self {
        let mut configuration = configuration(count);
        for node in configuration.nodes.values_mut().filter(|_| options.hosts == Hosts::Guarded) {
            node.watchdog_attested = true;
            node.fence = vec![FenceAgent::new("fence_nowhere")];
        }
        Self::on(format_for(&configuration, PROFILE, vec![service()]), count, seed, options)
    }

    /// `count` nodes that are powered down, on a disk that was formatted for [`configuration`] of them, and perhaps used since.
    ///
    /// # Panics
    /// If it was not.
    #[must_use]
    pub fn on(memory: MemoryDisk, count: u16, seed: u64, options: Options) -> Self {
        let several_hosts = options.hosts == Hosts::Guarded;
        let path = |id: u16| -> Arc<dyn SharedDisk> {
            match &options.recorder {
                Some(recorder) => Arc::new(RecordingDisk::around(Arc::new(memory.clone()), id, recorder.clone())),
                None => Arc::new(memory.clone()),
            }
        };
        let paths: BTreeMap<u16, DiskPath> =
            (0..count).map(|id| (id, DiskPath::new(path(id), several_hosts))).collect();
        let open =
            |(id, path): (&u16, &DiskPath)| (*id, ClusterDisk::open(Arc::new(path.clone())).expect("just formatted"));
        let disks = paths.iter().map(open).collect();
        let keys = options.keys.clone().unwrap_or_else(|| Keys::generate(count));
        let mut builder = Builder::new();
        builder.simulation_duration(Duration::from_secs(3_600)).tick_duration(TICK).rng_seed(seed);
        if options.recorder.is_some() {
            builder.min_message_latency(TICK); // what is sent within a tick is heard after it
        }
        let stage = Stage::new(keys, disks, options, seed);
        let mut sim = builder.enable_tokio_io().build();
        for id in 0..count {
            let stage = stage.clone();
            sim.host(host_name(id), move || host::run(id, stage.clone()));
        }
        let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("just formatted");
        Self { sim, stage, memory, disk, paths, words: Vec::new(), stuck: BTreeSet::new() }
    }

    /// Powers a node up and lets it boot, which takes a millisecond.
    ///
    /// # Panics
    /// If it runs.
    pub fn start(&mut self, id: u16) {
        assert!(!self.stage.is_alive(id), "n{id} runs");
        // Its warden first waits until the former start has been spoken for (protocol §3.7 step 0).
        self.speak(u64::MAX, Some(id));
        self.stage.watchdogs[&id].reset();
        self.stage.begin(id);
        self.sim.bounce(host_name(id));
        self.step();
    }

    /// Starts all nodes, `master` first, which then leads and runs the service.
    ///
    /// # Panics
    /// If another one does.
    pub fn begin(&mut self, count: u16, master: u16) {
        self.start(master);
        self.until_settled(&[master]);
        (0..count).filter(|id| *id != master).for_each(|id| self.start(id));
        self.until_settled(&(0..count).collect::<Vec<_>>());
        assert_eq!((self.master(), self.serving()), (Some(master), vec![master]));
    }

    /// Ends a node's process; its warden says so.
    pub fn kill(&mut self, id: u16) {
        if let Some(me) = self.stage.incarnation(id) {
            self.words.push((self.now_ms() + WARDEN_MS, id, me.incarnation));
        }
        self.power_off(id);
    }

    /// Ends a node's host: nobody speaks for it.
    pub fn power_off(&mut self, id: u16) {
        self.sim.crash(host_name(id));
        self.stage.died(self.now_ms(), id);
    }

    /// From now on neither a panic nor a fence ends this node's process and its service: they hang where no signal reaches them.
    pub fn stick(&mut self, id: u16) {
        self.stuck.insert(id);
    }

    /// The node's host is paused as far as its watchdog goes: it never fires.
    pub fn pause_watchdog(&self, id: u16) {
        self.stage.watchdogs[&id].pause();
    }

    /// Asks a node to leave.
    ///
    /// # Panics
    /// If it does not run.
    pub fn leave(&self, id: u16) {
        self.actors(id).membership.do_send(RequestLeave(NodeId(id)));
    }

    /// The mailboxes of a running node.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn actors(&self, id: u16) -> NodeActors {
        self.stage.handle(id).expect("the node runs").actors().clone()
    }

    /// Cuts links, both ways.
    pub fn cut(&self, links: impl IntoIterator<Item = (u16, u16)>) {
        links.into_iter().for_each(|(a, b)| self.sim.partition(host_name(a), host_name(b)));
    }

    /// Cuts a link one way.
    pub fn cut_one_way(&self, from: u16, to: u16) {
        self.sim.partition_oneway(host_name(from), host_name(to));
    }

    /// Repairs links. What was sent into the cut is lost.
    pub fn repair(&self, links: impl IntoIterator<Item = (u16, u16)>) {
        links.into_iter().for_each(|(a, b)| self.sim.repair(host_name(a), host_name(b)));
    }

    /// Cuts a node's path to the disk: every I/O fails.
    pub fn cut_disk(&self, id: u16) {
        self.paths[&id].cut(true);
    }

    /// Its path to the disk is there again.
    pub fn repair_disk(&self, id: u16) {
        self.paths[&id].cut(false);
    }

    /// Both slots of a node's register rot.
    pub fn rot_register(&self, id: u16) {
        let region = self.disk.registers().region();
        (0..2).for_each(|slot| self.memory.corrupt(region.slot(NodeId(id), slot)));
    }

    /// The register of a node, if it can be read.
    ///
    /// # Panics
    /// Never: memory is readable.
    #[must_use]
    pub fn register(&self, id: u16) -> Option<NodeRegister> {
        self.disk.registers().read(NodeId(id)).expect("memory is readable")
    }

    /// What its nodes keep on their own disks.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.stage.keys
    }

    /// Simulated time in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        millis(self.sim.elapsed())
    }

    /// One millisecond passes.
    ///
    /// # Panics
    /// If a node does not boot, or something happened that never may.
    pub fn step(&mut self) {
        self.tick_recorder();
        self.sim.step().expect("every node boots");
        for id in self.stage.take_doomed() {
            if self.stage.is_alive(id) && !self.stuck.contains(&id) {
                self.kill(id);
            }
        }
        let resets: Vec<u16> = self.paths.keys().copied().filter(|id| self.is_reset(*id)).collect();
        resets.into_iter().for_each(|id| self.power_off(id)); // whatever hangs
        self.speak(self.now_ms(), None);
        let violations = self.stage.violations();
        assert!(violations.is_empty(), "{violations:?}\n{}", self.text());
    }

    fn is_reset(&self, id: u16) -> bool {
        self.stage.is_alive(id) && self.stage.watchdogs[&id].fires(self.now_ms(), PROFILE.watchdog_ms)
    }

    fn tick_recorder(&self) {
        let Some(recorder) = &self.stage.recorder else { return };
        recorder.tick();
        if self.now_ms().is_multiple_of(FLUSH_MS) {
            self.stage.disks[&0].flush().expect("memory is durable");
        }
    }

    /// `ms` milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Steps until `happened`, and gives how long it took in milliseconds.
    ///
    /// # Panics
    /// With the journal, if it does not happen.
    pub fn until(&mut self, what: &str, mut happened: impl FnMut(&Self) -> bool) -> u64 {
        let begun = self.now_ms();
        while !happened(self) {
            assert!(self.now_ms() - begun < PATIENCE_MS, "never comes true: {what}\n{}", self.text());
            self.run(LOOK_MS);
        }
        self.now_ms() - begun
    }

    /// Steps until exactly these nodes are joined, nothing is in transition and the service runs; gives how long it took.
    pub fn until_settled(&mut self, joined: &[u16]) -> u64 {
        self.until(&format!("{joined:?} joined and nothing in transition"), |cluster| cluster.is_settled(joined))
    }

    fn is_settled(&self, joined: &[u16]) -> bool {
        self.serving().len() == 1 && self.is_steady(joined)
    }

    /// Exactly these nodes are joined, and nothing is in transition.
    ///
    /// # Panics
    /// Never: memory is readable.
    #[must_use]
    pub fn is_steady(&self, joined: &[u16]) -> bool {
        let Some(record) = self.disk.memberships().newest().expect("memory is readable") else { return false };
        let state = |id: &u16| record.nodes.get(&NodeId(*id)).map_or(NodeState::Inactive, |entry| entry.state);
        let lives = |id: &u16| {
            let me = self.stage.incarnation(*id);
            me.is_some_and(|me| record.nodes.get(&me.node).is_some_and(|entry| entry.incarnation == me.incarnation))
        };
        let steady = self.paths.keys().all(|id| {
            let expected = if joined.contains(id) { NodeState::Joined } else { NodeState::Inactive };
            state(id) == expected
        });
        steady && record.ghosts.is_empty() && joined.iter().all(lives)
    }

    /// Wardens say that their nodes are dead: those whose time has come, or that of `of`.
    fn speak(&mut self, now_ms: u64, of: Option<u16>) {
        let due = |(at_ms, id, _): &(u64, u16, Incarnation)| *at_ms <= now_ms && of.is_none_or(|of| of == *id);
        let (due, later) = std::mem::take(&mut self.words).into_iter().partition::<Vec<_>, _>(due);
        self.words = later;
        for (_, id, incarnation) in due {
            // Through the node's own path: where that is cut nobody hears it.
            let registers = self.stage.disks[&id].registers();
            let Ok(Some(register)) = registers.read(NodeId(id)) else { continue };
            if register.incarnation != incarnation || register.own_state == OwnState::CleanDown {
                continue;
            }
            let mut word = register;
            word.own_state = OwnState::DeadDrained;
            word.heartbeat += 1;
            let mut writer = registers.writer(NodeId(id), incarnation).expect("memory is readable");
            writer.write(&word, Durability::Volatile).expect("memory takes everything");
        }
    }
}

/// Of a simulated cluster of so many nodes.
#[must_use]
pub fn configuration(count: u16) -> ConfigurationRecord {
    configuration_of((0..count).map(|id| (id, format!("{}:{PORT}", host_name(id)))))
}

/// The service that every simulated cluster has.
#[must_use]
pub fn service() -> ServiceDefinition {
    let command = |command: &str| Some(ServiceCommand::shell(command.to_owned(), 1_000));
    ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        recovery_command: command("recover"),
        ..ServiceDefinition::new("clock")
    }
}
