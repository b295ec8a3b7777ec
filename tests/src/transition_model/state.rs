//! One state of the world of MC4, and what each action makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::membership::{FenceMethod, MemberEntry, MembershipRecord, NodeState, Step, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Level, NodeId, NodeIncarnation, NotificationId, Revision, Term, TransitionId};
use phalanx_protocol::agent::{Agent, AgentInput, AgentOutput};
use phalanx_protocol::bugs::{self, Bug};
use phalanx_protocol::coordinator::{Coordinator, CoordinatorInput, CoordinatorOutput};
use phalanx_protocol::detector::Verdict;

use super::{Action, Start, TransitionModel};
use crate::invariants::{self, View};

/// What may still happen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Nodes that stop without warning.
    pub crashes: u8,
    /// Nodes that start again.
    pub boots: u8,
    /// Graceful leaves.
    pub leaves: u8,
    /// Subsystems that register at run time.
    pub registrations: u8,
    /// Living members that are marked.
    pub suspicions: u8,
}

/// Work of one subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Work {
    pub id: NotificationId,
    kind: TransitionKind,
    last_barrier: bool,
    participants: NodeSet,
}

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub incarnation: Incarnation,
    pub alive: bool,
    pub wants_in: bool,
    pub agent: Agent,
    /// What its subsystems are working on, by subject.
    pub work: BTreeMap<NodeIncarnation, Work>,
    /// The newest step that they have begun, by subject.
    pub begun: BTreeMap<NodeIncarnation, NotificationId>,
    pub views: BTreeMap<(Level, NodeIncarnation), View>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) disk: MembershipRecord,
    pub(super) term: u64,
    pub(super) master: Option<(NodeId, Coordinator)>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// Said and not taken by a master yet.
    pub(super) acknowledgements: Vec<(NodeIncarnation, SubsystemAcknowledged)>,
    /// What subsystems really acknowledged.
    pub(super) acknowledged: BTreeSet<(NodeIncarnation, Key)>,
    /// Levels at which a lost incarnation of a node left state that nobody has recovered.
    pub(super) unrecovered: BTreeMap<NodeId, BTreeSet<Level>>,
    pub(super) budget: Budget,
    /// Every joined node registers this level in the end. Never changes.
    mandatory: Option<Level>,
    /// The last records that told somebody of something new, if older ones are delivered too.
    pub(super) log: Option<Vec<MembershipRecord>>,
    /// Invariants that are not looked at.
    pub(super) ignored: &'static [&'static str],
    /// The invariant that was broken first.
    pub violation: Option<String>,
}

impl State {
    /// Whoever is joined at the beginning has joined through the machines, one action after the other.
    pub(super) fn initial(model: &TransitionModel) -> Self {
        let (joined, booted, joining) = match model.start {
            Start::Joined { joined, joining } => (joined, 0, joining),
            Start::Cold { booted } => (model.nodes, booted, 0),
        };
        let mut state = Self {
            disk: MembershipRecord::default(),
            term: 0,
            master: None,
            nodes: BTreeMap::new(),
            acknowledgements: Vec::new(),
            acknowledged: BTreeSet::new(),
            unrecovered: BTreeMap::new(),
            budget: Budget::default(),
            mandatory: None,
            log: None,
            ignored: model.ignored,
            violation: None,
        };
        for id in (0..model.nodes).map(NodeId) {
            let up = id.0 < joined;
            state.nodes.insert(id, Node::new(id, Incarnation(u64::from(up)), up, up));
        }
        state.run_to_rest(model);
        if booted > 0 {
            (0..model.nodes).for_each(|id| state.die(NodeId(id)));
        }
        for id in (0..booted).chain(joined..joined + joining).map(NodeId) {
            let incarnation = state.nodes[&id].incarnation.next();
            state.nodes.insert(id, Node::new(id, incarnation, true, true));
        }
        state.acknowledged.clear();
        state.budget = model.budget;
        state.mandatory = model.later.as_ref().filter(|later| !later.optional).map(|later| later.level);
        state.log = model.older_records.then(Vec::new);
        state
    }

    /// Does whatever must be done, in order, until everything has ended and everybody knows.
    fn run_to_rest(&mut self, model: &TransitionModel) {
        for _ in 0..10_000 {
            let mut actions = Vec::new();
            self.actions(&mut actions);
            let before = self.clone();
            let done = actions.into_iter().any(|action| {
                *self = before.clone();
                self.apply(model, action) && *self != before
            });
            if !done {
                *self = before;
                assert!(!self.is_open() && self.violation.is_none(), "the beginning does not come to rest: {self:#?}");
                return;
            }
        }
        panic!("the beginning never comes to rest");
    }

    fn incarnation(&self, id: NodeId) -> NodeIncarnation {
        NodeIncarnation { node: id, incarnation: self.nodes[&id].incarnation }
    }

    fn is_dead(&self, who: NodeIncarnation) -> bool {
        let node = &self.nodes[&who.node];
        !node.alive || node.incarnation != who.incarnation
    }

    fn entry_state(&self, id: NodeId) -> NodeState {
        self.disk.nodes.get(&id).map_or(NodeState::Inactive, |entry| entry.state)
    }

    /// Entries that are members and not marked.
    fn members(&self) -> impl Iterator<Item = NodeIncarnation> + '_ {
        let member = |state| matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
        let entries = self.disk.nodes.iter().filter(move |(_, entry)| member(entry.state));
        entries.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation })
    }

    fn is_live_member(&self, id: NodeId) -> bool {
        self.members().any(|member| member.node == id && !self.is_dead(member))
    }

    /// Some transition has not ended, and somebody is there to end it.
    pub(super) fn is_open(&self) -> bool {
        let in_transition = invariants::subjects(&self.disk).next().is_some();
        let wanting = self.nodes.values().any(|node| node.alive && node.wants_in);
        let dead_member = self.members().any(|member| self.is_dead(member));
        let unregistered = self.members().any(|member| self.must_register(member.node));
        let somebody = self.nodes.values().any(|node| node.alive);
        somebody
            && (in_transition || wanting || dead_member || unregistered)
            && (wanting || self.nodes.keys().any(|id| self.is_live_member(*id)))
    }

    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.alive) {
            self.actions_of_living(*id, node, actions);
        }
        if self.budget.boots > 0 {
            actions.extend(self.nodes.iter().filter(|(_, node)| !node.alive).map(|(id, _)| Action::Boot(*id)));
        }
        if self.master.is_none() {
            return;
        }
        actions.extend((0..self.acknowledgements.len()).map(Action::Acknowledge));
        for member in self.members() {
            if self.is_dead(member) {
                actions.push(Action::Mark(member.node));
            } else if self.budget.suspicions > 0 && self.members().count() > 1 {
                actions.push(Action::Suspect(member.node));
            }
        }
        for (id, entry) in &self.disk.nodes {
            let who = NodeIncarnation { node: *id, incarnation: entry.incarnation };
            if entry.state == NodeState::ForcedLeaving && !entry.fence.death_certain && self.is_dead(who) {
                actions.push(Action::Prove(*id, false));
            }
        }
        for (id, ghost) in &self.disk.ghosts {
            let who = NodeIncarnation { node: *id, incarnation: ghost.incarnation };
            if !ghost.fence.death_certain && self.is_dead(who) {
                actions.push(Action::Prove(*id, true));
            }
        }
    }

    fn actions_of_living(&self, id: NodeId, node: &Node, actions: &mut Vec<Action>) {
        if self.budget.crashes > 0 {
            actions.push(Action::Crash(id));
        }
        if self.has_news(node) {
            actions.push(Action::Take(id));
        }
        let log = self.log.iter().flatten().enumerate();
        actions
            .extend(log.filter(|(_, record)| self.is_addressed(id, record)).map(|(at, _)| Action::TakeOlder(id, at)));
        for (who, work) in &node.work {
            if self.all_have_begun(who, work) {
                actions.push(Action::Answer(id, who.node, self.is_ghost(*who)));
            }
        }
        match &self.master {
            None => {
                let members_live = self.nodes.keys().any(|id| self.is_live_member(*id));
                let outsider = !members_live && self.entry_state(id) != NodeState::ForcedLeaving;
                let outsider = outsider
                    || (!members_live && self.disk.nodes.get(&id).is_some_and(|e| e.incarnation < node.incarnation));
                if self.is_live_member(id) || (outsider && node.wants_in) {
                    actions.push(Action::Elect(id));
                }
            }
            Some(_) => {
                if self.may_report(id) {
                    actions.push(Action::Report(id));
                }
                if node.wants_in && !self.is_admitted(id) {
                    actions.push(Action::Join(id));
                }
                let entry = self.disk.nodes.get(&id).filter(|entry| entry.incarnation == node.incarnation);
                let stays = |entry: &&MemberEntry| {
                    matches!(entry.state, NodeState::Joining | NodeState::Joined) && !entry.leave_requested
                };
                if self.budget.leaves > 0 && entry.filter(stays).is_some() {
                    actions.push(Action::Leave(id));
                }
                let able = |entry: &&MemberEntry| entry.state == NodeState::Joined && entry.step.is_none();
                if entry.filter(able).is_some() && (self.budget.registrations > 0 || self.must_register(id)) {
                    actions.push(Action::Register(id));
                }
            }
        }
    }

    fn must_register(&self, id: NodeId) -> bool {
        let lacks = |level| self.disk.nodes.get(&id).is_some_and(|entry| !entry.levels.contains(&level));
        self.mandatory.is_some_and(lacks)
    }

    fn is_admitted(&self, id: NodeId) -> bool {
        let who = self.incarnation(id);
        self.members().any(|member| member == who)
    }

    fn may_report(&self, id: NodeId) -> bool {
        self.is_admitted(id) && self.master.as_ref().is_some_and(|(_, master)| master.unreported().contains(id))
    }

    fn is_ghost(&self, who: NodeIncarnation) -> bool {
        self.disk.ghosts.get(&who.node).is_some_and(|ghost| ghost.incarnation == who.incarnation)
    }

    /// Subsystems wait for each other: nobody ends a step that another participant has not begun.
    fn all_have_begun(&self, who: &NodeIncarnation, work: &Work) -> bool {
        work.participants.iter().all(|node| {
            let begun = self.nodes[&node].begun.get(who);
            begun.is_some_and(|begun| begun.transition == work.id.transition && reaches(begun, &work.id, work.kind))
        })
    }

    /// True if the action did something.
    pub(super) fn apply(&mut self, model: &TransitionModel, action: Action) -> bool {
        let done = self.act(model, action);
        self.spread_what_is_no_news();
        done
    }

    fn act(&mut self, model: &TransitionModel, action: Action) -> bool {
        match action {
            Action::Take(id) => {
                let record = Arc::new(self.disk.clone());
                self.agent(id, AgentInput::Record(record));
                self.check_rest();
            }
            Action::TakeOlder(id, at) => {
                let record = self.log.as_ref().and_then(|log| log.get(at)).cloned();
                self.agent(id, AgentInput::Record(Arc::new(record.unwrap_or_default())));
            }
            Action::Answer(id, subject, _) => return self.answer(id, subject),
            Action::Acknowledge(index) => {
                let (from, answer) = self.acknowledgements.remove(index);
                self.coordinate(CoordinatorInput::Acknowledged { from, answers: vec![answer] });
            }
            Action::Report(id) => self.report(id),
            Action::Mark(id) => self.mark(id),
            Action::Suspect(id) => {
                self.budget.suspicions -= 1;
                self.mark(id);
            }
            Action::Prove(id, ghost) => {
                let incarnation =
                    if ghost { self.disk.ghosts[&id].incarnation } else { self.disk.nodes[&id].incarnation };
                let victim = NodeIncarnation { node: id, incarnation };
                self.coordinate(CoordinatorInput::Certain { victim, method: FenceMethod::Local });
            }
            Action::Elect(id) => self.lead(id),
            Action::Join(id) => return self.join(model, id),
            Action::Leave(id) => {
                self.budget.leaves -= 1;
                let node = self.incarnation(id);
                self.coordinate(CoordinatorInput::LeaveRequest { node });
            }
            Action::Register(id) => return self.register(model, id),
            Action::Crash(id) => {
                self.budget.crashes -= 1;
                self.die(id);
            }
            Action::Boot(id) => {
                self.budget.boots -= 1;
                let incarnation = self.nodes[&id].incarnation.next();
                self.nodes.insert(id, Node::new(id, incarnation, true, true));
            }
        }
        true
    }

    fn report(&mut self, id: NodeId) {
        let from = self.master.as_ref().map_or(id, |(master, _)| *master);
        let revision = Revision { term: Term(self.term), seq: 0 };
        self.agent(id, AgentInput::NewMaster { from, revision });
    }

    fn mark(&mut self, id: NodeId) {
        let who = NodeIncarnation { node: id, incarnation: self.disk.nodes[&id].incarnation };
        if self.master.as_ref().is_some_and(|(master, _)| *master == id) {
            return self.die(id); // a master that others doubt goes; it never marks itself
        }
        let victims = vec![Verdict { victim: who, reason: "lost".to_owned(), proof: None }];
        self.coordinate(CoordinatorInput::Force { victims });
    }

    fn join(&mut self, model: &TransitionModel, id: NodeId) -> bool {
        let all: NodeSet = self.nodes.keys().copied().collect();
        let before = self.disk.clone();
        self.coordinate(CoordinatorInput::JoinRequest {
            from: self.incarnation(id),
            levels: model.levels_of(id),
            same_boot: true,
            hears: all,
            heard: all,
            configured: true,
            key_matches: true,
            key_learnt: false,
        });
        self.disk != before
    }

    /// The request is taken by the master, or does nothing and may come again.
    fn register(&mut self, model: &TransitionModel, id: NodeId) -> bool {
        let Some(registration) = model.later.clone() else { return false };
        let (from, seen, before) = (self.incarnation(id), self.disk.revision, self.disk.clone());
        self.budget.registrations = self.budget.registrations.saturating_sub(1);
        self.coordinate(CoordinatorInput::Register { from, registration, seen });
        self.disk != before
    }

    fn die(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            (node.alive, node.wants_in) = (false, false);
            node.work.clear();
            node.views.clear();
        }
        if self.master.as_ref().is_some_and(|(master, _)| *master == id) {
            self.master = None;
        }
    }

    fn lead(&mut self, id: NodeId) {
        self.term += 1;
        let cold = !self.nodes.keys().any(|id| self.is_live_member(*id));
        self.disk.revision = Revision { term: Term(self.term), seq: 0 };
        let (coordinator, outputs) =
            Coordinator::new(self.incarnation(id), TimingProfile::DEV, self.disk.clone(), cold.then(BTreeMap::new));
        self.master = Some((id, coordinator.gathering_for(0)));
        self.carry_out(outputs);
    }

    fn coordinate(&mut self, input: CoordinatorInput) {
        let Some((_, coordinator)) = &mut self.master else { return };
        let outputs = coordinator.step(input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<CoordinatorOutput>) {
        for output in outputs {
            match output {
                CoordinatorOutput::Commit(record) => {
                    self.commit(Arc::unwrap_or_clone(record));
                    self.coordinate(CoordinatorInput::Committed);
                }
                CoordinatorOutput::HandOver => {
                    if let Some((master, _)) = self.master.take() {
                        self.die(master); // it stops with `CleanDown`
                    }
                }
                CoordinatorOutput::Panic { reason } => self.broken(reason),
                // Agents take the newest record by themselves; refusals are asked again.
                CoordinatorOutput::Notify { .. }
                | CoordinatorOutput::NewMaster { .. }
                | CoordinatorOutput::Refuse { .. }
                | CoordinatorOutput::RefuseLevel { .. }
                | CoordinatorOutput::Quorum { .. }
                | CoordinatorOutput::Expel { .. }
                | CoordinatorOutput::Warn(_) => {}
            }
        }
    }

    fn commit(&mut self, record: MembershipRecord) {
        let acknowledged = |who, id| self.acknowledged.contains(&(who, key(&id)));
        let mut found = invariants::of_commit(&self.disk, &record, &acknowledged);
        for (id, node) in self.nodes.iter().filter(|(id, _)| self.is_live_member(**id)) {
            found.extend(invariants::t19_the_inactive_are_forgotten(&self.disk, &record, *id, &node.views));
        }
        let joins_above = invariants::t23_no_join_above_unrecovered(&mut self.unrecovered, &self.disk, &record, true);
        self.log(&record);
        self.disk = record;
        found.into_iter().chain(joins_above).for_each(|text| self.broken(text));
        self.forget_void_answers();
    }

    /// An answer to what no longer runs changes nothing whenever it is taken, unless a deliberate bug counts it after a restart.
    fn forget_void_answers(&mut self) {
        let running: BTreeSet<Key> =
            invariants::running(&self.disk).map(|(_, step)| key(&step.notification())).collect();
        let of_level = |id: &NotificationId| {
            let same = |step: &Step| step.transition == id.transition && step.level == id.level;
            invariants::subjects(&self.disk).any(|(_, step)| same(step))
        };
        self.acknowledgements.retain(|(_, answer)| {
            running.contains(&key(&answer.id)) || (bugs::active(Bug::OldRestartCounts) && of_level(&answer.id))
        });
    }

    fn broken(&mut self, text: String) {
        if !self.ignored.iter().any(|name| text.starts_with(name)) {
            self.violation.get_or_insert(text);
        }
    }

    fn agent(&mut self, id: NodeId, input: AgentInput) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        for output in node.agent.step(input) {
            self.agent_says(id, output);
        }
    }

    fn agent_says(&mut self, id: NodeId, output: AgentOutput) {
        let from = self.incarnation(id);
        match output {
            AgentOutput::Notify(notification) => self.notified(id, &notification),
            AgentOutput::Acknowledge { answers, .. } => {
                for answer in answers {
                    let known = self
                        .acknowledgements
                        .iter()
                        .any(|(who, said)| *who == from && said.id == answer.id && said.subject == answer.subject);
                    if !known {
                        self.acknowledgements.push((from, answer));
                    }
                }
                self.forget_void_answers();
            }
            AgentOutput::Report { seen, steps, .. } => self.coordinate(CoordinatorInput::Report { from, seen, steps }),
            AgentOutput::Joined => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.wants_in = false;
                }
            }
            AgentOutput::Left => self.die(id),
            AgentOutput::Panic { reason } if self.is_out(from) => {
                let _ = reason; // it finds itself out, as it must
                self.die(id);
            }
            AgentOutput::Panic { reason } => self.broken(reason),
            AgentOutput::Stale { .. } | AgentOutput::Deregistered(_) => {}
            // Registration is an action of its own, and no subsystem dies alone.
            AgentOutput::Resume { .. }
            | AgentOutput::Register { .. }
            | AgentOutput::Refused { .. }
            | AgentOutput::Withdraw { .. } => {}
        }
    }

    fn is_out(&self, who: NodeIncarnation) -> bool {
        let entry = self.disk.nodes.get(&who.node);
        self.disk.ghosts.get(&who.node).is_some_and(|ghost| ghost.incarnation >= who.incarnation)
            || entry.is_some_and(|entry| entry.incarnation > who.incarnation)
            || entry.is_some_and(|entry| {
                entry.incarnation == who.incarnation
                    && matches!(entry.state, NodeState::ForcedLeaving | NodeState::Inactive)
            })
    }

    fn notified(&mut self, id: NodeId, notification: &SubsystemNotification) {
        let record = self.nodes[&id].agent.record().clone();
        for text in invariants::of_notification(&record, notification, &|who| self.is_dead(who)) {
            self.broken(text);
        }
        let me = self.incarnation(id);
        let own_join = notification.batch.iter().any(|notice| {
            let own = notice.node == me.node && notice.incarnation == me.incarnation;
            own && joins(notice.kind) && notice.id.barrier == 0
        });
        let barriers = |kind| record.levels.get(&notification.level).map_or(1, |level| level.barriers.of(kind));
        let counts: Vec<u8> = notification.batch.iter().map(|notice| barriers(notice.kind)).collect();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if own_join {
            node.start_table(notification, me);
        }
        let early = invariants::t07_no_join_over_an_old_one(&record, notification, &node.views);
        for (notice, count) in notification.batch.iter().zip(counts) {
            let who = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            let last_barrier = notice.id.barrier + 1 >= count;
            let participants = notification.participants;
            node.work.insert(who, Work { id: notice.id, kind: notice.kind, last_barrier, participants });
            node.begun.insert(who, notice.id);
            node.views.insert((notification.level, who), View::Processing);
        }
        early.into_iter().for_each(|text| self.broken(text));
    }

    fn answer(&mut self, id: NodeId, subject: NodeId) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        let Some(who) = node.work.keys().copied().filter(|who| who.node == subject).max() else { return false };
        let Some(work) = node.work.remove(&who) else { return false };
        if work.last_barrier {
            let view = if joins(work.kind) { View::Joined } else { View::Inactive };
            node.views.insert((work.id.level, who), view);
        }
        let answer = SubsystemAcknowledged { subject: who, id: work.id, answer: SubsystemAnswer::Acknowledged };
        let me = self.incarnation(id);
        self.acknowledged.insert((me, key(&work.id)));
        self.agent(id, AgentInput::Answered(answer));
        self.check_rest();
        true
    }

    /// I-T9, I-T19 once nothing is in transition and everybody has seen it.
    fn check_rest(&mut self) {
        if self.is_open()
            || self.nodes.values().any(|node| node.alive && node.agent.record().revision < self.disk.revision)
        {
            return;
        }
        let found: Vec<String> = self
            .nodes
            .iter()
            .filter(|(id, _)| self.is_live_member(**id))
            .flat_map(|(id, node)| invariants::at_rest(&self.disk, *id, &node.views))
            .collect();
        found.into_iter().for_each(|text| self.broken(text));
    }
}

impl Node {
    fn new(id: NodeId, incarnation: Incarnation, alive: bool, wants_in: bool) -> Self {
        Self {
            incarnation,
            alive,
            wants_in,
            agent: Agent::new(NodeIncarnation { node: id, incarnation }),
            work: BTreeMap::new(),
            begun: BTreeMap::new(),
            views: BTreeMap::new(),
        }
    }

    /// The subsystem takes the states of all others from the record that carries its own join (protocol §5.3).
    fn start_table(&mut self, notification: &SubsystemNotification, me: NodeIncarnation) {
        self.views.retain(|(level, _), _| *level != notification.level);
        for (node, (incarnation, state)) in &notification.states {
            let who = NodeIncarnation { node: *node, incarnation: *incarnation };
            if who != me {
                self.views.insert((notification.level, who), View::told(*state));
            }
        }
    }
}

/// A node, or one level of it, joins.
const fn joins(kind: TransitionKind) -> bool {
    matches!(kind, TransitionKind::Joining | TransitionKind::JoinExtending)
}

/// A notification id as a place in a set; it says nothing of what came first.
pub(super) type Key = (TransitionId, Level, u8, u32);

pub(super) const fn key(id: &NotificationId) -> Key {
    (id.transition, id.level, id.barrier, id.restart)
}

/// `begun` is the step `wanted` or a later one of the same transition.
fn reaches(begun: &NotificationId, wanted: &NotificationId, kind: TransitionKind) -> bool {
    let place = |id: &NotificationId| {
        let level = i64::from(id.level.0);
        (id.restart, if kind == TransitionKind::Leaving { -level } else { level }, id.barrier)
    };
    place(begun) >= place(wanted)
}
