//! One state of the world of MC3, and what each action makes of it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use phalanx_messages::membership::{MemberEntry, MembershipRecord, NodeState};
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister, OwnState, Pill};
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation, Term};
use phalanx_protocol::lease::{Lease, LeaseInput, LeaseOutput, OwnerRecord};

use super::{Action, LeaseModel, Sight};

const ME: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(1) };
const MASTER: NodeId = NodeId(0);
const TERM: Term = Term(1);
/// Where time begins: far enough from zero for differences.
const START: Instant = Instant(1_000);

/// The write of the own register that was issued last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Renewal {
    landed: bool,
}

/// What a read has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Found {
    sight: Sight,
    marked: bool,
    pill: bool,
}

/// How far the lease thread is with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    No,
    Begun,
    Taken(Found),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct State {
    now: Instant,
    lease: Lease,
    /// The write under way, until the lease thread knows of its end.
    renewal: Option<Renewal>,
    /// What it writes, or wrote last.
    register: NodeRegister,
    reading: Reading,
    /// End of the lease as counted last.
    until: Instant,
    fed_at: Instant,
    feeding: bool,
    /// Somebody has found the gate open and has not submitted yet.
    submitting: bool,
    /// Data is on its way.
    writing: bool,
    died_at: Option<Instant>,
    marked: bool,
    /// Whoever begins to read later reads the order.
    ordered_at: Option<Instant>,
    /// The register got its present value.
    seen_at: Instant,
    /// The node counts as dead.
    pub(super) certain: bool,
    /// The watchdog was fed after the lease had ended.
    pub(super) fed_late: bool,
    /// The node panics.
    pub(super) halted: bool,
    pub(super) landed_after_death: bool,
    pub(super) submitted_too_late: bool,
}

/// Relative to now; what is over counts as just over.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ago = |at: Instant| self.now.since(at).min(FOR_EVER);
        if self.died_at.is_none() {
            self.lease.hash_at(self.now, state);
            let left = self.until.0.saturating_sub(self.now.0);
            (left, ago(self.until), ago(self.fed_at), self.feeding, self.submitting, self.reading).hash(state);
        }
        (&self.renewal, self.writing, self.died_at.map(ago), self.marked).hash(state);
        if !self.certain {
            (self.ordered_at.map(ago), ago(self.seen_at)).hash(state);
        }
        (self.certain, self.fed_late, self.halted, self.landed_after_death, self.submitted_too_late).hash(state);
    }
}

/// Longer than any deadline.
const FOR_EVER: u64 = 64;

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
    /// A member whose first renewal has just been counted.
    pub(super) fn initial(model: &LeaseModel) -> Self {
        let first = NodeRegister { own_state: OwnState::Member, ..NodeRegister::default() };
        let mut state = Self {
            now: START,
            lease: Lease::new(ME, model.profile, model.stall, first.clone()),
            renewal: None,
            register: first,
            reading: Reading::No,
            until: START,
            fed_at: START,
            feeding: false,
            submitting: false,
            writing: false,
            died_at: None,
            marked: false,
            ordered_at: None,
            seen_at: START,
            certain: false,
            fed_late: false,
            halted: false,
            landed_after_death: false,
            submitted_too_late: false,
        };
        let cycle = [
            Action::Tick,
            Action::RenewalLands,
            Action::RenewalCompleted,
            Action::Look(Sight::Disk),
            Action::ReadCompleted,
        ];
        cycle.into_iter().for_each(|action| state.apply(model, action));
        assert!(state.lease.is_valid(START), "the first cycle counts");
        state
    }

    pub(super) fn actions(&self, model: &LeaseModel, actions: &mut Vec<Action>) {
        if self.landed_after_death || self.submitted_too_late {
            return; // What follows says nothing any more.
        }
        actions.push(Action::Pass);
        if self.renewal.as_ref().is_some_and(|renewal| !renewal.landed) {
            actions.push(Action::RenewalLands);
        }
        if self.writing {
            actions.push(Action::DataLands);
        }
        if !self.marked {
            actions.push(Action::Mark);
        } else if self.ordered_at.is_none() {
            actions.push(Action::Publish);
        }
        if self.died_at.is_none() {
            self.actions_of_living(model, actions);
        }
    }

    fn actions_of_living(&self, model: &LeaseModel, actions: &mut Vec<Action>) {
        if self.lease.due() <= self.now {
            actions.push(Action::Tick);
        }
        if self.renewal.as_ref().is_some_and(|renewal| renewal.landed) {
            actions.push(Action::RenewalCompleted);
        }
        match self.reading {
            Reading::No => {}
            Reading::Begun => {
                actions.push(Action::Look(Sight::Disk));
                actions.extend(model.unreadable.then_some(Action::Look(Sight::Unreadable)));
            }
            Reading::Taken(_) => actions.push(Action::ReadCompleted),
        }
        if self.feeding {
            actions.push(Action::Feed);
        } else if self.lease.may_feed(self.now) {
            actions.push(Action::MayFeed);
        }
        if self.submitting {
            actions.push(Action::Submit);
        } else if self.lease.is_valid(self.now) && !self.halted && !self.writing {
            actions.push(Action::MaySubmit);
        }
    }

    pub(super) fn apply(&mut self, model: &LeaseModel, action: Action) {
        match action {
            Action::Pass => self.pass(model),
            Action::Tick => {
                let now = self.now;
                self.run(LeaseInput::Tick { now, alive: true });
            }
            Action::RenewalLands => {
                self.renewal = Some(Renewal { landed: true }).filter(|_| self.died_at.is_none());
                self.seen_at = self.now;
            }
            Action::RenewalCompleted => {
                self.renewal = None;
                let now = self.now;
                self.run(LeaseInput::WriteCompleted { now });
            }
            Action::Look(sight) => {
                let (marked, pill) = (self.marked, model.pills && self.ordered_at.is_some());
                self.reading = Reading::Taken(Found { sight, marked, pill });
            }
            Action::ReadCompleted => self.read_completed(),
            Action::MayFeed => self.feeding = true,
            Action::Feed => {
                self.feeding = false;
                self.fed_at = self.now;
                self.fed_late |= self.now >= self.until;
            }
            Action::MaySubmit => self.submitting = true,
            Action::Submit => {
                (self.submitting, self.writing) = (false, true);
                let counted_ms = self.now.0 + model.profile.lease_ms - self.until.0;
                self.submitted_too_late = counted_ms >= model.profile.self_ms();
            }
            Action::DataLands => {
                self.writing = false;
                self.landed_after_death = self.certain;
            }
            Action::Mark => {
                self.marked = true;
                self.ordered_at = (!model.pills).then_some(self.now);
            }
            Action::Publish => self.ordered_at = Some(self.now),
        }
        let over = |since: Instant| self.now.since(since) >= model.deadline;
        self.certain |= self.marked && (over(self.seen_at) || self.ordered_at.is_some_and(over));
    }

    /// The watchdog fires at the end of the last moment at which it could be fed.
    fn pass(&mut self, model: &LeaseModel) {
        let fires_at = self.fed_at.plus(model.profile.watchdog_ms);
        if model.watchdog && self.died_at.is_none() && fires_at <= self.now {
            self.died_at = Some(self.now);
            (self.feeding, self.submitting, self.reading) = (false, false, Reading::No);
            self.renewal = self.renewal.take().filter(|renewal| !renewal.landed);
        }
        self.now = self.now.plus(1);
        if self.died_at.is_some_and(|died_at| died_at.plus(model.profile.late_write_ms) < self.now) {
            self.writing = false;
            self.renewal = None;
        }
    }

    fn read_completed(&mut self) {
        let Reading::Taken(found) = std::mem::replace(&mut self.reading, Reading::No) else { return };
        let readable = found.sight == Sight::Disk;
        let pill = Pill { target: ME.node, incarnation: ME.incarnation, term: TERM };
        let master = NodeRegister {
            claim: Claim { term: TERM, phase: ClaimPhase::Owner, owned: TERM },
            pills: if found.pill { vec![pill] } else { Vec::new() },
            ..NodeRegister::default()
        };
        let registers: BTreeMap<_, _> =
            [(MASTER, readable.then_some(master)), (ME.node, Some(self.register.clone()))].into();
        let state = if found.marked { NodeState::ForcedLeaving } else { NodeState::Joined };
        let entry = MemberEntry { incarnation: ME.incarnation, state, ..MemberEntry::default() };
        let record = MembershipRecord { nodes: [(ME.node, entry)].into(), ..MembershipRecord::default() };
        let record = if readable { OwnerRecord::Read(&record) } else { OwnerRecord::Unreadable };
        let ended = self.now;
        self.run(LeaseInput::ReadCompleted { ended, registers: &registers, record });
    }

    fn run(&mut self, input: LeaseInput<'_>) {
        for output in self.lease.step(input) {
            match output {
                LeaseOutput::Write { register, .. } => {
                    self.register = *register;
                    self.renewal = Some(Renewal { landed: false });
                }
                LeaseOutput::Read => self.reading = Reading::Begun,
                LeaseOutput::Valid { until } | LeaseOutput::Extended { until } => self.until = until,
                LeaseOutput::Panic { .. } => self.halted = true,
                LeaseOutput::Late | LeaseOutput::Lost | LeaseOutput::Stopped => {}
            }
        }
    }
}
