//! When two states of MC4 are the same: everything is left out that can make no difference any more.
//!
//! Left out: the number of commits (only who has news matters), what agents and subsystems remember of transitions that have ended,
//! everything of the dead but what they had begun, and acknowledgements that nothing can ask for.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::{NodeId, Revision, TransitionId};

use super::state::{Node, State, key};
use crate::invariants::{self, View};

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        without_revision(&self.disk).hash(state);
        (self.term, &self.unrecovered, self.budget, &self.violation).hash(state);
        self.master.hash(state);
        let open = self.open_transitions();
        for (id, node) in &self.nodes {
            self.hash_node(*id, node, &open, state);
        }
        let mut waiting: Vec<_> =
            self.acknowledgements.iter().map(|(from, answer)| (from, key(&answer.id), answer.subject)).collect();
        waiting.sort();
        waiting.hash(state);
        let running: BTreeSet<_> = invariants::running(&self.disk).map(|(_, step)| key(&step.notification())).collect();
        self.acknowledged.iter().filter(|(_, id)| running.contains(id)).for_each(|known| known.hash(state));
        self.log.iter().flatten().for_each(|record| without_revision(record).hash(state));
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let fingerprint = |state: &Self| {
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            hasher.finish()
        };
        fingerprint(self) == fingerprint(other)
    }
}

impl State {
    /// Transitions of the record, and those that some subsystem is still working on.
    fn open_transitions(&self) -> BTreeSet<TransitionId> {
        let recorded = invariants::subjects(&self.disk).map(|(_, step)| step.transition);
        let worked_on = self.nodes.values().flat_map(|node| node.work.values().map(|work| work.id.transition));
        recorded.chain(worked_on).collect()
    }

    fn hash_node<H: Hasher>(&self, id: NodeId, node: &Node, open: &BTreeSet<TransitionId>, state: &mut H) {
        (id, node.incarnation, node.alive).hash(state);
        node.begun.iter().filter(|(_, id)| open.contains(&id.transition)).for_each(|begun| begun.hash(state));
        if !node.alive {
            return;
        }
        let seen = node.agent.record().revision;
        let behind = self.log.iter().flatten().filter(|record| record.revision > seen).count();
        (node.wants_in, seen < self.disk.revision, behind, &node.work).hash(state);
        node.agent.hash_beside(&self.disk, state);
        let known = node.views.iter().filter(|(_, view)| **view != View::Inactive);
        known.for_each(|view| view.hash(state));
    }
}

fn without_revision(record: &MembershipRecord) -> MembershipRecord {
    MembershipRecord { revision: Revision::default(), ..record.clone() }
}
