//! The world: hosts, disk, network, and what happens next. One event at a time; after each the invariants have been checked.

mod administrator;
mod boot;
mod commands;
mod data;
mod disk_actor;
mod event_desk;
mod faults;
mod fence;
mod lease_thread;
mod links;
mod manager;
mod operator;
mod rest;
mod service_disk;
mod services;
mod subsystems;
mod wardens;

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{Instant, Level, NodeId, NodeIncarnation};
use uuid::Uuid;

use super::catalogue;
use super::clock::{Micros, NodeClock, SECOND};
use super::coverage::Coverage;
use super::disk::Disk;
use super::log::{Detail, EventLog};
use super::network::Network;
use super::process::{Process, ProcessEvent};
use super::queue::Queue;
use super::random::Random;
use super::truth::Truth;
use super::weather::Weather;

use commands::Running;
pub use faults::Fault;
use wardens::{Warden, WardenEvent};

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Configured nodes.
    pub nodes: u16,
    /// Timing of the disk.
    pub profile: TimingProfile,
    /// Levels of every node, ascending.
    pub levels: Vec<LevelRegistration>,
    /// Without a warden there is no local proof of death (containment `subreaper`), else there always is (`cgroup`).
    pub subreaper: bool,
    /// Votes of the disk for quorum (protocol §4.4); none = it decides alone, 0 = a majority cluster.
    pub disk_votes: Option<u16>,
    /// What the disk is formatted with: services, events.
    pub catalogue: RegistrationRecord,
    /// Faults.
    pub weather: Weather,
    /// A node whose clock errs by so many millionths, instead of at most by the drift that the profile allows (protocol C1).
    pub wrong_clock: Option<(NodeId, i64)>,
    /// Invariants that may be broken; the run goes on then.
    pub may_break: fn(&str) -> bool,
    /// Everything that is drawn.
    pub seed: u64,
    /// What the log keeps.
    pub detail: Detail,
}

impl Setup {
    /// That many nodes without any fault, each with a lock manager that needs certainty of I/O and an event manager.
    #[must_use]
    pub fn calm(nodes: u16) -> Self {
        let levels = vec![
            level(Level::DLM, "dlm", [3, 2, 3], Certainty::Io),
            level(Level::EVENT_MANAGER, "em", [1, 2, 1], Certainty::Death),
        ];
        let weather = Weather::calm();
        Self {
            nodes,
            profile: TimingProfile::DEV,
            levels,
            subreaper: false,
            disk_votes: None,
            catalogue: catalogue::plain(nodes),
            weather,
            wrong_clock: None,
            may_break: |_| false,
            seed: 1,
            detail: Detail::Events,
        }
    }

    /// As the seed draws it.
    #[must_use]
    pub fn drawn(seed: u64, detail: Detail) -> Self {
        let mut random = Random::new(seed);
        let nodes = u16::try_from(random.between(2, 6) + if random.chance(150) { 3 } else { 0 }).unwrap_or(2);
        let mut barriers = |most: u64| u8::try_from(random.between(1, most + 1)).unwrap_or(1);
        let mut levels = vec![
            level(Level::DLM, "dlm", [barriers(3), barriers(2), barriers(3)], Certainty::Io),
            level(Level::VDM, "vdm", [barriers(2), barriers(2), barriers(2)], Certainty::Io),
            level(Level::EVENT_MANAGER, "em", [1, 2, 1], Certainty::Death),
        ];
        levels.drain(..usize::try_from(random.below(3)).unwrap_or(0));
        let profile = if random.chance(200) { TimingProfile::LOCAL_MMAP } else { TimingProfile::DEV };
        let subreaper = random.chance(200);
        let weather = Weather::drawn(&mut random);
        let seed = random.next();
        let disk_votes = random.chance(200).then_some(0);
        let catalogue = catalogue::drawn(&mut random, nodes);
        Self {
            nodes,
            profile,
            levels,
            subreaper,
            disk_votes,
            catalogue,
            weather,
            wrong_clock: None,
            may_break: |_| false,
            seed,
            detail,
        }
    }
}

fn level(level: Level, name: &str, [joining, leaving, forced_leaving]: [u8; 3], needs: Certainty) -> LevelRegistration {
    let barriers = BarrierCounts { joining, leaving, forced_leaving };
    LevelRegistration { level, name: name.to_owned(), barriers, needs, optional: false }
}

/// Where one node runs.
#[derive(Debug)]
pub(super) struct Host {
    pub clock: NodeClock,
    pub process: Option<Process>,
    /// Which start ran here before, and until when.
    pub ended: Option<(NodeIncarnation, Micros)>,
    pub warden: Option<Warden>,
    /// Its disk operations end no earlier.
    pub stalled_until: Micros,
    /// Nobody starts it again.
    pub kept_down: bool,
    /// A start is planned.
    pub start_planned: bool,
    /// What is wrong with its next starts.
    pub oddity: Oddity,
}

/// What is wrong with a start: a file that differs from those of the other nodes, or another host.
#[derive(Debug, Default, Clone)]
pub struct Oddity {
    /// Other levels than the other nodes.
    pub levels: Option<Vec<LevelRegistration>>,
    /// Another boot of the kernel.
    pub other_boot: bool,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    Process(NodeId, u64, ProcessEvent),
    Warden(NodeId, u64, WardenEvent),
    Arrive { connection: u64, to: NodeId },
    Mend(NodeId, NodeId),
    Dial { from: NodeId, to: NodeId, process: u64 },
    Start(NodeId),
    Go { node: NodeId, process: Option<u64>, warden: Option<u64> },
    Inflict(Fault),
    Storm,
    Flush,
    Operator,
    CommandEnds(NodeId, u64, Running),
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(super) setup: Setup,
    pub(super) now: Micros,
    pub(super) queue: Queue<Event>,
    pub(super) random: Random,
    pub(super) disk: Disk,
    pub(super) network: Network,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    /// This boot of the host's kernel.
    pub(super) boot: Uuid,
    processes: u64,
    storming: bool,
    /// When two members were last not connected to each other, while both were members.
    unlinked: BTreeMap<(NodeIncarnation, NodeIncarnation), Micros>,
    /// What really happened.
    pub(super) truth: Truth,
    /// What was reached.
    pub coverage: Coverage,
    /// What happened.
    pub log: EventLog,
    /// Whatever was broken and may be ([`Setup::may_break`]).
    pub tolerated: Vec<String>,
    /// The invariant that was broken first.
    pub violation: Option<String>,
}

impl World {
    /// A formatted disk and hosts on which nothing runs.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut random = Random::new(setup.seed);
        let nodes = (0..setup.nodes).map(NodeId);
        let configured = |id: NodeId| NodeConfiguration::new(format!("n{id}"), format!("host:{}", 7_000 + id.0));
        let configuration = ConfigurationRecord {
            cluster: "alpha".to_owned(),
            nodes: nodes.clone().map(|id| (id, configured(id))).collect(),
            disk_votes: setup.disk_votes,
            ..ConfigurationRecord::default()
        };
        let drift = i64::try_from(setup.profile.drift_ppm).unwrap_or(0);
        let mut host = |_| {
            let rate = i64::try_from(random.below(2 * setup.profile.drift_ppm + 1)).unwrap_or(0) - drift;
            let clock = NodeClock::new(1_000_000 + random.below(1_000_000), rate);
            Host {
                clock,
                process: None,
                ended: None,
                warden: None,
                stalled_until: 0,
                kept_down: false,
                start_planned: false,
                oddity: Oddity::default(),
            }
        };
        let mut hosts: BTreeMap<NodeId, Host> = nodes.clone().map(|id| (id, host(id))).collect();
        if let Some((node, rate_ppm)) = setup.wrong_clock
            && let Some(host) = hosts.get_mut(&node)
        {
            host.clock = host.clock.with_rate(rate_ppm);
        }
        let mut world = Self {
            now: SECOND,
            queue: Queue::default(),
            disk: Disk::formatted(&configuration, &setup.catalogue, setup.nodes),
            network: Network::new(random.part()),
            hosts,
            boot: Uuid::from_u128(1),
            processes: 0,
            storming: false,
            unlinked: BTreeMap::new(),
            truth: Truth::default(),
            coverage: Coverage::default(),
            log: EventLog::new(setup.detail),
            tolerated: Vec::new(),
            violation: None,
            random,
            setup,
        };
        world.queue.plan(world.now + SECOND, Event::Flush);
        world.queue.plan(world.now + SECOND, Event::Operator);
        world
    }

    /// From now on faults come as the weather draws them.
    pub fn let_it_storm(&mut self) {
        self.storming = true;
        self.queue.plan(self.now, Event::Storm);
    }

    /// Plans the first start of every node, spread over a while.
    pub fn start_all(&mut self) {
        for node in self.node_ids() {
            let at = self.now + self.random.below(self.setup.weather.restart_max / 4 + 1);
            self.plan_start(node, at);
        }
    }

    /// Ids of the hosts.
    #[must_use]
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    /// True time.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// What was drawn or given.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Lets everything happen that is due by then, or until an invariant is broken.
    pub fn run_to(&mut self, until: Micros) {
        while self.violation.is_none() {
            let Some((at, event)) = self.queue.next_until(until) else { break };
            self.now = at;
            self.happen(event);
        }
        if self.violation.is_none() {
            self.now = self.now.max(until);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Process(node, process, event) => self.process_event(node, process, event),
            Event::Warden(node, process, event) => self.warden_event(node, process, event),
            Event::Arrive { connection, to } => self.arrived(connection, to),
            Event::Mend(from, to) => {
                let due = self.network.mend(from, to, self.now, &self.setup.weather);
                self.plan_arrivals(due);
            }
            Event::Dial { from, to, process } => self.dial(from, to, process),
            Event::Start(node) => self.start(node),
            Event::Go { node, process, warden } => self.go_on(node, process, warden),
            Event::Inflict(fault) if self.storming => self.inflict(fault),
            Event::Inflict(_) => {}
            Event::Storm if self.storming => self.storm(),
            Event::Storm => {}
            Event::Flush => {
                self.disk.flush();
                self.queue.plan(self.now + SECOND, Event::Flush);
            }
            Event::Operator => self.operate(),
            Event::CommandEnds(node, process, running) => self.command_ends(node, process, running),
        }
    }

    fn process_event(&mut self, node: NodeId, process: u64, event: ProcessEvent) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let Some(running) = host.process.as_mut().filter(|running| running.id == process) else { return };
        if running.stopped {
            running.deferred.push(event);
            return;
        }
        let is_io = matches!(
            event,
            ProcessEvent::Booted | ProcessEvent::LeaseDone | ProcessEvent::DiskDone | ProcessEvent::DataLands
        );
        if is_io && host.stalled_until > self.now {
            let at = host.stalled_until + self.random.below(1_000);
            return self.queue.plan(at, Event::Process(node, process, event));
        }
        match event {
            ProcessEvent::Booted => self.booted(node),
            ProcessEvent::LeaseWakes(alarm) => self.lease_wakes(node, alarm),
            ProcessEvent::LeaseDone => self.lease_done(node),
            ProcessEvent::DiskDone => self.disk_done(node),
            ProcessEvent::Tick => self.tick(node),
            ProcessEvent::Beat => self.beat(node),
            ProcessEvent::Manager(input) => self.manage(node, *input),
            ProcessEvent::Launcher(input) => self.launch(node, *input),
            ProcessEvent::LauncherTick => self.launcher_ticks(node),
            ProcessEvent::CommandEnded(result) => self.command_ended(node, *result),
            ProcessEvent::ActionEnded(run) => self.action_ended(node, &run),
            ProcessEvent::ReportsAgain => self.reports_again(node),
            ProcessEvent::LinkUp { connection, peer } => self.link_up(node, connection, peer),
            ProcessEvent::LinkClosed { connection, peer } => self.link_closed(node, connection, peer),
            ProcessEvent::Heard { connection, from, said } => self.heard(node, connection, from, said),
            ProcessEvent::Worked { level, subject, id } => self.worked(node, level, subject, id),
            ProcessEvent::Answers { level, subject, id } => self.answers(node, level, subject, id),
            ProcessEvent::Fenced(victim) => self.fenced(node, victim),
            ProcessEvent::FenceAgain(victim) => self.attempt_fence(node, victim),
            ProcessEvent::DataAsks => self.data_asks(node),
            ProcessEvent::DataSubmits { stops, expiry } => self.data_submits(node, stops, expiry),
            ProcessEvent::DataLands => self.data_lands(node),
            ProcessEvent::WardenGone => self.panic(node, "its warden has ended"),
        }
    }

    /// An invariant is broken. Only the first one counts: what follows says nothing any more.
    pub(super) fn broken(&mut self, text: impl Into<String>) {
        let text = text.into();
        if (self.setup.may_break)(&text) {
            self.tolerated.push(text);
        } else if self.violation.is_none() {
            self.log.event(self.now, None, "VIOLATION", &[], || text.clone());
            self.violation = Some(text);
        }
    }

    /// A check made from outside has found something.
    pub fn fail(&mut self, text: String) {
        self.broken(text);
    }

    pub(super) fn broken_all(&mut self, found: Vec<String>) {
        found.into_iter().for_each(|text| self.broken(text));
    }

    pub(super) fn process(&self, node: NodeId) -> Option<&Process> {
        self.hosts.get(&node)?.process.as_ref()
    }

    pub(super) fn process_mut(&mut self, node: NodeId) -> Option<&mut Process> {
        self.hosts.get_mut(&node)?.process.as_mut()
    }

    /// The node's own clock.
    pub(super) fn clock(&self, node: NodeId) -> Instant {
        self.hosts.get(&node).map_or(Instant(0), |host| host.clock.now(self.now))
    }

    /// Plans an event of the process that runs on `node` now.
    pub(super) fn plan(&mut self, node: NodeId, at: Micros, event: ProcessEvent) {
        if let Some(process) = self.process(node) {
            let id = process.id;
            self.queue.plan(at, Event::Process(node, id, event));
        }
    }

    pub(super) fn plan_in_ms(&mut self, node: NodeId, ms: u64, event: ProcessEvent) {
        let wait = self.hosts.get(&node).map_or(0, |host| host.clock.until_passed(ms));
        self.plan(node, self.now + wait, event);
    }

    /// How long one disk operation of that node takes.
    pub(super) fn io_time(&mut self) -> Micros {
        let weather = &self.setup.weather;
        if self.random.chance(weather.slow_io) {
            return self.random.magnitude(weather.io_max, 2 * self.setup.profile.io_timeout_ms * 1_000);
        }
        self.random.between(50, weather.io_max.max(100))
    }

    /// The start of a node that holds its register now, or held it last; incarnation 0 if it never started.
    pub(super) fn running(&self, node: NodeId) -> Option<NodeIncarnation> {
        self.process(node).filter(|process| process.actors.is_some()).map(|process| process.me)
    }

    pub(super) fn next_process_id(&mut self) -> u64 {
        self.processes += 1;
        self.processes
    }

    pub(super) fn configuration_of(&self, node: NodeId) -> Option<Arc<ConfigurationRecord>> {
        let actors = self.process(node)?.actors.as_ref()?;
        Some(Arc::clone(actors.manager.configuration()))
    }
}
