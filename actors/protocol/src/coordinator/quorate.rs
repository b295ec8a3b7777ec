//! Nobody is marked and nobody is let in without quorum (protocol §4.4, I-F6). What runs goes on: leaves, acknowledgements, and
//! the recovery of those who were marked while there was quorum.

use phalanx_messages::membership::{FenceMethod, MemberEntry, NodeState};
use phalanx_messages::peer::JoinRefusal;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, NodeIncarnation};

use super::level_states::unmarked_members;
use super::{Coordinator, CoordinatorOutput};
use crate::bugs::{self, Bug};
use crate::detector::Verdict;
use crate::quorum::Quorum;

impl Coordinator {
    /// Whose votes count, if that was ever said.
    #[must_use]
    pub const fn present(&self) -> Option<NodeSet> {
        self.present
    }

    /// False while the cluster waits for more votes.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.present.is_none_or(|present| self.quorum.is_reached_by(&present))
    }

    pub(super) fn is_present(&mut self, quorum: Quorum, present: NodeSet, outputs: &mut Vec<CoordinatorOutput>) {
        (self.quorum, self.present) = (quorum, Some(present));
        self.take_votes_of_the_gone();
        let reached = self.has_quorum();
        if reached == self.waits_for_votes {
            self.waits_for_votes = !reached;
            let (votes, needed) = self.quorum.count(&self.present.unwrap_or_default());
            outputs.push(CoordinatorOutput::Quorum { reached, votes, needed });
        }
    }

    /// Whoever is marked or has left by a record that is not committed yet: the detector still sees a member there. Not who was
    /// started again, because its new incarnation is heard.
    pub(super) fn take_votes_of_the_gone(&mut self) {
        let member = |entry: &MemberEntry| !matches!(entry.state, NodeState::Inactive | NodeState::ForcedLeaving);
        let is_gone = |(node, entry): &(&NodeId, &MemberEntry)| {
            let again = entry.fence.method == Some(FenceMethod::NewIncarnation);
            !member(entry) && !again && self.committed.nodes.get(node).is_some_and(member)
        };
        let gone: NodeSet = self.draft.nodes.iter().filter(is_gone).map(|(node, _)| *node).collect();
        self.present = self.present.map(|present| present.difference(&gone));
    }

    /// Those who would be left without these nodes have quorum, so the nodes may be forced out.
    #[must_use]
    pub fn may_lose(&self, nodes: &NodeSet) -> bool {
        self.present.is_none_or(|present| self.quorum.is_reached_by(&present.difference(nodes)))
            || bugs::active(Bug::MarkedWithoutQuorum)
    }

    /// Marks all of them or, without quorum, none. What is proved of those who are marked already counts in any case.
    pub(super) fn force_all(&mut self, victims: Vec<Verdict>) {
        let members = unmarked_members(&self.draft);
        let marks = |victim: &NodeIncarnation| {
            let entry = self.draft.nodes.get(&victim.node).filter(|entry| entry.incarnation == victim.incarnation);
            entry.is_some() && members.contains(victim.node) && victim.node != self.me.node
        };
        let lost: NodeSet =
            victims.iter().map(|verdict| verdict.victim).filter(marks).map(|victim| victim.node).collect();
        let may_mark = self.may_lose(&lost);
        for verdict in victims.into_iter().filter(|verdict| may_mark || !lost.contains(verdict.victim.node)) {
            self.force(verdict);
        }
    }

    /// Somebody is marked or let in by a record that is not committed yet. The votes do not change beside that.
    #[must_use]
    pub fn decides(&self) -> bool {
        let decided = |(node, entry): (&NodeId, &MemberEntry)| {
            let known = self.committed.nodes.get(node).filter(|known| known.incarnation == entry.incarnation);
            let was = known.map_or(NodeState::Inactive, |known| known.state);
            matches!(entry.state, NodeState::Joining | NodeState::ForcedLeaving) && entry.state != was
        };
        self.draft.nodes.iter().any(decided)
    }

    /// E_NO_QUORUM of T-14: with the joiner's own vote there are still too few.
    pub(super) fn check_quorum(&self, joiner: NodeId) -> Result<(), JoinRefusal> {
        let Some(mut present) = self.present else { return Ok(()) };
        present.insert(joiner);
        if self.quorum.is_reached_by(&present) {
            return Ok(());
        }
        let (votes, needed) = self.quorum.count(&present);
        Err(JoinRefusal::NoQuorum { votes, needed })
    }
}
