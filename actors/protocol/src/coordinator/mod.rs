//! Coordinator of all transitions, on the master (protocol §5.2, §5.4, §3.6).
//!
//! Decides on a *draft* of the membership record. Whenever draft and committed record differ and no commit is outstanding,
//! the draft is given out as one commit; only what is committed is ever told to anybody (T-1, "persist, then tell").
//! One commit therefore carries everything that was decided while the one before it was being written.
//!
//! What always holds: at most one commit is outstanding; a step advances only after all its participants acknowledged the
//! step that was committed (T-2), and after they all reported to this master (§3.6); every notification is a whole committed
//! record (T-23). Acknowledgements are not persisted: a new master collects them again.
//!
//! Pure: no I/O, no clock. Time arrives with [`Input::Tick`](CoordinatorInput::Tick).

mod admission;
mod answers;
mod extension;
mod first_versions;
mod force;
mod io;
pub mod level_states;
mod overdue;
mod quorate;
mod schedule;
mod telling;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use phalanx_messages::membership::{FenceMethod, MembershipRecord, NodeState, Step, StepPhase, TransitionKind};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, Level, NodeId, NodeIncarnation, Revision, TransitionId};

use crate::bugs::{self, Bug};
use crate::quorum::Quorum;
use answers::Answers;
use level_states::{Subject, subjects, unmarked_members};

pub use force::{cut, pills};
pub use io::{CoordinatorInput, CoordinatorOutput, Warning};
pub use overdue::Patience;

/// Default of [`Coordinator::gathering_for`], in milliseconds.
pub const GATHER_MS: u64 = 100;

/// Joins of a cluster that forms wait a moment for each other, and so do leaves, so that they go as one batch (T-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gather {
    /// Nothing to wait for.
    Off,
    /// The first one has asked; the next tick starts the time.
    Begun,
    /// They enter from then on.
    Until(Instant),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Coordinator {
    me: NodeIncarnation,
    committed: Arc<MembershipRecord>,
    draft: MembershipRecord,
    in_flight: Option<Arc<MembershipRecord>>,
    answers: BTreeMap<Subject, Answers>,
    /// Members that have not yet promised to listen to nobody older (protocol §3.6).
    unreported: NodeSet,
    now: Option<Instant>,
    told_at: BTreeMap<NodeId, Instant>,
    /// The record that last changed the levels of a node; of those not in here, the one that this coordinator began with.
    levels_since: BTreeMap<NodeId, Revision>,
    began_with: Revision,
    gather_ms: u64,
    gather: Gather,
    /// The next commit names a new configuration.
    reconfigure: bool,
    handed_over: bool,
    patience: Patience,
    quorum: Quorum,
    /// Not told yet = whoever there may be.
    present: Option<NodeSet>,
    /// It was said that quorum is lost.
    waits_for_votes: bool,
    /// Nothing has changed since the rules were last applied, so they have nothing to do.
    settled: bool,
}

/// What a coordinator knows beside the committed record, which whoever looks for equal states must compare himself. Times are
/// left out: a model without a clock has none.
impl Hash for Coordinator {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.me, &self.answers, self.unreported, self.reconfigure, self.handed_over).hash(state);
        if self.draft != *self.committed {
            (&self.draft, &self.in_flight).hash(state);
        }
    }
}

impl Coordinator {
    /// Takes over with `base`, committed as the first record of the term.
    ///
    /// `cold_start` is given if the cluster forms anew: no member of `base` has a live lease. It holds the proofs of death that
    /// are known of their incarnations; others may follow as [`CoordinatorInput::Certain`] (protocol T-18).
    #[must_use]
    pub fn new(
        me: NodeIncarnation,
        _profile: TimingProfile,
        base: MembershipRecord,
        cold_start: Option<BTreeMap<NodeIncarnation, FenceMethod>>,
    ) -> (Self, Vec<CoordinatorOutput>) {
        let began_with = base.revision;
        let mut coordinator = Self {
            me,
            draft: base.clone(),
            committed: Arc::new(base),
            in_flight: None,
            answers: BTreeMap::new(),
            unreported: NodeSet::EMPTY,
            now: None,
            told_at: BTreeMap::new(),
            levels_since: BTreeMap::new(),
            began_with,
            gather_ms: GATHER_MS,
            gather: Gather::Off,
            reconfigure: false,
            handed_over: false,
            patience: Patience::default(),
            quorum: Quorum::default(),
            present: None,
            waits_for_votes: false,
            settled: false,
        };
        let own = coordinator.committed.nodes.get(&me.node).filter(|entry| entry.incarnation == me.incarnation);
        if own.is_some_and(|entry| entry.state == NodeState::Inactive) {
            // This node is out already and had not heard of it: whoever comes next is master.
            coordinator.handed_over = true;
            return (coordinator, vec![CoordinatorOutput::HandOver]);
        }
        if let Some(proofs) = cold_start {
            coordinator.form_anew(&proofs);
        } else if unmarked_members(&coordinator.draft).is_empty() && coordinator.draft.ghosts.is_empty() {
            coordinator.draft.formation = coordinator.committed.revision.term;
        }
        let mut outputs = Vec::new();
        coordinator.unreported = unmarked_members(&coordinator.draft);
        coordinator.tell_new_master(&mut outputs);
        coordinator.give_out(&mut outputs);
        (coordinator, outputs)
    }

    /// Lets the joins of a cluster that forms, and leaves, wait this long for each other; 0 = they do not wait.
    #[must_use]
    pub const fn gathering_for(mut self, gather_ms: u64) -> Self {
        self.gather_ms = gather_ms;
        self
    }

    /// Waits so long for steps before it warns and acts.
    #[must_use]
    pub const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// When a tick will let joins or leaves go on; an earlier tick does nothing for them.
    #[must_use]
    pub const fn wake_at(&self) -> Option<Instant> {
        match self.gather {
            Gather::Off | Gather::Begun => None,
            Gather::Until(at) => Some(at),
        }
    }

    /// The newest committed record.
    #[must_use]
    pub fn record(&self) -> &MembershipRecord {
        &self.committed
    }

    /// The newest record, with what is not committed yet: rules about what may be decided next look at this one.
    #[must_use]
    pub const fn draft(&self) -> &MembershipRecord {
        &self.draft
    }

    /// Members that have not yet promised to listen to nobody older (protocol §3.6).
    #[must_use]
    pub const fn unreported(&self) -> NodeSet {
        self.unreported
    }

    /// Who has not acknowledged the running step of a transition.
    #[must_use]
    pub fn awaiting(&self, transition: TransitionId) -> NodeSet {
        subjects(&self.committed)
            .find(|(_, step)| step.transition == transition)
            .map_or(NodeSet::EMPTY, |(subject, _)| self.awaited(subject))
    }

    /// Advances all transitions by one input.
    pub fn step(&mut self, input: CoordinatorInput) -> Vec<CoordinatorOutput> {
        let mut outputs = Vec::new();
        if self.handed_over {
            return outputs; // Whatever comes now is the next master's.
        }
        self.settled &= changes_nothing_by_itself(&input);
        match input {
            CoordinatorInput::Committed => self.committed(&mut outputs),
            CoordinatorInput::JoinRequest {
                from,
                levels,
                same_boot,
                hears,
                heard,
                configured,
                key_matches,
                key_learnt,
            } => {
                let request =
                    admission::Request { from, levels, same_boot, hears, heard, configured, key_matches, key_learnt };
                self.join_requested(request, &mut outputs);
            }
            CoordinatorInput::Configured { nodes, quorum } => {
                self.quorum = quorum;
                self.configured(nodes);
            }
            CoordinatorInput::LeaveRequest { node } => self.leave_requested(node, &mut outputs),
            CoordinatorInput::Register { from, registration, seen } => {
                self.registration_requested(from, registration, seen, &mut outputs);
            }
            CoordinatorInput::Withdraw { from, level, seen } => self.withdrawal_requested(from, level, seen),
            CoordinatorInput::Present { quorum, present } => self.is_present(quorum, present, &mut outputs),
            CoordinatorInput::Force { victims } => self.force_all(victims),
            CoordinatorInput::Certain { victim, method } => self.certain(victim, method),
            CoordinatorInput::Confirmed { victim, by } => self.confirmed(victim, &by),
            CoordinatorInput::Acknowledged { from, answers } => self.acknowledged(from, answers, &mut outputs),
            CoordinatorInput::Report { from, seen, steps } => self.reported(from, seen, steps, &mut outputs),
            CoordinatorInput::Seen { from, revision } => self.seen(from, revision, &mut outputs),
            CoordinatorInput::Tick(now) => self.ticked(now, &mut outputs),
        }
        if !self.handed_over {
            self.apply_rules(&mut outputs);
        }
        outputs
    }

    /// Does what the rules allow now. Most acknowledgements complete nothing: what they cost must not grow with the cluster.
    fn apply_rules(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        if self.settled {
            debug_assert!(self.rules_have_nothing_to_do(), "an input changed something and did not say so");
            return;
        }
        self.settle();
        self.take_votes_of_the_gone();
        self.give_out(outputs);
        self.settled = true;
    }

    /// What [`Self::settled`] stands for, found out the long way.
    fn rules_have_nothing_to_do(&self) -> bool {
        let mut other = self.clone();
        let mut outputs = Vec::new();
        other.settle();
        other.take_votes_of_the_gone();
        other.give_out(&mut outputs);
        outputs.is_empty() && other.draft == self.draft && other.present == self.present
    }

    /// Gives the draft out as the next commit if there is something to commit and nothing outstanding.
    fn give_out(&mut self, outputs: &mut Vec<CoordinatorOutput>) {
        if self.in_flight.is_some() || (self.draft == *self.committed && !self.reconfigure) {
            return;
        }
        let Revision { term, seq } = self.committed.revision;
        self.draft.revision = Revision { term, seq: seq + 1 };
        if std::mem::take(&mut self.reconfigure) {
            self.draft.configuration = self.draft.revision;
        }
        let record = Arc::new(self.draft.clone());
        self.in_flight = Some(record.clone());
        if bugs::active(Bug::NotifiedBeforeCommit) {
            outputs.push(CoordinatorOutput::Notify { to: unmarked_members(&self.draft), record: record.clone() });
        }
        outputs.push(CoordinatorOutput::Commit(record));
    }

    /// A removed node that runs nowhere leaves nothing behind: its register goes on counting its incarnations.
    fn configured(&mut self, nodes: NodeSet) {
        self.reconfigure = true;
        self.draft.nodes.retain(|node, entry| nodes.contains(*node) || entry.state != NodeState::Inactive);
    }

    /// A new transition id (protocol §5.1, `tid`).
    fn new_transition(&mut self) -> TransitionId {
        self.draft.transition_counter += 1;
        TransitionId { term: self.committed.revision.term, counter: self.draft.transition_counter }
    }

    /// A step of a new transition that waits to enter `level`.
    fn new_step(&mut self, kind: TransitionKind, level: Level) -> Step {
        Step {
            transition: self.new_transition(),
            kind,
            level,
            barrier: 0,
            restart: 0,
            phase: StepPhase::Between,
            participants: NodeSet::EMPTY,
        }
    }
}

/// Inputs after which the rules have something to do only if the part of the machine that takes them says so.
const fn changes_nothing_by_itself(input: &CoordinatorInput) -> bool {
    matches!(
        input,
        CoordinatorInput::Acknowledged { .. }
            | CoordinatorInput::Present { .. }
            | CoordinatorInput::Seen { .. }
            | CoordinatorInput::Tick(_)
    )
}
