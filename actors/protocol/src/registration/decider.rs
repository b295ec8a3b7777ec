//! Who decides, and one decision after the other (protocol §6.1).
//!
//! Possession of the decision is a claim in the second Fenced Register Machine, over decision registers and registration
//! databases. Without the cluster-wide semaphore of the lock manager, which only orders claimants: the owner keeps the claim
//! while it is joined at the event-manager level; without one the lowest id there claims at once, the others later.
//!
//! Always holds: nothing is sent before it is committed (I-R7); no decision is made with an older view than the database's
//! [RL-2]; a change of view is answered only when no decision made with the older one is undecided.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use phalanx_messages::register::ClaimPhase;
use phalanx_messages::registration::{Command, DecisionRegister, Order, RegistrationRecord, View};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId, NodeIncarnation, Revision};

use super::choose::NodeLoads;
use super::commands::outstanding;
use super::decision::{Change, DatabaseRoom, Decided, Decision};
use super::definitions::effective;
use super::events::Event;
use super::index::Index;
use super::sights::view_of_decision;
use crate::bugs::{self, Bug};
use crate::frm::{ClaimView, ClaimViews, Frm, FrmInput, FrmOutput};

/// Commands without a result are sent again this often.
const SEND_AGAIN_MS: u64 = 1_000;
/// A claim that looks well is looked at again this often.
const WATCH_MS: u64 = 500;

/// What is known of node leases from outside.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeaseSigns {
    /// Nodes whose lease has ended (protocol §3.4, `expired`).
    pub expired: NodeSet,
    /// Incarnations that are certainly dead.
    pub dead: BTreeSet<NodeIncarnation>,
    /// Incarnations that are out of the level for good.
    pub gone: Vec<NodeIncarnation>,
}

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeciderInput {
    /// This node has adopted a view; answered by [`DeciderOutput::Adopted`] with the token.
    View {
        /// The view.
        view: View,
        /// Names the answer.
        token: u64,
    },
    /// Leases have changed.
    Leases(LeaseSigns),
    /// Results, timers, requests. Dropped unless this node decides: their sources repeat them.
    Happened(Vec<Event>),
    /// Answer to [`DeciderOutput::ReadRegisters`].
    Registers(BTreeMap<NodeId, Option<DecisionRegister>>),
    /// Answer to [`DeciderOutput::Publish`].
    Published,
    /// Answer to [`DeciderOutput::Load`].
    Loaded(Option<Box<RegistrationRecord>>),
    /// Answer to [`DeciderOutput::Write`].
    Written,
    /// At least each I/O time-out.
    Tick(Instant),
}

/// What the caller must do, in this order; one disk request after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeciderOutput {
    /// Read all decision registers.
    ReadRegisters,
    /// Write the own decision register.
    Publish(DecisionRegister),
    /// Read the newest database.
    Load,
    /// Write the database.
    Write(Arc<RegistrationRecord>),
    /// This database is committed: tell everybody.
    Committed {
        /// The database.
        record: Arc<RegistrationRecord>,
        /// What happened in it.
        changes: Vec<Change>,
    },
    /// Send to their targets; never before the outputs above are done.
    Send(Vec<Order>),
    /// Who decides now, as far as this node knows.
    Leader(Option<NodeId>),
    /// The change of view with this token may be acknowledged.
    Adopted(u64),
}

/// Why the registers are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    /// To see who decides.
    Watch,
    /// Likewise, but the register machine waits for a reading of its own.
    WatchThenFrm,
    /// For the register machine.
    Frm,
}

/// See the module.
#[derive(Debug)]
pub struct Decider {
    me: NodeIncarnation,
    io_timeout_ms: u64,
    now: Instant,
    view: View,
    leases: LeaseSigns,
    registers: BTreeMap<NodeId, Option<DecisionRegister>>,
    frm: Option<Frm>,
    reading: Reading,
    watched_at: Instant,
    sent_at: Instant,
    ownerless_since: Option<Instant>,
    /// The register machine wants to be polled at the next tick.
    poll: bool,
    leader: Option<NodeId>,
    base: RegistrationRecord,
    /// The database of the depoch that this node owns.
    committed: Option<Arc<RegistrationRecord>>,
    proposal: Option<Decided>,
    events: Vec<Event>,
    tokens: Vec<u64>,
    room: DatabaseRoom,
    loads: NodeLoads,
    /// What follows from the committed database; none = not known, so that the next decision looks at everything.
    index: Option<Index>,
}

impl Decider {
    /// A machine that has adopted no view: it decides nothing.
    #[must_use]
    pub fn new(me: NodeIncarnation, io_timeout_ms: u64) -> Self {
        Self {
            me,
            io_timeout_ms,
            now: Instant::default(),
            view: View::default(),
            leases: LeaseSigns::default(),
            registers: BTreeMap::new(),
            frm: None,
            reading: Reading::No,
            watched_at: Instant::default(),
            sent_at: Instant::default(),
            ownerless_since: None,
            poll: false,
            leader: None,
            base: RegistrationRecord::default(),
            committed: None,
            proposal: None,
            events: Vec::new(),
            tokens: Vec::new(),
            room: DatabaseRoom::default(),
            loads: NodeLoads::default(),
            index: None,
        }
    }

    /// Refuses definitions that would not fit the disk.
    #[must_use]
    pub const fn within(mut self, room: DatabaseRoom) -> Self {
        self.room = room;
        self
    }

    /// What is known of the nodes from now on.
    pub fn set_loads(&mut self, loads: NodeLoads) {
        if self.loads.capacity != loads.capacity {
            self.index = None; // somebody may have room now
        }
        self.loads = loads;
    }

    /// Who decides, as far as this node knows.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The database of the depoch that this node owns, if it owns one.
    #[must_use]
    pub const fn committed(&self) -> Option<&Arc<RegistrationRecord>> {
        self.committed.as_ref()
    }

    /// Takes one input.
    pub fn step(&mut self, input: DeciderInput) -> Vec<DeciderOutput> {
        let mut outputs = Vec::new();
        match input {
            DeciderInput::View { view, token } => {
                self.view.merge(&view);
                self.tokens.push(token);
                self.release(&mut outputs);
                self.look_if_ownerless(&mut outputs);
            }
            DeciderInput::Leases(leases) => {
                self.leases = leases;
                self.look_if_ownerless(&mut outputs);
            }
            DeciderInput::Happened(events) if self.committed.is_some() => self.events.extend(events),
            DeciderInput::Happened(_) => {}
            DeciderInput::Registers(registers) => self.read(registers, &mut outputs),
            DeciderInput::Published => self.drive(FrmInput::Published, &mut outputs),
            DeciderInput::Loaded(record) => {
                let revision = record.as_ref().map(|record| record.revision);
                self.base = record.map_or_else(RegistrationRecord::default, |record| *record);
                self.drive(FrmInput::Loaded(revision), &mut outputs);
            }
            DeciderInput::Written => self.drive(FrmInput::Written, &mut outputs),
            DeciderInput::Tick(now) => self.tick(now, &mut outputs),
        }
        self.proceed(&mut outputs);
        outputs
    }

    fn tick(&mut self, now: Instant, outputs: &mut Vec<DeciderOutput>) {
        self.now = now;
        if mem::take(&mut self.poll) {
            self.drive(FrmInput::Poll, outputs);
        }
        if self.leader.is_none() || now.since(self.watched_at) >= WATCH_MS {
            self.watch(outputs);
        }
        if now.since(self.sent_at) >= SEND_AGAIN_MS {
            self.send_again(outputs);
        }
    }

    fn watch(&mut self, outputs: &mut Vec<DeciderOutput>) {
        if self.reading == Reading::No && !self.view.nodes.is_empty() {
            self.watched_at = self.now;
            self.reading = Reading::Watch;
            outputs.push(DeciderOutput::ReadRegisters);
        }
    }

    /// A change may mean that nobody decides any more: see at once who claims what.
    fn look_if_ownerless(&mut self, outputs: &mut Vec<DeciderOutput>) {
        if self.committed.is_none() && self.live_claimant().is_none() {
            self.watch(outputs);
        }
    }

    fn read(&mut self, registers: BTreeMap<NodeId, Option<DecisionRegister>>, outputs: &mut Vec<DeciderOutput>) {
        self.registers = registers;
        if self.frm.is_none() {
            let Some(Some(own)) = self.registers.get(&self.me.node) else {
                self.reading = Reading::No; // unreadable: what this node owned is not known; look again
                return;
            };
            self.frm = Some(Frm::new(self.me.node, self.me.incarnation, own.claim));
        }
        let views = self.claim_views();
        match mem::replace(&mut self.reading, Reading::No) {
            Reading::No | Reading::Watch => self.drive(FrmInput::Observed(views), outputs),
            Reading::WatchThenFrm => {
                self.reading = Reading::Frm;
                outputs.push(DeciderOutput::ReadRegisters);
            }
            Reading::Frm => self.drive(FrmInput::Registers(views), outputs),
        }
    }

    fn claim_views(&self) -> ClaimViews {
        let view = |(node, register): (&NodeId, &Option<DecisionRegister>)| {
            let view = register.as_ref().map(|register| ClaimView {
                claim: register.claim,
                expired: self.is_expired(*node, register),
                incarnation: register.incarnation,
                heartbeat: 0,
            });
            (*node, view)
        };
        self.registers.iter().map(view).collect()
    }

    /// Protocol §6.1: lease expired, certainly dead, or not (any more) one of those who decide.
    fn is_expired(&self, node: NodeId, register: &DecisionRegister) -> bool {
        let who = NodeIncarnation { node, incarnation: register.incarnation };
        self.leases.expired.contains(node)
            || self.leases.dead.contains(&who)
            || self.view.incarnation(node) != register.incarnation
            || !self.deciders().contains(node)
    }

    /// Who may decide: the nodes joined at the level; if all are leaving, these.
    fn deciders(&self) -> NodeSet {
        let joined: NodeSet = self.view.up().collect();
        if !joined.is_empty() {
            return joined;
        }
        self.view.nodes.keys().copied().filter(|node| self.view.is_present(*node)).collect()
    }

    /// Owner or claimant of the highest claim that is not expired.
    fn live_claimant(&self) -> Option<NodeId> {
        let live = self.registers.iter().filter_map(|(node, register)| {
            let register = register.as_ref()?;
            let claims = matches!(register.claim.phase, ClaimPhase::Claim | ClaimPhase::Owner);
            let live = *node != self.me.node && claims && !self.is_expired(*node, register);
            live.then_some((register.claim.term, *node))
        });
        live.max().map(|(_, node)| node)
    }

    /// What follows from where the machine stands.
    fn proceed(&mut self, outputs: &mut Vec<DeciderOutput>) {
        let may_decide = self.deciders().contains(self.me.node) && !self.view.is_lost(self.me);
        if self.committed.is_some() {
            if may_decide {
                self.decide(outputs);
            } else if self.proposal.is_none() {
                self.drive(FrmInput::Resign, outputs);
            }
            return;
        }
        let claimant = self.live_claimant();
        self.follow(claimant, outputs);
        let idle = self.frm.as_ref().is_some_and(Frm::is_idle) && self.reading == Reading::No;
        if claimant.is_some() || !may_decide {
            self.ownerless_since = None;
        } else if idle {
            let since = *self.ownerless_since.get_or_insert(self.now);
            if self.now.since(since) >= self.rank() * 2 * self.io_timeout_ms {
                self.ownerless_since = None;
                self.drive(FrmInput::Elect, outputs);
            }
        }
    }

    /// Place among those who could claim: the lowest goes first, without waiting.
    fn rank(&self) -> u64 {
        let alive = |node: &NodeId| {
            let who = NodeIncarnation { node: *node, incarnation: self.view.incarnation(*node) };
            !self.leases.expired.contains(*node) && !self.leases.dead.contains(&who)
        };
        self.deciders().iter().filter(|node| *node < self.me.node).filter(alive).count() as u64
    }

    fn follow(&mut self, leader: Option<NodeId>, outputs: &mut Vec<DeciderOutput>) {
        if self.leader != leader {
            self.leader = leader;
            outputs.push(DeciderOutput::Leader(leader));
        }
    }

    /// Takes everything at hand into one commit.
    fn decide(&mut self, outputs: &mut Vec<DeciderOutput>) {
        let Some(committed) = self.committed.clone().filter(|_| self.proposal.is_none()) else { return };
        let view = view_of_decision(&committed, &self.view);
        let known = self.index.take();
        let mut decision = match &known {
            Some(index) => Decision::with_index(&committed, &view, index.clone()),
            None => Decision::new(&committed, &view),
        };
        decision = decision.within(self.room).loaded(&self.loads);
        if known.is_some() {
            decision = decision.only_what_changes();
        }
        self.events.iter().for_each(|event| decision.absorb(event));
        let decided = decision.settle();
        if !decided.changed {
            self.index = Some(decided.index);
            self.events.clear();
            return;
        }
        let Some(frm) = &mut self.frm else { return };
        let asked = frm.step(FrmInput::Commit);
        if asked.is_empty() {
            self.index = known;
            return; // ownership is in doubt; the events wait
        }
        self.events.clear();
        if bugs::active(Bug::SentBeforeCommit) {
            send(&decided.record, decided.commands.clone(), outputs);
        }
        self.proposal = Some(decided);
        self.perform(asked, outputs);
    }

    fn drive(&mut self, input: FrmInput, outputs: &mut Vec<DeciderOutput>) {
        let Some(frm) = &mut self.frm else { return };
        let asked = frm.step(input);
        self.perform(asked, outputs);
    }

    fn perform(&mut self, asked: Vec<FrmOutput>, outputs: &mut Vec<DeciderOutput>) {
        for output in asked {
            match output {
                FrmOutput::ReadRegisters if self.reading == Reading::Watch => self.reading = Reading::WatchThenFrm,
                FrmOutput::ReadRegisters => {
                    self.reading = Reading::Frm;
                    outputs.push(DeciderOutput::ReadRegisters);
                }
                FrmOutput::Publish(claim) => {
                    outputs.push(DeciderOutput::Publish(DecisionRegister { incarnation: self.me.incarnation, claim }));
                }
                FrmOutput::Load => outputs.push(DeciderOutput::Load),
                FrmOutput::Write(revision) => outputs.push(DeciderOutput::Write(self.to_write(revision))),
                FrmOutput::Owned(revision) => self.owned(revision, outputs),
                FrmOutput::Committed(revision) => self.done(revision, outputs),
                FrmOutput::Suspended | FrmOutput::Waiting => self.poll = true,
                FrmOutput::Resumed => {}
                FrmOutput::Withdrawn | FrmOutput::Deposed { .. } | FrmOutput::Resigned => self.lost(outputs),
            }
        }
    }

    fn to_write(&self, revision: Revision) -> Arc<RegistrationRecord> {
        match &self.proposal {
            Some(proposal) if revision.seq > 0 => {
                assert!(proposal.record.revision == revision, "the decision was made for another revision");
                Arc::new(proposal.record.clone())
            }
            Some(_) | None => Arc::new(RegistrationRecord { revision, ..self.base.clone() }),
        }
    }

    fn owned(&mut self, revision: Revision, outputs: &mut Vec<DeciderOutput>) {
        let record = Arc::new(RegistrationRecord { revision, ..mem::take(&mut self.base) });
        self.committed = Some(record.clone());
        self.index = None;
        self.follow(Some(self.me.node), outputs);
        outputs.push(DeciderOutput::Committed { record, changes: Vec::new() });
        self.send_again(outputs);
    }

    fn done(&mut self, revision: Revision, outputs: &mut Vec<DeciderOutput>) {
        let Some(Decided { record, commands, changes, index, .. }) = self.proposal.take() else { return };
        self.index = Some(index);
        assert!(record.revision == revision, "another revision was committed than was decided");
        let record = Arc::new(record);
        self.committed = Some(record.clone());
        self.release(outputs);
        outputs.push(DeciderOutput::Committed { record: record.clone(), changes });
        send(&record, commands, outputs);
    }

    /// This node does not decide any more: whatever it had begun is the next one's business.
    fn lost(&mut self, outputs: &mut Vec<DeciderOutput>) {
        self.committed = None;
        self.proposal = None;
        self.index = None;
        self.events.clear();
        self.follow(None, outputs);
        self.release(outputs);
        self.watch(outputs);
    }

    fn release(&mut self, outputs: &mut Vec<DeciderOutput>) {
        if self.proposal.is_none() {
            outputs.extend(mem::take(&mut self.tokens).into_iter().map(DeciderOutput::Adopted));
        }
    }

    fn send_again(&mut self, outputs: &mut Vec<DeciderOutput>) {
        self.sent_at = self.now;
        if let Some(committed) = self.committed.clone().filter(|_| self.frm.as_ref().is_some_and(Frm::is_owner)) {
            send(&committed, outstanding(&committed), outputs);
        }
    }
}

fn send(record: &RegistrationRecord, commands: Vec<Command>, outputs: &mut Vec<DeciderOutput>) {
    let order = |command: Command| {
        let definition = effective(&record.services, &command.instance.service)?;
        Some(Order { command, definition })
    };
    let orders: Vec<Order> = commands.into_iter().filter_map(order).collect();
    if !orders.is_empty() {
        outputs.push(DeciderOutput::Send(orders));
    }
}
