//! The master's view of who must be forced out, and when a proof of death is to be sought (protocol §4.1, §4.6 step 0).
//!
//! A proof first; else silence on the disk; else, where links are cut between members that are alive on the disk, the survivor
//! rule over the views that they publish ([`crate::partition`]).
//!
//! Pure: it is told of connections and shown the registers, and it names victims. It never marks or fences anybody.

use std::collections::BTreeMap;

use phalanx_messages::membership::{FenceMethod, MembershipRecord, NodeState};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::OwnState;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation};

use crate::partition::{Partition, Published};
use crate::quorum::Quorum;
use crate::survivor::View;

/// What the shared disk says of one node right now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DiskSign {
    /// Incarnation in the register.
    pub incarnation: Incarnation,
    /// What it says of itself.
    pub own_state: OwnState,
    /// Silence of the register as seen by own successful reads, in milliseconds.
    pub silent_ms: u64,
    /// Nodes that it hears.
    pub hears: NodeSet,
    /// The suspect round that this view carries.
    pub round: u64,
    /// The newest suspect round that it has announced.
    pub announced_round: u64,
}

/// What follows from all signs at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Members to force out now, by ascending node id; never this node.
    pub victims: Vec<Verdict>,
    /// The survivor rule chose a side without this node: once the victims on its own side are marked, it must panic.
    pub abdicate: bool,
    /// Who is there once they are out: members, and nodes that are heard and want in. Without quorum nobody is forced out, so
    /// that those who are left wait instead of going on (protocol §4.4, I-F6).
    pub present: NodeSet,
}

impl Judgement {
    /// I-F6: whoever stays has quorum, or nobody goes.
    fn with_quorum(self, quorum: &Quorum) -> Self {
        if quorum.is_reached_by(&self.present) {
            return self;
        }
        Self { present: self.present, ..Self::default() }
    }
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
    partition: Partition,
}

impl Detector {
    /// A detector that has heard of nobody.
    #[must_use]
    pub const fn new(profile: TimingProfile) -> Self {
        Self { profile, links: BTreeMap::new(), partition: Partition::new(profile) }
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

    /// What the master `me` must do.
    #[must_use]
    pub fn judge(
        &mut self,
        now: Instant,
        me: NodeId,
        record: &MembershipRecord,
        disk: &BTreeMap<NodeId, DiskSign>,
        quorum: &Quorum,
    ) -> Judgement {
        let mut judgement = Judgement::default();
        let members = || record.nodes.iter().filter(|(_, entry)| is_unmarked_member(entry.state));
        for (node, entry) in members().filter(|(node, _)| **node != me) {
            let victim = NodeIncarnation { node: *node, incarnation: entry.incarnation };
            let cause = match disk.get(node) {
                Some(sign) => self.cause(now, victim, *sign),
                None => Some(("its register is unreadable".to_owned(), None)),
            };
            judgement.victims.extend(cause.map(|(reason, proof)| Verdict { victim, reason, proof }));
        }
        let doomed = |node: &NodeId| judgement.victims.iter().any(|verdict| verdict.victim.node == *node);
        let published = members().filter(|(node, _)| !doomed(node)).filter_map(|(node, entry)| {
            let sign = disk.get(node).filter(|sign| sign.incarnation == entry.incarnation && self.is_fresh(sign))?;
            let view =
                View { joined: entry.state == NodeState::Joined, votes: quorum.of_node(*node), hears: sign.hears };
            Some((*node, Published { view, round: sign.round, announced: sign.announced_round }))
        });
        let published: BTreeMap<NodeId, Published> = published.collect();
        let Some(staying) = self.partition.decide(&published, Some(me), now) else {
            judgement.present = members().map(|(node, _)| *node).filter(|node| !doomed(node)).collect();
            judgement.present = judgement.present.union(&self.newcomers(record));
            return judgement.with_quorum(quorum);
        };
        for node in published.keys().filter(|node| !staying.contains(**node) && **node != me) {
            let victim = NodeIncarnation { node: *node, incarnation: record.nodes[node].incarnation };
            let reason = "links are cut, and the survivor rule chose others".to_owned();
            judgement.victims.push(Verdict { victim, reason, proof: None });
        }
        judgement.victims.sort_by_key(|verdict| verdict.victim);
        judgement.abdicate = published.contains_key(&me) && !staying.contains(me);
        judgement.present = if judgement.abdicate { staying } else { staying.union(&self.newcomers(record)) };
        judgement.with_quorum(quorum)
    }

    /// Nodes that are heard with an incarnation that the record does not have: neither a member, nor a victim that still talks, nor
    /// one that has left.
    fn newcomers(&self, record: &MembershipRecord) -> NodeSet {
        let newcomer = |(node, link): &(&NodeId, &Link)| {
            let known = record.nodes.get(node).map(|entry| entry.incarnation);
            let known = known.max(record.ghosts.get(node).map(|ghost| ghost.incarnation));
            link.down_since.is_none() && known.is_none_or(|known| link.incarnation > known)
        };
        self.links.iter().filter(newcomer).map(|(node, _)| *node).collect()
    }

    /// Its view may be used: it renews as it should (protocol §4.3).
    const fn is_fresh(&self, sign: &DiskSign) -> bool {
        sign.silent_ms <= self.profile.renewal_ms + 2 * self.profile.io_timeout_ms
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
        None
    }
}

const fn is_unmarked_member(state: NodeState) -> bool {
    matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
    use phalanx_messages::membership::MemberEntry;

    const ME: NodeId = NodeId(0);
    const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };
    const T: Instant = Instant(100_000);

    fn record(state: NodeState) -> MembershipRecord {
        let entry = MemberEntry { incarnation: N1.incarnation, state, ..MemberEntry::default() };
        MembershipRecord { nodes: [(ME, entry.clone()), (N1.node, entry)].into(), ..MembershipRecord::default() }
    }

    /// The verdict over N1, whose connection closed at `T`, so much later; the master has published whom it hears.
    fn verdict_after(down_ms: Option<u64>, sign: DiskSign) -> Option<(String, Option<FenceMethod>)> {
        let mut detector = Detector::new(TimingProfile::DEV);
        detector.up(N1);
        if down_ms.is_some() {
            detector.down(N1, T);
        }
        let hears: NodeSet = if down_ms.is_some() { [ME] } else { [N1.node] }.into_iter().collect();
        let own = DiskSign { incarnation: N1.incarnation, own_state: OwnState::Member, hears, ..DiskSign::default() };
        let disk = [(ME, own), (N1.node, sign)].into();
        if down_ms.is_some() && sign.silent_ms < 500 {
            let early = detector.judge(T, ME, &record(NodeState::Joined), &disk, &Quorum::default());
            assert!(early.victims.iter().all(|verdict| verdict.proof.is_some()), "nothing is settled yet");
        }
        let now = T.plus(down_ms.unwrap_or(60_000));
        let judgement = detector.judge(now, ME, &record(NodeState::Joined), &disk, &Quorum::default());
        assert!(judgement.victims.iter().all(|verdict| verdict.victim == N1) && !judgement.abdicate);
        judgement.victims.into_iter().next().map(|verdict| (verdict.reason, verdict.proof))
    }

    fn sign(own_state: OwnState, silent_ms: u64) -> DiskSign {
        let hears = [ME].into_iter().collect();
        DiskSign { incarnation: N1.incarnation, own_state, silent_ms, hears, ..DiskSign::default() }
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
        assert_eq!(verdict_after(Some(1_249), healthy), None);
        assert!(verdict_after(Some(1_250), healthy).unwrap().0.contains("survivor rule"));
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
            let judgement = detector.judge(T, ME, &record(state), &disk, &Quorum::default());
            assert!(judgement.victims.is_empty() && !judgement.abdicate);
        }
        let judgement = detector.judge(T, ME, &record(NodeState::Leaving), &disk, &Quorum::default());
        assert_eq!((judgement.victims.len(), judgement.present), (1, [ME].into_iter().collect()));
    }

    /// `count` joined nodes; those of `left` hear each other, and so do the others. This node hears them all on its own link.
    fn split(count: u16, left: &[u16]) -> (MembershipRecord, BTreeMap<NodeId, DiskSign>, Detector) {
        let entry = MemberEntry { incarnation: N1.incarnation, state: NodeState::Joined, ..MemberEntry::default() };
        let nodes = (0..count).map(|id| (NodeId(id), entry.clone())).collect();
        let side = |id: u16| -> NodeSet {
            (0..count).filter(|other| left.contains(&id) == left.contains(other)).map(NodeId).collect()
        };
        let sign = |id: u16| DiskSign { hears: side(id), ..sign(OwnState::Member, 100) };
        let mut detector = Detector::new(TimingProfile::DEV);
        (1..count).for_each(|id| detector.up(NodeIncarnation { node: NodeId(id), incarnation: N1.incarnation }));
        let record = MembershipRecord { nodes, ..MembershipRecord::default() };
        (record, (0..count).map(|id| (NodeId(id), sign(id))).collect(), detector)
    }

    fn settled(count: u16, left: &[u16], quorum: &Quorum) -> (Vec<u16>, bool, Vec<u16>) {
        let (record, disk, mut detector) = split(count, left);
        let early = detector.judge(T, ME, &record, &disk, quorum);
        assert!(early.victims.is_empty() && !early.abdicate, "nothing is settled yet");
        let Judgement { victims, abdicate, present } = detector.judge(T.plus(1_250), ME, &record, &disk, quorum);
        let ids = |set: NodeSet| set.iter().map(|node| node.0).collect();
        (ids(victims.iter().map(|verdict| verdict.victim.node).collect()), abdicate, ids(present))
    }

    /// Protocol §4.3: the master of the smaller side names those who are with it, and must go itself.
    #[test]
    fn a_master_on_the_losing_side_abdicates_after_its_own_side_is_marked() {
        assert_eq!(settled(5, &[0, 1], &Quorum::default()), (vec![1], true, vec![2, 3, 4]));
    }

    /// I-F6, protocol §4.4: a survivor set without quorum forces nobody out, and its master does not go either.
    #[test]
    fn the_survivor_rule_needs_quorum() {
        let majority = |nodes: u16| {
            let node = |id: u16| (NodeId(id), NodeConfiguration::new(format!("n{id}"), format!("h:{id}")));
            let nodes = (0..nodes).map(node).collect();
            Quorum::of(&ConfigurationRecord { disk_votes: Some(0), nodes, ..ConfigurationRecord::default() })
        };
        assert_eq!(settled(5, &[0, 1], &majority(5)), (vec![1], true, vec![2, 3, 4]));
        assert_eq!(settled(5, &[0, 1, 2], &majority(5)), (vec![3, 4], false, vec![0, 1, 2]));
        assert_eq!(settled(4, &[0, 1], &majority(4)), (vec![], false, vec![0, 1]), "half is no majority");
        assert_eq!(settled(4, &[0, 1], &majority(5)), (vec![], false, vec![0, 1]), "one of five is down");
        assert_eq!(settled(4, &[0], &majority(7)), (vec![], false, vec![1, 2, 3]), "nor is the master to go");
    }

    /// Protocol §4.4: who is heard and wants in counts; who is lost does not, and without quorum stays a member.
    #[test]
    fn present_are_the_members_that_stay_and_the_nodes_that_want_in() {
        let mut detector = Detector::new(TimingProfile::DEV);
        detector.up(NodeIncarnation { incarnation: N1.incarnation.next(), ..N1 });
        detector.up(NodeIncarnation { node: NodeId(2), incarnation: Incarnation(1) });
        detector.up(NodeIncarnation { node: NodeId(3), incarnation: Incarnation(1) });
        detector.down(NodeIncarnation { node: NodeId(3), incarnation: Incarnation(1) }, T);
        let again = DiskSign { incarnation: N1.incarnation.next(), ..sign(OwnState::Booting, 0) };
        let disk = [(ME, sign(OwnState::Member, 0)), (N1.node, again)].into();
        let judgement = detector.judge(T, ME, &record(NodeState::Joined), &disk, &Quorum::default());
        assert_eq!(judgement.victims.len(), 1, "its old start");
        assert_eq!(judgement.present.iter().map(|node| node.0).collect::<Vec<_>>(), [0, 1, 2]);
    }

    /// I-F6: whoever was marked, or has left, may be heard for a while and has no vote any more.
    #[test]
    fn a_victim_that_still_talks_does_not_count() {
        for state in [NodeState::ForcedLeaving, NodeState::Inactive] {
            let mut detector = Detector::new(TimingProfile::DEV);
            detector.up(N1);
            let disk = [(ME, sign(OwnState::Member, 0)), (N1.node, sign(OwnState::Member, 0))].into();
            let mut record = record(state);
            record.nodes.get_mut(&ME).unwrap().state = NodeState::Joined;
            let present = detector.judge(T, ME, &record, &disk, &Quorum::default()).present;
            assert_eq!(present, [ME].into_iter().collect(), "{state:?}");
        }
    }

    #[test]
    fn a_late_down_of_an_old_incarnation_changes_nothing() {
        let mut detector = Detector::new(TimingProfile::DEV);
        detector.up(NodeIncarnation { incarnation: N1.incarnation.next(), ..N1 });
        detector.down(N1, T);
        assert!(detector.hears(N1.node));
    }
}
