//! The machine itself: its state, and what every part of it uses.

use std::collections::{BTreeSet, VecDeque};

use phalanx_messages::Instant;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::NodeState;
use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::register::{Claim, OwnState};
use phalanx_messages::{Level, Revision, Term};

use super::configuration::ConfigurationDraft;
use super::proofs::{GhostsSought, MarkedSince};
use super::requests::Requests;
use super::*;
use crate::agent::{Agent, AgentInput};
use crate::chronicle::{Chronicle, Happening};
use crate::coordinator::level_states::gone_from;
use crate::coordinator::{Coordinator, CoordinatorInput};
use crate::detector::Detector;
use crate::expiry::{RegisterWatch, RegistersReading};
use crate::frm::{Frm, FrmOutput};
use crate::lease::Publication;
use crate::partition::Rounds;

/// See the module [`super`].
#[derive(Debug)]
pub struct Manager {
    pub(super) settings: ManagerSettings,
    /// Of the input that is being taken.
    pub(super) moment: Moment,
    /// What the input that is being taken has led to so far.
    outputs: Vec<ManagerOutput>,
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
    pub(super) ghosts_sought: GhostsSought,
    pub(super) marked_since: MarkedSince,
    /// A look for a master is under way.
    pub(super) looking: bool,
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
    pub(super) committing: Option<Arc<MembershipRecord>>,
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
    /// The record is being read for this node's own end.
    pub(super) looking_for_end: bool,
    pub(super) leave_wanted: bool,
    pub(super) leave_told: bool,
    /// The record has this incarnation: the register says `Member`.
    pub(super) admitted: bool,
    /// The claim is being given up because this node leaves.
    pub(super) handing_over: bool,
    /// How the membership ends, once the last word is on the disk.
    pub(super) ending: Option<End>,
    /// Nothing is decided any more.
    pub(super) ended: bool,
    pub(super) lease_valid: bool,
}

impl Manager {
    /// A membership manager that has not looked at anything yet. `claim` is what this node's register said of its claim
    /// before this start.
    #[must_use]
    pub fn new(settings: ManagerSettings, claim: Claim) -> Self {
        let (me, profile) = (settings.me, settings.profile);
        Self {
            moment: Moment { now: Instant(0), open: false, may_act: false },
            outputs: Vec::new(),
            watch: RegisterWatch::new(profile),
            reading: None,
            detector: Detector::new(profile),
            rounds: Rounds::new(profile),
            suspected: BTreeSet::new(),
            probes: BTreeMap::new(),
            probing: false,
            ghosts_sought: GhostsSought::default(),
            marked_since: MarkedSince::default(),
            looking: false,
            frm: Frm::new(me.node, me.incarnation, claim),
            frm_queue: VecDeque::new(),
            frm_busy: false,
            frm_poll_since: None,
            standing: None,
            loaded: MembershipRecord::default(),
            loaded_configuration: None,
            committing: None,
            coordinator: None,
            agent: Agent::new(me).restarting_within(settings.profile.restart_ms),
            newest: Arc::default(),
            told_by: None,
            chronicle: Chronicle::default(),
            configuration: settings.configuration.clone(),
            commit_due: false,
            draft: ConfigurationDraft::default(),
            following: false,
            requests: Requests::default(),
            asked_at: None,
            looking_for_end: false,
            leave_wanted: false,
            leave_told: false,
            admitted: false,
            handing_over: false,
            ending: None,
            ended: false,
            lease_valid: false,
            settings,
        }
    }

    /// Takes one input. The outputs are carried out in order, before the next input that is not an answer to one of them.
    pub fn step(&mut self, moment: Moment, input: ManagerInput) -> Vec<ManagerOutput> {
        let quiet = cfg!(debug_assertions)
            && matches!(input, ManagerInput::Tick)
            && self.quiet_until().is_some_and(|until| moment.now < until);
        self.moment = moment;
        self.watch.judge(moment.now);
        if matches!(input, ManagerInput::LeaseStopped) {
            self.lease_stopped();
        } else if !self.ended {
            self.take(input);
        }
        debug_assert!(!quiet || self.outputs.is_empty(), "a quiet machine acts because of time: {:?}", self.outputs);
        std::mem::take(&mut self.outputs)
    }

    fn take(&mut self, input: ManagerInput) {
        match input {
            ManagerInput::Tick => self.tick(),
            ManagerInput::Registers(reading) => self.registers_read(reading),
            ManagerInput::LeaseChanged { valid } => self.lease_valid = valid,
            ManagerInput::Up(peer) => self.connected(peer),
            ManagerInput::Down(peer) => self.disconnected(peer),
            ManagerInput::Received { from, message } => self.received(from, message),
            ManagerInput::Heartbeat { from, seen } => self.coordinate(CoordinatorInput::Seen { from, revision: seen }),
            ManagerInput::Answered(answer) => self.advise_here(AgentInput::Answered(answer)),
            ManagerInput::DeathProved { victim, method } => {
                self.coordinate(CoordinatorInput::Certain { victim, method });
            }
            ManagerInput::Leave(node) => {
                let taken = self.request_leave(node);
                self.emit(ManagerOutput::LeaveTaken(taken));
            }
            ManagerInput::Force { victim, reason } => self.force(victim, reason),
            ManagerInput::Ask { counter, request } => self.ask_master(counter, request),
            ManagerInput::Register(registration) => self.advise_here(AgentInput::Register(registration)),
            ManagerInput::Withdraw(level) => self.advise_here(AgentInput::Withdraw(level)),
            ManagerInput::Died { level, policy } => self.advise_here(AgentInput::Died { level, policy }),
            ManagerInput::Disk(answer) => self.disk_answered(answer),
            ManagerInput::ClaimPublished(result) => self.claim_published(result),
            ManagerInput::Probe => self.probe_once(),
            ManagerInput::LeaseStopped => {} // taken before
        }
    }

    fn disk_answered(&mut self, answer: DiskAnswer) {
        match answer {
            DiskAnswer::Registers(Reader::RegisterMachine, result) => self.machine_registers(result),
            DiskAnswer::Registers(Reader::Probe, result) => self.probed(result),
            DiskAnswer::Registers(Reader::Look, result) => self.looked(result),
            DiskAnswer::Membership(RecordReader::Base, result) => self.base_read(result),
            DiskAnswer::Membership(RecordReader::Follower, result) => self.own_end_read(result),
            DiskAnswer::Configuration(RecordReader::Base, result) => self.base_configuration_read(result),
            DiskAnswer::Configuration(RecordReader::Follower, result) => self.configuration_read(result),
            DiskAnswer::ConfigurationWritten(result) => self.configuration_written(result),
            DiskAnswer::MembershipWritten(result) => self.membership_written(result),
        }
    }

    fn tick(&mut self) {
        self.look_for_master();
        self.tick_rounds();
        self.look_around();
        self.tick_election();
        self.tick_coordinator();
        self.tick_agent();
        self.follow_configuration();
        self.tick_requests();
    }

    pub(super) fn here(&self) -> NodeId {
        self.settings.me.node
    }

    pub(super) fn now(&self) -> Instant {
        self.moment.now
    }

    /// This node owns the highest term and may act on it. While a newer claim may exist it may not (protocol §3.5, M-5).
    pub(super) fn is_master(&self) -> bool {
        self.leads() && self.moment.may_act
    }

    /// Nothing is said after a panic: what this node still believes may be wrong.
    pub(super) fn emit(&mut self, output: ManagerOutput) {
        if !matches!(self.outputs.last(), Some(ManagerOutput::Panic { .. })) {
            self.outputs.push(output);
        }
    }

    /// This node is no longer fit.
    pub(super) fn panic(&mut self, reason: impl Into<String>) {
        self.emit(ManagerOutput::Panic { reason: reason.into() });
        self.ended = true;
    }

    pub(super) fn remark(&mut self, remark: Remark) {
        self.emit(ManagerOutput::Remark(remark));
    }

    pub(super) fn happened(&mut self, happenings: impl IntoIterator<Item = Happening>) {
        let (by_master, term) = (self.coordinator.is_some(), self.newest.revision.term);
        for happening in happenings {
            self.emit(ManagerOutput::Happened { happening, by_master, term });
        }
    }

    pub(super) fn send(&mut self, to: NodeId, message: MembershipMessage) {
        self.emit(ManagerOutput::Send { to, message });
    }

    pub(super) fn publish(&mut self, publication: Publication) {
        self.emit(ManagerOutput::Publish(publication));
    }

    /// The membership is over, and nothing has to be said on the disk.
    pub(super) fn end(&mut self, how: End) {
        self.ended = true;
        self.emit(ManagerOutput::Ended(how));
    }

    /// Learns a newer committed record: from this node's own commits, or from the master.
    pub(super) fn learn(&mut self, record: &Arc<MembershipRecord>) {
        if record.revision <= self.newest.revision {
            return;
        }
        let em = Level::EVENT_MANAGER;
        let certain = certain_deaths(&self.newest).ne(certain_deaths(record))
            || gone_from(&self.newest, em).ne(gone_from(record, em));
        self.newest = record.clone();
        let told = self.chronicle.observe(self.now().0, record);
        self.happened(told);
        if !self.admitted && self.own_state() != NodeState::Inactive {
            self.admitted = true;
            self.publish(Publication { own_state: Some(OwnState::Member), ..Publication::default() });
        }
        if self.own_state() == NodeState::Leaving {
            self.leave_begun();
        }
        self.emit(ManagerOutput::Seen(record.revision));
        self.publish_seen(record.revision);
        self.follow_configuration();
        if certain {
            self.view_changed();
        }
    }

    pub(super) fn leave_begun(&mut self) {
        if !std::mem::replace(&mut self.leave_told, true) {
            self.emit(ManagerOutput::LeaveBegun);
        }
    }

    /// A promise not to listen to older terms (protocol M-4). Written with the next renewal; nobody waits for it here.
    fn publish_seen(&mut self, seen: Revision) {
        if seen.term > self.told_by.map_or(Term(0), |(term, _)| term) {
            self.publish(Publication { seen: Some(seen), ..Publication::default() });
        }
    }
}

/// Whose death a record knows for certain.
pub(super) fn certain_deaths(record: &MembershipRecord) -> impl Iterator<Item = NodeIncarnation> {
    let certain = record.nodes.iter().filter(|(_, entry)| entry.fence.death_certain);
    certain.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation })
}
