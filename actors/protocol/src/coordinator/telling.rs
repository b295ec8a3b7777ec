//! Who is told what, and when again (protocol T-1, T-21, T-23, §3.6).

use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeIncarnation, Revision};

use super::{Coordinator, CoordinatorOutput, Gather, unmarked_members};

/// Whoever is awaited is told again after this time (protocol T-21).
const TELL_AGAIN_MS: u64 = 1_000;

impl Coordinator {
    /// The record in flight is committed: everybody it concerns may know it now.
    pub(super) fn committed(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        let Some(record) = self.in_flight.take() else { return };
        let before = std::mem::replace(&mut self.committed, record);
        self.forget_old_answers();
        self.expel_marked(&before, outputs);
        // Who has just left must hear that it has; it acknowledges nothing any more.
        let to = unmarked_members(&self.committed).union(&left_since(&before, &self.committed));
        self.tell(to, outputs);
        let own = self.committed.nodes.get(&self.me.node);
        let left = own.is_some_and(|e| {
            e.incarnation == self.me.incarnation && e.state == NodeState::Inactive && e.leave_requested
        });
        if left {
            self.handed_over = true;
            outputs.push(CoordinatorOutput::HandOver);
        }
    }

    fn expel_marked(&self, before: &MembershipRecord, outputs: &mut Vec<CoordinatorOutput>) {
        for (node, entry) in &self.committed.nodes {
            let marked = entry.state == NodeState::ForcedLeaving;
            let known = before.nodes.get(node).is_some_and(|entry| entry.state == NodeState::ForcedLeaving);
            if marked && !known {
                let victim = NodeIncarnation { node: *node, incarnation: entry.incarnation };
                outputs.push(CoordinatorOutput::Expel { victim });
            }
        }
    }

    pub(super) fn tell(&mut self, to: NodeSet, outputs: &mut Vec<CoordinatorOutput>) {
        if to.is_empty() {
            return;
        }
        if let Some(now) = self.now {
            self.told_at.extend(to.iter().map(|node| (node, now)));
        }
        outputs.push(CoordinatorOutput::Notify { to, record: Box::new(self.committed.clone()) });
    }

    /// A request was repeated: the committed record is its answer, if it already shows it.
    pub(super) fn tell_again(&mut self, who: NodeIncarnation, outputs: &mut Vec<CoordinatorOutput>) {
        if self.committed.nodes.get(&who.node).is_some_and(|entry| entry.incarnation == who.incarnation) {
            self.tell([who.node].into_iter().collect(), outputs);
        }
    }

    /// §3.6: members promise to follow, and running steps are told again with the same ids.
    pub(super) fn tell_new_master(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        let to = self.unreported;
        if !to.is_empty() {
            outputs.push(CoordinatorOutput::NewMaster { to });
            self.tell(to, outputs);
        }
        self.forget_old_answers();
    }

    /// A sign of life of a member that has not processed the newest record.
    pub(super) fn seen(&mut self, from: NodeIncarnation, revision: Revision, outputs: &mut Vec<CoordinatorOutput>) {
        let behind = revision < self.committed.revision && unmarked_members(&self.committed).contains(from.node);
        if behind && self.is_due(from.node) {
            self.tell_again(from, outputs);
        }
    }

    fn is_due(&self, node: phalanx_messages::NodeId) -> bool {
        let told = self.told_at.get(&node);
        self.now.is_some_and(|now| told.is_none_or(|told| now.since(*told) >= TELL_AGAIN_MS))
    }

    pub(super) fn ticked(&mut self, now: Instant, outputs: &mut Vec<CoordinatorOutput>) {
        self.now = Some(now);
        self.gather = match self.gather {
            Gather::Begun => Gather::Until(now.plus(self.join_gather_ms)),
            Gather::Until(end) if end <= now => Gather::Off,
            other @ (Gather::Off | Gather::Until(_)) => other,
        };
        let silent: NodeSet = self.unreported.iter().filter(|node| self.is_due(*node)).collect();
        if !silent.is_empty() {
            outputs.push(CoordinatorOutput::NewMaster { to: silent });
        }
        let awaited = self.awaited_now(now).union(&silent);
        let due: NodeSet = awaited.iter().filter(|node| self.is_due(*node)).collect();
        self.tell(due, outputs);
        self.warn_of_slow(now, outputs);
    }
}

/// Nodes whose graceful leave has ended with this record.
fn left_since(before: &MembershipRecord, now: &MembershipRecord) -> NodeSet {
    let left = |(node, entry): (&phalanx_messages::NodeId, &phalanx_messages::membership::MemberEntry)| {
        let was = before.nodes.get(node).is_some_and(|entry| entry.state != NodeState::Inactive);
        (was && entry.state == NodeState::Inactive && entry.leave_requested).then_some(*node)
    };
    now.nodes.iter().filter_map(left).collect()
}
