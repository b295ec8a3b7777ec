//! The actor itself: what arrives, as inputs of the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::Instant;
use phalanx_messages::Level;
use phalanx_messages::notification::SubsystemAcknowledged;
use phalanx_messages::peer::{MasterAnswer, PeerMessage};
use phalanx_messages::register::Claim;
use phalanx_protocol::manager::{Manager, ManagerInput, ManagerSettings, Moment, TICK_MS};
use tokio::sync::oneshot;

use super::subsystems::Attached;
use super::traces::TraceQuestions;
use super::{Edges, UseFence};
use crate::lease_thread::Liveness;
use crate::ports::{DeathProved, InjectPanic, LeaseChanged, PeerEvent, RegistersRead, RequestForce, RequestLeave};

/// See the module [`super`].
pub struct MembershipManager {
    pub(super) machine: Manager,
    pub(super) edges: Edges,
    /// Administrators' requests that have no answer yet, by number.
    pub(super) asking: BTreeMap<u64, oneshot::Sender<MasterAnswer>>,
    pub(super) asked: u64,
    /// What the machine has just said to a request to leave.
    pub(super) leave_taken: Option<Result<(), String>>,
    /// Subsystems that are not part of the node, by level.
    pub(super) attached: BTreeMap<Level, Attached>,
    /// Counts their registrations.
    pub(super) registered: u64,
    /// Questions to the peers that show what they keep of a transition.
    pub(super) traces: TraceQuestions,
    guard_ms: u64,
    liveness: Option<Liveness>,
    /// The tick that comes next, and when.
    next_tick: Option<(Instant, SpawnHandle)>,
}

impl MembershipManager {
    /// A membership manager that has not looked at anything yet. `claim` is what this node's register said of its claim
    /// before this start.
    #[must_use]
    pub fn new(settings: ManagerSettings, edges: Edges, claim: Claim) -> Self {
        let guard_ms = settings.profile.guard_ms;
        let machine = Manager::new(settings, claim);
        Self {
            machine,
            edges,
            asking: BTreeMap::new(),
            asked: 0,
            leave_taken: None,
            attached: BTreeMap::new(),
            registered: 0,
            traces: TraceQuestions::default(),
            guard_ms,
            liveness: None,
            next_tick: None,
        }
    }

    /// Gives the machine an input and carries out what it wants.
    pub(super) fn take(&mut self, input: ManagerInput, ctx: &mut Context<Self>) {
        if !matches!(input, ManagerInput::Tick | ManagerInput::Heartbeat { .. }) {
            self.tick_by(self.edges.clock.now().plus(TICK_MS), ctx); // something has happened, so time may matter again
        }
        let guard = self.edges.guard.clone();
        guard.run(|| {
            let gate = &self.edges.gate;
            let (open, may_act) = (gate.is_open(), gate.is_open_for(self.guard_ms));
            let moment = Moment { now: self.edges.clock.now(), open, may_act };
            for output in self.machine.step(moment, input) {
                self.perform(output, ctx);
            }
        });
    }
}

impl MembershipManager {
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.next_tick = None;
        if let Some(liveness) = &self.liveness {
            liveness.tick();
        }
        self.take(ManagerInput::Tick, ctx);
        self.tick_by(self.machine.next_tick(self.edges.clock.now()), ctx);
    }

    /// Lets the next tick come no later than `due`.
    fn tick_by(&mut self, due: Instant, ctx: &mut Context<Self>) {
        match self.next_tick {
            Some((at, _)) if at <= due => return,
            Some((_, later)) => {
                ctx.cancel_future(later);
            }
            None => {}
        }
        let pause = Duration::from_millis(due.since(self.edges.clock.now()));
        self.next_tick = Some((due, ctx.run_later(pause, Self::tick)));
    }
}

impl Actor for MembershipManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for subsystem in std::mem::take(&mut self.edges.subsystems) {
            self.attach(subsystem, ctx);
        }
        self.liveness = Some(self.edges.lease.liveness("membership manager"));
        self.tick_by(self.edges.clock.now().plus(TICK_MS), ctx);
    }
}

impl Handler<InjectPanic> for MembershipManager {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.edges.guard.clone().run(|| panic!("injected"));
    }
}

impl Handler<UseFence> for MembershipManager {
    type Result = ();

    fn handle(&mut self, UseFence(fence): UseFence, _: &mut Self::Context) {
        self.edges.fence = Some(fence);
    }
}

impl Handler<LeaseChanged> for MembershipManager {
    type Result = ();

    fn handle(&mut self, LeaseChanged { valid }: LeaseChanged, ctx: &mut Self::Context) {
        self.take(ManagerInput::LeaseChanged { valid }, ctx);
    }
}

impl Handler<RegistersRead> for MembershipManager {
    type Result = ();

    fn handle(&mut self, RegistersRead(reading): RegistersRead, ctx: &mut Self::Context) {
        self.take(ManagerInput::Registers(reading), ctx);
    }
}

impl Handler<DeathProved> for MembershipManager {
    type Result = ();

    fn handle(&mut self, DeathProved { victim, method }: DeathProved, ctx: &mut Self::Context) {
        self.take(ManagerInput::DeathProved { victim, method }, ctx);
    }
}

impl Handler<SubsystemAcknowledged> for MembershipManager {
    type Result = ();

    fn handle(&mut self, answer: SubsystemAcknowledged, ctx: &mut Self::Context) {
        self.take(ManagerInput::Answered(answer), ctx);
    }
}

impl Handler<PeerEvent> for MembershipManager {
    type Result = ();

    fn handle(&mut self, event: PeerEvent, ctx: &mut Self::Context) {
        let input = match event {
            PeerEvent::Up(peer) => ManagerInput::Up(peer),
            PeerEvent::Down(peer) => ManagerInput::Down(peer),
            PeerEvent::Received { from, message: PeerMessage::Membership(message) } => {
                ManagerInput::Received { from, message }
            }
            PeerEvent::Received { from, message: PeerMessage::Heartbeat(heartbeat) } => {
                ManagerInput::Heartbeat { from, seen: heartbeat.seen }
            }
            PeerEvent::Received { from, message: PeerMessage::Trace(message) } => {
                let guard = self.edges.guard.clone();
                return guard.run(|| self.trace_message(from.node, message));
            }
            PeerEvent::Received { message: PeerMessage::Registration(_), .. } => return,
        };
        self.take(input, ctx);
    }
}

impl Handler<RequestLeave> for MembershipManager {
    type Result = Result<(), String>;

    fn handle(&mut self, RequestLeave(node): RequestLeave, ctx: &mut Self::Context) -> Self::Result {
        self.take(ManagerInput::Leave(node), ctx);
        self.leave_taken.take().unwrap_or_else(|| Err("the node is ending; ask another one".to_owned()))
    }
}

impl Handler<RequestForce> for MembershipManager {
    type Result = ();

    fn handle(&mut self, RequestForce { victim, reason }: RequestForce, ctx: &mut Self::Context) {
        self.take(ManagerInput::Force { victim, reason }, ctx);
    }
}
