//! The node lease (protocol §3.3): one lease for everything a node may do with shared resources.
//!
//! Each cycle writes the own register, then reads all registers and the membership record of the current owner of the term.
//! The lease is extended only if the whole cycle counts, and always from the *issue* of its write (L-5).
//!
//! Always holds:
//! - at most one write is outstanding; everything published meanwhile travels in the next one;
//! - a write carries every publication given before it;
//! - a cycle that ends after the lease has ended does not count (L-1), and after that nothing counts until the node has read
//!   that it is still a member (protocol §4.7 `ride_through`), or never again ([`StallPolicy::Panic`]);
//! - while a critical actor does not tick nothing is written: a live heartbeat in a dead node is worse than none (§9.1).
//!
//! Never: opens the gate by itself or decides about other nodes. Pure: the thread that drives it performs the outputs in order
//! and gives the time with each input.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use phalanx_messages::limits::PILLS_MAX;
use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister, OwnState, Pill};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId, NodeIncarnation, Revision, Term};

use crate::bugs::{self, Bug};

/// Fields of the own register to change; `None` = leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// What the node says of itself.
    pub own_state: Option<OwnState>,
    /// Newest membership record processed; never goes back.
    pub seen: Option<Revision>,
    /// Claim of a membership term. Written durably.
    pub claim: Option<Claim>,
    /// Nodes whose heartbeats arrive.
    pub hears: Option<NodeSet>,
    /// The suspect round that the view carries.
    pub round: Option<u64>,
    /// The newest suspect round known.
    pub announced_round: Option<u64>,
    /// Death orders of this node, at most [`PILLS_MAX`].
    pub pills: Option<Vec<Pill>>,
}

/// What a lost lease means (protocol §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StallPolicy {
    /// The incarnation is finished. Needed where others may count the silence as death.
    Panic,
    /// Frozen with the gate closed until the node has read that it is still a member. Allowed where no certainty of death
    /// comes from a deadline: always on an mmap disk.
    RideThrough,
}

/// The membership record of the current owner of the term, read in the same cycle.
#[derive(Debug, Clone, Copy)]
pub enum OwnerRecord<'a> {
    /// Nobody has ever owned a term.
    NoOwner,
    /// It could not be read: the renewal does not count (L-4).
    Unreadable,
    /// The record.
    Read(&'a MembershipRecord),
}

/// What happens to the lease.
#[derive(Debug)]
pub enum LeaseInput<'a> {
    /// Time passes. At least every feed period.
    Tick {
        /// Now.
        now: Instant,
        /// Every critical actor has ticked lately.
        alive: bool,
    },
    /// Write these fields at once.
    Publish {
        /// Now.
        now: Instant,
        /// What to change.
        publication: Publication,
    },
    /// Renew at once.
    RenewNow {
        /// Now.
        now: Instant,
    },
    /// The write has completed.
    WriteCompleted {
        /// Now.
        now: Instant,
    },
    /// The write has returned an error; it may have happened.
    WriteFailed {
        /// Now.
        now: Instant,
    },
    /// The read has completed.
    ReadCompleted {
        /// When it ended.
        ended: Instant,
        /// Every register; `None` = unreadable.
        registers: &'a BTreeMap<NodeId, Option<NodeRegister>>,
        /// Record of [`Lease::owner_in`] those registers, or the newest one if that owner has not written in its term.
        record: OwnerRecord<'a>,
    },
    /// The read has returned an error.
    ReadFailed {
        /// Now.
        now: Instant,
    },
    /// Write a last time, if there is something to say, and end.
    Stop {
        /// Now.
        now: Instant,
        /// Last word about the node.
        final_state: Option<OwnState>,
    },
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutput {
    /// Write the own register. Carries every publication given so far.
    Write {
        /// Payload.
        register: Box<NodeRegister>,
        /// It must survive loss of power.
        durable: bool,
    },
    /// Read all registers, then the record of their owner.
    Read,
    /// The lease is valid, for the first time or again.
    Valid {
        /// Until then.
        until: Instant,
    },
    /// The valid lease is extended.
    Extended {
        /// Until then.
        until: Instant,
    },
    /// No renewal counted for longer than the warning time.
    Late,
    /// The lease has ended.
    Lost,
    /// This node must halt.
    Panic {
        /// Why.
        reason: String,
    },
    /// The last write, if any, has completed.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Writing {
        issued: Instant,
    },
    /// Reads back what was written at `issued`.
    Reading {
        issued: Instant,
    },
    /// After a loss: reads before it writes (protocol §4.7).
    ReadingFirst,
    LastWrite,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// No renewal has counted yet.
    First,
    Valid {
        since: Instant,
        until: Instant,
    },
    Lost,
}

/// Why a cycle does not extend the lease.
enum Refusal {
    NotCounted,
    Panic(String),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Lease {
    me: NodeIncarnation,
    profile: TimingProfile,
    stall: StallPolicy,
    phase: Phase,
    standing: Standing,
    /// What the register is to say. Its heartbeat is that of the last write.
    wanted: NodeRegister,
    /// What the last write said, if its outcome is known.
    written: Option<NodeRegister>,
    durable_wanted: bool,
    write_wanted: bool,
    next_renewal: Instant,
    /// Not before, after a failure.
    retry_at: Instant,
    /// Owner of the highest term seen.
    owner: Option<(Term, NodeId)>,
    alive: bool,
    late: bool,
    /// Since the loss the node has read that it is still a member.
    return_checked: bool,
    stop: Option<Option<OwnState>>,
}

impl Lease {
    /// The lease of a new incarnation, whose first write carries `first` (one heartbeat further) and is durable.
    #[must_use]
    pub fn new(me: NodeIncarnation, profile: TimingProfile, stall: StallPolicy, first: NodeRegister) -> Self {
        Self {
            me,
            profile,
            stall,
            phase: Phase::Idle,
            standing: Standing::First,
            wanted: NodeRegister { incarnation: me.incarnation, ..first },
            written: None,
            durable_wanted: true,
            write_wanted: true,
            next_renewal: Instant(0),
            retry_at: Instant(0),
            owner: None,
            alive: true,
            late: false,
            return_checked: false,
            stop: None,
        }
    }

    /// Advances the lease by one input.
    pub fn step(&mut self, input: LeaseInput<'_>) -> Vec<LeaseOutput> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        let now = match input {
            LeaseInput::Tick { now, alive } => {
                self.alive = alive;
                now
            }
            LeaseInput::Publish { now, publication } => {
                self.publish(publication);
                now
            }
            LeaseInput::RenewNow { now } => {
                self.write_wanted = true;
                now
            }
            LeaseInput::WriteCompleted { now } => {
                self.write_completed(&mut outputs);
                now
            }
            LeaseInput::WriteFailed { now } => {
                self.write_failed(now);
                now
            }
            LeaseInput::ReadCompleted { ended, registers, record } => {
                if !bugs::active(Bug::LateRenewalCounts) {
                    self.expire(ended, &mut outputs);
                }
                self.read_completed(ended, registers, record, &mut outputs);
                ended
            }
            LeaseInput::ReadFailed { now } => {
                self.not_counted(now);
                now
            }
            LeaseInput::Stop { now, final_state } => {
                self.stop = Some(final_state);
                now
            }
        };
        self.expire(now, &mut outputs);
        self.proceed(now, &mut outputs);
        outputs
    }

    /// True if the node may act.
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        matches!(self.standing, Standing::Valid { until, .. } if now < until || bugs::active(Bug::LeaseNeverEnds))
    }

    /// True while the watchdog may be fed: every critical actor ticks, and the lease is valid, or not valid yet, or the node
    /// rides a stall through with its gate closed (there no certainty of death comes from a deadline).
    #[must_use]
    pub fn may_feed(&self, now: Instant) -> bool {
        let standing = match self.standing {
            Standing::First => true,
            Standing::Valid { .. } if bugs::active(Bug::LeaseNeverEnds) => true,
            Standing::Valid { until, .. } => now < until || self.stall == StallPolicy::RideThrough,
            Standing::Lost => self.stall == StallPolicy::RideThrough,
        };
        self.alive && standing && self.phase != Phase::Ended
    }

    /// Feeds `state` with all that can still make a difference from `now` on, with times as they are seen from there: neither the
    /// time itself nor the number of renewals. For whoever looks for equal states.
    pub fn hash_at<H: Hasher>(&self, now: Instant, state: &mut H) {
        let ahead = |at: Instant| at.0.saturating_sub(now.0);
        let phase = match self.phase {
            Phase::Writing { issued } | Phase::Reading { issued } => Some(now.since(issued)),
            Phase::Idle | Phase::ReadingFirst | Phase::LastWrite | Phase::Ended => None,
        };
        (std::mem::discriminant(&self.phase), phase).hash(state);
        match self.standing {
            Standing::Valid { since, until } => (now.since(since), ahead(until)).hash(state),
            Standing::First | Standing::Lost => {}
        }
        std::mem::discriminant(&self.standing).hash(state);
        (ahead(self.next_renewal), ahead(self.retry_at), self.owner, self.stop).hash(state);
        (self.durable_wanted, self.write_wanted, self.alive, self.late, self.return_checked).hash(state);
        (NodeRegister { heartbeat: 0, ..self.wanted.clone() }, self.written.is_some()).hash(state);
    }

    /// When the next [`LeaseInput::Tick`] has something to do.
    #[must_use]
    pub fn due(&self) -> Instant {
        let work = match (self.alive, self.write_wanted) {
            (false, _) => Instant(u64::MAX),
            (true, true) => self.retry_at,
            (true, false) => self.next_renewal.max(self.retry_at),
        };
        match self.standing {
            Standing::Valid { until, .. } => work.min(until),
            Standing::First | Standing::Lost => work,
        }
    }

    /// Heartbeat of the last write.
    #[must_use]
    pub const fn heartbeat(&self) -> u64 {
        self.wanted.heartbeat
    }

    /// The node whose membership record a cycle that read `registers` must look at, and its term: the owner of the highest term
    /// known, be it only resigned. Its register may be unreadable.
    ///
    /// A claimant that died before it had written anything counts as an owner once it has started again. Whoever finds no
    /// record of that term in its area ([`Lease::owner_wrote`]) looks at the newest record of all areas instead: there are the
    /// marks of the owner before it.
    #[must_use]
    pub fn owner_in(&self, registers: &BTreeMap<NodeId, Option<NodeRegister>>) -> Option<(Term, NodeId)> {
        self.highest_owner(registers)
    }

    /// True if the record is one that an owner of `term` has written.
    #[must_use]
    pub fn owner_wrote(term: Term, record: Option<&MembershipRecord>) -> bool {
        record.is_some_and(|record| record.revision.term >= term)
    }

    fn highest_owner(&self, registers: &BTreeMap<NodeId, Option<NodeRegister>>) -> Option<(Term, NodeId)> {
        registers
            .iter()
            .filter_map(|(node, register)| register.as_ref().map(|register| (*node, register.claim)))
            .filter(|(_, claim)| matches!(claim.phase, ClaimPhase::Owner | ClaimPhase::Resigned))
            .map(|(node, claim)| (claim.term, node))
            .chain(self.owner)
            .max()
    }

    fn publish(&mut self, publication: Publication) {
        let Publication { own_state, seen, claim, hears, round, announced_round, pills } = publication;
        let wanted = &mut self.wanted;
        if let Some(claim) = claim {
            let before = wanted.claim;
            assert!(claim.term >= before.term && claim.owned >= before.owned, "a claim goes back (I-M6)");
            wanted.claim = claim;
            self.durable_wanted = true;
        }
        if let Some(pills) = pills {
            assert!(pills.len() <= PILLS_MAX, "{} pills do not fit a register", pills.len());
            wanted.pills = pills;
        }
        wanted.own_state = own_state.unwrap_or(wanted.own_state);
        wanted.seen = wanted.seen.max(seen.unwrap_or_default());
        wanted.hears = hears.unwrap_or(wanted.hears);
        wanted.round = round.unwrap_or(wanted.round);
        wanted.announced_round = announced_round.unwrap_or(wanted.announced_round);
        self.write_wanted = true;
    }

    /// Begins whatever is due, if nothing is under way.
    fn proceed(&mut self, now: Instant, outputs: &mut Vec<LeaseOutput>) {
        if self.phase != Phase::Idle {
            return;
        }
        if let Some(final_state) = self.stop {
            return self.proceed_to_end(final_state, outputs);
        }
        let due = (self.write_wanted || now >= self.next_renewal) && now >= self.retry_at;
        if !due || !self.alive {
            return;
        }
        if self.standing == Standing::Lost {
            self.phase = Phase::ReadingFirst;
            outputs.push(LeaseOutput::Read);
        } else {
            self.write(now, outputs);
        }
    }

    fn proceed_to_end(&mut self, final_state: Option<OwnState>, outputs: &mut Vec<LeaseOutput>) {
        let Some(own_state) = final_state else {
            self.phase = Phase::Ended;
            outputs.push(LeaseOutput::Stopped);
            return;
        };
        self.wanted.own_state = own_state;
        self.wanted.heartbeat += 1;
        self.phase = Phase::LastWrite;
        outputs.push(LeaseOutput::Write { register: Box::new(self.wanted.clone()), durable: true });
    }

    fn write(&mut self, now: Instant, outputs: &mut Vec<LeaseOutput>) {
        self.wanted.heartbeat += 1;
        let mut register = self.wanted.clone();
        if self.standing == Standing::Lost && register.own_state == OwnState::Member {
            register.own_state = OwnState::Suspended;
        }
        self.written = Some(register.clone());
        self.write_wanted = false;
        self.phase = Phase::Writing { issued: now };
        self.next_renewal = now.plus(self.profile.renewal_ms);
        outputs.push(LeaseOutput::Write { register: Box::new(register), durable: self.durable_wanted });
        self.durable_wanted = false;
    }

    fn write_completed(&mut self, outputs: &mut Vec<LeaseOutput>) {
        match self.phase {
            Phase::Writing { issued } => {
                self.phase = Phase::Reading { issued };
                outputs.push(LeaseOutput::Read);
            }
            Phase::LastWrite => {
                self.phase = Phase::Ended;
                outputs.push(LeaseOutput::Stopped);
            }
            Phase::Idle | Phase::Reading { .. } | Phase::ReadingFirst | Phase::Ended => {}
        }
    }

    /// The next write says the same and more, durably, since nobody knows what the failed one was to make durable.
    fn write_failed(&mut self, now: Instant) {
        self.written = None;
        self.durable_wanted = true;
        self.write_wanted = true;
        if self.phase == Phase::LastWrite {
            self.stop = Some(None); // The disk does not take it: the warden has the last word.
        }
        self.not_counted(now);
    }

    fn not_counted(&mut self, now: Instant) {
        self.phase = Phase::Idle;
        self.retry_at = now.plus(self.profile.io_timeout_ms);
        self.next_renewal = self.next_renewal.min(self.retry_at);
    }

    fn read_completed(
        &mut self,
        ended: Instant,
        registers: &BTreeMap<NodeId, Option<NodeRegister>>,
        record: OwnerRecord<'_>,
        outputs: &mut Vec<LeaseOutput>,
    ) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let still_fit = self.check(registers, record);
        let result = match (phase, self.standing) {
            (Phase::Reading { issued }, Standing::First) => still_fit.and_then(|()| self.first(issued, ended)),
            (Phase::Reading { .. }, Standing::Valid { .. }) if bugs::active(Bug::LeaseFromCompletion) => {
                still_fit.map(|()| Some(ended))
            }
            (Phase::Reading { issued }, Standing::Valid { .. }) => still_fit.map(|()| Some(issued)),
            (Phase::Reading { issued }, Standing::Lost) if self.return_checked => {
                still_fit.and_then(|()| self.first(issued, ended))
            }
            // L-1: this cycle began before the loss.
            (Phase::Reading { .. }, Standing::Lost) => still_fit.map(|()| None),
            (Phase::ReadingFirst, _) => still_fit.and_then(|()| self.check_return(record)).map(|()| None),
            (Phase::Idle | Phase::Writing { .. } | Phase::LastWrite | Phase::Ended, _) => {
                self.phase = phase;
                return;
            }
        };
        match result {
            Ok(Some(issued)) => self.extend(issued, outputs),
            Ok(None) if phase == Phase::ReadingFirst => self.write(ended, outputs),
            Ok(None) => {}
            Err(Refusal::NotCounted) => self.not_counted(ended),
            Err(Refusal::Panic(reason)) => self.panic(reason, outputs),
        }
    }

    /// The first renewal of an incarnation, or after a loss, must leave time to act.
    fn first(&self, issued: Instant, ended: Instant) -> Result<Option<Instant>, Refusal> {
        let in_time = ended < issued.plus(self.profile.lease_ms - self.profile.guard_ms);
        if in_time { Ok(Some(issued)) } else { Err(Refusal::NotCounted) }
    }

    /// L-2, L-3 and L-4.
    fn check(
        &mut self,
        registers: &BTreeMap<NodeId, Option<NodeRegister>>,
        record: OwnerRecord<'_>,
    ) -> Result<(), Refusal> {
        let own = registers.get(&self.me.node).and_then(Option::as_ref);
        if let (Some(own), Some(written)) = (own, &self.written)
            && own != written
        {
            return Err(Refusal::Panic(format!(
                "another host writes the register of node {}: incarnation {}, heartbeat {} instead of {}, {}",
                self.me.node, own.incarnation, own.heartbeat, written.incarnation, written.heartbeat
            )));
        }
        if let Some(by) = self.pill_from(registers).filter(|_| !bugs::active(Bug::OrderToDieIgnored)) {
            return Err(Refusal::Panic(format!("forced out: node {by} published the order")));
        }
        self.owner = self.highest_owner(registers);
        let owner_unreadable = self.owner.is_some_and(|(_, node)| registers.get(&node).is_none_or(Option::is_none));
        match record {
            OwnerRecord::Read(_) if bugs::active(Bug::OrderToDieIgnored) => {}
            OwnerRecord::Read(record) => self.check_record(record)?,
            OwnerRecord::Unreadable if bugs::active(Bug::UnreadableOwnerIgnored) => return Ok(()),
            OwnerRecord::NoOwner if self.owner.is_none() => {}
            OwnerRecord::NoOwner | OwnerRecord::Unreadable => return Err(Refusal::NotCounted),
        }
        if owner_unreadable || own.is_none() { Err(Refusal::NotCounted) } else { Ok(()) }
    }

    fn pill_from(&self, registers: &BTreeMap<NodeId, Option<NodeRegister>>) -> Option<NodeId> {
        let meant = |pill: &Pill| pill.target == self.me.node && pill.incarnation == self.me.incarnation;
        registers
            .iter()
            .find(|(_, register)| register.as_ref().is_some_and(|register| register.pills.iter().any(meant)))
            .map(|(node, _)| *node)
    }

    fn check_record(&self, record: &MembershipRecord) -> Result<(), Refusal> {
        let me = self.me;
        let out = |text: String| Err(Refusal::Panic(format!("forced out: {text} in record {}", record.revision)));
        if let Some(entry) = record.nodes.get(&me.node) {
            if entry.state == NodeState::ForcedLeaving && entry.incarnation == me.incarnation {
                return out(format!("marked ({})", entry.reason));
            }
            if entry.incarnation > me.incarnation {
                return out(format!("incarnation {} took the place of {}", entry.incarnation, me.incarnation));
            }
        }
        match record.ghosts.get(&me.node) {
            Some(ghost) if ghost.incarnation >= me.incarnation => out("a ghost".to_owned()),
            Some(_) | None => Ok(()),
        }
    }

    /// Protocol §4.7: "own inc still member in the highest term and no pill -> new lease, thaw; else panic".
    fn check_return(&mut self, record: OwnerRecord<'_>) -> Result<(), Refusal> {
        let member = match record {
            OwnerRecord::Read(record) => record.nodes.get(&self.me.node).is_some_and(|entry| {
                entry.incarnation == self.me.incarnation
                    && matches!(entry.state, NodeState::Joining | NodeState::Joined | NodeState::Leaving)
            }),
            OwnerRecord::NoOwner | OwnerRecord::Unreadable => false,
        };
        if self.wanted.own_state == OwnState::Member && !member {
            return Err(Refusal::Panic("no longer a member after the lease was lost".to_owned()));
        }
        self.return_checked = true;
        Ok(())
    }

    fn extend(&mut self, issued: Instant, outputs: &mut Vec<LeaseOutput>) {
        let until = issued.plus(self.profile.lease_ms);
        let was_valid = matches!(self.standing, Standing::Valid { .. });
        // The register may still say `Suspended`.
        self.write_wanted |= self.standing == Standing::Lost && self.wanted.own_state == OwnState::Member;
        self.standing = Standing::Valid { since: issued, until };
        self.late = false;
        outputs.push(if was_valid { LeaseOutput::Extended { until } } else { LeaseOutput::Valid { until } });
    }

    /// L-1, and the warning before it.
    fn expire(&mut self, now: Instant, outputs: &mut Vec<LeaseOutput>) {
        let Standing::Valid { since, until } = self.standing else { return };
        if bugs::active(Bug::LeaseNeverEnds) {
            return;
        }
        if now >= until {
            self.standing = Standing::Lost;
            self.return_checked = false;
            outputs.push(LeaseOutput::Lost);
            if self.stall == StallPolicy::Panic {
                self.panic("the lease ended".to_owned(), outputs);
            }
        } else if now.since(since) >= self.profile.warn_ms && !self.late {
            self.late = true;
            outputs.push(LeaseOutput::Late);
        }
    }

    fn panic(&mut self, reason: String, outputs: &mut Vec<LeaseOutput>) {
        self.phase = Phase::Ended;
        outputs.push(LeaseOutput::Panic { reason });
    }
}

#[cfg(test)]
mod tests;
