//! Who is told of what, when, and again (protocol T-1, T-20, T-21, T-23, §3.6).

use phalanx_messages::membership::{MembershipRecord, NodeState, Step};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId, NodeIncarnation, Revision};

use super::level_states::{Subject, incarnation_of, is_notified, step_of, subjects, unmarked_members, victims};
use super::{Coordinator, CoordinatorOutput, Gather};

/// What is not acknowledged is sent again after this long (protocol T-21).
const RESEND_MS: u64 = 1_000;

impl Coordinator {
    /// The outstanding record is committed: now, and not before, others may know.
    pub(super) fn committed(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        let Some(record) = self.in_flight.take() else {
            let reason = "a commit completed that this coordinator did not ask for".to_owned();
            outputs.push(CoordinatorOutput::Panic { reason });
            return;
        };
        let before = std::mem::replace(&mut self.committed, record);
        self.note_changed_levels(&before);
        let marked = |record: &MembershipRecord, subject| victims(record).any(|victim| victim.subject == subject);
        for victim in victims(&self.committed).filter(|victim| !marked(&before, victim.subject)) {
            if let Some(victim) = incarnation_of(&self.committed, victim.subject) {
                outputs.push(CoordinatorOutput::Expel { victim });
            }
        }
        self.notify(concerned(&before, &self.committed), outputs);
        let own = self.committed.nodes.get(&self.me.node).filter(|entry| entry.incarnation == self.me.incarnation);
        if own.is_some_and(|entry| entry.state == NodeState::Inactive) {
            self.handed_over = true;
            outputs.push(CoordinatorOutput::HandOver);
        }
    }

    /// Sends the newest committed record.
    fn notify(&mut self, to: NodeSet, outputs: &mut Vec<CoordinatorOutput>) {
        if to.is_empty() {
            return;
        }
        if let Some(now) = self.now {
            self.told_at.extend(to.iter().map(|node| (node, now)));
        }
        outputs.push(CoordinatorOutput::Notify { to, record: self.committed.clone() });
    }

    /// §3.6 steps 3 and 5: ask for promises, then send what is running with the same numbers.
    pub(super) fn tell_new_master(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        if self.unreported.is_empty() {
            return;
        }
        outputs.push(CoordinatorOutput::NewMaster { to: self.unreported });
        let awaited = self.all_awaited();
        self.notify(awaited, outputs);
    }

    fn all_awaited(&self) -> NodeSet {
        let running: Vec<Subject> = subjects(&self.committed).map(|(subject, _)| subject).collect();
        running.into_iter().fold(NodeSet::EMPTY, |all, subject| all.union(&self.awaited(subject)))
    }

    /// Answers a repeated request with the committed record, or with the expulsion it has missed.
    pub(super) fn tell_again(&mut self, who: NodeIncarnation, outputs: &mut Vec<CoordinatorOutput>) {
        let entry = self.committed.nodes.get(&who.node).filter(|entry| entry.incarnation == who.incarnation);
        match entry.map(|entry| entry.state) {
            None => {} // Not committed yet: it will be told when it is.
            Some(NodeState::ForcedLeaving) => outputs.push(CoordinatorOutput::Expel { victim: who }),
            Some(NodeState::Inactive | NodeState::Joining | NodeState::Joined | NodeState::Leaving) => {
                self.notify([who.node].into_iter().collect(), outputs);
            }
        }
    }

    pub(super) fn seen(&mut self, from: NodeIncarnation, revision: Revision, outputs: &mut Vec<CoordinatorOutput>) {
        if revision < self.committed.revision && self.is_due(from.node) {
            self.tell_again(from, outputs);
        }
    }

    fn is_due(&self, node: NodeId) -> bool {
        let now = self.now.unwrap_or_default();
        self.told_at.get(&node).is_none_or(|told| now.since(*told) >= RESEND_MS)
    }

    pub(super) fn ticked(&mut self, now: Instant, outputs: &mut Vec<CoordinatorOutput>) {
        let first = self.now.is_none();
        self.now = Some(now);
        if first {
            // What was sent before the first tick was sent just now.
            self.told_at.extend(self.all_awaited().union(&self.unreported).iter().map(|node| (node, now)));
        }
        self.gather = match self.gather {
            Gather::Begun => Gather::Until(now.plus(self.gather_ms)),
            Gather::Until(until) if until <= now => {
                self.settled = false;
                Gather::Off
            }
            Gather::Off | Gather::Until(_) => self.gather,
        };
        self.send_again(outputs);
        self.look_for_overdue_steps(now, outputs);
    }

    fn send_again(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        let due = |set: NodeSet| set.iter().filter(|node| self.is_due(*node)).collect::<NodeSet>();
        let (silent, awaited) = (due(self.unreported), due(self.all_awaited()));
        if !silent.is_empty() {
            outputs.push(CoordinatorOutput::NewMaster { to: silent });
        }
        if let Some(now) = self.now {
            self.told_at.extend(silent.iter().map(|node| (node, now)));
        }
        self.notify(awaited, outputs);
    }
}

/// Who must hear of a commit at once: the participants of each step that it starts, and every member (and whoever has just
/// left) if the state of a node, its levels, what is certain of it, or the configuration has changed, or a transition has ended.
fn concerned(before: &MembershipRecord, record: &MembershipRecord) -> NodeSet {
    let started = |(subject, step): &(Subject, &Step)| {
        let known = step_of(before, *subject);
        is_notified(record, step) && known.is_none_or(|known| known != *step)
    };
    let mut to = subjects(record).filter(started).fold(NodeSet::EMPTY, |to, (_, step)| to.union(&step.participants));
    let changed = |(node, entry): &(&NodeId, &phalanx_messages::membership::MemberEntry)| {
        let known = before.nodes.get(node);
        known.is_none_or(|known| {
            (known.state, known.fence, known.incarnation) != (entry.state, entry.fence, entry.incarnation)
                || known.levels != entry.levels
                || (known.step.is_some() && entry.step.is_none())
        })
    };
    let changed: Vec<NodeId> = record.nodes.iter().filter(changed).map(|(node, _)| *node).collect();
    let reconfigured = before.configuration != record.configuration;
    if reconfigured || !changed.is_empty() || before.ghosts.keys().ne(record.ghosts.keys()) {
        to = to.union(&unmarked_members(record));
        let left = |node: &NodeId| record.nodes.get(node).is_some_and(|entry| entry.leave_requested);
        to.extend(changed.into_iter().filter(left));
    }
    to
}
