//! The machine itself: its state, and what every part of it uses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::registration::{Instance, Order, RegistrationMessage, RegistrationRecord};
use phalanx_messages::{Instant, NodeId, NodeIncarnation, Revision, Term};

use super::io::{LauncherInput, LauncherOutput, RegistrationReader};
use super::orders::Asked;
use crate::moment::Moment;
use crate::registration::{
    Admission, DatabaseRoom, Decider, DeciderInput, DeciderOutput, Event, LevelView, NodeLoads, SightChange,
    TimerLimits, Timers,
};

/// Allowed for a command's way to its executor and back, in milliseconds.
const MARGIN_MS: u64 = 5_000;
/// Between two attempts on what failed everywhere, in milliseconds.
const BACKOFF_MS: u64 = 10_000;

/// What the machine is told about its node.
#[derive(Debug, Clone, Copy)]
pub struct LauncherSettings {
    /// This node.
    pub me: NodeIncarnation,
    /// Timing of the disk.
    pub profile: TimingProfile,
    /// What the disk was formatted for.
    pub room: DatabaseRoom,
}

/// See the module [`super`].
#[derive(Debug)]
pub struct Launcher {
    pub(super) settings: LauncherSettings,
    /// Of the input that is being taken.
    pub(super) moment: Moment,
    outputs: Vec<LauncherOutput>,
    pub(super) configuration: Arc<ConfigurationRecord>,
    pub(super) decider: Decider,
    /// Outputs of the decision machine that wait for the disk request before them.
    pub(super) work: VecDeque<DeciderOutput>,
    /// Its disk request that has no answer yet.
    pub(super) requested: Option<DeciderOutput>,
    /// That request could not be made, or failed: it is made again at the next tick.
    pub(super) request_again: bool,
    /// The newest database seen.
    pub(super) known: Arc<RegistrationRecord>,
    pub(super) known_at: Instant,
    /// The newest database that somebody has called committed when the reading began that is under way.
    pub(super) reading: Option<Revision>,
    pub(super) readings_begun: u64,
    /// The newest database that somebody has called committed.
    pub(super) announced: Revision,
    pub(super) announced_at: Instant,
    /// The newest database that was shown as committed.
    pub(super) shown: Revision,
    pub(super) timers: Timers,
    pub(super) admission: Admission,
    /// Commands that came before this node had joined the level.
    pub(super) early: Vec<(Term, Order)>,
    /// Instances of which something has run here: they are told of every database in which
    /// they have changed.
    pub(super) told: BTreeSet<Instance>,
    pub(super) level: LevelView,
    pub(super) joined: bool,
    /// Changes of the level that are not adopted yet.
    pub(super) changes: VecDeque<(u64, SightChange)>,
    pub(super) starting_table: StartingTable,
    /// Changes that the decision machine is adopting; true = this node lets go of everything.
    pub(super) adopting: BTreeMap<u64, bool>,
    /// Changes that wait until this node has let go of everything, and the readings of the database begun before it was asked to.
    pub(super) draining: Vec<(u64, u64)>,
    pub(super) forced_at: Instant,
    /// What is known of the nodes: their capacities, and how hard each says it is pressed.
    pub(super) loads: NodeLoads,
    /// Administrators' orders that are not answered; the first is put forward.
    pub(super) asked: VecDeque<Asked>,
}

/// The database that the first change of the level is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartingTable {
    Needed,
    Asked,
    Failed,
    Read,
}

impl Launcher {
    /// A machine that has joined nothing and knows no database.
    #[must_use]
    pub fn new(settings: LauncherSettings) -> Self {
        let limits = TimerLimits { kill_ms: settings.profile.kill_ms, margin_ms: MARGIN_MS, backoff_ms: BACKOFF_MS };
        Self {
            decider: Decider::new(settings.me, settings.profile.io_timeout_ms).within(settings.room),
            admission: Admission::new(settings.me),
            timers: Timers::new(limits),
            settings,
            moment: Moment { now: Instant::default(), open: false, may_act: false },
            outputs: Vec::new(),
            configuration: Arc::default(),
            work: VecDeque::new(),
            requested: None,
            request_again: false,
            known: Arc::default(),
            known_at: Instant::default(),
            reading: None,
            readings_begun: 0,
            announced: Revision::default(),
            announced_at: Instant::default(),
            shown: Revision::default(),
            early: Vec::new(),
            told: BTreeSet::new(),
            level: LevelView::default(),
            joined: false,
            changes: VecDeque::new(),
            starting_table: StartingTable::Needed,
            adopting: BTreeMap::new(),
            draining: Vec::new(),
            forced_at: Instant::default(),
            loads: NodeLoads::default(),
            asked: VecDeque::new(),
        }
    }

    /// Takes one input. The outputs are carried out in order.
    pub fn step(&mut self, moment: Moment, input: LauncherInput) -> Vec<LauncherOutput> {
        self.moment = moment;
        match input {
            LauncherInput::Tick => self.tick(),
            LauncherInput::Leases(signs) => self.signs_changed(signs),
            LauncherInput::Configuration(configuration) => self.configured(configuration),
            LauncherInput::Pressed(pressure) => self.pressed(pressure),
            LauncherInput::Adopt { change, sights } => {
                self.changes.push_back((change, sights));
                self.next_change();
            }
            LauncherInput::Up(peer) => self.greet(peer),
            LauncherInput::Received { from, message } => self.received(from, message),
            LauncherInput::Reported(result) => self.reported(&result),
            LauncherInput::Ask { counter, order } => self.ask(counter, order),
            LauncherInput::DecisionsRead(result) => self.request_ended(result.map(DeciderInput::Registers)),
            LauncherInput::Written(result) => self.written(result),
            LauncherInput::RegistrationRead(RegistrationReader::Decisions, result) => {
                self.request_ended(result.map(|newest| DeciderInput::Loaded(newest.map(Box::new))));
            }
            LauncherInput::RegistrationRead(RegistrationReader::StartingTable, result) => {
                self.starting_table_read(result);
            }
            LauncherInput::RegistrationRead(RegistrationReader::Follower, result) => self.followed(result),
        }
        std::mem::take(&mut self.outputs)
    }

    fn tick(&mut self) {
        self.drive(DeciderInput::Tick(self.now()));
        self.request_again();
        self.read_starting_table_again();
        self.run_timers();
        self.refresh_if_stale();
        self.request_forces();
        self.announce_again();
        self.put_forward_again();
    }

    fn received(&mut self, from: NodeIncarnation, message: RegistrationMessage) {
        match message {
            RegistrationMessage::Orders { depoch, orders } => {
                orders.into_iter().for_each(|order| self.take(depoch, order));
            }
            RegistrationMessage::Results(results) => {
                let finished = |result| Event::Finished { from, result };
                self.drive(DeciderInput::Happened(results.into_iter().map(finished).collect()));
            }
            RegistrationMessage::Committed { revision } => {
                self.admission.see(revision.term);
                self.announced = self.announced.max(revision);
                self.refresh_if_announced();
                self.answer_orders();
                self.show_committed();
            }
            RegistrationMessage::Load { pressure } => self.hears_load(from.node, pressure),
            RegistrationMessage::Requests(requests) => {
                self.drive(DeciderInput::Happened(requests.into_iter().map(Event::Requested).collect()));
            }
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.moment.now
    }

    pub(super) fn emit(&mut self, output: LauncherOutput) {
        self.outputs.push(output);
    }

    pub(super) fn say(&mut self, to: NodeId, message: RegistrationMessage) {
        self.emit(LauncherOutput::Send { to, message });
    }

    /// The other nodes at the level.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        let (me, view) = (self.settings.me.node, self.level.view());
        view.nodes.keys().copied().filter(|node| *node != me && view.is_present(*node)).collect()
    }
}
