//! When a master may write the register of a dead node in its place (protocol §3.8).
//!
//! A register whose two slots are unreadable is an unknown claim: it suspends every commit. A live node heals its own within two
//! renewals, so one whose bytes stay the same for `T_fence` belongs to a node that has not renewed since. It is written anew if that
//! node is certainly dead by the committed record: out of the membership, or forced out with the certainty of its death.
//!
//! What always holds: what is written says that the node may have owned every term seen so far (`owned`), and an incarnation that it
//! never had, so nothing that it ever claimed is forgotten (I-M6).
//!
//! Never: judges a death by the silence alone (that needs attested deadlines), or touches a register that can be read.
//! Pure: time and readings are inputs.

use std::collections::BTreeMap;

use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister, OwnState};
use phalanx_messages::{Incarnation, Instant, NodeId, Term};

/// Added to the highest incarnation on record if the register itself was never read here: starts that never joined.
const UNSEEN_STARTS: u64 = 1_000;

/// What was seen of one unreadable register.
#[derive(Debug, Clone, Copy)]
struct Watched {
    /// Of its bytes.
    digest: u32,
    /// End of the first look that found these bytes.
    since: Instant,
    /// End of the last one.
    last: Instant,
}

/// A register that is to be written in place of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Whose.
    pub node: NodeId,
    /// The bytes that are to be there still.
    pub digest: u32,
    /// What is written.
    pub register: NodeRegister,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct ProxyRepair {
    profile: TimingProfile,
    watched: BTreeMap<NodeId, Watched>,
    /// Highest incarnation read from each register.
    incarnations: BTreeMap<NodeId, Incarnation>,
    /// Highest term read from any register.
    term: Term,
}

impl ProxyRepair {
    /// One that has seen nothing.
    #[must_use]
    pub const fn new(profile: TimingProfile) -> Self {
        Self { profile, watched: BTreeMap::new(), incarnations: BTreeMap::new(), term: Term(0) }
    }

    /// A reading of all registers. Gives those that cannot be read and are to be looked at.
    pub fn read(&mut self, registers: &BTreeMap<NodeId, Option<NodeRegister>>) -> Vec<NodeId> {
        for (node, register) in registers {
            let Some(register) = register else { continue };
            self.watched.remove(node);
            let highest = self.incarnations.entry(*node).or_default();
            *highest = register.incarnation.max(*highest);
            self.term = self.term.max(register.claim.term).max(register.claim.owned);
        }
        registers.iter().filter(|(_, register)| register.is_none()).map(|(node, _)| *node).collect()
    }

    /// A look at an unreadable register, from `begun` to `ended`; no digest if it could be read after all.
    pub fn looked(&mut self, node: NodeId, begun: Instant, ended: Instant, digest: Option<u32>) {
        let Some(digest) = digest else {
            self.watched.remove(&node);
            return;
        };
        let window_ms = 2 * self.profile.renewal_ms;
        let watched = self.watched.entry(node).or_insert(Watched { digest, since: ended, last: ended });
        // Whoever was not looking has not seen that it stayed the same.
        if watched.digest != digest || begun.since(watched.last) > window_ms {
            *watched = Watched { digest, since: ended, last: ended };
        }
        watched.last = watched.last.max(ended);
    }

    /// True if a register has been unreadable for so long that the record is to be asked.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.watched.values().any(|watched| self.has_rested(watched, now))
    }

    /// What the owner of the highest term, with a valid lease, writes now, if `record` is the newest committed one.
    #[must_use]
    pub fn due(&self, now: Instant, record: &MembershipRecord) -> Vec<Repair> {
        let rested = self.watched.iter().filter(|(_, watched)| self.has_rested(watched, now));
        let dead = rested.filter(|(node, _)| is_dead(record, **node));
        dead.map(|(node, watched)| Repair {
            node: *node,
            digest: watched.digest,
            register: self.register(*node, record),
        })
        .collect()
    }

    fn has_rested(&self, watched: &Watched, now: Instant) -> bool {
        now.since(watched.last) <= 2 * self.profile.renewal_ms
            && watched.last.since(watched.since) >= self.profile.fence_ms()
    }

    fn register(&self, node: NodeId, record: &MembershipRecord) -> NodeRegister {
        let entry = record.nodes.get(&node).map_or(Incarnation(0), |entry| entry.incarnation);
        let ghost = record.ghosts.get(&node).map_or(Incarnation(0), |ghost| ghost.incarnation);
        let recorded = entry.max(ghost);
        let incarnation = match self.incarnations.get(&node) {
            Some(read) => recorded.max(*read),
            None => Incarnation(recorded.0 + UNSEEN_STARTS),
        };
        let term = self.term.max(record.revision.term);
        NodeRegister {
            incarnation,
            own_state: OwnState::DeadDrained,
            claim: Claim { term, phase: ClaimPhase::Withdrawn, owned: term },
            ..NodeRegister::default()
        }
    }
}

/// Nothing of the node is left, by what is committed.
fn is_dead(record: &MembershipRecord, node: NodeId) -> bool {
    let entry = record.nodes.get(&node).is_none_or(|entry| match entry.state {
        NodeState::Inactive => true,
        NodeState::ForcedLeaving => entry.fence.io_certain && entry.fence.death_certain,
        NodeState::Joining | NodeState::Joined | NodeState::Leaving => false,
    });
    let ghost = record.ghosts.get(&node);
    entry && ghost.is_none_or(|ghost| ghost.fence.io_certain && ghost.fence.death_certain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::Revision;
    use phalanx_messages::membership::{FenceState, MemberEntry};

    const N0: NodeId = NodeId(0);
    const N1: NodeId = NodeId(1);
    const PROFILE: TimingProfile = TimingProfile::DEV; // R = 500 ms
    const T: Instant = Instant(1_000_000);

    fn record(state: NodeState, fence: FenceState) -> MembershipRecord {
        let entry = MemberEntry { incarnation: Incarnation(4), state, fence, ..MemberEntry::default() };
        let revision = Revision { term: Term(6), seq: 9 };
        MembershipRecord { revision, nodes: [(N1, entry)].into(), ..MembershipRecord::default() }
    }

    fn master() -> NodeRegister {
        let claim = Claim { term: Term(7), phase: ClaimPhase::Owner, owned: Term(7) };
        NodeRegister { incarnation: Incarnation(2), claim, ..NodeRegister::default() }
    }

    /// Reads and looks every 500 ms from `from` to `to`.
    fn unreadable(repair: &mut ProxyRepair, from: u64, to: u64, digest: u32) {
        for at in (from..=to).step_by(500) {
            let registers = [(N0, Some(master())), (N1, None)].into();
            assert_eq!(repair.read(&registers), [N1]);
            repair.looked(N1, T.plus(at), T.plus(at + 1), Some(digest));
        }
    }

    /// Row 28: "both NB slots of a dead node rot: SUSPEND until proxy repair".
    #[test]
    fn fault_28_the_register_of_a_dead_node_is_written_for_it_after_t_fence() {
        let mut repair = ProxyRepair::new(PROFILE);
        let dead = record(NodeState::Inactive, FenceState::default());
        let rest = PROFILE.fence_ms().next_multiple_of(500);
        unreadable(&mut repair, 0, rest - 500, 5);
        assert!(repair.due(T.plus(rest - 499), &dead).is_empty() && !repair.is_due(T.plus(rest - 499)));
        unreadable(&mut repair, rest, rest, 5);
        let due = repair.due(T.plus(rest + 1), &dead);
        let claim = Claim { term: Term(7), phase: ClaimPhase::Withdrawn, owned: Term(7) };
        let register = NodeRegister {
            incarnation: Incarnation(1_004),
            own_state: OwnState::DeadDrained,
            claim,
            ..NodeRegister::default()
        };
        assert_eq!(due, [Repair { node: N1, digest: 5, register }]);
        assert!(!repair.is_due(T.plus(rest + 1_002)), "nobody has looked since");
        repair.looked(N1, T.plus(rest + 500), T.plus(rest + 501), None);
        assert!(repair.due(T.plus(rest + 502), &dead).is_empty(), "it was healed");
    }

    #[test]
    fn only_a_death_that_is_certain_by_the_record_counts() {
        let mut repair = ProxyRepair::new(PROFILE);
        let known = NodeRegister { incarnation: Incarnation(9), ..NodeRegister::default() };
        repair.read(&[(N1, Some(known))].into());
        let rest = PROFILE.fence_ms().next_multiple_of(500);
        unreadable(&mut repair, 0, rest, 5);
        let due = |record: &MembershipRecord| repair.due(T.plus(rest + 1), record);
        for state in [NodeState::Joining, NodeState::Joined, NodeState::Leaving] {
            assert!(due(&record(state, FenceState::default())).is_empty(), "{state:?}");
        }
        let marked = FenceState { marked: true, ..FenceState::default() };
        assert!(due(&record(NodeState::ForcedLeaving, marked)).is_empty());
        let stored = FenceState { io_certain: true, ..marked };
        assert!(due(&record(NodeState::ForcedLeaving, stored)).is_empty(), "its processes may live");
        let certain = FenceState { death_certain: true, ..stored };
        let repaired = due(&record(NodeState::ForcedLeaving, certain));
        assert_eq!(repaired[0].register.incarnation, Incarnation(9), "the newest start that was ever read");
        assert_eq!(due(&MembershipRecord::default()).len(), 1, "it never joined");
    }

    #[test]
    fn bytes_that_change_and_looks_that_are_missing_begin_the_wait_anew() {
        let mut repair = ProxyRepair::new(PROFILE);
        let dead = record(NodeState::Inactive, FenceState::default());
        let rest = PROFILE.fence_ms().next_multiple_of(500);
        unreadable(&mut repair, 0, rest - 500, 5);
        unreadable(&mut repair, rest, 2 * rest - 500, 6);
        assert!(repair.due(T.plus(2 * rest - 499), &dead).is_empty(), "somebody writes it");
        unreadable(&mut repair, 2 * rest + 1_000, 3 * rest, 6);
        assert!(repair.due(T.plus(3 * rest + 1), &dead).is_empty(), "nobody looked for longer than two renewals");
        unreadable(&mut repair, 3 * rest + 500, 3 * rest + 1_500, 6);
        assert_eq!(repair.due(T.plus(3 * rest + 1_501), &dead).len(), 1);
    }
}
