//! The agent of the membership manager: turns committed records into notifications of this node's subsystems (protocol §5.5).
//!
//! Level-triggered (T-23): a record tells everything, and the newest one is enough. The agent dispatches exactly those running
//! steps in which this incarnation takes part and which are newer than what it dispatched last for the same node.
//!
//! Always holds: no record older than one processed is dispatched (I-T21); one step at a time for each node and level; each
//! step is acknowledged with one answer, which is repeated when it is asked for again (I-T13); no notification without a batch
//! (I-T15).
//!
//! Never: decides about membership, or goes on when the record says that this node is out: then the node panics.

pub mod table;

use std::collections::BTreeMap;

use phalanx_messages::membership::{LevelRegistration, LevelState, MembershipRecord, NodeState, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice};
use phalanx_messages::{Level, NodeId, NodeIncarnation, NotificationId, Revision, Term};

use crate::coordinator::level_states::{barriers, incarnation_of, is_newer, is_notified, states, subjects};
use table::Known;

/// What happens to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentInput {
    /// The master sent a committed record.
    Record {
        /// Who sent it.
        from: NodeId,
        /// The record.
        record: Box<MembershipRecord>,
    },
    /// A subsystem of this node has ended a step.
    Answered(SubsystemAcknowledged),
    /// A new master asks where this node stands (protocol §3.6).
    NewMaster {
        /// Who.
        from: NodeId,
        /// Its first commit.
        revision: Revision,
    },
}

/// What the caller must do next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentOutput {
    /// Notify the subsystem at `notification.level`.
    Notify(SubsystemNotification),
    /// Tell the master.
    Acknowledge {
        /// Answers of subsystems of this node.
        answers: Vec<SubsystemAcknowledged>,
    },
    /// Answer a new master.
    Report {
        /// The new master.
        to: NodeId,
        /// A promise not to listen to smaller terms.
        seen: Revision,
        /// Newest step of each node, with the answer if there is one.
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
    },
    /// The sender is not the master any more.
    Stale {
        /// The sender.
        to: NodeId,
    },
    /// This node must halt.
    Panic {
        /// Why.
        reason: String,
    },
    /// This incarnation was admitted: the record has it.
    Admitted,
    /// This node is joined.
    Joined,
    /// This node's graceful leave, or the reversal of its join, is complete. The reason is not empty if it did not ask for it.
    Left {
        /// Why, where it was the cluster's decision.
        reason: String,
    },
}

/// The newest step dispatched for one incarnation of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dispatched {
    kind: TransitionKind,
    id: NotificationId,
    answer: Option<SubsystemAcknowledged>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Agent {
    me: NodeIncarnation,
    levels: Vec<LevelRegistration>,
    seen: Revision,
    promised: Term,
    dispatched: BTreeMap<NodeIncarnation, Dispatched>,
    tables: BTreeMap<(Level, NodeIncarnation), Known>,
    admitted: bool,
    joined: bool,
    ended: bool,
}

impl Agent {
    /// The agent of one incarnation of a node with the levels that it registers.
    #[must_use]
    pub const fn new(me: NodeIncarnation, levels: Vec<LevelRegistration>) -> Self {
        Self {
            me,
            levels,
            seen: Revision { term: Term(0), seq: 0 },
            promised: Term(0),
            dispatched: BTreeMap::new(),
            tables: BTreeMap::new(),
            admitted: false,
            joined: false,
            ended: false,
        }
    }

    /// Newest record processed.
    #[must_use]
    pub const fn seen(&self) -> Revision {
        self.seen
    }

    /// What the subsystem at `level` knows of a node, for invariants I-T9 and I-T19.
    #[must_use]
    pub fn known(&self, level: Level, node: NodeIncarnation) -> LevelState {
        self.tables.get(&(level, node)).map_or(LevelState::Inactive, Known::processing)
    }

    /// Advances by one input.
    pub fn step(&mut self, input: AgentInput) -> Vec<AgentOutput> {
        if self.ended {
            return Vec::new(); // De-registered subsystems get and say nothing (I-T10).
        }
        match input {
            AgentInput::Record { from, record } => self.record(from, &record),
            AgentInput::Answered(answer) => self.answered(answer),
            AgentInput::NewMaster { from, revision } => self.new_master(from, revision),
        }
    }

    fn new_master(&mut self, from: NodeId, revision: Revision) -> Vec<AgentOutput> {
        if revision.term < self.promised || revision.term < self.seen.term {
            return vec![AgentOutput::Stale { to: from }];
        }
        self.promised = revision.term;
        let steps = self.dispatched.values().map(|step| (step.id, step.answer.clone())).collect();
        vec![AgentOutput::Report { to: from, seen: revision, steps }]
    }

    fn record(&mut self, from: NodeId, record: &MembershipRecord) -> Vec<AgentOutput> {
        // I-M4: no message of a term below the promised one. I-T21: no older record.
        if record.revision.term < self.promised || record.revision < self.seen {
            return vec![AgentOutput::Stale { to: from }];
        }
        self.seen = record.revision;
        self.promised = record.revision.term;
        let mut outputs = match self.own_fate(record) {
            Ok(outputs) => outputs,
            Err(end) => {
                self.ended = true;
                return vec![end];
            }
        };
        if self.admitted {
            for registration in self.levels.clone() {
                self.dispatch(record, registration.level, &mut outputs);
            }
        }
        outputs
    }

    /// What the record says of this node itself.
    fn own_fate(&mut self, record: &MembershipRecord) -> Result<Vec<AgentOutput>, AgentOutput> {
        let out = |reason: &str| Err(AgentOutput::Panic { reason: reason.to_owned() });
        if record.ghosts.get(&self.me.node).is_some_and(|ghost| ghost.incarnation >= self.me.incarnation) {
            return out("the cluster was formed anew without this node");
        }
        let Some(entry) = record.nodes.get(&self.me.node) else { return Ok(Vec::new()) };
        if entry.incarnation > self.me.incarnation {
            return out("a newer start of this node is a member");
        }
        if entry.incarnation < self.me.incarnation {
            return Ok(Vec::new()); // The record still speaks of an earlier start.
        }
        let mut outputs = Vec::new();
        match entry.state {
            NodeState::ForcedLeaving => return out(&format!("forced out: {}", entry.reason)),
            NodeState::Inactive if entry.leave_requested => {
                return Err(AgentOutput::Left { reason: entry.reason.clone() });
            }
            NodeState::Inactive => {
                return out("the membership database has this node as inactive, and it did not leave");
            }
            NodeState::Joined | NodeState::Joining | NodeState::Leaving => {}
        }
        if !std::mem::replace(&mut self.admitted, true) {
            outputs.push(AgentOutput::Admitted);
        }
        if entry.state == NodeState::Joined && !std::mem::replace(&mut self.joined, true) {
            outputs.push(AgentOutput::Joined);
        }
        Ok(outputs)
    }

    /// Dispatches what runs at one level: graceful transitions as one unit, forced ones as another (protocol T-5, T-10).
    fn dispatch(&mut self, record: &MembershipRecord, level: Level, outputs: &mut Vec<AgentOutput>) {
        for forced in [false, true] {
            let running: Vec<(NodeIncarnation, TransitionKind, NotificationId)> = subjects(record)
                .filter(|(_, step)| step.level == level && (step.kind == TransitionKind::ForcedLeaving) == forced)
                .filter(|(_, step)| is_notified(record, step) && step.participants.contains(self.me.node))
                .filter_map(|(subject, step)| Some((incarnation_of(record, subject)?, step.kind, step.notification())))
                .collect();
            self.begin_own_join(record, level, &running);
            self.repeat_answers(&running, outputs);
            match self.new_notices(&running) {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => outputs.push(AgentOutput::Notify(notification(record, level, batch))),
                Err(reason) => outputs.push(AgentOutput::Panic { reason }),
            }
        }
    }

    /// Starting table (protocol §5.3): a subsystem that is itself joining takes the states of all others from the record that
    /// carries its own Joining at barrier 0; the same again at a restart.
    fn begin_own_join(
        &mut self,
        record: &MembershipRecord,
        level: Level,
        running: &[(NodeIncarnation, TransitionKind, NotificationId)],
    ) {
        let own = running.iter().find(|(subject, kind, _)| *subject == self.me && *kind == TransitionKind::Joining);
        if !own.is_some_and(|(_, kind, id)| id.barrier == 0 && self.is_new(self.me, *kind, id)) {
            return;
        }
        // It knows nothing yet of what it learnt at this level before.
        self.tables.retain(|(at, _), _| *at != level);
        for (node, (incarnation, state)) in states(record, level) {
            let state = match state {
                LevelState::Joined | LevelState::Leaving => LevelState::Joined,
                LevelState::Joining | LevelState::Inactive => LevelState::Inactive,
                LevelState::ForcedLeaving => LevelState::ForcedLeaving,
            };
            self.tables.insert((level, NodeIncarnation { node, incarnation }), Known::starting(state));
        }
    }

    fn is_new(&self, subject: NodeIncarnation, kind: TransitionKind, id: &NotificationId) -> bool {
        self.dispatched.get(&subject).is_none_or(|last| is_newer(kind, id, &last.id))
    }

    /// A step that is told again after it was acknowledged gets the same answer again (I-T13).
    fn repeat_answers(
        &self,
        running: &[(NodeIncarnation, TransitionKind, NotificationId)],
        outputs: &mut Vec<AgentOutput>,
    ) {
        let given = |(subject, _, id): &(NodeIncarnation, TransitionKind, NotificationId)| {
            let last = self.dispatched.get(subject).filter(|last| last.id == *id)?;
            let answer = last.answer.clone()?;
            self.ends_step(last.kind, &answer).then_some(answer)
        };
        let answers: Vec<_> = running.iter().filter_map(given).collect();
        if !answers.is_empty() {
            outputs.push(AgentOutput::Acknowledge { answers });
        }
    }

    /// The notices that the subsystem has not got yet, or must try again after it failed (protocol T-24).
    fn new_notices(
        &mut self,
        running: &[(NodeIncarnation, TransitionKind, NotificationId)],
    ) -> Result<Vec<TransitionNotice>, String> {
        let mut batch = Vec::new();
        for (subject, kind, id) in running {
            let last = self.dispatched.get(subject);
            let failed = last.is_some_and(|last| {
                last.id == *id && last.answer.as_ref().is_some_and(|answer| !self.ends_step(last.kind, answer))
            });
            if !failed && !self.is_new(*subject, *kind, id) {
                continue;
            }
            let renotification = last.is_some_and(|last| last.answer.is_none());
            let known = self.tables.entry((id.level, *subject)).or_default();
            if !failed {
                table::look_up(known, *kind, id).map_err(|illegal| {
                    format!("protocol error: {kind:?} {id:?} of {subject} while {known:?}: {illegal:?}")
                })?;
            }
            known.notified(*kind, *id);
            self.dispatched.insert(*subject, Dispatched { kind: *kind, id: *id, answer: None });
            let NodeIncarnation { node, incarnation } = *subject;
            batch.push(TransitionNotice { id: *id, node, incarnation, kind: *kind, renotification });
        }
        Ok(batch)
    }

    /// Acknowledged; or this node's own join failed, which turns it into a leave at this level (protocol T-24). Any other
    /// failed step is tried again when it is told again.
    fn ends_step(&self, kind: TransitionKind, answer: &SubsystemAcknowledged) -> bool {
        match answer.answer {
            SubsystemAnswer::Acknowledged => true,
            SubsystemAnswer::Failed { .. } => answer.subject == self.me && kind == TransitionKind::Joining,
        }
    }

    fn answered(&mut self, answer: SubsystemAcknowledged) -> Vec<AgentOutput> {
        let Some(last) = self.dispatched.get_mut(&answer.subject) else { return Vec::new() };
        // An answer to a step that was replaced meanwhile is void; a second answer changes nothing.
        if last.id != answer.id || last.answer.is_some() {
            return Vec::new();
        }
        last.answer = Some(answer.clone());
        let kind = last.kind;
        if self.ends_step(kind, &answer) {
            let registration = self.levels.iter().find(|registration| registration.level == answer.id.level);
            let barriers = registration.map_or(0, |registration| registration.barriers.of(kind));
            let failed = answer.answer != SubsystemAnswer::Acknowledged;
            let is_last = failed || answer.id.barrier + 1 >= barriers;
            if let Some(known) = self.tables.get_mut(&(answer.id.level, answer.subject)) {
                known.acknowledged(answer.id.transition, is_last);
            }
        }
        vec![AgentOutput::Acknowledge { answers: vec![answer] }]
    }
}

fn notification(record: &MembershipRecord, level: Level, batch: Vec<TransitionNotice>) -> SubsystemNotification {
    let participants = subjects(record)
        .find(|(_, step)| batch.iter().any(|notice| notice.id == step.notification()))
        .map_or_else(Default::default, |(_, step)| step.participants);
    debug_assert!(batch.iter().all(|notice| notice.id.barrier < barriers(record, level, notice.kind)));
    SubsystemNotification { level, batch, states: states(record, level), participants, formation: record.formation }
}
