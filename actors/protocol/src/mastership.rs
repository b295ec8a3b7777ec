//! Who should be master: follow, stand for election, or wait (protocol §3.4 `elect` steps 1-3, T-18 for a cold start).
//!
//! Decides from one reading of the registers and the newest committed record. The claim itself, and all safety, is the
//! Fenced Register Machine's: a wrong answer here costs a burnt term, never a second master.

use std::collections::BTreeMap;

use phalanx_messages::membership::{MemberEntry, MembershipRecord, NodeState};
use phalanx_messages::register::{Claim, ClaimPhase};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};

/// What one register says, and whether its lease may still be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Incarnation in the register.
    pub incarnation: Incarnation,
    /// Its claim of a membership term.
    pub claim: Claim,
    /// Its lease may still be valid (not `expired` in the sense of protocol §3.4).
    pub live: bool,
}

/// What to do about mastership now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// This node owns or claims the highest term.
    Lead,
    /// Follow this node, the owner or claimant of the highest live claim.
    Follow(NodeId),
    /// Stand for election after `rank` turns of two I/O time-outs each.
    Elect {
        /// Candidates with precedence.
        rank: u32,
    },
    /// Neither: members are alive and will elect one of theirs.
    Wait,
}

/// The course for `me`.
#[must_use]
pub fn course(
    me: NodeIncarnation,
    candidates: &BTreeMap<NodeId, Candidate>,
    record: Option<&MembershipRecord>,
) -> Course {
    if let Some(owner) = highest_live_claim(candidates) {
        return if owner == me.node { Course::Lead } else { Course::Follow(owner) };
    }
    let standing = |node: NodeId, candidate: &Candidate| {
        record
            .and_then(|record| record.nodes.get(&node))
            .map_or(Standing::Outsider, |entry| Standing::of(entry, candidate.incarnation))
    };
    let mut field: Vec<(Standing, NodeId)> = candidates
        .iter()
        .filter(|(node, candidate)| candidate.live || **node == me.node)
        .map(|(node, candidate)| (standing(*node, candidate), *node))
        .filter(|(standing, _)| *standing != Standing::ForcedOut)
        .collect();
    field.sort_unstable();
    let members_live = field.iter().any(|(standing, _)| standing.is_member());
    match field.iter().position(|(_, node)| *node == me.node) {
        // T-18: a node without an entry may form the cluster only if no member is left.
        Some(place) if members_live && !field[place].0.is_member() => Course::Wait,
        Some(place) => Course::Elect { rank: u32::try_from(place).unwrap_or(u32::MAX) },
        None => Course::Wait,
    }
}

/// Owner or claimant of the highest live claim. `Resigned` and `Withdrawn` are never live (protocol §3.4).
fn highest_live_claim(candidates: &BTreeMap<NodeId, Candidate>) -> Option<NodeId> {
    candidates
        .iter()
        .filter(|(_, candidate)| {
            candidate.live && matches!(candidate.claim.phase, ClaimPhase::Claim | ClaimPhase::Owner)
        })
        .max_by_key(|(node, candidate)| (candidate.claim.term, std::cmp::Reverse(**node)))
        .map(|(node, _)| *node)
}

/// Precedence in an election: joined members first, then other members, then the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Joined,
    InTransition,
    Outsider,
    ForcedOut,
}

impl Standing {
    fn of(entry: &MemberEntry, incarnation: Incarnation) -> Self {
        match entry.state {
            NodeState::ForcedLeaving if entry.incarnation >= incarnation => Self::ForcedOut,
            NodeState::Joined if entry.incarnation == incarnation => Self::Joined,
            NodeState::Joining | NodeState::Leaving if entry.incarnation == incarnation => Self::InTransition,
            NodeState::Inactive
            | NodeState::Joining
            | NodeState::Joined
            | NodeState::Leaving
            | NodeState::ForcedLeaving => Self::Outsider,
        }
    }

    fn is_member(self) -> bool {
        matches!(self, Self::Joined | Self::InTransition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::Term;

    fn candidate(term: u64, phase: ClaimPhase, live: bool) -> Candidate {
        Candidate { incarnation: Incarnation(1), claim: Claim { term: Term(term), phase, owned: Term(0) }, live }
    }

    fn me(node: u16) -> NodeIncarnation {
        NodeIncarnation { node: NodeId(node), incarnation: Incarnation(1) }
    }

    fn record(states: &[(u16, NodeState)]) -> MembershipRecord {
        let entry = |state| MemberEntry { incarnation: Incarnation(1), state, ..MemberEntry::default() };
        MembershipRecord {
            nodes: states.iter().map(|(node, state)| (NodeId(*node), entry(*state))).collect(),
            ..MembershipRecord::default()
        }
    }

    #[test]
    fn the_highest_live_claim_is_followed() {
        let field = BTreeMap::from([
            (NodeId(0), candidate(3, ClaimPhase::Owner, true)),
            (NodeId(1), candidate(4, ClaimPhase::Resigned, true)),
            (NodeId(2), candidate(5, ClaimPhase::Owner, false)),
        ]);
        assert_eq!(course(me(1), &field, None), Course::Follow(NodeId(0)));
        assert_eq!(course(me(0), &field, None), Course::Lead);
    }

    #[test]
    fn without_a_master_joined_members_go_first_by_id() {
        let field: BTreeMap<_, _> = (0..4).map(|n| (NodeId(n), candidate(1, ClaimPhase::Withdrawn, n != 1))).collect();
        let record = record(&[(0, NodeState::Joining), (1, NodeState::Joined), (2, NodeState::Joined)]);
        assert_eq!(course(me(2), &field, Some(&record)), Course::Elect { rank: 0 }, "node 1 is dead");
        assert_eq!(course(me(0), &field, Some(&record)), Course::Elect { rank: 1 });
        assert_eq!(course(me(3), &field, Some(&record)), Course::Wait, "members are alive");
    }

    /// Protocol T-18: all members of the old cluster are gone, so a node without an entry forms it anew.
    #[test]
    fn a_cold_start_is_for_whoever_is_there() {
        let field: BTreeMap<_, _> = (0..3).map(|n| (NodeId(n), candidate(1, ClaimPhase::Owner, false))).collect();
        let mut field = field;
        let fresh = Candidate { incarnation: Incarnation(2), ..candidate(0, ClaimPhase::None, true) };
        field.insert(NodeId(2), fresh);
        let record = record(&[(0, NodeState::Joined), (1, NodeState::Joined), (2, NodeState::Joined)]);
        let me = NodeIncarnation { node: NodeId(2), incarnation: Incarnation(2) };
        assert_eq!(course(me, &field, Some(&record)), Course::Elect { rank: 0 });
    }

    #[test]
    fn a_node_that_is_being_forced_out_never_stands() {
        let field: BTreeMap<_, _> = (0..2).map(|n| (NodeId(n), candidate(0, ClaimPhase::None, true))).collect();
        let record = record(&[(0, NodeState::ForcedLeaving), (1, NodeState::Joined)]);
        assert_eq!(course(me(0), &field, Some(&record)), Course::Wait);
        assert_eq!(course(me(1), &field, Some(&record)), Course::Elect { rank: 0 });
    }
}
