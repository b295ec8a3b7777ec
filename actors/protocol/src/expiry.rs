//! When a register's silence means that its lease has ended (protocol §3.4, `expired`).
//!
//! A register is silent while its incarnation and heartbeat stay the same, counted from the END of the first read that
//! returned them. The own reads must have succeeded at least every 2 R in that time: whoever was not looking (frozen, disk
//! stalled) has not seen silence, so the window starts again.
//!
//! Always holds: a register is never called expired earlier than D(L) after the first read of its present value, unless its
//! node is down by its own word or by proof.
//!
//! Never: decides who is forced out or who stands for election ([`crate::detector`], [`crate::mastership`]). Pure: time is an
//! input.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation};

use crate::detector::DiskSign;
use crate::frm::{ClaimView, ClaimViews};
use crate::mastership::Candidate;

/// One reading of all node registers. An unreadable one (both slots torn twice) is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistersReading {
    /// When the read began; a write completed before this is seen by it (protocol D3).
    pub begun: Instant,
    /// When it ended; silence of a register counts from here.
    pub ended: Instant,
    /// Register of every configured node id.
    pub registers: BTreeMap<NodeId, Option<NodeRegister>>,
}

/// What was seen of one register.
#[derive(Debug, Clone)]
struct Seen {
    register: NodeRegister,
    /// End of the first read of this value, or of the first read after a gap.
    since: Instant,
    /// End of the last read that returned this register.
    last_read: Instant,
    /// The newest reading could read it.
    readable: bool,
}

/// The candidates of one moment, and the first moment at which one of them may have become another.
#[derive(Debug, Clone)]
struct Judged {
    at: Instant,
    until: Instant,
    candidates: BTreeMap<NodeId, Candidate>,
}

/// See the module. Fed with every reading, of whatever source.
#[derive(Debug, Clone)]
pub struct RegisterWatch {
    profile: TimingProfile,
    seen: BTreeMap<NodeId, Seen>,
    /// Unreadable in every reading so far.
    never_read: BTreeSet<NodeId>,
    last_reading: Instant,
    dead: BTreeMap<NodeId, Incarnation>,
    /// What [`Self::judge`] found; none after something was read or proved.
    judged: Option<Judged>,
}

impl RegisterWatch {
    /// A watch that has seen nothing.
    #[must_use]
    pub const fn new(profile: TimingProfile) -> Self {
        Self {
            profile,
            seen: BTreeMap::new(),
            never_read: BTreeSet::new(),
            last_reading: Instant(0),
            dead: BTreeMap::new(),
            judged: None,
        }
    }

    /// A reading of all registers. Readings of several sources may arrive out of order: an older value changes nothing.
    pub fn observe(
        &mut self,
        reading_begun: Instant,
        reading_ended: Instant,
        registers: &BTreeMap<NodeId, Option<NodeRegister>>,
    ) {
        self.judged = None;
        self.last_reading = self.last_reading.max(reading_ended);
        for (node, register) in registers {
            match register {
                Some(register) => self.saw(*node, register, reading_begun, reading_ended),
                None => match self.seen.get_mut(node) {
                    Some(seen) => seen.readable = false,
                    None => {
                        self.never_read.insert(*node);
                    }
                },
            }
        }
    }

    fn saw(&mut self, node: NodeId, register: &NodeRegister, begun: Instant, ended: Instant) {
        self.never_read.remove(&node);
        let window_ms = self.window_ms();
        let Some(seen) = self.seen.get_mut(&node) else {
            let seen = Seen { register: register.clone(), since: ended, last_read: ended, readable: true };
            self.seen.insert(node, seen);
            return;
        };
        let (known, new) = (place(&seen.register), place(register));
        if new < known {
            return; // A reading that began earlier (protocol D3 allows new/old inversion between readers).
        }
        if new > known || begun.since(seen.last_read) > window_ms {
            seen.since = ended;
        }
        if *register != seen.register {
            seen.register.clone_from(register);
        }
        seen.last_read = seen.last_read.max(ended);
        seen.readable = true;
    }

    /// This incarnation, and every earlier one of its node, is dead by proof (protocol §4.5).
    pub fn proved_dead(&mut self, victim: NodeIncarnation) {
        self.judged = None;
        let dead = self.dead.entry(victim.node).or_default();
        *dead = victim.incarnation.max(*dead);
    }

    /// Silence of the register in milliseconds; 0 if it was never read. While the own reads are late it stops growing.
    #[must_use]
    pub fn silent_ms(&self, node: NodeId, now: Instant) -> u64 {
        self.seen.get(&node).map_or(0, |seen| self.silence(seen, now))
    }

    fn silence(&self, seen: &Seen, now: Instant) -> u64 {
        let looking = now.since(seen.last_read) <= self.window_ms();
        (if looking { now } else { seen.last_read }).since(seen.since)
    }

    /// True if the lease of whoever wrote the register has certainly ended, as far as clocks can tell. A register that was
    /// never read is not expired.
    #[must_use]
    pub fn expired(&self, node: NodeId, now: Instant) -> bool {
        self.seen.get(&node).is_some_and(|seen| self.has_expired(node, seen, now))
    }

    fn has_expired(&self, node: NodeId, seen: &Seen, now: Instant) -> bool {
        let down = match seen.register.own_state {
            OwnState::Never | OwnState::DeadDrained | OwnState::CleanDown => true,
            OwnState::Booting | OwnState::Member | OwnState::Suspended | OwnState::Panicking => false,
        };
        let dead = self.dead.get(&node).is_some_and(|dead| seen.register.incarnation <= *dead);
        // While the own reads are late nothing may be concluded: the next read restarts the window.
        let looking = now.since(seen.last_read) <= self.window_ms();
        down || dead || (looking && self.silence(seen, now) >= self.profile.takeover_ms())
    }

    /// Newest register known of each node.
    #[must_use]
    pub fn register(&self, node: NodeId) -> Option<&NodeRegister> {
        self.seen.get(&node).map(|seen| &seen.register)
    }

    /// For the failure detector. A register that could not be read for 2 R, while others could, is left out: unreadable.
    #[must_use]
    pub fn disk_signs(&self, now: Instant) -> BTreeMap<NodeId, DiskSign> {
        self.seen.iter().filter_map(|(node, seen)| Some((*node, self.sign(seen, now)?))).collect()
    }

    /// The one of [`Self::disk_signs`] that is about `node`.
    #[must_use]
    pub fn disk_sign(&self, node: NodeId, now: Instant) -> Option<DiskSign> {
        self.sign(self.seen.get(&node)?, now)
    }

    fn sign(&self, seen: &Seen, now: Instant) -> Option<DiskSign> {
        let shown = seen.readable || self.last_reading.since(seen.last_read) <= self.window_ms();
        shown.then(|| DiskSign {
            incarnation: seen.register.incarnation,
            own_state: seen.register.own_state,
            silent_ms: self.silence(seen, now),
            hears: seen.register.hears,
            round: seen.register.round,
            announced_round: seen.register.announced_round,
        })
    }

    /// Works out the candidates once for all who ask until something is read or a lease may have ended.
    pub fn judge(&mut self, now: Instant) {
        if self.judged(now).is_none() {
            let until = self.seen.values().filter_map(|seen| self.next_change(seen, now)).min();
            let candidates = self.find_candidates(now);
            self.judged = Some(Judged { at: now, until: until.unwrap_or(Instant(u64::MAX)), candidates });
        }
    }

    /// When time alone may change what was worked out last; none if something was read since.
    #[must_use]
    pub fn judged_until(&self) -> Option<Instant> {
        self.judged.as_ref().map(|judged| judged.until)
    }

    fn judged(&self, now: Instant) -> Option<&BTreeMap<NodeId, Candidate>> {
        let judged = self.judged.as_ref().filter(|judged| judged.at <= now && now < judged.until)?;
        debug_assert_eq!(judged.candidates, self.find_candidates(now), "a candidate has changed and nothing was read");
        Some(&judged.candidates)
    }

    /// The next moment after `now` at which time alone may change what [`Self::has_expired`] says.
    fn next_change(&self, seen: &Seen, now: Instant) -> Option<Instant> {
        let silent = seen.since.plus(self.profile.takeover_ms());
        let late = seen.last_read.plus(self.window_ms() + 1);
        [silent, late].into_iter().filter(|at| *at > now).min()
    }

    /// For the choice of who stands for election.
    #[must_use]
    pub fn candidates(&self, now: Instant) -> Cow<'_, BTreeMap<NodeId, Candidate>> {
        self.judged(now).map_or_else(|| Cow::Owned(self.find_candidates(now)), Cow::Borrowed)
    }

    fn find_candidates(&self, now: Instant) -> BTreeMap<NodeId, Candidate> {
        self.seen
            .iter()
            .map(|(node, seen)| {
                let candidate = Candidate {
                    incarnation: seen.register.incarnation,
                    claim: seen.register.claim,
                    live: !self.has_expired(*node, seen, now),
                };
                (*node, candidate)
            })
            .collect()
    }

    /// For the membership instance of the Fenced Register Machine: the newest reading as claims.
    #[must_use]
    pub fn claim_views(&self, now: Instant) -> ClaimViews {
        let read = self.seen.iter().map(|(node, seen)| {
            let view = ClaimView {
                claim: seen.register.claim,
                expired: self.has_expired(*node, seen, now),
                incarnation: seen.register.incarnation,
                heartbeat: seen.register.heartbeat,
            };
            (*node, seen.readable.then_some(view))
        });
        self.never_read.iter().map(|node| (*node, None)).chain(read).collect()
    }

    /// Reads further apart than this do not see silence (2 R).
    const fn window_ms(&self) -> u64 {
        2 * self.profile.renewal_ms
    }
}

/// Grows with each write of a register.
const fn place(register: &NodeRegister) -> (Incarnation, u64) {
    (register.incarnation, register.heartbeat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::Term;
    use phalanx_messages::register::{Claim, ClaimPhase};

    const N1: NodeId = NodeId(1);
    const PROFILE: TimingProfile = TimingProfile::DEV; // R = 500 ms, D(L) = 2055 ms
    const T: Instant = Instant(1_000_000);

    fn register(incarnation: u64, heartbeat: u64) -> NodeRegister {
        let claim = Claim { term: Term(3), phase: ClaimPhase::Owner, owned: Term(3) };
        NodeRegister {
            incarnation: Incarnation(incarnation),
            heartbeat,
            own_state: OwnState::Member,
            claim,
            ..NodeRegister::default()
        }
    }

    fn watch() -> RegisterWatch {
        RegisterWatch::new(PROFILE)
    }

    /// Reads `register` every 500 ms from `from` up to `to`; a read takes 20 ms.
    fn read_from_to(watch: &mut RegisterWatch, from: u64, to: u64, register: &Option<NodeRegister>) {
        for at in (from..=to).step_by(500) {
            watch.observe(T.plus(at), T.plus(at + 20), &[(N1, register.clone())].into());
        }
    }

    #[test]
    fn silence_counts_from_the_end_of_the_first_read_of_the_value() {
        let mut watch = watch();
        read_from_to(&mut watch, 0, 2_000, &Some(register(1, 7)));
        assert_eq!(watch.silent_ms(N1, T.plus(2_000)), 1_980);
        assert!(!watch.expired(N1, T.plus(2_074)), "20 + 2054");
        assert!(watch.expired(N1, T.plus(2_075)), "20 + D(L)");
        assert!(!watch.candidates(T.plus(2_075))[&N1].live);
        assert_eq!(watch.disk_signs(T.plus(2_075))[&N1].silent_ms, 2_055);
        assert!(watch.claim_views(T.plus(2_075))[&N1].unwrap().expired);
        read_from_to(&mut watch, 2_100, 2_100, &Some(register(1, 8)));
        assert!(!watch.expired(N1, T.plus(2_120)));
    }

    #[test]
    fn reads_further_apart_than_two_renewals_restart_the_window() {
        let mut watch = watch();
        read_from_to(&mut watch, 0, 1_500, &Some(register(1, 7)));
        assert!(!watch.expired(N1, T.plus(60_000)), "nobody looked: nothing is known");
        assert_eq!(watch.silent_ms(N1, T.plus(60_000)), 1_500);
        read_from_to(&mut watch, 2_521, 2_521, &Some(register(1, 7)));
        assert_eq!(watch.silent_ms(N1, T.plus(2_641)), 100);
        read_from_to(&mut watch, 3_021, 4_521, &Some(register(1, 7)));
        assert!(!watch.expired(N1, T.plus(2_541 + 2_054)) && watch.expired(N1, T.plus(2_541 + 2_055)));
    }

    /// What is worked out once is what each moment alone would give, until something is read: at the edges of every window too.
    #[test]
    fn candidates_that_are_kept_change_when_a_lease_may_have_ended() {
        let claims = |watch: &RegisterWatch, at| watch.find_candidates(T.plus(at))[&N1].live;
        let mut watch = watch();
        read_from_to(&mut watch, 0, 2_500, &Some(register(1, 7)));
        let (mut kept, mut changes) = (0, Vec::new());
        for at in 2_000..4_000 {
            kept += usize::from(watch.judged(T.plus(at)).is_some());
            watch.judge(T.plus(at));
            assert_eq!(watch.candidates(T.plus(at))[&N1].live, claims(&watch, at), "{at} ms");
            if changes.last().is_none_or(|(_, live)| *live != claims(&watch, at)) {
                changes.push((at, claims(&watch, at)));
            }
        }
        // Silent since 20 ms, D(L) later dead, and nothing is known again 1001 ms after the last reading ended.
        assert_eq!(changes, [(2_000, true), (2_075, false), (3_521, true)]);
        assert_eq!(kept, 2_000 - 3, "worked out three times");
        watch.proved_dead(NodeIncarnation { node: N1, incarnation: Incarnation(1) });
        assert!(!watch.candidates(T.plus(3_999))[&N1].live, "a proof counts at once");
    }

    #[test]
    fn a_node_that_is_down_by_its_own_word_or_by_proof_is_expired_at_once() {
        for own_state in [OwnState::Never, OwnState::DeadDrained, OwnState::CleanDown] {
            let mut watch = watch();
            read_from_to(&mut watch, 0, 0, &Some(NodeRegister { own_state, ..register(1, 7) }));
            assert!(watch.expired(N1, T.plus(20)));
        }
        let mut watch = watch();
        read_from_to(&mut watch, 0, 0, &Some(register(3, 7)));
        watch.proved_dead(NodeIncarnation { node: N1, incarnation: Incarnation(2) });
        assert!(!watch.expired(N1, T.plus(20)), "an earlier incarnation is dead");
        watch.proved_dead(NodeIncarnation { node: N1, incarnation: Incarnation(3) });
        watch.proved_dead(NodeIncarnation { node: N1, incarnation: Incarnation(1) });
        assert!(watch.expired(N1, T.plus(20)));
        read_from_to(&mut watch, 500, 500, &Some(register(4, 0)));
        assert!(!watch.expired(N1, T.plus(520)), "it runs again");
    }

    #[test]
    fn an_older_reading_that_arrives_late_changes_nothing() {
        let mut watch = watch();
        read_from_to(&mut watch, 0, 0, &Some(register(1, 7)));
        read_from_to(&mut watch, 500, 500, &Some(register(1, 8)));
        read_from_to(&mut watch, 490, 490, &Some(register(1, 7)));
        assert_eq!(watch.register(N1).unwrap().heartbeat, 8);
        assert_eq!(watch.silent_ms(N1, T.plus(620)), 100);
    }

    #[test]
    fn an_unreadable_register_is_an_unknown_claim_and_after_two_renewals_no_sign() {
        let mut watch = watch();
        read_from_to(&mut watch, 0, 0, &None);
        assert_eq!(watch.claim_views(T.plus(20)), [(N1, None)].into());
        assert!(!watch.expired(N1, T.plus(60_000)) && watch.disk_signs(T.plus(20)).is_empty());
        read_from_to(&mut watch, 500, 500, &Some(register(1, 7)));
        read_from_to(&mut watch, 1_000, 1_500, &None);
        assert_eq!(watch.claim_views(T.plus(1_520)), [(N1, None)].into());
        assert_eq!(watch.disk_signs(T.plus(1_520)).len(), 1);
        read_from_to(&mut watch, 2_000, 2_000, &None);
        assert!(watch.disk_signs(T.plus(2_020)).is_empty());
        assert!(!watch.expired(N1, T.plus(2_700)));
    }
}
