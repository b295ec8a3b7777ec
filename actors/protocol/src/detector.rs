//! The master's view of who must be forced out, and when a proof of death is to be sought (protocol §4.1, §4.6 step 0).
//!
//! First cut: a proof first; else silence on the disk; else silence on the interconnect, where the master's side stays. The
//! survivor rule over published views (protocol §4.3) replaces the last part when it comes.
//!
//! Pure: it is told of connections and shown the registers, and it names victims. It never marks or fences anybody.

use std::collections::BTreeMap;

use phalanx_messages::membership::{FenceMethod, MembershipRecord, NodeState};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::OwnState;
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation};

/// What the shared disk says of one node right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSign {
    /// Incarnation in the register.
    pub incarnation: Incarnation,
    /// What it says of itself.
    pub own_state: OwnState,
    /// Silence of the register as seen by own successful reads, in milliseconds.
    pub silent_ms: u64,
}

/// A member that must be forced out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Who.
    pub victim: NodeIncarnation,
    /// Why, for the administrator.
    pub reason: String,
    /// Its death is already proved.
    pub proof: Option<FenceMethod>,
}

/// Connection state of one peer incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    incarnation: Incarnation,
    /// Since when it is not connected; `None` = connected.
    down_since: Option<Instant>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Detector {
    profile: TimingProfile,
    links: BTreeMap<NodeId, Link>,
}

impl Detector {
    /// A detector that has heard of nobody.
    #[must_use]
    pub const fn new(profile: TimingProfile) -> Self {
        Self { profile, links: BTreeMap::new() }
    }

    /// An authenticated connection to `peer` stands.
    pub fn up(&mut self, peer: NodeIncarnation) {
        self.links.insert(peer.node, Link { incarnation: peer.incarnation, down_since: None });
    }

    /// The last connection to `peer` closed, or nothing was heard of it for `T_net`.
    pub fn down(&mut self, peer: NodeIncarnation, now: Instant) {
        let link = Link { incarnation: peer.incarnation, down_since: Some(now) };
        match self.links.get(&peer.node) {
            Some(known) if known.incarnation > peer.incarnation || *known == link => {}
            Some(_) | None => {
                self.links.insert(peer.node, link);
            }
        }
    }

    /// True if `peer` is connected.
    #[must_use]
    pub fn hears(&self, peer: NodeId) -> bool {
        self.links.get(&peer).is_some_and(|link| link.down_since.is_none())
    }

    /// Members to force out now, by ascending node id. `me` is the master and never a victim here.
    #[must_use]
    pub fn verdicts(
        &mut self,
        now: Instant,
        me: NodeId,
        record: &MembershipRecord,
        disk: &BTreeMap<NodeId, DiskSign>,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (node, entry) in record.nodes.iter().filter(|(node, _)| **node != me) {
            if !matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving) {
                continue;
            }
            let victim = NodeIncarnation { node: *node, incarnation: entry.incarnation };
            let cause = match disk.get(node) {
                Some(sign) => self.cause(now, victim, *sign),
                None => Some(("its register is unreadable".to_owned(), None)),
            };
            verdicts.extend(cause.map(|(reason, proof)| Verdict { victim, reason, proof }));
        }
        verdicts
    }

    fn cause(
        &mut self,
        now: Instant,
        victim: NodeIncarnation,
        sign: DiskSign,
    ) -> Option<(String, Option<FenceMethod>)> {
        if sign.incarnation == victim.incarnation && sign.own_state == OwnState::DeadDrained {
            return Some(("its processes are dead".to_owned(), Some(FenceMethod::OwnWord)));
        }
        if sign.incarnation > victim.incarnation {
            // 3.7 step 0: the new incarnation started only after it had killed and counted the old one's processes.
            return Some(("it was started again".to_owned(), Some(FenceMethod::NewIncarnation)));
        }
        if sign.silent_ms >= self.profile.takeover_ms() {
            return Some((format!("no sign of life on the disk for {} ms", sign.silent_ms), None));
        }
        // A peer that never connected to a new master counts from the moment the master first asks.
        let link =
            self.links.entry(victim.node).or_insert(Link { incarnation: victim.incarnation, down_since: Some(now) });
        let down_ms = now.since(link.down_since?);
        // Closed connection, and neither the warden's word nor a renewal within 2 W: both processes died or froze.
        let word_due_ms = 2 * self.profile.watchdog_ms;
        if down_ms >= word_due_ms && sign.silent_ms >= word_due_ms {
            return Some((format!("connection closed and nothing on the disk for {} ms", sign.silent_ms), None));
        }
        let patience_ms = self.profile.net_ms + self.profile.settle_ms;
        (down_ms >= patience_ms && sign.silent_ms < self.profile.renewal_ms + 2 * self.profile.io_timeout_ms)
            .then(|| (format!("not reachable over the interconnect for {down_ms} ms"), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::membership::MemberEntry;

    const ME: NodeId = NodeId(0);
    const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };
    const T: Instant = Instant(100_000);

    fn record(state: NodeState) -> MembershipRecord {
        let entry = MemberEntry { incarnation: N1.incarnation, state, ..MemberEntry::default() };
        MembershipRecord { nodes: [(ME, entry.clone()), (N1.node, entry)].into(), ..MembershipRecord::default() }
    }

    fn verdict_after(down_ms: Option<u64>, sign: DiskSign) -> Option<(String, Option<FenceMethod>)> {
        let mut detector = Detector::new(TimingProfile::DEV);
        detector.up(N1);
        if down_ms.is_some() {
            detector.down(N1, T);
        }
        let now = T.plus(down_ms.unwrap_or(60_000));
        let verdicts = detector.verdicts(now, ME, &record(NodeState::Joined), &[(N1.node, sign)].into());
        assert!(verdicts.iter().all(|verdict| verdict.victim == N1));
        verdicts.into_iter().next().map(|verdict| (verdict.reason, verdict.proof))
    }

    fn sign(own_state: OwnState, silent_ms: u64) -> DiskSign {
        DiskSign { incarnation: N1.incarnation, own_state, silent_ms }
    }

    #[test]
    fn the_word_of_the_warden_is_a_proof_at_once() {
        let (_, proof) = verdict_after(Some(0), sign(OwnState::DeadDrained, 0)).unwrap();
        assert_eq!(proof, Some(FenceMethod::OwnWord));
        let newer = DiskSign { incarnation: N1.incarnation.next(), ..sign(OwnState::Booting, 0) };
        assert_eq!(verdict_after(None, newer).unwrap().1, Some(FenceMethod::NewIncarnation));
    }

    /// Protocol §4.1, rows "ok/ok", "lost/ok", "ok/silent" and "lost/silent".
    #[test]
    fn silence_costs_membership_only_after_the_time_of_the_profile() {
        let healthy = sign(OwnState::Member, 400);
        assert_eq!(verdict_after(None, healthy), None);
        assert_eq!(verdict_after(Some(1_999), healthy), None);
        assert!(verdict_after(Some(2_000), healthy).unwrap().0.contains("interconnect"));
        assert_eq!(verdict_after(None, sign(OwnState::Member, 2_053)), None);
        assert!(verdict_after(None, sign(OwnState::Member, 2_055)).unwrap().0.contains("disk"));
        assert_eq!(verdict_after(Some(1_999), sign(OwnState::Member, 2_000)), None);
        let (reason, proof) = verdict_after(Some(2_000), sign(OwnState::Member, 2_000)).unwrap();
        assert!(reason.contains("connection closed") && proof.is_none());
    }

    #[test]
    fn nobody_is_forced_out_twice_and_the_master_never_by_itself() {
        let mut detector = Detector::new(TimingProfile::DEV);
        let dead = sign(OwnState::DeadDrained, 9_000);
        let disk = [(ME, dead), (N1.node, dead)].into();
        for state in [NodeState::Inactive, NodeState::ForcedLeaving] {
            assert_eq!(detector.verdicts(T, ME, &record(state), &disk), []);
        }
        assert_eq!(detector.verdicts(T, ME, &record(NodeState::Leaving), &disk).len(), 1);
    }

    #[test]
    fn a_late_down_of_an_old_incarnation_changes_nothing() {
        let mut detector = Detector::new(TimingProfile::DEV);
        detector.up(NodeIncarnation { incarnation: N1.incarnation.next(), ..N1 });
        detector.down(N1, T);
        assert!(detector.hears(N1.node));
    }
}
