//! The Fenced Register Machine: one owner for each term, and no committed record is ever lost (protocol §3.4, §3.5).
//!
//! The spec lets nodes agree on the master by "a Decker's algorithm" on the shared disk. Dekker's algorithm keeps two
//! processes apart with one flag each: raise the own flag, *then* look at the other's; whoever finds both raised gives way
//! by rank. Here the flags are the claims in the node registers, and three things make it hold for N nodes that may die:
//!
//! 1. **N flags.** Among claimants of one term the lower id waits for the higher and the higher withdraws.
//! 2. **A term instead of a critical section.** A process that dies inside Dekker's section blocks the others for ever. A
//!    claimant that dies, waits too long or sees any doubt burns its *term*; the next try takes a new one. Nobody waits for
//!    a dead node, and no clock is trusted: `expired` may be wrong at any time and only terms are lost by it.
//! 3. **Write, then look again.** An owner counts a record as committed only if, after writing it, it sees no newer claim.
//!    A newer owner claims first and loads after. So either the old owner sees the claim, or the new owner loads the record.
//!
//! Used for membership (term, owner = master) and registration (depoch, owner = decision maker).
//!
//! Always holds: at most one node gets [`FrmOutput::Load`] for a term (I-M1); committed records form one chain ordered by
//! revision (I-M2); term and `owned` of the own claim never decrease (I-M6).
//!
//! Never: judges time. Whether a register is `expired` is the caller's word; a wrong word costs terms, not safety.
//!
//! The caller performs the outputs strictly in order, one after the other has completed, and feeds the answers. A read begins
//! only after every earlier write has completed. A write that failed "may have happened, may still happen": the caller
//! repeats the same write or ends the node, and never reports it as done.

use std::collections::BTreeMap;

use phalanx_messages::register::{Claim, ClaimPhase};
use phalanx_messages::{Incarnation, NodeId, Revision, Term};

use crate::bugs::{self, Bug};

/// What one register says to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimView {
    /// The claim in it.
    pub claim: Claim,
    /// The caller holds its writer's lease for ended (protocol §3.4 `expired`; §6.1 for decisions).
    pub expired: bool,
    /// Incarnation in it.
    pub incarnation: Incarnation,
    /// Counts its writes; with the incarnation it tells whether the register has moved.
    pub heartbeat: u64,
}

/// Every register of one reading; `None` = unreadable, which stands for a claim that nobody knows.
pub type ClaimViews = BTreeMap<NodeId, Option<ClaimView>>;

/// What happens to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrmInput {
    /// Stand for election. Ignored unless the machine is idle: ask again.
    Elect,
    /// Answer to [`FrmOutput::ReadRegisters`]; the read began after every earlier output had completed.
    Registers(ClaimViews),
    /// Answer to [`FrmOutput::Publish`]: the write has completed.
    Published,
    /// Answer to [`FrmOutput::Load`]: revision of the newest valid record, if there is one.
    Loaded(Option<Revision>),
    /// Answer to [`FrmOutput::Write`]: the write has completed.
    Written,
    /// The owner wants to commit the next record. Ignored unless it owns and no commit is under way.
    Commit,
    /// The I/O time-out has passed since `Waiting` or `Suspended`.
    Poll,
    /// Any other reading of the registers, however old: an owner learns from it that a newer claim exists.
    Observed(ClaimViews),
    /// Hand the term over, or give the election up.
    Resign,
}

/// What the caller must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrmOutput {
    /// Read all registers.
    ReadRegisters,
    /// Write this claim into the own register, durably.
    Publish(Claim),
    /// Read the records of all nodes and keep the newest: it is the base of this term.
    Load,
    /// Write the record under this revision: the loaded base at sequence 0, else the state to commit.
    Write(Revision),
    /// This node owns the term and its base is committed.
    Owned(Revision),
    /// The record of this revision is committed; only now may anything depend on it.
    Committed(Revision),
    /// A newer claim may exist: do not act, send `Poll` after the I/O time-out. Repeated after each reading that still says so.
    Suspended,
    /// The doubt found by `Observed` is gone: act again.
    Resumed,
    /// Another claimant goes first or a register is unreadable: send `Poll` after the I/O time-out. Repeated likewise.
    Waiting,
    /// The election ended without ownership: look again who leads.
    Withdrawn,
    /// Ownership ended: term `by` is owned or was claimed by a node that has expired since. Look again who leads.
    Deposed {
        /// The newer term.
        by: Term,
    },
    /// The term is handed over.
    Resigned,
}

/// Where the machine stands. "Awaits" names the only answer that moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Idle,
    /// Step 1; awaits `Registers`.
    Surveying,
    /// Step 1 found an unreadable register; awaits `Poll`.
    SurveyBlocked,
    /// Step 4; awaits `Published`.
    Claiming,
    /// Step 5; awaits `Registers`.
    Contending,
    /// Step 5c; awaits `Poll`.
    Waiting,
    /// Step 6; awaits `Loaded`.
    Loading,
    /// Step 7; awaits `Written`.
    WritingBase,
    /// Step 8; awaits `Published`.
    Announcing,
    /// A record is being written; awaits `Written`.
    Writing,
    /// `commit_check`; awaits `Registers`.
    Checking(Doubt),
    /// `commit_check` saw a newer claim; awaits `Poll`.
    Suspended(Doubt),
    /// `commit_check` once more, in doubt all the while; awaits `Registers`.
    LookingAgain(Doubt),
    Owner,
    /// The last word about this claim is being written; awaits `Published`.
    Leaving(Farewell),
}

/// What a `commit_check` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Doubt {
    /// The record of the newest revision.
    Record,
    /// Ownership itself; everything written is committed.
    Ownership,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Farewell {
    Withdrawn,
    Resigned,
    /// `Deposed` has been said already.
    Said,
}

/// What one register means for the claim of this node in step 5.
enum Objection {
    None,
    Wait,
    Withdraw,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frm {
    me: NodeId,
    incarnation: Incarnation,
    claim: Claim,
    state: State,
    /// Newest revision written in this term.
    newest: Revision,
    /// Who had a claim and was held for expired in step 2, and what its register said then.
    held_expired: BTreeMap<NodeId, (Incarnation, u64)>,
    /// `Resign` arrived while an answer was awaited.
    resign_wanted: bool,
}

impl Frm {
    /// A machine of a new incarnation, which found `claim_on_disk` in the own register.
    ///
    /// A term that an earlier incarnation owned or left undecided is `Resigned` and counts as owned from now on (protocol
    /// §3.4, `restart`). The first write of the new incarnation carries [`Frm::claim`].
    #[must_use]
    pub fn new(me: NodeId, incarnation: Incarnation, claim_on_disk: Claim) -> Self {
        let phase = match claim_on_disk.phase {
            ClaimPhase::None | ClaimPhase::Withdrawn => claim_on_disk.phase,
            ClaimPhase::Claim | ClaimPhase::Owner | ClaimPhase::Resigned => ClaimPhase::Resigned,
        };
        let claim = Claim { term: claim_on_disk.term, phase, owned: raised(&claim_on_disk) };
        Self {
            me,
            incarnation,
            claim,
            state: State::Idle,
            newest: Revision::default(),
            held_expired: BTreeMap::new(),
            resign_wanted: false,
        }
    }

    /// The claim as the own register must show it.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        self.claim
    }

    /// The term claimed last.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.claim.term
    }

    /// True while this node owns its term, its base is committed and nothing newer is known. Acting also needs a valid lease.
    #[must_use]
    pub const fn is_owner(&self) -> bool {
        let committed = matches!(self.state, State::Owner | State::Writing | State::Checking(_));
        committed && matches!(self.claim.phase, ClaimPhase::Owner) && !self.base_in_doubt()
    }

    /// True if nothing is under way, so that `Elect` is heard.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    const fn base_in_doubt(&self) -> bool {
        matches!(self.state, State::Checking(Doubt::Record)) && self.newest.seq == 0
    }

    /// Advances the machine by one input. An answer that nothing awaits is dropped.
    pub fn step(&mut self, input: FrmInput) -> Vec<FrmOutput> {
        match input {
            FrmInput::Elect => self.elect(),
            FrmInput::Registers(views) => self.registers(&views),
            FrmInput::Published => self.published(),
            FrmInput::Loaded(base) => self.loaded(base),
            FrmInput::Written => self.written(),
            FrmInput::Commit => self.commit(),
            FrmInput::Poll => self.poll(),
            FrmInput::Observed(views) => self.observed(&views),
            FrmInput::Resign => self.resign_asked(),
        }
    }

    fn elect(&mut self) -> Vec<FrmOutput> {
        if self.state != State::Idle {
            return Vec::new();
        }
        self.state = State::Surveying;
        vec![FrmOutput::ReadRegisters]
    }

    fn registers(&mut self, views: &ClaimViews) -> Vec<FrmOutput> {
        self.check_own_register(views);
        match self.state {
            State::Surveying => self.survey(views),
            State::Contending => self.contend(views),
            State::Checking(_) | State::LookingAgain(_) if self.resign_wanted => self.leave(Farewell::Resigned),
            State::Checking(doubt) | State::LookingAgain(doubt) => self.check(doubt, views),
            State::Idle
            | State::SurveyBlocked
            | State::Claiming
            | State::Waiting
            | State::Loading
            | State::WritingBase
            | State::Announcing
            | State::Writing
            | State::Suspended(_)
            | State::Owner
            | State::Leaving(_) => Vec::new(),
        }
    }

    /// I-F7: nobody else writes the own register while this machine lives.
    fn check_own_register(&self, views: &ClaimViews) {
        if let Some(Some(own)) = views.get(&self.me) {
            assert!(own.incarnation <= self.incarnation, "a newer incarnation writes the register of node {}", self.me);
        }
    }

    /// Steps 1, 2 and 4.
    fn survey(&mut self, views: &ClaimViews) -> Vec<FrmOutput> {
        if self.resign_wanted {
            return self.give_up();
        }
        let mut newest = self.claim.term.max(self.claim.owned);
        self.held_expired.clear();
        for (node, view) in self.others(views) {
            let Some(view) = view else {
                self.state = State::SurveyBlocked;
                return vec![FrmOutput::Waiting];
            };
            newest = newest.max(view.claim.term).max(owned(&view.claim));
            match view.claim.phase {
                ClaimPhase::Claim | ClaimPhase::Owner if view.expired => {
                    self.held_expired.insert(node, (view.incarnation, view.heartbeat));
                }
                ClaimPhase::Claim | ClaimPhase::Owner => return self.give_up(),
                ClaimPhase::None | ClaimPhase::Withdrawn | ClaimPhase::Resigned => {}
            }
        }
        self.state = State::Claiming;
        let claim = Claim { term: newest.next(), phase: ClaimPhase::Claim, owned: raised(&self.claim) };
        vec![self.publish(claim)]
    }

    /// Ends an election that has claimed nothing.
    fn give_up(&mut self) -> Vec<FrmOutput> {
        self.state = State::Idle;
        self.resign_wanted = false;
        vec![FrmOutput::Withdrawn]
    }

    /// Step 5.
    fn contend(&mut self, views: &ClaimViews) -> Vec<FrmOutput> {
        let mut wait = false;
        for (node, view) in self.others(views) {
            match view.map_or(Objection::Wait, |view| self.objection(node, &view)) {
                Objection::None => {}
                Objection::Wait => wait = true,
                Objection::Withdraw => return self.leave(Farewell::Withdrawn),
            }
        }
        if self.resign_wanted {
            return self.leave(Farewell::Withdrawn);
        }
        if wait {
            self.state = State::Waiting;
            return vec![FrmOutput::Waiting];
        }
        // 5d: the term is mine.
        self.state = State::Loading;
        vec![FrmOutput::Load]
    }

    fn objection(&self, node: NodeId, view: &ClaimView) -> Objection {
        let term = self.claim.term;
        // 5a: a live master is not decrowned.
        let moved = |before: &(Incarnation, u64)| *before != (view.incarnation, view.heartbeat);
        if self.held_expired.get(&node).is_some_and(moved) && !bugs::active(Bug::LiveOwnerDecrowned) {
            return Objection::Withdraw;
        }
        // 5b
        if view.claim.term > term || owned(&view.claim) >= term {
            return Objection::Withdraw;
        }
        if view.claim.term < term {
            return Objection::None;
        }
        // 5c: the same term.
        match view.claim.phase {
            ClaimPhase::Owner => Objection::Withdraw,
            ClaimPhase::Resigned if bugs::active(Bug::ResignedLikeWithdrawn) => Objection::None,
            ClaimPhase::Resigned => Objection::Withdraw,
            ClaimPhase::Claim if bugs::active(Bug::NoWithdrawal) => Objection::None,
            // A lower id goes first; a higher one that died while it was waited for has burnt the term.
            ClaimPhase::Claim if node < self.me || view.expired => Objection::Withdraw,
            ClaimPhase::Claim => Objection::Wait,
            ClaimPhase::Withdrawn | ClaimPhase::None => Objection::None,
        }
    }

    fn published(&mut self) -> Vec<FrmOutput> {
        match self.state {
            State::Claiming if self.resign_wanted => self.leave(Farewell::Withdrawn),
            State::Claiming => {
                self.state = State::Contending;
                vec![FrmOutput::ReadRegisters]
            }
            State::Announcing if self.resign_wanted => self.leave(Farewell::Resigned),
            State::Announcing => self.look_again(Doubt::Record),
            State::Leaving(farewell) => {
                self.state = State::Idle;
                self.resign_wanted = false;
                match farewell {
                    Farewell::Withdrawn => vec![FrmOutput::Withdrawn],
                    Farewell::Resigned => vec![FrmOutput::Resigned],
                    Farewell::Said => Vec::new(),
                }
            }
            State::Idle
            | State::Surveying
            | State::SurveyBlocked
            | State::Contending
            | State::Waiting
            | State::Loading
            | State::WritingBase
            | State::Writing
            | State::Checking(_)
            | State::Suspended(_)
            | State::LookingAgain(_)
            | State::Owner => Vec::new(),
        }
    }

    /// Steps 6 and 7.
    fn loaded(&mut self, base: Option<Revision>) -> Vec<FrmOutput> {
        if self.state != State::Loading {
            return Vec::new();
        }
        if self.resign_wanted {
            return self.leave(Farewell::Resigned);
        }
        let term = self.claim.term;
        let base_term = base.map_or(Term(0), |base| base.term);
        assert!(base_term != term, "a record of term {term} exists before its owner has written one (I-M1)");
        if base_term > term && !bugs::active(Bug::SupersededOwnerGoesOn) {
            return self.depose(base_term);
        }
        self.state = State::WritingBase;
        self.newest = Revision { term, seq: 0 };
        vec![FrmOutput::Write(self.newest)]
    }

    fn written(&mut self) -> Vec<FrmOutput> {
        match self.state {
            State::WritingBase | State::Writing if self.resign_wanted => self.leave(Farewell::Resigned),
            // Step 8.
            State::WritingBase => {
                self.state = State::Announcing;
                let term = self.claim.term;
                vec![self.publish(Claim { term, phase: ClaimPhase::Owner, owned: term })]
            }
            State::Writing => self.look_again(Doubt::Record),
            State::Idle
            | State::Surveying
            | State::SurveyBlocked
            | State::Claiming
            | State::Contending
            | State::Waiting
            | State::Loading
            | State::Announcing
            | State::Checking(_)
            | State::Suspended(_)
            | State::LookingAgain(_)
            | State::Owner
            | State::Leaving(_) => Vec::new(),
        }
    }

    fn commit(&mut self) -> Vec<FrmOutput> {
        if self.state != State::Owner {
            return Vec::new();
        }
        self.state = State::Writing;
        self.newest.seq += 1;
        vec![FrmOutput::Write(self.newest)]
    }

    fn look_again(&mut self, doubt: Doubt) -> Vec<FrmOutput> {
        if bugs::active(Bug::NoRereadInCommit) {
            return self.certain(doubt);
        }
        self.state = State::Checking(doubt);
        vec![FrmOutput::ReadRegisters]
    }

    /// `commit_check`.
    fn check(&mut self, doubt: Doubt, views: &ClaimViews) -> Vec<FrmOutput> {
        match self.newer_claim(views) {
            Newer::None => self.certain(doubt),
            Newer::Possible => {
                self.state = State::Suspended(doubt);
                vec![FrmOutput::Suspended]
            }
            Newer::Certain(by) => self.depose(by),
        }
    }

    fn newer_claim(&self, views: &ClaimViews) -> Newer {
        let term = self.claim.term;
        self.others(views)
            .map(|(_, view)| match view {
                None => Newer::Possible,
                Some(view) if owned(&view.claim) > term => Newer::Certain(owned(&view.claim)),
                Some(view) if view.claim.term <= term => Newer::None,
                Some(view) => match view.claim.phase {
                    ClaimPhase::Withdrawn | ClaimPhase::None => Newer::None,
                    // It will never say whether it owns the term: elect again, above it.
                    ClaimPhase::Claim | ClaimPhase::Owner if view.expired => Newer::Certain(view.claim.term),
                    ClaimPhase::Claim | ClaimPhase::Owner => Newer::Possible,
                    ClaimPhase::Resigned => Newer::Certain(view.claim.term),
                },
            })
            .max()
            .unwrap_or(Newer::None)
    }

    fn certain(&mut self, doubt: Doubt) -> Vec<FrmOutput> {
        self.state = State::Owner;
        vec![match doubt {
            Doubt::Record if self.newest.seq == 0 => FrmOutput::Owned(self.newest),
            Doubt::Record => FrmOutput::Committed(self.newest),
            Doubt::Ownership => FrmOutput::Resumed,
        }]
    }

    fn observed(&mut self, views: &ClaimViews) -> Vec<FrmOutput> {
        if self.state != State::Owner || self.newer_claim(views) == Newer::None {
            return Vec::new();
        }
        self.check(Doubt::Ownership, views)
    }

    fn poll(&mut self) -> Vec<FrmOutput> {
        self.state = match self.state {
            State::SurveyBlocked => State::Surveying,
            State::Waiting => State::Contending,
            State::Suspended(doubt) => State::LookingAgain(doubt),
            State::Idle
            | State::Surveying
            | State::Claiming
            | State::Contending
            | State::Loading
            | State::WritingBase
            | State::Announcing
            | State::Writing
            | State::Checking(_)
            | State::LookingAgain(_)
            | State::Owner
            | State::Leaving(_) => return Vec::new(),
        };
        vec![FrmOutput::ReadRegisters]
    }

    fn resign_asked(&mut self) -> Vec<FrmOutput> {
        match self.state {
            State::Idle | State::Leaving(_) => Vec::new(),
            State::SurveyBlocked => self.give_up(),
            State::Waiting => self.leave(Farewell::Withdrawn),
            State::Suspended(_) | State::Owner => self.leave(Farewell::Resigned),
            // Persist, then tell: the answer to the running write must not be taken for the answer to the last word.
            State::Surveying
            | State::Claiming
            | State::Contending
            | State::Loading
            | State::WritingBase
            | State::Announcing
            | State::Writing
            | State::Checking(_)
            | State::LookingAgain(_) => {
                self.resign_wanted = true;
                Vec::new()
            }
        }
    }

    /// A deposed owner says `Resigned`, else its old claim would look live once the newer owner is gone.
    fn depose(&mut self, by: Term) -> Vec<FrmOutput> {
        let mut outputs = vec![FrmOutput::Deposed { by }];
        outputs.extend(self.leave(Farewell::Said));
        outputs
    }

    fn leave(&mut self, farewell: Farewell) -> Vec<FrmOutput> {
        self.state = State::Leaving(farewell);
        self.resign_wanted = false;
        self.newest = Revision::default();
        self.held_expired.clear();
        let term = self.claim.term;
        vec![self.publish(match farewell {
            Farewell::Withdrawn => Claim { phase: ClaimPhase::Withdrawn, ..self.claim },
            Farewell::Resigned | Farewell::Said => Claim { term, phase: ClaimPhase::Resigned, owned: term },
        })]
    }

    fn publish(&mut self, claim: Claim) -> FrmOutput {
        let claim = Claim { owned: owned(&claim), ..claim };
        assert!(claim.term >= self.claim.term && claim.owned >= self.claim.owned, "a claim goes back (I-M6)");
        self.claim = claim;
        FrmOutput::Publish(claim)
    }

    fn others<'a>(&self, views: &'a ClaimViews) -> impl Iterator<Item = (NodeId, Option<ClaimView>)> + use<'a> {
        let me = self.me;
        views.iter().filter(move |(node, _)| **node != me).map(|(node, view)| (*node, *view))
    }
}

/// What a reading says about newer claims; the strongest word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Newer {
    None,
    Possible,
    Certain(Term),
}

/// The `owned` field as it is written and read.
fn owned(claim: &Claim) -> Term {
    let forgets = bugs::active(Bug::NoOwned) || bugs::active(Bug::ResignedLikeWithdrawn);
    if forgets { Term(0) } else { claim.owned }
}

/// `owned`, and the term of the claim too unless it was withdrawn.
fn raised(claim: &Claim) -> Term {
    match claim.phase {
        ClaimPhase::None | ClaimPhase::Withdrawn => owned(claim),
        ClaimPhase::Claim | ClaimPhase::Owner | ClaimPhase::Resigned => {
            owned(&Claim { owned: claim.owned.max(claim.term), ..*claim })
        }
    }
}

#[cfg(test)]
mod tests;
