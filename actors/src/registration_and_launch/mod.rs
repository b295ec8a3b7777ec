//! Registration and launch (spec, "C. Registration and launch"; protocol §6): decides where each client service runs while this
//! node owns the decisions, and has the commands for this node carried out by one [`ClientService`] actor each.
//!
//! The decisions are made in `phalanx_protocol::registration`; this actor carries them out. Nothing is written or sent while
//! the gate is closed: a node that was frozen finds it closed, and whatever it had in flight is withheld.
//!
//! - `decisions`: the decision machine, its disk requests one after the other, and what follows from a commit
//! - `level`: changes of the event-manager level, and when they are answered
//! - `orders`: what administrators ask
//! - `services`: the newest database known, commands for this node, and results

mod decisions;
mod level;
mod orders;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::launch::WardenRequest;
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::registration::{Order, RegistrationMessage, RegistrationRecord};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeIncarnation, Revision, Term};
use phalanx_protocol::registration::{
    Admission, DatabaseRoom, Decider, DeciderInput, DeciderOutput, Event, LeaseSigns, LevelView, TimerLimits, Timers,
};
use phalanx_storage::Durability;
use tokio::sync::oneshot;

use crate::client_service::{ClientService, CommandSurroundings, Reported};
use crate::clock::Clock;
use crate::disk::{ReadDecisions, ReadRegistration, WriteDecision, WriteRegistration};
use crate::gate::Gate;
use crate::guard::PanicGuard;
use crate::membership_watcher::AdoptView;
use crate::ports::{ConfigurationChanged, InjectPanic, PeerEvent, RequestForce, SendToPeer, ServiceHappened};

/// Allowed for a command's way to its executor and back, in milliseconds.
const MARGIN_MS: u64 = 5_000;
/// Between two attempts on what failed everywhere, in milliseconds.
const BACKOFF_MS: u64 = 10_000;

/// Sent by the membership manager whenever it changes: whose lease has ended, and who is certainly dead. The decisions of a node
/// that is named here are taken over at once (protocol §6.1).
#[derive(Debug, Default, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LeaseView {
    /// Nodes whose register has been silent for too long, or says that they are down.
    pub expired: NodeSet,
    /// Incarnations whose death is proved.
    pub dead: Vec<NodeIncarnation>,
}

/// What this actor is given.
#[derive(Debug, Clone)]
pub struct RegistrationSettings {
    /// This node.
    pub me: NodeIncarnation,
    /// Timing of the disk.
    pub profile: TimingProfile,
    /// Time.
    pub clock: Clock,
    /// Closed = nothing is written, sent or begun.
    pub gate: Gate,
    /// Its panics are the node's.
    pub guard: PanicGuard,
    /// What commands are told.
    pub surroundings: CommandSurroundings,
    /// How decisions are written.
    pub durability: Durability,
    /// What the disk was formatted for.
    pub room: DatabaseRoom,
}

/// Whom it talks to.
#[derive(Debug, Clone)]
pub struct RegistrationEdges {
    /// Reads decision registers.
    pub read_decisions: Recipient<ReadDecisions>,
    /// Writes the own one.
    pub write_decision: Recipient<WriteDecision>,
    /// Reads the newest database.
    pub read_registration: Recipient<ReadRegistration>,
    /// Writes the own copy.
    pub write_registration: Recipient<WriteRegistration>,
    /// Reaches the other nodes.
    pub peers: Recipient<SendToPeer>,
    /// Runs commands.
    pub warden: Recipient<WardenRequest>,
    /// Can force a node out.
    pub force: Recipient<RequestForce>,
    /// Shows what happens.
    pub happened: Vec<Recipient<ServiceHappened>>,
}

/// Answer to one [`AdoptView`].
type Adopted = oneshot::Sender<Result<(), String>>;

/// See the module.
pub struct RegistrationAndLaunch {
    settings: RegistrationSettings,
    edges: RegistrationEdges,
    configuration: Arc<ConfigurationRecord>,
    decider: Decider,
    /// Outputs of the machine that wait for the disk request before them.
    work: VecDeque<DeciderOutput>,
    disk_busy: bool,
    /// The newest database seen.
    known: Arc<RegistrationRecord>,
    known_at: phalanx_messages::Instant,
    reading_known: bool,
    /// The newest database that somebody has called committed.
    announced: Revision,
    announced_at: phalanx_messages::Instant,
    timers: Timers,
    admission: Admission,
    /// Commands that came before this node had joined the level.
    early: Vec<(Term, Order)>,
    services: BTreeMap<String, Addr<ClientService>>,
    /// Itself, for the client services; set when it starts.
    own: Option<Recipient<Reported>>,
    level: LevelView,
    joined: bool,
    changes: VecDeque<(AdoptView, Adopted)>,
    starting_table_read: bool,
    tokens: BTreeMap<u64, (bool, Adopted)>,
    next_token: u64,
    /// Who waits for this node to let go of everything, and the readings of the database begun before it was asked to.
    draining: Vec<(u64, Adopted)>,
    readings_begun: u64,
    forced_at: phalanx_messages::Instant,
    /// Administrators' orders that are not answered; the first is put forward.
    asked: VecDeque<orders::Asked>,
    order_counter: u64,
}

impl RegistrationAndLaunch {
    /// An actor that has joined nothing and knows no database.
    #[must_use]
    pub fn new(settings: RegistrationSettings, edges: RegistrationEdges) -> Self {
        let limits = TimerLimits { kill_ms: settings.profile.kill_ms, margin_ms: MARGIN_MS, backoff_ms: BACKOFF_MS };
        Self {
            decider: Decider::new(settings.me, settings.profile.io_timeout_ms).within(settings.room),
            admission: Admission::new(settings.me),
            timers: Timers::new(limits),
            settings,
            edges,
            configuration: Arc::default(),
            work: VecDeque::new(),
            disk_busy: false,
            known: Arc::default(),
            known_at: phalanx_messages::Instant::default(),
            reading_known: false,
            announced: Revision::default(),
            announced_at: phalanx_messages::Instant::default(),
            early: Vec::new(),
            services: BTreeMap::new(),
            own: None,
            level: LevelView::default(),
            joined: false,
            changes: VecDeque::new(),
            starting_table_read: false,
            tokens: BTreeMap::new(),
            next_token: 0,
            draining: Vec::new(),
            readings_begun: 0,
            forced_at: phalanx_messages::Instant::default(),
            asked: VecDeque::new(),
            order_counter: 0,
        }
    }

    fn tau(&self) -> Duration {
        Duration::from_millis(self.settings.profile.io_timeout_ms)
    }

    /// Runs a handler, or the continuation of one, as a kernel-level handler.
    fn guarded<R>(&mut self, handler: impl FnOnce(&mut Self) -> R) -> R {
        let guard = self.settings.guard.clone();
        guard.run(|| handler(self))
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.settings.clock.now();
        self.drive(DeciderInput::Tick(now), ctx);
        self.run_timers(ctx);
        self.refresh_if_stale(ctx);
        self.request_forces();
        self.announce_again();
        self.put_forward_again(ctx);
    }

    fn received(&mut self, from: NodeIncarnation, message: RegistrationMessage, ctx: &mut Context<Self>) {
        match message {
            RegistrationMessage::Orders { depoch, orders } => {
                orders.into_iter().for_each(|order| self.take(depoch, order));
            }
            RegistrationMessage::Results(results) => {
                let finished = |result| Event::Finished { from, result };
                self.drive(DeciderInput::Happened(results.into_iter().map(finished).collect()), ctx);
            }
            RegistrationMessage::Committed { revision } => {
                self.admission.see(revision.term);
                self.announced = self.announced.max(revision);
                self.refresh_if_announced(ctx);
                self.answer_orders(ctx);
            }
            RegistrationMessage::Requests(requests) => {
                self.drive(DeciderInput::Happened(requests.into_iter().map(Event::Requested).collect()), ctx);
            }
        }
    }
}

impl Actor for RegistrationAndLaunch {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.own = Some(ctx.address().recipient());
        ctx.run_interval(self.tau(), |actor, ctx| actor.guarded(|actor| actor.tick(ctx)));
    }
}

impl Handler<AdoptView> for RegistrationAndLaunch {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, change: AdoptView, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.guarded(|actor| actor.enqueue(change, answer, ctx));
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err("registration-and-launch is gone".to_owned())) })
    }
}

impl Handler<LeaseView> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, LeaseView { expired, dead }: LeaseView, ctx: &mut Self::Context) {
        let signs = LeaseSigns { expired, dead: dead.into_iter().collect() };
        self.guarded(|actor| actor.drive(DeciderInput::Leases(signs), ctx));
    }
}

impl Handler<PeerEvent> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, ctx: &mut Self::Context) {
        self.guarded(|actor| match event {
            PeerEvent::Up(peer) => actor.greet(peer),
            PeerEvent::Down(_) => {}
            PeerEvent::Received { from, message: PeerMessage::Registration(message) } => {
                actor.received(from, message, ctx);
            }
            PeerEvent::Received { message: PeerMessage::Heartbeat(_) | PeerMessage::Membership(_), .. } => {}
        });
    }
}

impl Handler<Reported> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, Reported(result): Reported, ctx: &mut Self::Context) {
        self.guarded(|actor| actor.reported(result, ctx));
    }
}

impl Handler<ConfigurationChanged> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, ConfigurationChanged(configuration): ConfigurationChanged, _: &mut Self::Context) {
        self.guarded(|actor| actor.configuration = configuration);
    }
}

impl Handler<InjectPanic> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.guarded(|_| panic!("injected"));
    }
}
