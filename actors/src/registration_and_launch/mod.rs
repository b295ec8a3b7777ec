//! Registration and launch (spec, "C. Registration and launch"; protocol §6): where each client service runs, and the commands for
//! this node, carried out by one [`ClientService`] actor each.
//!
//! The decisions are made by [`phalanx_protocol::launcher`]; this actor gives it what arrives and carries its outputs out.

mod orders;
mod perform;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::admin::MonitorStatus;
use phalanx_messages::launch::WardenRequest;
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::registration::Instance;
use phalanx_messages::set::NodeSet;
use phalanx_protocol::launcher::{Launcher, LauncherInput, LauncherSettings, OrderFailure};
use phalanx_protocol::moment::Moment;
use phalanx_protocol::registration::{DatabaseRoom, LeaseSigns};
use tokio::sync::oneshot;

use crate::client_service::{ClientService, CommandSurroundings, Monitored, Reported};
use crate::clock::Clock;
use crate::disk::{ReadDecisions, ReadRegistration, WriteDecision, WriteRegistration};
use crate::gate::Gate;
use crate::guard::PanicGuard;
use crate::load_sampler::Pressed;
use crate::membership_watcher::AdoptView;
use crate::ports::{
    ConfigurationChanged, DatabaseCommitted, InjectPanic, PeerEvent, RequestForce, SendToPeer, ServiceHappened,
};
use crate::service_actor::ServiceActors;

/// Sent by the membership manager whenever it changes: whose lease has ended, who is certainly dead, and who has gone. The
/// decisions of a node that is named here are taken over at once (protocol §6.1).
#[derive(Debug, Default, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct LeaseView {
    /// Nodes whose register has been silent for too long, or says that they are down.
    pub expired: NodeSet,
    /// Incarnations whose death is proved.
    pub dead: Vec<NodeIncarnation>,
    /// Incarnations that are out of the event-manager level for good.
    pub gone: Vec<NodeIncarnation>,
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
    /// Actors of the application that perform services.
    pub actors: ServiceActors,
    /// Can force a node out.
    pub force: Recipient<RequestForce>,
    /// Shows what happens.
    pub happened: Vec<Recipient<ServiceHappened>>,
    /// Watches by the committed database.
    pub committed: Vec<Recipient<DatabaseCommitted>>,
}

/// See the module.
pub struct RegistrationAndLaunch {
    settings: RegistrationSettings,
    edges: RegistrationEdges,
    machine: Launcher,
    services: BTreeMap<Instance, Addr<ClientService>>,
    /// What the monitors of instances that are registered here have found.
    monitors: BTreeMap<Instance, MonitorStatus>,
    /// Itself, for the client services; set when it starts.
    own: Option<Addr<Self>>,
    /// Changes of the level that are not adopted yet, by number.
    changes: BTreeMap<u64, oneshot::Sender<Result<(), String>>>,
    last_change: u64,
    /// Administrators' orders that are not answered, by number.
    orders: BTreeMap<u64, oneshot::Sender<Result<(), OrderFailure>>>,
    last_order: u64,
}

impl RegistrationAndLaunch {
    /// An actor that has joined nothing and knows no database.
    #[must_use]
    pub fn new(settings: RegistrationSettings, edges: RegistrationEdges) -> Self {
        let RegistrationSettings { me, profile, room, .. } = settings;
        Self {
            machine: Launcher::new(LauncherSettings { me, profile, room }),
            settings,
            edges,
            services: BTreeMap::new(),
            monitors: BTreeMap::new(),
            own: None,
            changes: BTreeMap::new(),
            last_change: 0,
            orders: BTreeMap::new(),
            last_order: 0,
        }
    }

    /// Gives the machine an input and carries out what it wants.
    fn give(&mut self, input: LauncherInput, ctx: &mut Context<Self>) {
        let guard = self.settings.guard.clone();
        guard.run(|| {
            let gate = &self.settings.gate;
            let may_act = gate.is_open_for(self.settings.profile.guard_ms);
            let moment = Moment { now: self.settings.clock.now(), open: gate.is_open(), may_act };
            for output in self.machine.step(moment, input) {
                self.perform(output, ctx);
            }
        });
    }
}

impl Actor for RegistrationAndLaunch {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.own = Some(ctx.address());
        let tau = Duration::from_millis(self.settings.profile.io_timeout_ms);
        ctx.run_interval(tau, |actor, ctx| actor.give(LauncherInput::Tick, ctx));
    }
}

impl Handler<AdoptView> for RegistrationAndLaunch {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, AdoptView(sights): AdoptView, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.last_change += 1;
        let change = self.last_change;
        self.changes.insert(change, answer);
        self.give(LauncherInput::Adopt { change, sights }, ctx);
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err("registration-and-launch is gone".to_owned())) })
    }
}

impl Handler<LeaseView> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, LeaseView { expired, dead, gone }: LeaseView, ctx: &mut Self::Context) {
        self.give(LauncherInput::Leases(LeaseSigns { expired, dead: dead.into_iter().collect(), gone }), ctx);
    }
}

impl Handler<PeerEvent> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, ctx: &mut Self::Context) {
        match event {
            PeerEvent::Up(peer) => self.give(LauncherInput::Up(peer), ctx),
            PeerEvent::Received { from, message: PeerMessage::Registration(message) } => {
                self.give(LauncherInput::Received { from, message }, ctx);
            }
            PeerEvent::Down(_)
            | PeerEvent::Received {
                message: PeerMessage::Heartbeat(_) | PeerMessage::Membership(_) | PeerMessage::Trace(_),
                ..
            } => {}
        }
    }
}

impl Handler<Reported> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, Reported(result): Reported, ctx: &mut Self::Context) {
        self.give(LauncherInput::Reported(result), ctx);
    }
}

impl Handler<Monitored> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, Monitored { instance, monitor }: Monitored, _: &mut Self::Context) {
        match monitor {
            Some(monitor) => drop(self.monitors.insert(instance, monitor)),
            None => drop(self.monitors.remove(&instance)),
        }
    }
}

impl Handler<ConfigurationChanged> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, ConfigurationChanged(configuration): ConfigurationChanged, ctx: &mut Self::Context) {
        self.give(LauncherInput::Configuration(configuration), ctx);
    }
}

impl Handler<Pressed> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, Pressed(pressure): Pressed, ctx: &mut Self::Context) {
        self.give(LauncherInput::Pressed(pressure), ctx);
    }
}

impl Handler<InjectPanic> for RegistrationAndLaunch {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.settings.guard.clone().run(|| panic!("injected"));
    }
}
