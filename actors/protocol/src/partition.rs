//! Links that fail while the disk is healthy: suspect rounds, and when the survivor rule is applied (protocol §4.1, §4.3).
//!
//! Whoever loses a peer begins a round: every node that sees its number in a register probes all its links at once, and publishes
//! its view with that number. The rule is applied to views of the newest round only, once they have not changed for `T_settle`;
//! a view that keeps changing is waited for three times, then no longer. That impatience is with the views: nobody is named for
//! what it cannot have published yet. To see a round, to probe, to publish and to be read takes 2 R + `T_net` and two operations
//! on the disk, which is more than `T_settle`: for so long a new round is waited for, and a new member is not judged. If it came
//! before the cut the choice waits for its view.
//!
//! Always holds: a node is named only if a link between two members that are alive on the disk is cut, and never while the
//! published views make one clique.
//!
//! Pure: it is told of lost peers and shown the registers.

use std::collections::BTreeMap;

use phalanx_messages::profile::TimingProfile;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId};

use crate::bugs::{self, Bug};
use crate::survivor::{View, is_whole, survivors};

/// Changes of the views that are waited for.
const RESTARTS_MAX: u8 = 3;

/// What a member that is alive on the disk has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its view.
    pub view: View,
    /// The round it carries.
    pub round: u64,
    /// The newest round that the member has announced.
    pub announced: u64,
}

/// What must be done about a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundOutput {
    /// Beat every link, and take one that is silent for `T_net` for lost.
    ProbeAll,
    /// Beat as usual again.
    ProbeAsUsual,
    /// Publish that this round has begun; the view is still of an older one.
    Announce {
        /// The round.
        round: u64,
    },
    /// Publish the view, with this number.
    Publish {
        /// The round.
        round: u64,
    },
}

/// Suspect rounds on one node.
#[derive(Debug, Clone)]
pub struct Rounds {
    net_ms: u64,
    newest: u64,
    /// The round whose probes are out, and since when.
    probing: Option<(u64, Instant)>,
}

impl Rounds {
    /// A node that knows of no round.
    #[must_use]
    pub const fn new(profile: TimingProfile) -> Self {
        Self { net_ms: profile.net_ms, newest: 0, probing: None }
    }

    /// No probes are out.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.probing.is_none()
    }

    /// A peer that is alive on the disk was lost. A round that has just begun is about it too.
    pub fn lost(&mut self, now: Instant) -> Vec<RoundOutput> {
        let fresh = self.probing.is_some_and(|(_, since)| now.since(since) < self.net_ms);
        if fresh { Vec::new() } else { self.begin(self.newest + 1, now) }
    }

    /// The newest round that a register shows.
    pub fn saw(&mut self, round: u64, now: Instant) -> Vec<RoundOutput> {
        if round > self.newest { self.begin(round, now) } else { Vec::new() }
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) -> Vec<RoundOutput> {
        match self.probing {
            Some((round, since)) if now.since(since) > self.net_ms => {
                self.probing = None;
                vec![RoundOutput::ProbeAsUsual, RoundOutput::Publish { round }]
            }
            Some(_) | None => Vec::new(),
        }
    }

    fn begin(&mut self, round: u64, now: Instant) -> Vec<RoundOutput> {
        self.newest = round;
        let renewed = self.probing.replace((round, now)).is_some();
        let announce = RoundOutput::Announce { round };
        if renewed { vec![announce] } else { vec![announce, RoundOutput::ProbeAll] }
    }
}

/// Views that do not make one clique, and since when they are so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unsettled {
    hears: BTreeMap<NodeId, NodeSet>,
    /// The cut was seen first.
    begun: Instant,
    /// The last change of the views that was waited for.
    since: Instant,
    restarts: u8,
}

/// When the survivor rule is applied, on whoever decides.
#[derive(Debug, Clone)]
pub struct Partition {
    settle_ms: u64,
    /// Within this everybody who can has probed in a round, and everybody who looks has read it.
    round_ms: u64,
    unsettled: Option<Unsettled>,
    /// Since when each member is one; none = this node has not decided anything yet, and knows nobody as a newcomer.
    members_since: Option<BTreeMap<NodeId, Instant>>,
    /// The newest round, and since when it is known.
    newest: (u64, Instant),
}

impl Partition {
    /// No link is known to be cut.
    #[must_use]
    pub const fn new(profile: TimingProfile) -> Self {
        Self {
            settle_ms: profile.settle_ms,
            round_ms: 2 * profile.renewal_ms + profile.net_ms + 2 * profile.io_timeout_ms,
            unsettled: None,
            members_since: None,
            newest: (0, Instant(0)),
        }
    }

    /// Who stays, once it is time to decide; none = nothing to decide, or not yet.
    pub fn decide(
        &mut self,
        members: &BTreeMap<NodeId, Published>,
        master: Option<NodeId>,
        now: Instant,
    ) -> Option<NodeSet> {
        let newcomers = self.newcomers(members, now);
        let newest = members.values().map(|published| published.announced).max().unwrap_or(0);
        if newest > self.newest.0 {
            self.newest = (newest, now);
        }
        let round_is_over = now.since(self.newest.1) >= self.round_ms;
        // Whoever has not probed in the newest round when the time is over is taken to hear nobody.
        let view = |published: &Published| {
            let deaf = round_is_over && published.round < newest;
            View { hears: if deaf { NodeSet::EMPTY } else { published.view.hears }, ..published.view }
        };
        let judged = || members.iter().filter(|(node, _)| !newcomers.contains(**node));
        let views: BTreeMap<NodeId, View> = judged().map(|(node, published)| (*node, view(published))).collect();
        let complete = round_is_over || judged().all(|(_, published)| published.round == newest);
        if is_whole(&views) {
            self.unsettled = None;
            return None;
        }
        let members: NodeSet = views.keys().copied().collect();
        let among = |hears: NodeSet| hears.iter().filter(|node| members.contains(*node)).collect::<NodeSet>();
        let hears: BTreeMap<NodeId, NodeSet> = views.iter().map(|(node, view)| (*node, among(view.hears))).collect();
        let unsettled =
            self.unsettled.get_or_insert(Unsettled { hears: hears.clone(), begun: now, since: now, restarts: 0 });
        if unsettled.hears != hears {
            unsettled.hears = hears;
            if unsettled.restarts < RESTARTS_MAX {
                unsettled.restarts += 1;
                unsettled.since = now;
            }
        }
        // Rounds that begin all the time are not waited for without end.
        let wait_ms = if complete { self.settle_ms } else { self.settle_ms + self.round_ms };
        // A member that came before the cut is one of those between whom the choice is made, so its view is waited for. Whoever comes
        // later is not, or joins would put the choice off for ever.
        let begun = unsettled.begun;
        let came_before =
            |node: &NodeId| self.members_since.iter().any(|since| since.get(node).is_some_and(|at| *at <= begun));
        let awaited = newcomers.iter().any(|node| came_before(&node));
        let settled = (now.since(unsettled.since) >= wait_ms && !awaited) || bugs::active(Bug::NoSettling);
        settled.then(|| survivors(&views, master).union(&newcomers))
    }

    /// Members whose links the others may not have published yet.
    fn newcomers(&mut self, members: &BTreeMap<NodeId, Published>, now: Instant) -> NodeSet {
        let first = if self.members_since.is_none() { Instant(0) } else { now };
        let since = self.members_since.get_or_insert_default();
        since.retain(|node, _| members.contains_key(node));
        for node in members.keys() {
            since.entry(*node).or_insert(first);
        }
        let round_ms = self.round_ms;
        since.iter().filter(|(_, since)| now.since(**since) < round_ms).map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: TimingProfile = TimingProfile::DEV; // T_net 750 ms, T_settle 1250 ms
    const T: Instant = Instant(1_000_000);

    fn published(hears: &[u16], round: u64) -> Published {
        let hears = hears.iter().map(|node| NodeId(*node)).collect();
        Published { view: View { joined: true, votes: 1, hears }, round, announced: round }
    }

    fn members(views: [Published; 3]) -> BTreeMap<NodeId, Published> {
        (0..).map(NodeId).zip(views).collect()
    }

    fn whole(round: u64) -> BTreeMap<NodeId, Published> {
        members([published(&[0, 1, 2], round), published(&[0, 1, 2], round), published(&[0, 1, 2], round)])
    }

    fn cut_off_2(round: u64) -> BTreeMap<NodeId, Published> {
        members([published(&[0, 1], round), published(&[0, 1], round), published(&[2], round)])
    }

    fn stay(nodes: &[u16]) -> Option<NodeSet> {
        Some(nodes.iter().map(|node| NodeId(*node)).collect())
    }

    #[test]
    fn a_cut_is_decided_when_the_views_have_settled() {
        let mut partition = Partition::new(PROFILE);
        assert_eq!(partition.decide(&whole(0), Some(NodeId(2)), T), None);
        assert_eq!(partition.decide(&cut_off_2(1), Some(NodeId(2)), T), None);
        assert_eq!(partition.decide(&cut_off_2(1), Some(NodeId(2)), T.plus(1_249)), None);
        assert_eq!(partition.decide(&cut_off_2(1), Some(NodeId(2)), T.plus(1_250)), stay(&[0, 1]));
    }

    /// A master was cut off ten milliseconds after a join, and stayed alone against two that heard each other: the newcomer's view was
    /// not there yet, and nobody waited for it.
    #[test]
    fn the_view_of_a_member_that_came_before_the_cut_is_waited_for() {
        let mut partition = Partition::new(PROFILE);
        let two = |round| (1..).map(NodeId).zip([published(&[0, 1, 2], round), published(&[0, 1, 2], round)]).collect();
        assert_eq!(partition.decide(&two(0), Some(NodeId(2)), T), None);
        assert_eq!(partition.decide(&whole(0), Some(NodeId(2)), T.plus(10)), None, "n0 joins");
        let round_ms = 2 * PROFILE.renewal_ms + PROFILE.net_ms + 2 * PROFILE.io_timeout_ms;
        for ms in (20..10 + round_ms + PROFILE.settle_ms).step_by(10) {
            assert_eq!(partition.decide(&cut_off_2(1), Some(NodeId(2)), T.plus(ms)), None, "{ms}");
        }
        let settled = T.plus(10 + round_ms + PROFILE.settle_ms);
        assert_eq!(partition.decide(&cut_off_2(1), Some(NodeId(2)), settled), stay(&[0, 1]));
    }

    #[test]
    fn links_that_come_back_in_time_cost_nobody() {
        let mut partition = Partition::new(PROFILE);
        assert_eq!(partition.decide(&cut_off_2(1), None, T), None);
        assert_eq!(partition.decide(&whole(1), None, T.plus(1_200)), None);
        assert_eq!(partition.decide(&cut_off_2(2), None, T.plus(1_300)), None, "the time begins anew");
    }

    #[test]
    fn views_that_keep_changing_are_waited_for_three_times() {
        let mut partition = Partition::new(PROFILE);
        let other = members([published(&[0, 1], 1), published(&[0, 1, 2], 1), published(&[1, 2], 1)]);
        let mut decided = 0;
        for turn in 0..5 {
            let views = if turn % 2 == 0 { cut_off_2(1) } else { other.clone() };
            decided += usize::from(partition.decide(&views, None, T.plus(turn * 1_000)).is_some());
        }
        assert_eq!(decided, 0, "the last restart was at 3 s");
        assert_eq!(partition.decide(&other, None, T.plus(4_250)), stay(&[0, 1]));
    }

    #[test]
    fn a_view_of_an_older_round_counts_as_hearing_nobody() {
        let mut partition = Partition::new(PROFILE);
        let late = members([published(&[0, 1, 2], 2), published(&[0, 1, 2], 2), published(&[0, 1, 2], 1)]);
        assert_eq!(partition.decide(&late, None, T), None);
        assert_eq!(
            partition.decide(&late, None, T.plus(2_250)),
            None,
            "2 R + T_net + 2 tau; now the views must settle"
        );
        assert_eq!(partition.decide(&late, None, T.plus(3_499)), None);
        assert_eq!(partition.decide(&late, None, T.plus(3_500)), stay(&[0, 1]));
    }

    /// Found by the simulator: the views had changed three times, and the newcomer had no time to probe in the round it found.
    #[test]
    fn a_newcomer_is_not_named_before_it_has_had_time_to_publish() {
        let mut partition = Partition::new(PROFILE);
        let two = |one: &[u16], other: &[u16], round| {
            (0..).map(NodeId).zip([published(one, round), published(other, round)]).collect::<BTreeMap<_, _>>()
        };
        let (cut, mended) = (two(&[0], &[0, 1], 1), two(&[0, 1], &[1], 1));
        for turn in 0..4 {
            let views = if turn % 2 == 0 { &cut } else { &mended };
            assert_eq!(partition.decide(views, None, T.plus(turn * 10)), None);
        }
        let joined = |hears_2: &[u16], round| {
            let newcomer = Published { announced: 1, ..published(&[0, 1, 2], round) };
            members([published(hears_2, 1), published(hears_2, 1), newcomer])
        };
        assert_eq!(partition.decide(&joined(&[0, 1], 0), None, T.plus(600)), None, "the two others hear each other");
        assert_eq!(partition.decide(&joined(&[0, 1], 0), None, T.plus(2_849)), None);
        assert_eq!(partition.decide(&joined(&[0, 1, 2], 1), None, T.plus(2_850)), None);
        let cut_off = joined(&[0, 1], 1);
        assert_eq!(partition.decide(&cut_off, None, T.plus(3_000)), None);
        assert_eq!(partition.decide(&cut_off, None, T.plus(4_250)), stay(&[0, 1]), "its time is over");
    }

    /// Found by the simulator: with the patience used up, a new round made everybody deaf in the moment in which it began.
    #[test]
    fn a_new_round_takes_nobodys_view_away_before_it_can_be_probed() {
        let mut partition = Partition::new(PROFILE);
        let views = |announced, deaf: &[u16]| {
            let published = |hears: &[u16]| Published { announced, ..published(hears, 1) };
            members([published(&[0, 1, 2]), published(&[0, 1, 2]), published(deaf)])
        };
        for turn in 0..5 {
            let deaf: &[u16] = if turn % 2 == 0 { &[2] } else { &[1, 2] };
            assert_eq!(partition.decide(&views(1, deaf), None, T.plus(turn * 10)), None);
        }
        assert_eq!(partition.decide(&views(2, &[0, 1, 2]), None, T.plus(1_300)), None, "every link stands");
        assert_eq!(
            partition.decide(&views(2, &[1, 2]), None, T.plus(1_400)),
            None,
            "cut again, with the patience of then"
        );
        assert_eq!(partition.decide(&views(2, &[1, 2]), None, T.plus(2_650)), None, "not everybody has probed");
        let probed = |deaf| views(2, deaf).into_iter().map(|(node, it)| (node, Published { round: 2, ..it })).collect();
        assert_eq!(partition.decide(&probed(&[1, 2]), None, T.plus(2_700)), stay(&[0, 1]));
    }

    #[test]
    fn rounds_that_begin_all_the_time_only_delay_the_rule() {
        let mut partition = Partition::new(PROFILE);
        let views = |announced| {
            let published = |hears: &[u16]| Published { announced, ..published(hears, 1) };
            members([published(&[0, 1]), published(&[0, 1]), published(&[2])])
        };
        let decided =
            (0..).map(|turn| turn * 500).find(|ms| partition.decide(&views(2 + ms), None, T.plus(*ms)).is_some());
        assert_eq!(decided, Some(3_500));
    }

    #[test]
    fn a_round_is_announced_probed_and_published_by_everybody_who_sees_it() {
        let (mut one, mut other) = (Rounds::new(PROFILE), Rounds::new(PROFILE));
        let begun = [RoundOutput::Announce { round: 1 }, RoundOutput::ProbeAll];
        assert_eq!(one.lost(T), begun);
        assert_eq!(one.lost(T.plus(100)), [], "the same round is about this peer too");
        assert_eq!(other.saw(1, T.plus(200)), begun);
        assert_eq!(other.saw(1, T.plus(300)), []);
        assert_eq!(one.tick(T.plus(750)), []);
        let ended = [RoundOutput::ProbeAsUsual, RoundOutput::Publish { round: 1 }];
        assert_eq!(one.tick(T.plus(751)), ended);
        assert_eq!(other.tick(T.plus(951)), ended);
        assert_eq!(one.tick(T.plus(2_000)), []);
        assert_eq!(one.lost(T.plus(3_000)), [RoundOutput::Announce { round: 2 }, RoundOutput::ProbeAll]);
    }
}
