//! A cluster in memory: one coordinator, an agent and subsystems on each node, a lossy wire, and the invariants of protocol §5.7.
//!
//! Nothing happens by itself: a test either lets everything run in order ([`Cluster::run`]) or draws single events
//! ([`Cluster::event`]). Each commit and each notification is checked against what really happened, never against what the
//! machines believe; what is wrong is kept in [`Cluster::violations`].
#![expect(dead_code, reason = "each test binary uses a part")]

// One source for this harness, which must not depend on the workspace's, and for the model checker.
#[path = "../../../../tests/src/invariants/mod.rs"]
pub mod invariants;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use invariants::{View, subjects};
use phalanx_messages::membership::{
    BarrierCounts, Certainty, FenceMethod, LevelRegistration, LevelState, MembershipRecord, NodeState, TransitionKind,
};
use phalanx_messages::notification::{LevelStates, SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_messages::peer::{JoinRefusal, LevelRefusal};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Instant, Level, NodeId, NodeIncarnation, NotificationId, Revision, Term};
use phalanx_protocol::agent::{Agent, AgentInput, AgentOutput, DeathPolicy};
use phalanx_protocol::coordinator::level_states::entry_state;
use phalanx_protocol::coordinator::{Coordinator, CoordinatorInput, CoordinatorOutput, Patience, Warning};
use phalanx_protocol::detector::Verdict;

pub fn level(level: Level, name: &str, joining: u8, leaving: u8, forced_leaving: u8) -> LevelRegistration {
    let barriers = BarrierCounts { joining, leaving, forced_leaving };
    LevelRegistration { level, name: name.to_owned(), barriers, needs: Certainty::Io, optional: false }
}

/// The subsystems of the spec's figures, one barrier each.
pub fn spec_levels() -> Vec<LevelRegistration> {
    vec![
        level(Level::DLM, "DLM", 1, 1, 1),
        level(Level::VDM, "VDM", 1, 1, 1),
        level(Level::SFS, "SFS", 1, 1, 1),
        level(Level::EVENT_MANAGER, "event manager", 1, 1, 1),
    ]
}

#[derive(Debug, Clone)]
pub enum Packet {
    Record(std::sync::Arc<MembershipRecord>),
    NewMaster(Revision),
    Acknowledge(Vec<SubsystemAcknowledged>),
    Report(Revision, Vec<(NotificationId, Option<SubsystemAcknowledged>)>),
    Join,
    Leave,
    Register(LevelRegistration, Revision),
    Withdraw(Level, Revision),
    Seen(Revision),
    Expelled,
}

#[derive(Debug, Clone)]
pub struct Envelope {
    pub from: NodeIncarnation,
    pub to: NodeId,
    pub packet: Packet,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub incarnation: Incarnation,
    pub alive: bool,
    pub wants_in: bool,
    pub wants_out: bool,
    pub agent: Agent,
    pub levels: Vec<LevelRegistration>,
    /// Registered at run time.
    pub later: Vec<LevelRegistration>,
    /// Levels whose subsystem has died, and of which no later one has been told anything.
    pub dead: BTreeSet<Level>,
    pub views: invariants::Views,
    pub left: bool,
    pub joined: bool,
}

#[derive(Debug, Clone)]
pub struct Work {
    pub node: NodeId,
    pub answer: SubsystemAcknowledged,
    pub kind: TransitionKind,
    pub last: bool,
}

pub struct Cluster {
    pub now: Instant,
    pub disk: MembershipRecord,
    pub term: u64,
    pub master: Option<(NodeId, Coordinator)>,
    pub writing: Option<MembershipRecord>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub wire: VecDeque<Envelope>,
    pub work: VecDeque<Work>,
    /// One line a notice, in the order in which subsystems were told.
    pub log: Vec<String>,
    pub refusals: Vec<(NodeId, JoinRefusal)>,
    pub level_refusals: Vec<(NodeId, Level, LevelRefusal)>,
    /// What agents told their subsystems of it.
    pub told_refusals: Vec<(NodeId, Level, LevelRefusal)>,
    pub warnings: Vec<Warning>,
    pub quorum_changes: Vec<bool>,
    pub hung: BTreeSet<(NodeId, Level)>,
    /// Subsystems that answer `Failed` this many times more.
    pub failing: BTreeMap<(NodeId, Level), u32>,
    pub violations: Vec<String>,
    pub gather_ms: u64,
    pub patience: Patience,
    /// Why masters wanted to panic.
    pub panics: Vec<String>,
    /// Changes of state that commits have made, of one incarnation each. A cold start (T-18) changes none: it frees the entries.
    pub moves: BTreeSet<(NodeState, NodeState)>,
    acknowledged: Vec<(NodeIncarnation, NotificationId)>,
    /// Answered `Failed` at least once.
    refused: Vec<(NodeIncarnation, NotificationId)>,
    committed: Vec<NotificationId>,
    /// What lost incarnations left that nobody has recovered.
    unrecovered: invariants::Unrecovered,
}

/// A node, or one level of it, joins.
pub fn joins(kind: TransitionKind) -> bool {
    matches!(kind, TransitionKind::Joining | TransitionKind::JoinExtending)
}

impl Node {
    /// A subsystem that begins, or begins again, learns the state of all others.
    fn start_table(&mut self, at: Level, me: NodeIncarnation, states: &LevelStates) {
        self.dead.remove(&at);
        self.views.retain(|(level, who), _| *level != at || *who == me);
        for (other, (incarnation, state)) in states {
            let who = NodeIncarnation { node: *other, incarnation: *incarnation };
            if who != me {
                self.views.insert((at, who), View::told(*state));
            }
        }
    }
}

pub fn n(node: u16) -> NodeId {
    NodeId(node)
}

impl Cluster {
    /// `count` nodes that are powered down, with these levels.
    pub fn new(count: u16, levels: &[LevelRegistration]) -> Self {
        let node = |id: u16| {
            let incarnation = Incarnation(0);
            let agent = Agent::new(NodeIncarnation { node: n(id), incarnation });
            let (views, levels, later, dead) = (BTreeMap::new(), levels.to_vec(), Vec::new(), BTreeSet::new());
            let (alive, wants_in, wants_out, left, joined) = (false, false, false, false, false);
            (n(id), Node { incarnation, alive, wants_in, wants_out, agent, levels, later, dead, views, left, joined })
        };
        Self {
            now: Instant(1_000_000),
            disk: MembershipRecord::default(),
            term: 0,
            master: None,
            writing: None,
            nodes: (0..count).map(node).collect(),
            wire: VecDeque::new(),
            work: VecDeque::new(),
            log: Vec::new(),
            refusals: Vec::new(),
            level_refusals: Vec::new(),
            told_refusals: Vec::new(),
            warnings: Vec::new(),
            quorum_changes: Vec::new(),
            hung: BTreeSet::new(),
            failing: BTreeMap::new(),
            violations: Vec::new(),
            gather_ms: 0,
            patience: Patience::default(),
            panics: Vec::new(),
            moves: BTreeSet::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            committed: Vec::new(),
            unrecovered: invariants::Unrecovered::new(),
        }
    }

    /// A cluster in which nodes `0..count` have joined, with an empty log.
    pub fn joined(count: u16, total: u16, levels: &[LevelRegistration]) -> Self {
        let mut cluster = Self::new(total, levels);
        (0..count).for_each(|id| cluster.boot(id));
        cluster.run();
        assert!((0..count).all(|id| cluster.state(id) == NodeState::Joined), "{:?}", cluster.disk);
        cluster.log.clear();
        cluster
    }

    /// Powers a node up and lets it ask to join.
    pub fn boot(&mut self, id: u16) {
        let node = self.node_mut(n(id));
        node.incarnation = node.incarnation.next();
        (node.alive, node.wants_in, node.wants_out, node.left, node.joined) = (true, true, false, false, false);
        node.agent = Agent::new(NodeIncarnation { node: n(id), incarnation: node.incarnation });
        node.views.clear();
        node.later.clear();
        node.dead.clear();
        self.wire.retain(|envelope| envelope.to != n(id));
        if self.live_master().is_none() && self.live_members().is_empty() {
            self.elect(n(id));
        }
        self.ask(n(id));
    }

    pub fn leave(&mut self, id: u16) {
        self.node_mut(n(id)).wants_out = true;
        self.ask(n(id));
    }

    /// A subsystem of a node registers at run time, or again after its death.
    pub fn register(&mut self, id: u16, registration: LevelRegistration) {
        let node = self.node_mut(n(id));
        node.later.retain(|known| known.level != registration.level);
        node.later.push(registration.clone());
        self.agent(n(id), AgentInput::Register(registration));
    }

    /// Somebody wants to register on a node; nothing is assumed of who is there.
    pub fn deliver_registration(&mut self, id: u16, registration: LevelRegistration) {
        self.agent(n(id), AgentInput::Register(registration));
    }

    /// A copy of a refusal reaches a node.
    pub fn deliver_refusal(&mut self, id: u16, registration: LevelRegistration, refusal: LevelRefusal) {
        self.agent(n(id), AgentInput::Refused(registration, refusal));
    }

    /// One subsystem of a node leaves alone.
    pub fn withdraw(&mut self, id: u16, level: Level) {
        self.agent(n(id), AgentInput::Withdraw(level));
    }

    /// Nobody is at that level of a node until it registers again.
    pub fn nobody_is_there(&mut self, id: u16, level: Level) {
        self.node_mut(n(id)).dead.insert(level);
    }

    /// One subsystem of a node dies.
    pub fn kill_subsystem(&mut self, id: u16, level: Level, policy: DeathPolicy) {
        self.work.retain(|work| work.node != n(id) || work.answer.id.level != level);
        self.node_mut(n(id)).dead.insert(level);
        self.agent(n(id), AgentInput::Died { level, policy });
    }

    /// `pls(X, l)` of a node, as the disk says.
    pub fn level_state(&self, id: u16, level: Level) -> LevelState {
        self.disk.nodes.get(&n(id)).map_or(LevelState::Inactive, |entry| entry_state(entry, level))
    }

    /// Ends a node without warning. Its commit in flight counts if `landed`.
    pub fn kill(&mut self, id: u16, landed: bool) {
        let node = self.node_mut(n(id));
        (node.alive, node.wants_in, node.wants_out) = (false, false, false);
        self.work.retain(|work| work.node != n(id));
        if self.master.as_ref().is_some_and(|(master, _)| *master == n(id)) {
            self.master = None;
            if let Some(record) = self.writing.take().filter(|_| landed) {
                self.land(record);
            }
        }
    }

    /// The master notices every dead member.
    pub fn detect(&mut self, proof: Option<FenceMethod>) {
        let victims: Vec<Verdict> = self
            .disk
            .nodes
            .iter()
            .filter(|(_, entry)| entry.state != NodeState::Inactive)
            .map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation })
            .filter(|victim| self.is_dead(*victim))
            .map(|victim| Verdict { victim, reason: "no sign of life".to_owned(), proof })
            .collect();
        if !victims.is_empty() {
            self.coordinate(CoordinatorInput::Force { victims });
        }
    }

    /// A node is suspected wrongly.
    pub fn suspect(&mut self, id: u16) {
        let victim = self.incarnation(n(id));
        let victims = vec![Verdict { victim, reason: "not reachable".to_owned(), proof: None }];
        self.coordinate(CoordinatorInput::Force { victims });
    }

    /// Every death that really happened becomes certain.
    pub fn prove(&mut self) {
        let entries = self.disk.nodes.iter().map(|(node, entry)| (*node, entry.incarnation, entry.state));
        let ghosts = self.disk.ghosts.iter().map(|(node, g)| (*node, g.incarnation, NodeState::ForcedLeaving));
        let victims: Vec<_> = entries
            .chain(ghosts)
            .filter(|(_, _, state)| *state == NodeState::ForcedLeaving)
            .map(|(node, incarnation, _)| NodeIncarnation { node, incarnation })
            .filter(|victim| self.is_dead(*victim))
            .collect();
        for victim in victims {
            self.coordinate(CoordinatorInput::Certain { victim, method: FenceMethod::Local });
        }
    }

    /// Another node becomes master: a live member, or anybody if none is left.
    pub fn elect(&mut self, node: NodeId) {
        assert!(self.live_master().is_none());
        self.term += 1;
        self.disk.revision = Revision { term: Term(self.term), seq: 0 };
        let cold = self.live_members().is_empty();
        let proofs = self
            .disk
            .nodes
            .iter()
            .map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation })
            .filter(|who| self.is_dead(*who))
            .map(|who| (who, FenceMethod::Local));
        let proofs = cold.then(|| proofs.collect());
        let me = self.incarnation(node);
        let (coordinator, outputs) = Coordinator::new(me, TimingProfile::DEV, self.disk.clone(), proofs);
        let coordinator = coordinator.gathering_for(self.gather_ms).with_patience(self.patience);
        self.master = Some((node, coordinator));
        self.carry_out(outputs);
        self.coordinate(CoordinatorInput::Tick(self.now));
    }

    /// Lets the first live member become master, which notices the dead at once.
    pub fn take_over(&mut self, proof: Option<FenceMethod>) {
        let next = self.live_members().into_iter().next().expect("a member lives");
        self.elect(next);
        self.detect(proof);
    }

    /// What is wrong now that everything has ended (I-T9, I-T19).
    pub fn wrong_at_rest(&self) -> Vec<String> {
        let joined = |id: &NodeId| self.disk.nodes.get(id).is_some_and(|entry| entry.state == NodeState::Joined);
        let nodes = self.nodes.iter().filter(|(id, node)| node.alive && joined(id));
        let seen_by = |(id, node): (&NodeId, &Node)| {
            let mut record = self.disk.clone();
            if let Some(entry) = record.nodes.get_mut(id) {
                entry.levels.retain(|level| !node.dead.contains(level)); // the dead see nothing
            }
            invariants::at_rest(&record, *id, &node.views)
        };
        nodes.flat_map(seen_by).collect()
    }

    /// Delivers, commits and answers in order until nothing is left to do but to wait.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.run_one() {
                return self.assert_sound();
            }
        }
        panic!("does not come to rest: {:?}", self.disk);
    }

    /// The next event in order; false if there is none.
    pub fn run_one(&mut self) -> bool {
        if self.writing.is_some() {
            self.land_commit();
        } else if let Some(envelope) = self.wire.pop_front() {
            self.deliver(envelope);
        } else if let Some(at) = self.work.iter().position(|work| !self.is_hung(work)) {
            self.answer(at);
        } else {
            return false;
        }
        true
    }

    /// Time passes, with everything that time brings.
    pub fn tick(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.coordinate(CoordinatorInput::Tick(self.now));
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.agent(node, AgentInput::Tick(self.now));
            self.ask(node);
        }
    }

    /// Runs and lets time pass until `done`.
    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_000 {
            self.run();
            if done(self) {
                return;
            }
            self.tick(500);
        }
        panic!("never comes true: {:#?}", self.disk);
    }

    pub fn assert_sound(&self) {
        assert!(self.violations.is_empty(), "{:#?}\n{}", self.violations, self.log.join("\n"));
    }

    pub fn state(&self, id: u16) -> NodeState {
        self.disk.nodes.get(&n(id)).map_or(NodeState::Inactive, |entry| entry.state)
    }

    pub fn incarnation(&self, node: NodeId) -> NodeIncarnation {
        NodeIncarnation { node, incarnation: self.nodes[&node].incarnation }
    }

    pub fn is_dead(&self, who: NodeIncarnation) -> bool {
        let node = &self.nodes[&who.node];
        node.incarnation != who.incarnation || !node.alive
    }

    pub fn live_master(&self) -> Option<NodeId> {
        self.master.as_ref().map(|(node, _)| *node)
    }

    pub fn live_members(&self) -> Vec<NodeId> {
        let live = |node: &NodeId, incarnation| !self.is_dead(NodeIncarnation { node: *node, incarnation });
        self.disk
            .nodes
            .iter()
            .filter(|(_, entry)| matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving))
            .filter(|(node, entry)| live(node, entry.incarnation))
            .map(|(node, _)| *node)
            .collect()
    }

    pub fn is_hung(&self, work: &Work) -> bool {
        self.hung.contains(&(work.node, work.answer.id.level))
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of this cluster")
    }

    /// The node repeats what it wants, and gives its sign of life.
    fn ask(&mut self, id: NodeId) {
        let (node, from) = (&self.nodes[&id], self.incarnation(id));
        if !node.alive {
            return;
        }
        let mut packets = vec![Packet::Seen(node.agent.seen())];
        if node.wants_in && !node.joined {
            packets.push(Packet::Join);
        }
        if node.wants_out {
            packets.push(Packet::Leave);
        }
        if let Some(to) = self.live_master() {
            self.wire.extend(packets.into_iter().map(|packet| Envelope { from, to, packet }));
        }
    }

    pub fn coordinate(&mut self, input: CoordinatorInput) {
        let Some((_, coordinator)) = &mut self.master else { return };
        let outputs = coordinator.step(input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<CoordinatorOutput>) {
        for output in outputs {
            let Some(master) = self.live_master() else { return };
            let from = self.incarnation(master);
            match output {
                CoordinatorOutput::Commit(record) => {
                    if self.writing.replace(Arc::unwrap_or_clone(record)).is_some() {
                        self.violations.push("two commits outstanding".to_owned());
                    }
                }
                CoordinatorOutput::Notify { to, record } => {
                    if record.revision != self.disk.revision {
                        self.violations
                            .push(format!("I-M3: {} told, {} committed", record.revision, self.disk.revision));
                    }
                    let packet = |to| Envelope { from, to, packet: Packet::Record(record.clone()) };
                    self.wire.extend(to.iter().map(packet));
                }
                CoordinatorOutput::Refuse { to, refusal } => self.refusals.push((to.node, refusal)),
                CoordinatorOutput::RefuseLevel { to, registration, refusal } => {
                    self.level_refusals.push((to.node, registration.level, refusal.clone()));
                    self.agent(to.node, AgentInput::Refused(registration, refusal));
                }
                CoordinatorOutput::Expel { victim } => {
                    if !self.is_dead(victim) {
                        self.wire.push_back(Envelope { from, to: victim.node, packet: Packet::Expelled });
                    }
                }
                CoordinatorOutput::NewMaster { to } => {
                    let revision = Revision { term: self.disk.revision.term, seq: 0 };
                    self.wire.extend(to.iter().map(|to| Envelope { from, to, packet: Packet::NewMaster(revision) }));
                }
                CoordinatorOutput::HandOver => {
                    self.master = None;
                    let node = self.node_mut(master);
                    (node.left, node.alive, node.wants_out) = (true, false, false);
                    self.work.retain(|work| work.node != master);
                }
                CoordinatorOutput::Quorum { reached, .. } => self.quorum_changes.push(reached),
                CoordinatorOutput::Warn(warning) => self.warnings.push(warning),
                CoordinatorOutput::Panic { reason } if reason.contains("does not answer") => self.panics.push(reason),
                CoordinatorOutput::Panic { reason } => self.violations.push(reason),
            }
        }
    }

    pub fn land_commit(&mut self) {
        let Some(record) = self.writing.take() else { return };
        self.land(record);
        self.coordinate(CoordinatorInput::Committed);
    }

    fn land(&mut self, record: MembershipRecord) {
        // T-24: a refusal counts for a join that is given up.
        let given_up = |id: NotificationId| {
            let joining = subjects(&self.disk).find(|(_, step)| step.transition == id.transition && joins(step.kind));
            let entry = joining.and_then(|(subject, _)| record.nodes.get(&subject.node()));
            entry.is_some_and(invariants::gives_up)
        };
        let acknowledged = |who: NodeIncarnation, id: NotificationId| {
            self.acknowledged.contains(&(who, id)) || (self.refused.contains(&(who, id)) && given_up(id))
        };
        let mut found = invariants::of_commit(&self.disk, &record, &acknowledged);
        for id in self.live_members() {
            let node = &self.nodes[&id];
            let mut views = node.views.clone();
            views.retain(|(level, _), _| !node.dead.contains(level)); // the dead see nothing
            found.extend(invariants::t19_the_inactive_are_forgotten(&self.disk, &record, id, &views));
        }
        found.extend(invariants::t23_no_join_above_unrecovered(&mut self.unrecovered, &self.disk, &record, false));
        self.violations.extend(found);
        for (node, entry) in &record.nodes {
            let before = self.disk.nodes.get(node).filter(|before| before.incarnation == entry.incarnation);
            let before = before.map_or(NodeState::Inactive, |before| before.state);
            if before != entry.state && record.formation == self.disk.formation {
                self.moves.insert((before, entry.state));
            }
        }
        self.committed.extend(invariants::running(&record).map(|(_, step)| step.notification()));
        self.disk = record;
    }

    pub fn deliver(&mut self, envelope: Envelope) {
        let Envelope { from, to, packet } = envelope;
        if !self.nodes[&to].alive {
            return;
        }
        let at_master = self.live_master() == Some(to);
        match packet {
            Packet::Record(record) => self.agent(to, AgentInput::Record(record)),
            Packet::NewMaster(revision) => self.agent(to, AgentInput::NewMaster { from: from.node, revision }),
            Packet::Expelled => self.kill(to.0, true),
            Packet::Acknowledge(answers) if at_master => {
                self.coordinate(CoordinatorInput::Acknowledged { from, answers });
            }
            Packet::Report(seen, steps) if at_master => self.coordinate(CoordinatorInput::Report { from, seen, steps }),
            Packet::Seen(revision) if at_master => self.coordinate(CoordinatorInput::Seen { from, revision }),
            Packet::Leave if at_master => self.coordinate(CoordinatorInput::LeaveRequest { node: from }),
            Packet::Join if at_master => {
                let all: NodeSet = self.nodes.keys().copied().collect();
                let levels = self.nodes[&from.node].levels.clone();
                let (same_boot, configured, key_matches) = (true, true, true);
                let (hears, heard) = (all, all);
                self.coordinate(CoordinatorInput::JoinRequest {
                    from,
                    levels,
                    same_boot,
                    hears,
                    heard,
                    configured,
                    key_matches,
                    key_learnt: false,
                });
            }
            Packet::Register(registration, seen) if at_master => {
                self.coordinate(CoordinatorInput::Register { from, registration, seen });
            }
            Packet::Withdraw(level, seen) if at_master => {
                self.coordinate(CoordinatorInput::Withdraw { from, level, seen });
            }
            Packet::Acknowledge(_)
            | Packet::Report(..)
            | Packet::Seen(_)
            | Packet::Leave
            | Packet::Join
            | Packet::Register(..)
            | Packet::Withdraw(..) => {}
        }
    }

    fn agent(&mut self, id: NodeId, input: AgentInput) {
        let node = self.node_mut(id);
        if !node.alive {
            return;
        }
        let outputs = node.agent.step(input);
        for output in outputs {
            let from = self.incarnation(id);
            let packet = match output {
                AgentOutput::Notify(notification) => {
                    self.notified(id, notification);
                    continue;
                }
                AgentOutput::Acknowledge { answers, .. } => {
                    self.answered_for_the_dead(from, &answers);
                    Packet::Acknowledge(answers)
                }
                AgentOutput::Register { registration, seen } => Packet::Register(registration, seen),
                AgentOutput::Withdraw { level, seen } => Packet::Withdraw(level, seen),
                AgentOutput::Resume { level, states } => {
                    self.log.push(format!("N{id} level {level}: resumes"));
                    self.node_mut(id).start_table(level, from, &states);
                    continue;
                }
                AgentOutput::Report { seen, steps, .. } => Packet::Report(seen, steps),
                AgentOutput::Joined => {
                    self.node_mut(id).joined = true;
                    continue;
                }
                AgentOutput::Left => {
                    let node = self.node_mut(id);
                    (node.left, node.alive, node.wants_out) = (true, false, false);
                    continue;
                }
                AgentOutput::Panic { reason } => {
                    let expected =
                        ["forced out", "formed without", "did not come back"].iter().any(|part| reason.contains(part));
                    if !expected {
                        self.violations.push(format!("node {id} panics: {reason}"));
                    }
                    self.kill(id.0, true);
                    return;
                }
                AgentOutput::Deregistered(level) => {
                    self.node_mut(id).views.retain(|(at, _), _| *at != level);
                    continue;
                }
                AgentOutput::Refused { level, refusal } => {
                    self.told_refusals.push((id, level, refusal));
                    continue;
                }
                AgentOutput::Stale { .. } => continue,
            };
            if let Some(to) = self.live_master() {
                self.wire.push_back(Envelope { from, to, packet });
            }
        }
    }

    /// A subsystem is told.
    fn notified(&mut self, id: NodeId, notification: SubsystemNotification) {
        let record = self.nodes[&id].agent.record().clone();
        let found = invariants::of_notification(&record, &notification, &|who| self.is_dead(who));
        self.violations.extend(found);
        let unknown = notification.batch.iter().filter(|notice| !self.committed.contains(&notice.id));
        self.violations
            .extend(unknown.map(|notice| format!("I-T4: node {id} holds {notice:?}, which was never committed")));
        let me = self.incarnation(id);
        let at = notification.level;
        let own = joins;
        let node = self.nodes.get_mut(&id).expect("a node of this cluster");
        if notification.batch.iter().any(|t| t.node == id && own(t.kind) && t.id.barrier == 0) {
            node.start_table(at, me, &notification.states);
        }
        self.violations.extend(invariants::t07_no_join_over_an_old_one(&record, &notification, &node.views));
        for notice in &notification.batch {
            let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            node.views.insert((at, subject), View::Processing);
            self.work.retain(|work| work.node != id || work.answer.subject != subject);
            let name = node
                .levels
                .iter()
                .chain(&node.later)
                .find(|registration| registration.level == at)
                .expect("a registered level");
            let count = name.barriers.of(notice.kind);
            let again = if notice.renotification { ", re-notified" } else { "" };
            let kind = match notice.kind {
                TransitionKind::Joining | TransitionKind::JoinExtending => "joining",
                TransitionKind::Leaving => "leaving",
                TransitionKind::ForcedLeaving => "forced-leaving",
            };
            let barrier = if count > 1 { format!(" barrier {}", notice.id.barrier) } else { String::new() };
            self.log.push(format!("N{id} {}: N{} {kind}{barrier}{again}", name.name, notice.node));
            let answer = SubsystemAcknowledged { subject, id: notice.id, answer: SubsystemAnswer::Acknowledged };
            let last = notice.id.barrier + 1 == count;
            self.work.push_back(Work { node: id, answer, kind: notice.kind, last });
        }
    }

    /// What a node acknowledges for a subsystem whose level is given up counts: nothing is left of it.
    fn answered_for_the_dead(&mut self, me: NodeIncarnation, answers: &[SubsystemAcknowledged]) {
        let node = &self.nodes[&me.node];
        self.acknowledged
            .extend(answers.iter().filter(|answer| node.dead.contains(&answer.id.level)).map(|answer| (me, answer.id)));
    }

    /// A subsystem ends its work.
    pub fn answer(&mut self, at: usize) {
        let Work { node, mut answer, kind, last } = self.work.remove(at).expect("work at that place");
        let me = self.incarnation(node);
        let fails = self.failing.get_mut(&(node, answer.id.level)).filter(|times| **times > 0);
        let failed = fails.is_some();
        if let Some(times) = fails {
            *times -= 1;
            answer.answer = SubsystemAnswer::Failed { text: "no".to_owned() };
        }
        if !failed || (joins(kind) && answer.subject == me) {
            self.acknowledged.push((me, answer.id));
            if last {
                let view = if joins(kind) { View::Joined } else { View::Inactive };
                self.node_mut(node).views.insert((answer.id.level, answer.subject), view);
            }
        }
        if failed {
            self.refused.push((me, answer.id));
        }
        self.agent(node, AgentInput::Answered(answer));
    }
}
