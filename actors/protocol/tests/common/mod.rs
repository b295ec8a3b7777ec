//! A whole cluster of coordinator and agents in memory: commits, messages and subsystems happen when the test lets them.
//!
//! The invariants of protocol §5.7 that can be seen from outside are checked after every step.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of the harness")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use phalanx_messages::membership::*;
use phalanx_messages::notification::*;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::set::NodeSet;
use phalanx_messages::*;
use phalanx_protocol::agent::{Agent, AgentInput, AgentOutput};
use phalanx_protocol::coordinator::level_states::subjects;
use phalanx_protocol::coordinator::{Coordinator, CoordinatorInput, CoordinatorOutput};
use phalanx_protocol::detector::Verdict;

pub const DLM: Level = Level::DLM;
pub const VDM: Level = Level::VDM;
pub const SFS: Level = Level::SFS;
pub const EM: Level = Level::EVENT_MANAGER;

pub const fn node(id: u16) -> NodeIncarnation {
    NodeIncarnation { node: NodeId(id), incarnation: Incarnation(1) }
}

pub fn registration(level: Level, joining: u8, leaving: u8, forced_leaving: u8) -> LevelRegistration {
    let name = match level {
        DLM => "DLM",
        VDM => "VDM",
        SFS => "SFS",
        EM => "EM",
        _ => "user",
    };
    let needs = if level == EM { Certainty::Death } else { Certainty::Io };
    let barriers = BarrierCounts { joining, leaving, forced_leaving };
    LevelRegistration { level, name: name.to_owned(), barriers, needs, optional: false }
}

/// The levels of the spec with one barrier each.
pub fn spec_levels() -> Vec<LevelRegistration> {
    [DLM, VDM, SFS, EM].map(|level| registration(level, 1, 1, 1)).to_vec()
}

/// What a subsystem was told, as one word: `N1:DLM N0 joining b0`.
pub fn words(node: NodeId, level: &str, notice: &TransitionNotice) -> String {
    let kind = match notice.kind {
        TransitionKind::Joining => "joining",
        TransitionKind::JoinExtending => "extending",
        TransitionKind::Leaving => "leaving",
        TransitionKind::ForcedLeaving => "forced-leaving",
    };
    let restart = if notice.id.restart > 0 { format!(" r{}", notice.id.restart) } else { String::new() };
    format!("N{node}:{level} N{} {kind} b{}{restart}", notice.node, notice.id.barrier)
}

/// Something on its way.
#[derive(Debug, Clone)]
pub enum Message {
    Record {
        from: NodeId,
        to: NodeIncarnation,
        record: Box<MembershipRecord>,
    },
    NewMaster {
        from: NodeId,
        to: NodeIncarnation,
        revision: Revision,
    },
    Answers {
        from: NodeIncarnation,
        to: NodeId,
        answers: Vec<SubsystemAcknowledged>,
    },
    Report {
        from: NodeIncarnation,
        to: NodeId,
        seen: Revision,
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
    },
}

pub struct Member {
    pub agent: Agent,
    pub levels: Vec<LevelRegistration>,
    pub alive: bool,
    pub left: bool,
    pub panicked: Option<String>,
    /// Notices that the subsystem is processing.
    pub processing: Vec<(Level, TransitionNotice)>,
}

pub struct Cluster {
    pub members: BTreeMap<NodeIncarnation, Member>,
    pub master: NodeIncarnation,
    pub coordinator: Option<Coordinator>,
    pub committed: MembershipRecord,
    pub committing: Option<Box<MembershipRecord>>,
    pub messages: VecDeque<Message>,
    /// Everything that subsystems were told, in order.
    pub log: Vec<String>,
    /// Invariants found broken.
    pub broken: Vec<String>,
    pub now: Instant,
    proved: BTreeSet<NodeIncarnation>,
    acknowledged: HashMap<NotificationId, NodeSet>,
    participants: HashMap<NotificationId, NodeSet>,
    pub handed_over: bool,
    pub warnings: usize,
}

impl Cluster {
    /// A cluster with nothing on the disk; node 0 owns term 1.
    pub fn new() -> Self {
        Self::from_record(node(0), MembershipRecord::default(), 1)
    }

    /// `master` owns `term` and finds `record`.
    pub fn from_record(master: NodeIncarnation, record: MembershipRecord, term: u64) -> Self {
        let mut cluster = Self {
            members: BTreeMap::new(),
            master,
            coordinator: None,
            committed: record,
            committing: None,
            messages: VecDeque::new(),
            log: Vec::new(),
            broken: Vec::new(),
            now: Instant(1_000_000),
            proved: BTreeSet::new(),
            acknowledged: HashMap::new(),
            participants: HashMap::new(),
            handed_over: false,
            warnings: 0,
        };
        cluster.own(master, term, None);
        cluster
    }

    /// `master` becomes owner of `term`: everything the old master's process knew is gone.
    pub fn own(
        &mut self,
        master: NodeIncarnation,
        term: u64,
        cold_start: Option<BTreeMap<NodeIncarnation, FenceMethod>>,
    ) {
        self.master = master;
        self.committing = None;
        self.committed.revision = Revision { term: Term(term), seq: 0 };
        let (coordinator, outputs) = Coordinator::new(master, TimingProfile::DEV, self.committed.clone(), cold_start);
        self.coordinator = Some(coordinator.gathering_joins_for(0));
        self.carry_out(outputs);
    }

    pub fn start(&mut self, who: NodeIncarnation, levels: Vec<LevelRegistration>) {
        let agent = Agent::new(who, levels.clone());
        let member = Member { agent, levels, alive: true, left: false, panicked: None, processing: Vec::new() };
        self.members.insert(who, member);
    }

    /// Starts a node and lets it ask to join.
    pub fn join(&mut self, who: NodeIncarnation, levels: Vec<LevelRegistration>) {
        self.start(who, levels);
        self.ask_to_join(who);
    }

    pub fn ask_to_join(&mut self, who: NodeIncarnation) {
        let levels = self.members[&who].levels.clone();
        let everybody: NodeSet = (0..16).map(NodeId).collect();
        let (hears, heard) = (everybody, everybody);
        let request = CoordinatorInput::JoinRequest {
            from: who,
            levels,
            same_boot: true,
            hears,
            heard,
            configured: true,
            key_matches: true,
        };
        self.tell_coordinator(request);
    }

    pub fn leave(&mut self, who: NodeIncarnation) {
        self.tell_coordinator(CoordinatorInput::LeaveRequest { node: who });
    }

    /// The process of a node ends.
    pub fn kill(&mut self, who: NodeIncarnation) {
        self.members.get_mut(&who).expect("a member").alive = false;
        if who == self.master {
            self.coordinator = None;
            self.committing = None;
        }
    }

    pub fn force(&mut self, who: NodeIncarnation) {
        let victims = vec![Verdict { victim: who, reason: "test".to_owned(), proof: None }];
        self.tell_coordinator(CoordinatorInput::Force { victims });
    }

    pub fn prove(&mut self, who: NodeIncarnation) {
        self.proved.insert(who);
        self.tell_coordinator(CoordinatorInput::Certain { victim: who, method: FenceMethod::OwnWord });
    }

    pub fn tell_coordinator(&mut self, input: CoordinatorInput) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let outputs = coordinator.step(input);
        self.carry_out(outputs);
    }

    pub fn tick(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.tell_coordinator(CoordinatorInput::Tick(self.now));
    }

    fn carry_out(&mut self, outputs: Vec<CoordinatorOutput>) {
        for output in outputs {
            match output {
                CoordinatorOutput::Commit(record) => {
                    assert!(self.committing.is_none(), "one commit at a time");
                    self.committing = Some(record);
                }
                CoordinatorOutput::Notify { to, record } => {
                    self.expect(*record == self.committed, "I-M3: only what is committed is told");
                    for to in self.incarnations(to) {
                        let (from, record) = (self.master.node, record.clone());
                        self.messages.push_back(Message::Record { from, to, record });
                    }
                }
                CoordinatorOutput::NewMaster { to } => {
                    for to in self.incarnations(to) {
                        let (from, revision) = (self.master.node, self.committed.revision);
                        self.messages.push_back(Message::NewMaster { from, to, revision });
                    }
                }
                CoordinatorOutput::Refuse { to, refusal } => {
                    self.log.push(format!("refused N{}: {refusal:?}", to.node))
                }
                CoordinatorOutput::Expel { .. } => {}
                CoordinatorOutput::HandOver => self.handed_over = true,
                CoordinatorOutput::Warn(_) => self.warnings += 1,
                CoordinatorOutput::Panic { reason } => self.broken.push(reason),
            }
        }
    }

    /// The newest incarnation of each node of the set.
    fn incarnations(&self, nodes: NodeSet) -> Vec<NodeIncarnation> {
        nodes.iter().filter_map(|node| self.members.keys().rfind(|who| who.node == node).copied()).collect()
    }

    /// The outstanding commit completes.
    pub fn commit(&mut self) -> bool {
        let Some(record) = self.committing.take() else { return false };
        self.check_commit(&record);
        self.committed = *record;
        for (_, step) in subjects(&self.committed) {
            if step.phase == StepPhase::Notifying {
                self.participants.insert(step.notification(), step.participants);
            }
        }
        self.tell_coordinator(CoordinatorInput::Committed);
        true
    }

    /// Delivers the message at `index`.
    pub fn deliver(&mut self, index: usize) -> bool {
        let Some(message) = self.messages.remove(index) else { return false };
        match message {
            Message::Record { from, to, record } => self.advise(to, AgentInput::Record { from, record }),
            Message::NewMaster { from, to, revision } => self.advise(to, AgentInput::NewMaster { from, revision }),
            Message::Answers { from, to, answers } if to == self.master.node => {
                self.tell_coordinator(CoordinatorInput::Acknowledged { from, answers });
            }
            Message::Report { from, to, seen, steps } if to == self.master.node => {
                self.tell_coordinator(CoordinatorInput::Report { from, seen, steps });
            }
            Message::Answers { .. } | Message::Report { .. } => {}
        }
        true
    }

    fn advise(&mut self, who: NodeIncarnation, input: AgentInput) {
        let Some(member) = self.members.get_mut(&who).filter(|member| member.alive && member.panicked.is_none()) else {
            return;
        };
        let outputs = member.agent.step(input);
        for output in outputs {
            self.act(who, output);
        }
    }

    fn act(&mut self, who: NodeIncarnation, output: AgentOutput) {
        let to = self.master.node;
        match output {
            AgentOutput::Notify(notification) => self.notified(who, notification),
            AgentOutput::Acknowledge { answers } => {
                self.messages.push_back(Message::Answers { from: who, to, answers });
            }
            AgentOutput::Report { to, seen, steps } => {
                self.messages.push_back(Message::Report { from: who, to, seen, steps });
            }
            AgentOutput::Stale { .. } | AgentOutput::Admitted | AgentOutput::Joined => {}
            AgentOutput::Panic { reason } => {
                self.expect(!reason.contains("protocol error"), &reason);
                self.members.get_mut(&who).expect("a member").panicked = Some(reason);
            }
            AgentOutput::Left { .. } => {
                let member = self.members.get_mut(&who).expect("a member");
                (member.left, member.alive) = (true, who == self.master);
            }
        }
    }

    fn notified(&mut self, who: NodeIncarnation, notification: SubsystemNotification) {
        self.expect(!notification.batch.is_empty(), "I-T15: no notification without a batch");
        let registration =
            self.members[&who].levels.iter().find(|r| r.level == notification.level).expect("a level").clone();
        for notice in &notification.batch {
            self.log.push(words(who.node, &registration.name, notice));
            self.check_notice(&registration, notice);
            let member = self.members.get_mut(&who).expect("a member");
            // A newer notice about the same node replaces the one being processed.
            member.processing.retain(|(_, old)| (old.node, old.incarnation) != (notice.node, notice.incarnation));
            member.processing.push((notification.level, *notice));
        }
    }

    /// A subsystem of `who` acknowledges what it is processing.
    pub fn acknowledge(&mut self, who: NodeIncarnation, index: usize) -> bool {
        let Some(member) = self.members.get_mut(&who) else { return false };
        if !member.alive || member.panicked.is_some() || index >= member.processing.len() {
            return false;
        }
        let (_, notice) = member.processing.remove(index);
        self.acknowledged.entry(notice.id).or_default().insert(who.node);
        self.answer(who, &notice, SubsystemAnswer::Acknowledged);
        true
    }

    pub fn answer(&mut self, who: NodeIncarnation, notice: &TransitionNotice, answer: SubsystemAnswer) {
        let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        self.advise(who, AgentInput::Answered(SubsystemAcknowledged { subject, id: notice.id, answer }));
    }

    /// Lets everything happen until nothing is left to happen.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            let who: Vec<_> = self.members.keys().copied().collect();
            let moved = self.commit() || self.deliver(0) || who.into_iter().any(|who| self.acknowledge(who, 0));
            if !moved {
                assert!(self.broken.is_empty(), "{:#?}\n{:#?}", self.broken, self.log);
                return;
            }
        }
        panic!("does not come to rest: {:#?}", self.log);
    }

    pub fn state(&self, id: u16) -> NodeState {
        self.committed.nodes.get(&NodeId(id)).map_or(NodeState::Inactive, |entry| entry.state)
    }

    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    pub fn expect(&mut self, holds: bool, invariant: &str) {
        if !holds {
            self.broken.push(invariant.to_owned());
        }
    }

    /// I-T1, I-T2: every participant acknowledged the barrier before this one. I-T6: certainty before recovery.
    fn check_notice(&mut self, registration: &LevelRegistration, notice: &TransitionNotice) {
        if notice.id.barrier > 0 {
            let before = NotificationId { barrier: notice.id.barrier - 1, ..notice.id };
            let asked = self.participants.get(&before).copied().unwrap_or_default();
            let given = self.acknowledged.get(&before).copied().unwrap_or_default();
            self.expect(
                asked.is_subset(&given),
                &format!("I-T2: {:?} before all acknowledged barrier {}", notice.id, before.barrier),
            );
        }
        if notice.kind == TransitionKind::ForcedLeaving {
            let victim = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            self.expect(
                self.proved.contains(&victim),
                &format!("I-F1: {} recovers {victim} before proof", registration.name),
            );
        }
    }

    fn check_commit(&mut self, record: &MembershipRecord) {
        use phalanx_protocol::coordinator::level_states::entry_state;
        self.expect(record.revision > self.committed.revision, "I-M2: one chain");
        for (subject, step) in subjects(record).filter(|(_, step)| step.phase == StepPhase::Notifying) {
            for node in step.participants.iter() {
                let state = record.nodes.get(&node).map(|entry| entry_state(entry, step.level));
                let takes_part = matches!(state, Some(LevelState::Joining | LevelState::Joined | LevelState::Leaving));
                self.expect(takes_part, &format!("I-T18: {node} is awaited at {} for {subject:?}", step.level));
            }
        }
        for (id, entry) in &record.nodes {
            let Some(before) = self.committed.nodes.get(id).cloned() else { continue };
            if let (Some(old), Some(new)) = (&before.step, &entry.step) {
                let ascends =
                    if new.kind == TransitionKind::Leaving { new.level <= old.level } else { new.level >= old.level };
                self.expect(old.transition != new.transition || ascends, "I-T3: levels go one way");
            }
            let rejoined = before.state == NodeState::ForcedLeaving && entry.state == NodeState::Joined;
            self.expect(!rejoined, "I-F5");
        }
    }

    /// I-T9, I-T16, I-T19: everything has ended, and all subsystems agree with the record.
    pub fn check_rest(&mut self) {
        use phalanx_protocol::coordinator::level_states::members_at;
        assert_eq!(subjects(&self.committed).count(), 0, "I-T16: {:#?}\n{:#?}", self.committed, self.log);
        for level in self.committed.levels.keys() {
            let members = members_at(&self.committed, *level);
            for (who, member) in self.members.iter().filter(|(who, m)| m.alive && !m.left && members.contains(who.node))
            {
                if self.committed.nodes.get(&who.node).is_none_or(|entry| entry.incarnation != who.incarnation) {
                    continue;
                }
                for (node, entry) in &self.committed.nodes {
                    let subject = NodeIncarnation { node: *node, incarnation: entry.incarnation };
                    let known = member.agent.known(*level, subject);
                    let right = if members.contains(*node) { LevelState::Joined } else { LevelState::Inactive };
                    assert_eq!(known, right, "I-T9/I-T19: {who} at {level} about {subject}\n{:#?}", self.log);
                }
            }
        }
    }
}
