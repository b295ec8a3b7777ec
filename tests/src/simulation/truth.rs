//! What really happened: who runs, what was written and committed, what subsystems did. The invariants are judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::membership::{MembershipRecord, NodeState, StepPhase};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_messages::register::{NodeRegister, Pill};
use phalanx_messages::{Level, NodeId, NodeIncarnation, NotificationId, Revision, Term, TransitionId};

use super::clock::Micros;
use super::invariants as own;
use super::service_truth::ServiceTruth;
use crate::invariants::{self, Unrecovered};

/// A step as a place in a set; it says nothing of what came first.
pub type StepKey = (TransitionId, Level, u8, u32);

/// The step as a place in a set.
#[must_use]
pub const fn key(id: &NotificationId) -> StepKey {
    (id.transition, id.level, id.barrier, id.restart)
}

/// A membership record that somebody has given to the disk.
#[derive(Debug, Clone)]
pub struct Written {
    /// What.
    pub record: Arc<MembershipRecord>,
    /// The write has completed.
    pub completed: bool,
}

/// What follows from a record that a node holds for committed.
#[derive(Debug, Default)]
pub struct Seen {
    /// Nobody knew it before.
    pub is_new: bool,
    /// What is wrong.
    pub broken: Vec<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every record ever given to the disk, by revision.
    pub written: BTreeMap<Revision, Written>,
    /// Records that some node holds for committed, and what was unrecovered then.
    committed: BTreeMap<Revision, (Arc<MembershipRecord>, Unrecovered)>,
    /// The record that the first one of each term was loaded from.
    pub bases: BTreeMap<Term, Revision>,
    /// Who owns each term.
    pub owners: BTreeMap<Term, NodeIncarnation>,
    pub running: BTreeSet<NodeIncarnation>,
    powered_off: BTreeSet<NodeIncarnation>,
    /// Incarnations of which the certainty that nothing of them is written any more was committed.
    pub io_certain: BTreeSet<NodeIncarnation>,
    /// Incarnations that were marked.
    pub marked: BTreeSet<NodeIncarnation>,
    acknowledged: BTreeSet<(NodeIncarnation, StepKey)>,
    /// Steps that a node has said its subsystem has done.
    pub said_done: BTreeSet<(NodeIncarnation, StepKey)>,
    /// Steps of committed records that were to be notified.
    pub steps: BTreeSet<StepKey>,
    unrecovered: Unrecovered,
    /// Of client services.
    pub services: ServiceTruth,
    /// When the mark of an incarnation was committed.
    marked_at: BTreeMap<NodeIncarnation, Micros>,
}

impl Truth {
    /// A start of a node has found out who it is.
    pub fn runs(&mut self, who: NodeIncarnation) -> Vec<String> {
        self.running.insert(who);
        own::t11_one_start_at_a_time::check(who, self)
    }

    /// Its process is gone, and nothing of it is written any more.
    pub fn died(&mut self, who: NodeIncarnation) {
        self.running.remove(&who);
    }

    /// No process of that incarnation runs, and no service.
    #[must_use]
    pub fn is_dead(&self, who: NodeIncarnation) -> bool {
        !self.running.contains(&who) && self.services.services_of(who).is_empty()
    }

    /// The kernel that it ran in is gone.
    #[must_use]
    pub fn was_powered_off(&self, who: NodeIncarnation) -> bool {
        self.powered_off.contains(&who)
    }

    /// The newest record that somebody holds for committed.
    #[must_use]
    pub fn newest(&self) -> Arc<MembershipRecord> {
        self.committed.last_key_value().map(|(_, (record, _))| Arc::clone(record)).unwrap_or_default()
    }

    /// Victims whose death is not certain yet.
    #[must_use]
    pub fn unproved_victims(&self) -> Vec<NodeIncarnation> {
        let record = self.newest();
        let entries = record.nodes.iter().filter(|(_, entry)| entry.state == NodeState::ForcedLeaving);
        let entries = entries.filter(|(_, entry)| !entry.fence.death_certain);
        let entries = entries.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation });
        let ghosts = record.ghosts.iter().filter(|(_, ghost)| !ghost.fence.death_certain);
        let ghosts = ghosts.map(|(node, ghost)| NodeIncarnation { node: *node, incarnation: ghost.incarnation });
        entries.chain(ghosts).collect()
    }

    /// When the mark of that incarnation was committed, if it was.
    #[must_use]
    pub fn marked_at(&self, who: NodeIncarnation) -> Option<Micros> {
        self.marked_at.get(&who).copied()
    }

    /// Members in the newest record, without those that are marked.
    #[must_use]
    pub fn members(&self) -> Vec<NodeIncarnation> {
        let Some((_, (record, _))) = self.committed.last_key_value() else { return Vec::new() };
        let member = |state| matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
        let entries = record.nodes.iter().filter(|(_, entry)| member(entry.state));
        entries.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation }).collect()
    }

    /// A subsystem of that incarnation has really acknowledged that step.
    pub fn acknowledged(&mut self, who: NodeIncarnation, id: &NotificationId) {
        self.acknowledged.insert((who, key(id)));
    }

    /// Whether it has.
    #[must_use]
    pub fn has_acknowledged(&self, who: NodeIncarnation, id: &NotificationId) -> bool {
        self.acknowledged.contains(&(who, key(id)))
    }

    /// A register write begins; `before` is what the register said last.
    pub fn register_written(&self, node: NodeId, register: &NodeRegister, before: &NodeRegister) -> Vec<String> {
        let mut found = own::m6_nothing_goes_back::check(node, register, before);
        found.extend(own::f7_one_writer_at_a_time::check(node, register, before, self));
        found
    }

    /// A membership record is given to the disk. `base` is what its owner had loaded.
    pub fn record_written(
        &mut self,
        by: NodeIncarnation,
        record: &Arc<MembershipRecord>,
        base: Revision,
    ) -> Vec<String> {
        let revision = record.revision;
        let mut found = own::f2_nothing_lands_after_certainty::check(by, self, "a membership record");
        found.extend(own::m1_one_owner_of_a_term::check(by, revision.term, self));
        self.owners.entry(revision.term).or_insert(by);
        if revision.seq == 0 {
            found.extend(own::m2_one_chain::check_base(record, base, self));
            self.bases.insert(revision.term, base);
        }
        if self.written.contains_key(&revision) {
            found.push(format!("I-M2: record {revision} is written twice"));
        }
        self.written.insert(revision, Written { record: Arc::clone(record), completed: false });
        found
    }

    /// That write has completed.
    pub fn record_completed(&mut self, revision: Revision) {
        if let Some(written) = self.written.get_mut(&revision) {
            written.completed = true;
        }
    }

    /// A node tells others a record.
    pub fn record_told(&self, node: NodeId, record: &MembershipRecord) -> Vec<String> {
        own::m3_persist_then_tell::check_record(node, record, self)
    }

    /// A node orders a death.
    pub fn pill_published(&self, node: NodeId, pill: &Pill) -> Vec<String> {
        own::m3_persist_then_tell::check_pill(node, pill, self)
    }

    /// A node holds a record for committed.
    pub fn record_seen(&mut self, record: &Arc<MembershipRecord>, now: Micros) -> Seen {
        let mut seen = Seen::default();
        let revision = record.revision;
        if let Some((known, _)) = self.committed.get(&revision) {
            if known != record {
                seen.broken.push(format!("I-M2: two records of revision {revision} are held for committed"));
            }
            return seen;
        }
        seen.is_new = true;
        seen.broken.extend(own::m3_persist_then_tell::check_seen(record, self));
        seen.broken.extend(own::m2_one_chain::check_commit(revision, self));
        let before = self.newest();
        if revision > before.revision {
            self.follow(&before, record, &mut seen.broken);
        }
        for who in &self.marked {
            self.marked_at.entry(*who).or_insert(now);
        }
        self.committed.insert(revision, (Arc::clone(record), self.unrecovered.clone()));
        seen
    }

    fn follow(&mut self, before: &MembershipRecord, record: &MembershipRecord, found: &mut Vec<String>) {
        let acknowledged = |who, id: NotificationId| self.acknowledged.contains(&(who, key(&id)));
        found.extend(invariants::of_commit(before, record, &acknowledged));
        found.extend(invariants::t23_no_join_above_unrecovered(&mut self.unrecovered, before, record, false));
        found.extend(own::f3_certainly_dead_is_dead::check(record, self));
        found.extend(own::f5_the_marked_never_join::check(record, self));
        found.extend(own::t17_reversal_from_where_it_was::check(before, record));
        found.extend(own::t7_no_join_beside_its_own_recovery::check(record, self));
        for (node, entry) in &record.nodes {
            let who = NodeIncarnation { node: *node, incarnation: entry.incarnation };
            if entry.fence.marked {
                self.marked.insert(who);
            }
            if entry.fence.io_certain {
                self.io_certain.insert(who);
            }
        }
        for (node, ghost) in &record.ghosts {
            let who = NodeIncarnation { node: *node, incarnation: ghost.incarnation };
            self.marked.insert(who);
            if ghost.fence.io_certain {
                self.io_certain.insert(who);
            }
        }
        let running = invariants::subjects(record).filter(|(_, step)| step.phase == StepPhase::Notifying);
        self.steps.extend(running.map(|(_, step)| key(&step.notification())));
    }

    /// The subsystems of a node are notified.
    pub fn notified(&self, who: NodeIncarnation, notification: &SubsystemNotification) -> Vec<String> {
        own::t4_only_committed_steps::check(who, notification, self)
    }

    /// A node tells the master what its subsystems have answered.
    pub fn answers_sent(&mut self, who: NodeIncarnation, answers: &[SubsystemAcknowledged]) -> Vec<String> {
        let found = own::t13_one_answer::check(who, answers, self);
        let done = answers.iter().filter(|answer| answer.answer == SubsystemAnswer::Acknowledged);
        self.said_done.extend(done.map(|answer| (who, key(&answer.id))));
        found
    }

    /// A node takes itself for the owner of that term.
    pub fn leads(&self, who: NodeIncarnation, term: Term) -> Vec<String> {
        own::m1_one_owner_of_a_term::check(who, term, self)
    }

    /// A write of data takes effect on the shared disk.
    pub fn data_landed(&self, who: NodeIncarnation) -> Vec<String> {
        own::f2_nothing_lands_after_certainty::check(who, self, "a write of data")
    }

    /// Power was lost: steps of membership that were not durable are as if they had never been (protocol §1.3).
    pub fn power_lost(&mut self, newest: Revision) {
        self.committed.retain(|revision, _| *revision <= newest);
        self.unrecovered =
            self.committed.last_key_value().map(|(_, (_, unrecovered))| unrecovered.clone()).unwrap_or_default();
        let record = self.newest();
        for (node, entry) in &record.nodes {
            self.powered_off.insert(NodeIncarnation { node: *node, incarnation: entry.incarnation });
        }
        for (node, ghost) in &record.ghosts {
            self.powered_off.insert(NodeIncarnation { node: *node, incarnation: ghost.incarnation });
        }
        // Marks and certainties that are lost are made again: the dead stay dead.
        let is_victim = |who: &NodeIncarnation| {
            let entry = record.nodes.get(&who.node).filter(|entry| entry.incarnation == who.incarnation);
            entry.is_none_or(|entry| entry.fence.marked)
        };
        self.marked.retain(is_victim);
        let marked = &self.marked;
        self.marked_at.retain(|who, _| marked.contains(who));
    }
}

impl Truth {
    /// Somebody holds it for committed.
    #[must_use]
    pub fn is_committed(&self, revision: Revision) -> bool {
        self.committed.contains_key(&revision)
    }

    /// Somebody holds a record of that term for committed.
    #[must_use]
    pub fn is_committed_term(&self, term: Term) -> bool {
        let begin = Revision { term, seq: 0 };
        self.committed.range(begin..).next().is_some_and(|(revision, _)| revision.term == term)
    }
}
