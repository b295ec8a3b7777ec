//! What a record says of this node itself: joined, left, or out (protocol §5.5, L-3, T-16, T-18).

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::{LevelState, MembershipRecord, NodeState};

use super::{AgentOutput, Deregistered};
use crate::bugs::{self, Bug};
use crate::coordinator::level_states::entry_state;

/// What this node has been told of itself so far.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct OwnEntry {
    joined: bool,
    left: bool,
    deregistered: Deregistered,
}

impl OwnEntry {
    /// Levels that have completed this node's leave.
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
        match entry.state {
            NodeState::Joined if !self.joined => {
                self.joined = true;
                outputs.push(AgentOutput::Joined);
            }
            NodeState::Leaving => {
                let left = |level: &phalanx_messages::Level| entry_state(entry, *level) == LevelState::Inactive;
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
                    outputs.push(AgentOutput::Left);
                }
                return true;
            }
            NodeState::Joined | NodeState::Joining | NodeState::ForcedLeaving => {}
        }
        false
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
