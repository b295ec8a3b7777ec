//! What a record says of this node itself: joined, left, or out (protocol §5.5, L-3, T-16, T-18), and which levels it has.

use std::collections::BTreeSet;

use phalanx_messages::membership::{LevelState, MemberEntry, MembershipRecord, NodeState};
use phalanx_messages::{Level, NodeIncarnation};

use super::{AgentOutput, Deregistered};
use crate::bugs::{self, Bug};
use crate::coordinator::level_states::entry_state;

/// What this node has been told of itself so far.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct OwnEntry {
    joined: bool,
    left: bool,
    /// Its levels in the newest record.
    levels: BTreeSet<Level>,
    deregistered: Deregistered,
}

impl OwnEntry {
    /// The newest record has this level of this node.
    pub fn has(&self, level: Level) -> bool {
        self.levels.contains(&level)
    }

    /// Levels that have completed this node's leave, and have not joined again.
    pub const fn deregistered(&self) -> &Deregistered {
        &self.deregistered
    }

    /// Learns a newer record; true if this node is out of the cluster, one way or the other.
    pub fn learn(&mut self, me: NodeIncarnation, record: &MembershipRecord, outputs: &mut Vec<AgentOutput>) -> bool {
        if let Some(reason) = self.expelled(me, record) {
            outputs.push(AgentOutput::Panic { reason });
            return true;
        }
        let Some(entry) = record.nodes.get(&me.node).filter(|entry| entry.incarnation == me.incarnation) else {
            return false;
        };
        if entry.state != NodeState::Inactive {
            self.learn_levels(entry, outputs);
        }
        match entry.state {
            NodeState::Joined if !self.joined => {
                self.joined = true;
                outputs.push(AgentOutput::Joined);
            }
            NodeState::Leaving => {
                let left = |level: &Level| entry_state(entry, *level) == LevelState::Inactive;
                for level in entry.levels.iter().rev().copied().filter(left) {
                    if self.deregistered.insert(level) {
                        outputs.push(AgentOutput::Deregistered(level));
                    }
                }
            }
            NodeState::Inactive if bugs::active(Bug::OutcastLivesOn) && !entry.leave_requested => {}
            NodeState::Inactive => {
                if !self.left {
                    self.left = true;
                    let last = |level: &&Level| !level.is_built_in() && !self.deregistered.contains(level);
                    outputs.extend(self.levels.iter().filter(last).map(|level| AgentOutput::Deregistered(*level)));
                    outputs.push(AgentOutput::Left);
                }
                return true;
            }
            NodeState::Joined | NodeState::Joining | NodeState::ForcedLeaving => {}
        }
        false
    }

    /// T-16 for a level that has left alone, and T-15 for one that comes again.
    fn learn_levels(&mut self, entry: &MemberEntry, outputs: &mut Vec<AgentOutput>) {
        let levels: BTreeSet<Level> = entry.levels.iter().copied().collect();
        for level in self.levels.difference(&levels) {
            if self.deregistered.insert(*level) {
                outputs.push(AgentOutput::Deregistered(*level));
            }
        }
        if entry.state == NodeState::Joined {
            self.deregistered.retain(|level| !levels.contains(level));
        }
        self.levels = levels;
    }

    /// Why this node must panic, if it must.
    fn expelled(&self, me: NodeIncarnation, record: &MembershipRecord) -> Option<String> {
        let ghost = record.ghosts.get(&me.node).filter(|ghost| ghost.incarnation >= me.incarnation);
        if let Some(ghost) = ghost.filter(|_| !bugs::active(Bug::GhostIgnored) && !bugs::active(Bug::OutcastLivesOn)) {
            return Some(format!("the cluster was formed without this node: {}", ghost.reason));
        }
        let entry = record.nodes.get(&me.node).filter(|entry| entry.incarnation >= me.incarnation)?;
        if entry.incarnation > me.incarnation {
            return Some(format!("incarnation {} of this node is active", entry.incarnation));
        }
        match entry.state {
            NodeState::ForcedLeaving => Some(format!("forced out: {}", entry.reason)),
            NodeState::Inactive if bugs::active(Bug::OutcastLivesOn) => None,
            NodeState::Inactive if !entry.leave_requested => Some(format!("was forced out: {}", entry.reason)),
            NodeState::Inactive | NodeState::Joining | NodeState::Joined | NodeState::Leaving => None,
        }
    }
}
