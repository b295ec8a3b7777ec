//! Registration and launch of several nodes, one step after the other: the production launchers and executors on the production
//! layout of a disk in memory. No threads, no network, and no time but what passes when nothing else is left to do.
//!
//! Everything that happens is a [`Step`] in a queue, so a test can stop before any of them and let a node die just there: that is how
//! each row of the table at the end of protocol §6.1 is reached. Every command that a warden runs is counted.
//!
//! Always holds, or a step panics: the invariants of protocol §6.6 that can be judged by commits and commands
//! ([`crate::simulation`] judges them by the same code).

mod carry;
mod mail;
mod membership;
mod node;
mod step;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::order::{OrderRefusal, RegistrationOrder, ServiceOrder};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::registration::{CommandKind, RegistrationRecord, RunState, ServiceRun};
use phalanx_messages::service::{ServiceCommand, ServiceDefinition};
use phalanx_messages::{Instant, NodeId, NodeIncarnation};
use phalanx_protocol::launcher::{LauncherInput, OrderFailure};
use phalanx_protocol::registration::outstanding;
use phalanx_storage::{ClusterDisk, Layout, MemoryDisk, Superblock};

use crate::node_cluster::{configuration_of, superblock_of};
use crate::simulation::service_truth::ServiceTruth;
use mail::Mail;
use node::Node;

pub use mail::Weather;
pub use step::{Ran, Step};

const PROFILE: TimingProfile = TimingProfile::DEV;
/// Room in the database, so that a record takes several blocks.
const SERVICES_MAX: u32 = 100;
/// Longer than anything that is waited for: a database that was not heard of is read again after 2 s, and everything that may be lost
/// is repeated every second. Less than the time after which a command counts as failed ([`command`]).
const PATIENCE_MS: u64 = 200 * PROFILE.io_timeout_ms;

/// See the module.
pub struct LauncherCluster {
    disk: ClusterDisk,
    memory: MemoryDisk,
    configuration: Arc<ConfigurationRecord>,
    nodes: BTreeMap<NodeId, Node>,
    /// The newest start of each node.
    starts: BTreeMap<NodeId, NodeIncarnation>,
    dead: BTreeSet<NodeIncarnation>,
    steps: VecDeque<Step>,
    /// Steps of nodes that are stopped.
    frozen: BTreeMap<NodeIncarnation, VecDeque<Step>>,
    mail: Mail,
    now: Instant,
    truth: ServiceTruth,
    /// Every command that some committed database has ordered.
    ordered: BTreeSet<Ran>,
    /// Every command that was sent, or taken by the node that decides.
    sent: BTreeSet<Ran>,
    ran: Vec<Ran>,
    /// Instances that were told of a database, on any node.
    told: Vec<String>,
    /// Where each order was put.
    asked_at: BTreeMap<u64, NodeIncarnation>,
    answers: BTreeMap<u64, Result<(), OrderFailure>>,
    last_order: u64,
    last_change: u64,
}

/// Of a service in these clusters: takes so long that it never counts as failed while a test waits, and has so many letters that a
/// few services fill several blocks.
#[must_use]
pub fn command(text: &str) -> Option<ServiceCommand> {
    Some(ServiceCommand::shell(format!("{text} {}", "-".repeat(1_000)), 10 * PATIENCE_MS))
}

impl LauncherCluster {
    /// That many nodes, all at the event-manager level, and these services. The lowest node decides.
    ///
    /// # Panics
    /// If they do not come to rest.
    #[must_use]
    pub fn joined(count: u16, services: Vec<ServiceDefinition>) -> Self {
        Self::in_weather(count, services, Weather::calm())
    }

    /// The same where messages get lost, come twice or late.
    ///
    /// # Panics
    /// As [`Self::joined`].
    #[must_use]
    pub fn in_weather(count: u16, services: Vec<ServiceDefinition>, weather: Weather) -> Self {
        let configuration = configuration_of((0..count).map(|id| (id, format!("n{id}:7700"))));
        let superblock = Superblock { services_max: SERVICES_MAX, ..superblock_of(&configuration, PROFILE) };
        let layout = Layout::new(superblock.nodes_max, superblock.services_max).expect("a small disk");
        let memory = MemoryDisk::new(layout.blocks_needed());
        let record = RegistrationRecord::of_definitions(services);
        phalanx_storage::format(&memory, &superblock, &configuration, &record).expect("memory takes everything");
        let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("just formatted");
        let mut cluster = Self {
            disk,
            memory,
            configuration: Arc::new(configuration),
            nodes: BTreeMap::new(),
            starts: BTreeMap::new(),
            dead: BTreeSet::new(),
            steps: VecDeque::new(),
            frozen: BTreeMap::new(),
            mail: Mail::new(weather),
            now: Instant(0),
            truth: ServiceTruth::default(),
            ordered: BTreeSet::new(),
            sent: BTreeSet::new(),
            ran: Vec::new(),
            told: Vec::new(),
            asked_at: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_order: 0,
            last_change: 0,
        };
        cluster.form(count);
        cluster.until("everything rests", Self::is_at_rest);
        cluster
    }

    /// Performs the next step; if there is none, time passes.
    pub fn step(&mut self) {
        match self.steps.pop_front() {
            Some(step) => self.perform(step),
            None => self.pass(),
        }
    }

    /// Lanes of the instances that were told of a database so far, on any node.
    #[must_use]
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Steps until `holds`.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = self.now;
        while !holds(self) {
            assert!(self.now.since(begun) < PATIENCE_MS, "never comes true: {what}\n{}", self.text());
            self.step();
        }
    }

    /// Steps until the next step is `wanted`, which is not performed.
    ///
    /// # Panics
    /// If it does not come.
    pub fn stop_before(&mut self, what: &str, wanted: impl Fn(&Step) -> bool) {
        self.until(what, |cluster| cluster.steps.front().is_some_and(&wanted));
    }

    /// The next step; none if time would pass.
    #[must_use]
    pub fn next(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// Nothing is under way: no command lacks its result, no order its answer, and everybody knows the newest database.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let newest = self.newest();
        let knows = |node: &Node| node.launcher.record().revision == newest.revision;
        let decided = self.nodes.values().any(|node| node.launcher.decided().is_some());
        let begun = outstanding(&newest);
        decided
            && self.steps.is_empty()
            && self.mail.is_empty()
            && self.frozen.is_empty()
            && begun.is_empty()
            && self.has_adopted()
            && self.nodes.values().all(knows)
            && self.answers.len() as u64 == self.last_order
    }

    /// The newest database on the disk.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn newest(&self) -> RegistrationRecord {
        self.disk.registrations().newest().expect("readable").expect("formatted")
    }

    /// State of a service in the newest database, and where.
    #[must_use]
    pub fn at(&self, service: &str) -> (RunState, u16) {
        let run = self.run(service);
        (run.state, run.node.node.0)
    }

    /// A service in the newest database.
    #[must_use]
    pub fn run(&self, service: &str) -> ServiceRun {
        self.newest().services[service].run.clone()
    }

    /// Who decides, as it itself believes.
    #[must_use]
    pub fn decision_makers(&self) -> Vec<u16> {
        let decides = self.nodes.iter().filter(|(_, node)| node.launcher.decided().is_some());
        decides.map(|(id, _)| id.0).collect()
    }

    /// Simulated time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Some command that a database waits for was sent.
    #[must_use]
    pub fn was_sent(&self, database: &RegistrationRecord) -> bool {
        outstanding(database).iter().any(|command| self.sent.contains(&Ran::of(command)))
    }

    /// Every command that was run, in order.
    #[must_use]
    pub fn ran(&self) -> &[Ran] {
        &self.ran
    }

    /// How often a command of that kind was run for a service.
    #[must_use]
    pub fn runs(&self, lane: &str, kind: CommandKind) -> usize {
        self.ran.iter().filter(|ran| ran.lane == lane && ran.kind == kind).count()
    }

    /// How often each command ran that a committed database has ordered, or that ran without having been ordered.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Ran, usize> {
        let mut counts: BTreeMap<Ran, usize> = self.ordered.iter().map(|ordered| (ordered.clone(), 0)).collect();
        self.ran.iter().for_each(|ran| *counts.entry(ran.clone()).or_default() += 1);
        counts
    }

    /// Every operation that a committed database has ordered ran exactly once; one of a node that has died since, at most once; and
    /// nothing else ran. A notification of a registration that has ended meanwhile counts as told.
    ///
    /// # Panics
    /// If not.
    pub fn assert_each_ran_once(&self) {
        let newest = self.newest();
        let stands = |ran: &Ran| {
            let run = newest.services.get(&ran.lane).map(|service| &service.run);
            run.is_some_and(|run| run.state == RunState::Registered && run.generation == ran.operation)
        };
        for (ran, count) in self.counts() {
            let needed = !self.dead.contains(&ran.at) && (ran.kind != CommandKind::Notify || stands(&ran));
            assert!((usize::from(needed)..=1).contains(&count), "{ran:?} ran {count} times\n{}", self.text());
            assert!(self.ordered.contains(&ran), "{ran:?} was never ordered\n{}", self.text());
        }
    }

    /// Asks something at a node; gives the number of the answer.
    pub fn ask(&mut self, node: u16, order: RegistrationOrder) -> u64 {
        self.last_order += 1;
        let counter = self.last_order;
        self.asked_at.insert(counter, self.start_of(node));
        self.truth.order_asked(self.start_of(node), counter, order.clone());
        self.give_later(NodeId(node), LauncherInput::Ask { counter, order });
        counter
    }

    /// Asks something of a service at a node.
    pub fn ask_service(&mut self, node: u16, service: &str, order: ServiceOrder) -> u64 {
        self.ask(node, RegistrationOrder::Service { service: service.to_owned(), order })
    }

    /// How an order has ended.
    ///
    /// # Errors
    /// Its refusal.
    ///
    /// # Panics
    /// If it has not, or nobody has decided.
    pub fn answer(&self, counter: u64) -> Result<(), OrderRefusal> {
        match self.answers.get(&counter).expect("answered") {
            Ok(()) => Ok(()),
            Err(OrderFailure::Refused(refusal)) => Err(refusal.clone()),
            Err(OrderFailure::NoDecision) => panic!("nobody has decided\n{}", self.text()),
        }
    }

    /// Messages that were lost, repeated or late.
    #[must_use]
    pub const fn mishaps(&self) -> u64 {
        self.mail.mishaps()
    }

    /// Every change of the level is adopted by whoever lives.
    #[must_use]
    pub fn has_adopted(&self) -> bool {
        self.nodes.values().all(|node| node.adopting.is_empty())
    }

    /// Nothing is lost, repeated or late from now on.
    pub fn calm_down(&mut self) {
        let late = self.mail.calm_down();
        self.steps.extend(late);
    }

    /// What has happened, for a failure.
    #[must_use]
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for Ran { lane, kind, operation, at } in &self.ran {
            writeln!(text, "{at} runs {kind:?} {operation} of {lane}").ok();
        }
        for (name, service) in &self.newest().services {
            for (_, run) in service.runs() {
                writeln!(text, "{name} is {:?} at {}, operation {}", run.state, run.node, run.operation).ok();
            }
        }
        writeln!(text, "decide: {:?}, now {} ms, next: {:?}", self.decision_makers(), self.now.0, self.next()).ok();
        text
    }

    fn node_mut(&mut self, who: NodeIncarnation) -> Option<&mut Node> {
        self.nodes.get_mut(&who.node).filter(|node| node.me == who)
    }
}
