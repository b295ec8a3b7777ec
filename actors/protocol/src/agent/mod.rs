//! Membership manager's agent machine: turns committed records into notifications of this node's subsystems (protocol §5.5).
//!
//! What always holds: nothing is dispatched from a record older than one processed (I-T21); all notices of one record for one
//! level go out as one notification, this node's own join first (T-23); a subsystem is never given a notification that
//! Table 1 does not allow ([`table`]); an answer to anything but the newest notice of a node is void.
//!
//! Pure: no I/O, no clock. Time arrives with [`Tick`](AgentInput::Tick).

mod levels;
mod own_entry;
mod subsystems;
mod succession;
pub mod table;

pub use phalanx_messages::subsystem::DeathPolicy;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use phalanx_messages::membership::{LevelRegistration, MembershipRecord, Step, TransitionKind};
use phalanx_messages::notification::{
    LevelStates, SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice,
};
use phalanx_messages::peer::LevelRefusal;
use phalanx_messages::{Instant, Level, NodeId, NodeIncarnation, NotificationId, Revision, Term};

use crate::bugs::{self, Bug};
use crate::coordinator::level_states::{barriers, incarnation_of, is_newer, is_notified, states, subjects};
use levels::Levels;
use own_entry::OwnEntry;
use subsystems::Subsystems;
use succession::{is_current, replaces_somebody};
use table::Arrival;

/// What happens to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentInput {
    /// A committed record has come, from the master or from the disk.
    Record(Arc<MembershipRecord>),
    /// A subsystem of this node has ended the processing of one notice.
    Answered(SubsystemAcknowledged),
    /// A subsystem of this node registers at run time (protocol T-15), or again after its death (T-17). The caller has made
    /// sure that none that lives has the level.
    Register(LevelRegistration),
    /// The master has refused this registration.
    Refused(LevelRegistration, LevelRefusal),
    /// The subsystem at that level wants to leave alone; it lives and will be told of that leave. Built-in levels stay.
    Withdraw(Level),
    /// The subsystem at that level has died without a leave (protocol T-17).
    Died {
        /// Which.
        level: Level,
        /// What becomes of it if it does not register again in time.
        policy: DeathPolicy,
    },
    /// A new master asks for a promise and a report (protocol §3.6).
    NewMaster {
        /// The master.
        from: NodeId,
        /// Its first commit.
        revision: Revision,
    },
    /// Time passes.
    Tick(Instant),
}

/// What the caller must do next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentOutput {
    /// Notify the subsystem at that level.
    Notify(SubsystemNotification),
    /// The subsystem that registers again after its death goes on from here; what it had not answered follows as
    /// notifications with their old numbers (protocol T-17).
    Resume {
        /// Which.
        level: Level,
        /// What its predecessor knew of every node at this level, by what it had acknowledged.
        states: LevelStates,
    },
    /// Ask the master to let a level of this node join (protocol T-15).
    Register {
        /// Which.
        registration: LevelRegistration,
        /// The record that asks for it.
        seen: Revision,
    },
    /// The subsystem that waits to register does not get in.
    Refused {
        /// Where.
        level: Level,
        /// Why.
        refusal: LevelRefusal,
    },
    /// Ask the master to let a level of this node leave alone (protocol T-17).
    Withdraw {
        /// Which.
        level: Level,
        /// The record that asks for it.
        seen: Revision,
    },
    /// Tell the master of that term.
    Acknowledge {
        /// Its term.
        to_term: Term,
        /// What the subsystems answered.
        answers: Vec<SubsystemAcknowledged>,
    },
    /// Answer a new master, after the promise is published with this node's register.
    Report {
        /// The new master.
        to: NodeId,
        /// The promise: this node listens to no smaller term.
        seen: Revision,
        /// The newest step of each transitional node.
        steps: Vec<(NotificationId, Option<SubsystemAcknowledged>)>,
    },
    /// Whoever sent the input is no longer master.
    Stale {
        /// The newest term this node listens to.
        seen: Revision,
    },
    /// This node's join is complete.
    Joined,
    /// A level has completed this node's own leave: its subsystem gets nothing any more (protocol T-16).
    Deregistered(Level),
    /// This node's own leave is complete: stop with `CleanDown`.
    Left,
    /// This node must panic.
    Panic {
        /// Why.
        reason: String,
    },
}

/// The newest notice of one incarnation of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Dispatched {
    id: NotificationId,
    kind: TransitionKind,
    last_barrier: bool,
    progress: Progress,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Progress {
    Processing,
    Ended(SubsystemAnswer),
    /// The subsystem failed and is notified again when the time comes (protocol T-24); `None` = from the next tick on.
    Failed {
        text: String,
        again_at: Option<Instant>,
    },
}

/// Default of [`Agent::restarting_within`], in milliseconds.
pub const RESTART_MS_DEFAULT: u64 = 10_000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Agent {
    me: NodeIncarnation,
    /// The newest record processed.
    record: Arc<MembershipRecord>,
    /// No smaller term is listened to.
    promised: Revision,
    dispatched: BTreeMap<NodeIncarnation, Dispatched>,
    failures: BTreeMap<NodeIncarnation, (NotificationId, u32)>,
    levels: Levels,
    own: OwnEntry,
    subsystems: Subsystems,
    restart_ms: u64,
}

impl Agent {
    /// Feeds `state` with all that can still make a difference while `newest` is the newest committed record: two agents that feed
    /// the same do the same with it and with every later one. For whoever looks for equal states.
    pub fn hash_beside<H: Hasher>(&self, newest: &MembershipRecord, state: &mut H) {
        let Self { me, record: _, promised: _, dispatched, failures, levels, own, subsystems, restart_ms: _ } = self;
        (me, failures, own, subsystems).hash(state);
        levels.hash(state);
        let open = |last: &Dispatched| {
            let current = subjects(newest).any(|(_, step)| step.transition == last.id.transition);
            current || last.progress == Progress::Processing
        };
        dispatched.iter().filter(|(_, last)| open(last)).for_each(|dispatched| dispatched.hash(state));
    }
}

impl Agent {
    /// An agent that has seen nothing.
    #[must_use]
    pub fn new(me: NodeIncarnation) -> Self {
        Self {
            me,
            record: Arc::default(),
            promised: Revision::default(),
            dispatched: BTreeMap::new(),
            failures: BTreeMap::new(),
            levels: Levels::default(),
            own: OwnEntry::default(),
            subsystems: Subsystems::default(),
            restart_ms: RESTART_MS_DEFAULT,
        }
    }

    /// A dead subsystem may register again within this time (`T_restart`), in milliseconds.
    #[must_use]
    pub const fn restarting_within(mut self, restart_ms: u64) -> Self {
        self.restart_ms = restart_ms;
        self
    }

    /// Revision to publish as `seen`: the newest record processed, or the promise to a newer master.
    #[must_use]
    pub fn seen(&self) -> Revision {
        self.record.revision.max(self.promised)
    }

    /// The newest record processed.
    #[must_use]
    pub fn record(&self) -> &MembershipRecord {
        &self.record
    }

    /// Advances by one input.
    pub fn step(&mut self, input: AgentInput) -> Vec<AgentOutput> {
        let mut outputs = Vec::new();
        match input {
            AgentInput::Record(record) => self.take(record, &mut outputs),
            AgentInput::Answered(answered) => self.answered(answered, &mut outputs),
            AgentInput::Register(registration) => self.register(registration, &mut outputs),
            AgentInput::Refused(registration, refusal) => self.refused(&registration, refusal, &mut outputs),
            AgentInput::Withdraw(level) => self.withdraw(level, &mut outputs),
            AgentInput::Died { level, policy } => self.died(level, policy),
            AgentInput::NewMaster { from, revision } => self.new_master(from, revision, &mut outputs),
            AgentInput::Tick(now) => self.ticked(now, &mut outputs),
        }
        outputs
    }

    fn take(&mut self, record: Arc<MembershipRecord>, outputs: &mut Vec<AgentOutput>) {
        if record.revision.term < self.seen().term && !bugs::active(Bug::OlderTermHeard) {
            outputs.push(AgentOutput::Stale { seen: self.seen() });
            return;
        }
        if record.revision < self.record.revision && !takes_older_records() {
            return; // T-23: overtaken on its way.
        }
        let replaced = replaces_somebody(&self.record, &record);
        self.record = record;
        let fatal = self.own.learn(self.me, &self.record, outputs);
        // Whoever waits for the level of a dead subsystem to go is not the one that goes.
        let waits = |output: &AgentOutput| matches!(output, AgentOutput::Deregistered(level) if self.subsystems.waits_at(*level));
        outputs.retain(|output| !waits(output));
        if fatal {
            return;
        }
        self.levels.forget_left(self.own.deregistered());
        if replaced {
            self.forget_the_gone();
        }
        debug_assert!(self.knows_nobody_gone(), "somebody was replaced and is still known");
        match self.dispatch() {
            Ok(notifications) => notifications.into_iter().for_each(|notification| self.deliver(notification, outputs)),
            Err(reason) => {
                outputs.push(AgentOutput::Panic { reason });
                return;
            }
        }
        self.repeat_answers(outputs);
        self.ask_the_master(outputs);
    }

    /// What was known of incarnations that a newer one has replaced.
    fn forget_the_gone(&mut self) {
        let record = &self.record;
        self.dispatched.retain(|who, _| is_current(record, who));
        self.failures.retain(|who, _| is_current(record, who));
        self.levels.forget(|who| !is_current(record, who));
    }

    fn knows_nobody_gone(&self) -> bool {
        let known = self.dispatched.keys().chain(self.failures.keys()).chain(self.levels.known_nodes());
        known.into_iter().all(|who| is_current(&self.record, who))
    }

    /// T-23: exactly the running steps in which this node takes part and whose number is newer than the last one.
    fn dispatch(&mut self) -> Result<Vec<SubsystemNotification>, String> {
        let mut fresh: Vec<(NodeIncarnation, Step)> = subjects(&self.record)
            .filter(|(_, step)| self.takes_part(step))
            .filter_map(|(subject, step)| Some((incarnation_of(&self.record, subject)?, step.clone())))
            .filter(|(who, step)| {
                let last = self
                    .dispatched
                    .get(who)
                    .filter(|last| last.id.transition == step.transition || !bugs::active(Bug::StatePerTransition));
                last.is_none_or(|last| is_newer(step.kind, &step.notification(), &last.id))
            })
            .collect();
        let own_join = |who: &NodeIncarnation, step: &Step| *who == self.me && joins(step.kind);
        fresh.sort_by_key(|(who, step)| !own_join(who, step));
        if bugs::active(Bug::BatchInPieces) {
            fresh.drain(..fresh.len().saturating_sub(1));
        }
        let mut batches: BTreeMap<Level, SubsystemNotification> = BTreeMap::new();
        for (who, step) in fresh {
            let notice = self.enter(who, &step)?;
            let record = &self.record;
            let notification = batches.entry(step.level).or_insert_with(|| SubsystemNotification {
                level: step.level,
                batch: Vec::new(),
                states: states(record, step.level),
                participants: step.participants,
                formation: record.formation,
            });
            notification.batch.push(notice);
        }
        Ok(batches.into_values().collect())
    }

    /// Participants are named by node; the record's entry tells which incarnation of it is meant.
    fn takes_part(&self, step: &Step) -> bool {
        let meant = self.record.nodes.get(&self.me.node).map(|entry| entry.incarnation);
        meant == Some(self.me.incarnation)
            && is_notified(&self.record, step)
            && step.participants.contains(self.me.node)
    }

    /// Moves the level's table by one notification.
    fn enter(&mut self, who: NodeIncarnation, step: &Step) -> Result<TransitionNotice, String> {
        let id = step.notification();
        self.accept_refusal(who, step);
        let arrival = self.arrival(who, step).ok_or_else(|| format!("step {id:?} of node {who} came out of order"))?;
        if self.own.deregistered().contains(&step.level) {
            return Err(format!("level {} of this node has left and is notified of node {who} (I-T10)", step.level));
        }
        if who == self.me && joins(step.kind) && step.barrier == 0 {
            self.levels.start(step.level, self.me, &self.record);
        }
        let renotification = self.levels.enter(step.level, who, step.kind, arrival)?;
        let last_barrier = step.barrier + 1 >= barriers(&self.record, step.level, step.kind);
        let progress = Progress::Processing;
        self.dispatched.insert(who, Dispatched { id, kind: step.kind, last_barrier, progress });
        let NodeIncarnation { node, incarnation } = who;
        Ok(TransitionNotice { id, node, incarnation, kind: step.kind, renotification })
    }

    /// T-24: the coordinator has given up a join that a subsystem here refuses; what follows comes without its acknowledgement.
    fn accept_refusal(&mut self, who: NodeIncarnation, step: &Step) {
        let follows = joins(step.kind) || step.kind == TransitionKind::Leaving;
        let refused =
            |last: &&mut Dispatched| matches!(last.progress, Progress::Failed { .. }) && joins(last.kind) && follows;
        let Some(last) = self.dispatched.get_mut(&who).filter(refused) else { return };
        last.progress = Progress::Ended(SubsystemAnswer::Acknowledged);
        let (level, kind, last_barrier) = (last.id.level, last.kind, last.last_barrier);
        self.levels.acknowledged(level, who, kind, last_barrier);
    }

    fn arrival(&self, who: NodeIncarnation, step: &Step) -> Option<Arrival> {
        let same_level = |last: &&Dispatched| last.id.transition == step.transition && last.id.level == step.level;
        let Some(last) = self.dispatched.get(&who).filter(same_level) else {
            return (step.barrier == 0).then_some(Arrival::First);
        };
        let acknowledged = matches!(last.progress, Progress::Ended(_));
        match (step.restart > last.id.restart, step.barrier) {
            (true, 0) => Some(Arrival::Restart),
            (false, barrier) if acknowledged && barrier == last.id.barrier + 1 => Some(Arrival::Next),
            (true | false, _) => None,
        }
    }

    fn answered(&mut self, answered: SubsystemAcknowledged, outputs: &mut Vec<AgentOutput>) {
        let who = answered.subject;
        let current = |last: &&mut Dispatched| last.id == answered.id && last.progress == Progress::Processing;
        let Some(last) = self.dispatched.get_mut(&who).filter(current) else {
            return; // Void: the notice was replaced or has its answer.
        };
        match &answered.answer {
            SubsystemAnswer::Failed { text } if who != self.me || !joins(last.kind) => {
                last.progress = Progress::Failed { text: text.clone(), again_at: None };
            }
            SubsystemAnswer::Acknowledged | SubsystemAnswer::Failed { .. } => {
                last.progress = Progress::Ended(answered.answer.clone());
                self.levels.acknowledged(answered.id.level, who, last.kind, last.last_barrier);
            }
        }
        outputs.push(AgentOutput::Acknowledge { to_term: self.seen().term, answers: vec![answered] });
    }

    /// T-21: a record that still shows a step as running asks for the answer again.
    fn repeat_answers(&self, outputs: &mut Vec<AgentOutput>) {
        let running = subjects(&self.record).filter(|(_, step)| self.takes_part(step));
        let answers: Vec<_> = running
            .filter_map(|(subject, step)| {
                let who = incarnation_of(&self.record, subject)?;
                let last = self.dispatched.get(&who).filter(|last| last.id == step.notification())?;
                last.answer(who)
            })
            .collect();
        if !answers.is_empty() {
            outputs.push(AgentOutput::Acknowledge { to_term: self.seen().term, answers });
        }
    }

    fn new_master(&mut self, from: NodeId, revision: Revision, outputs: &mut Vec<AgentOutput>) {
        if revision.term < self.seen().term {
            outputs.push(AgentOutput::Stale { seen: self.seen() });
            return;
        }
        self.promised = self.promised.max(revision);
        let steps = self.dispatched.iter().map(|(who, last)| (last.id, last.answer(*who))).collect();
        outputs.push(AgentOutput::Report { to: from, seen: self.seen(), steps });
    }
}

impl Dispatched {
    /// The answer to send, if there is one.
    fn answer(&self, subject: NodeIncarnation) -> Option<SubsystemAcknowledged> {
        let answer = match &self.progress {
            Progress::Processing if bugs::active(Bug::AcknowledgedBeforeAnswer) => SubsystemAnswer::Acknowledged,
            Progress::Processing => return None,
            Progress::Ended(_) if bugs::active(Bug::SecondAnswerDiffers) => {
                SubsystemAnswer::Failed { text: "said otherwise before".to_owned() }
            }
            Progress::Ended(answer) => answer.clone(),
            Progress::Failed { text, .. } => SubsystemAnswer::Failed { text: text.clone() },
        };
        Some(SubsystemAcknowledged { subject, id: self.id, answer })
    }
}

/// A node, or one level of it, joins.
const fn joins(kind: TransitionKind) -> bool {
    matches!(kind, TransitionKind::Joining | TransitionKind::JoinExtending)
}

/// Never, but for deliberate bugs.
fn takes_older_records() -> bool {
    [Bug::OrderByNumberOnly, Bug::StatePerTransition, Bug::OlderTermHeard].into_iter().any(bugs::active)
}

/// Levels of this node that its own leave has completed.
type Deregistered = BTreeSet<Level>;
