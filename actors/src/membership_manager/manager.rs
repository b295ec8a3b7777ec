//! The actor itself: its state, and what every part of it uses.

use std::collections::{BTreeSet, VecDeque};

use phalanx_messages::Instant;
use phalanx_messages::membership::NodeState;
use phalanx_messages::notification::SubsystemAcknowledged;
use phalanx_messages::peer::{MembershipMessage, PeerMessage};
use phalanx_messages::register::OwnState;
use phalanx_messages::{NodeId, Revision, Term};
use phalanx_protocol::agent::Agent;
use phalanx_protocol::chronicle::{Chronicle, Happening};
use phalanx_protocol::coordinator::Coordinator;
use phalanx_protocol::detector::Detector;
use phalanx_protocol::expiry::RegisterWatch;
use phalanx_protocol::frm::{Frm, FrmOutput};
use phalanx_protocol::partition::Rounds;

use super::configuration::ConfigurationDraft;
use super::requests::Requests;
use super::*;
use crate::ports::{DeathProved, InjectPanic, LeaseChanged, RegistersRead, RegistersReading};

/// See the module [`super`].
pub struct MembershipManager {
    pub(super) settings: Settings,
    pub(super) edges: Edges,
    // What the disk and the interconnect say of the others.
    pub(super) watch: RegisterWatch,
    pub(super) reading: Option<Arc<RegistersReading>>,
    pub(super) detector: Detector,
    pub(super) rounds: Rounds,
    /// Members that are alive on the disk and not heard; each has had its round.
    pub(super) suspected: BTreeSet<NodeIncarnation>,
    /// Nodes whose register is looked at every few milliseconds, and until when.
    pub(super) probes: BTreeMap<NodeId, Instant>,
    pub(super) probing: bool,
    // Mastership.
    pub(super) frm: Frm,
    /// Outputs of the register machine that are not carried out yet; one at a time.
    pub(super) frm_queue: VecDeque<FrmOutput>,
    pub(super) frm_busy: bool,
    /// The register machine waits to be polled since then.
    pub(super) frm_poll_since: Option<Instant>,
    /// Election with this rank is due since then.
    pub(super) standing: Option<(u32, Instant)>,
    /// Newest record of all areas, read while claiming a term.
    pub(super) loaded: MembershipRecord,
    /// The configuration that it names, if this node has another one.
    pub(super) loaded_configuration: Option<ConfigurationRecord>,
    /// The record that the register machine is committing.
    pub(super) committing: Option<Box<MembershipRecord>>,
    pub(super) coordinator: Option<Coordinator>,
    // Membership as seen from this node.
    pub(super) agent: Agent,
    pub(super) newest: Arc<MembershipRecord>,
    /// Who sent the newest record, and under which term.
    pub(super) told_by: Option<(Term, NodeId)>,
    pub(super) chronicle: Chronicle,
    pub(super) configuration: Arc<ConfigurationRecord>,
    /// The coordinator waits for a commit that the gate or the register machine has not let begin yet.
    pub(super) commit_due: bool,
    /// What this node, as master, has decided about the configuration.
    pub(super) draft: ConfigurationDraft,
    /// The configuration that the newest record names is being read.
    pub(super) following: bool,
    /// What administrators have asked of the master through this node.
    pub(super) requests: Requests,
    pub(super) asked_at: Option<Instant>,
    pub(super) leave_wanted: bool,
    pub(super) leave_told: bool,
    /// The record has this incarnation: the register says `Member`.
    pub(super) admitted: bool,
    /// The claim is being given up because this node leaves.
    pub(super) handing_over: bool,
    pub(super) ended: bool,
    pub(super) lease_valid: bool,
}

impl MembershipManager {
    /// A membership manager that has not looked at anything yet. `claim` is what this node's register said of its claim
    /// before this start.
    #[must_use]
    pub fn new(settings: Settings, edges: Edges, claim: phalanx_messages::register::Claim) -> Self {
        let (me, profile) = (settings.me, settings.profile);
        Self {
            watch: RegisterWatch::new(profile),
            reading: None,
            detector: Detector::new(profile),
            rounds: Rounds::new(profile),
            suspected: BTreeSet::new(),
            probes: BTreeMap::new(),
            probing: false,
            frm: Frm::new(me.node, me.incarnation, claim),
            frm_queue: VecDeque::new(),
            frm_busy: false,
            frm_poll_since: None,
            standing: None,
            loaded: MembershipRecord::default(),
            loaded_configuration: None,
            committing: None,
            coordinator: None,
            agent: Agent::new(me),
            newest: Arc::default(),
            told_by: None,
            chronicle: Chronicle::default(),
            configuration: settings.configuration.clone(),
            commit_due: false,
            draft: ConfigurationDraft::default(),
            following: false,
            requests: Requests::default(),
            asked_at: None,
            leave_wanted: false,
            leave_told: false,
            admitted: false,
            handing_over: false,
            ended: false,
            lease_valid: false,
            settings,
            edges,
        }
    }

    pub(super) fn me(&self) -> NodeId {
        self.settings.me.node
    }

    pub(super) fn now(&self) -> Instant {
        self.settings.clock.now()
    }

    /// This node owns the highest term and may act on it.
    pub(super) fn is_master(&self) -> bool {
        self.coordinator.is_some() && self.edges.gate.is_open_for(self.settings.profile.guard_ms)
    }

    pub(super) fn happened(&self, happenings: impl IntoIterator<Item = Happening>) {
        let (by_master, term) = (self.coordinator.is_some(), self.newest.revision.term);
        for happening in happenings {
            tracing::info!(?happening, "membership");
            for observer in &self.edges.observers {
                observer.do_send(Happened { happening: happening.clone(), by_master, term });
            }
        }
    }

    pub(super) fn send(&self, to: NodeId, message: MembershipMessage) {
        self.edges.peers.do_send(SendToPeer { to, message: PeerMessage::Membership(message) });
    }

    pub(super) fn end(&mut self, how: MembershipEnded) {
        if !self.ended {
            self.ended = true;
            self.edges.ended.do_send(how);
        }
    }

    /// Learns a newer committed record: from this node's own commits, or from the master.
    pub(super) fn learn(&mut self, record: &MembershipRecord, ctx: &mut Context<Self>) {
        if record.revision <= self.newest.revision {
            return;
        }
        self.newest = Arc::new(record.clone());
        let told = self.chronicle.observe(self.now().0, record);
        self.happened(told);
        if !self.admitted && self.own_state() != NodeState::Inactive {
            self.admitted = true;
            self.publish_state(OwnState::Member);
        }
        if self.own_state() == NodeState::Leaving {
            self.leave_begun();
        }
        self.edges.seen.do_send(SetSeen(record.revision));
        self.publish_seen(record.revision);
        self.follow_configuration(ctx);
        self.view_changed();
    }

    pub(super) fn leave_begun(&mut self) {
        if !std::mem::replace(&mut self.leave_told, true) {
            self.edges.leaving.do_send(LeaveBegun);
        }
    }

    fn publish_seen(&self, seen: Revision) {
        // A promise not to listen to older terms (protocol M-4). Written with the next renewal; nobody waits for it here.
        if seen.term > self.told_by.map_or(Term(0), |(term, _)| term) {
            drop(self.edges.lease.publish(crate::lease_thread::Publication { seen: Some(seen), ..Default::default() }));
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if self.ended {
            return;
        }
        self.look_for_master(ctx);
        self.tick_rounds();
        self.look_around(ctx);
        self.tick_election(ctx);
        self.tick_coordinator(ctx);
        self.tick_agent(ctx);
        self.follow_configuration(ctx);
        self.tick_requests(ctx);
    }
}

impl Actor for MembershipManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let liveness = self.edges.lease.liveness("membership manager");
        ctx.run_interval(TICK, move |actor, ctx| {
            liveness.tick();
            let guard = actor.edges.guard.clone();
            guard.run(|| actor.tick(ctx));
        });
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

    fn handle(&mut self, LeaseChanged { valid }: LeaseChanged, _: &mut Self::Context) {
        self.lease_valid = valid;
    }
}

impl Handler<RegistersRead> for MembershipManager {
    type Result = ();

    fn handle(&mut self, RegistersRead(reading): RegistersRead, ctx: &mut Self::Context) {
        let guard = self.edges.guard.clone();
        guard.run(|| self.registers_read(reading, ctx));
    }
}

impl Handler<DeathProved> for MembershipManager {
    type Result = ();

    fn handle(&mut self, message: DeathProved, ctx: &mut Self::Context) {
        let guard = self.edges.guard.clone();
        guard.run(|| self.death_proved(message, ctx));
    }
}

impl Handler<SubsystemAcknowledged> for MembershipManager {
    type Result = ();

    fn handle(&mut self, message: SubsystemAcknowledged, ctx: &mut Self::Context) {
        let guard = self.edges.guard.clone();
        guard.run(|| self.answered(message, ctx));
    }
}
