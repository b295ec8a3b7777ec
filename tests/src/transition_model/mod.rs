//! MC4: every interleaving of the production coordinator and agents, without any clock (protocol §5.9, §8.2).
//!
//! Abstractions, as in protocol §5.9: a commit is atomic; mark, proof, election, report, each dispatch and each acknowledgement
//! are separate actions in any order; an acknowledgement is taken at any later time, also from a node that died since; a
//! subsystem acknowledges only after all participants it was told have begun that step (subsystems wait for each other); an
//! agent takes the newest committed record at any time or never (under T-23 older ones need not be delivered).
//!
//! Checked: the invariants in [`crate::invariants`] on every commit and every notification, the tables of the subsystems when
//! everything has ended (I-T9, I-T19), and that nothing waits for ever (I-T16): a state without any action but faults has no open
//! transition.

mod fingerprint;
mod news;
mod state;

use phalanx_messages::NodeId;
use phalanx_messages::membership::LevelRegistration;
use phalanx_messages::set::NodeSet;
use phalanx_protocol::bugs::Bug;
use stateright::{Model, Property};

pub use state::{Budget, State};

/// Where a model begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// So many nodes are joined, so many more are up and want to join.
    Joined {
        /// Joined.
        joined: u16,
        /// Want to.
        joining: u16,
    },
    /// All nodes were joined and are dead; the first so many have been started again.
    Cold {
        /// Started again.
        booted: u16,
    },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct TransitionModel {
    /// Nodes.
    pub nodes: u16,
    /// Where it begins.
    pub start: Start,
    /// Levels of every node; optional ones only of those in `users`.
    pub levels: Vec<LevelRegistration>,
    /// A level above them that joined nodes register at run time (protocol T-15): an optional one as often as the budget has
    /// registrations, a mandatory one every node in the end.
    pub later: Option<LevelRegistration>,
    /// Nodes that register the optional levels too.
    pub users: NodeSet,
    /// Faults and leaves that may happen.
    pub budget: Budget,
    /// An agent may also be given one of the last few records instead of the newest.
    pub older_records: bool,
    /// Invariants that are not looked at, by the beginning of their names: a rule that is taken out may break more than one.
    pub ignored: &'static [&'static str],
    /// The rule taken out of the machines. Needs the feature `deliberate-bugs`.
    pub bug: Option<Bug>,
}

/// One step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The agent takes the newest committed record.
    Take(NodeId),
    /// It is given an older one, by its place among the last few.
    TakeOlder(NodeId, usize),
    /// A subsystem of the first node ends its work on the step of the second one; true: of its ghost.
    Answer(NodeId, NodeId, bool),
    /// The master takes an acknowledgement.
    Acknowledge(usize),
    /// A member answers the new master.
    Report(NodeId),
    /// A dead member is marked.
    Mark(NodeId),
    /// A living member is marked.
    Suspect(NodeId),
    /// A death is proved; true: the ghost's.
    Prove(NodeId, bool),
    /// This node becomes master.
    Elect(NodeId),
    /// It asks to join.
    Join(NodeId),
    /// It asks to leave.
    Leave(NodeId),
    /// A joined node's later subsystem registers.
    Register(NodeId),
    /// It stops without warning.
    Crash(NodeId),
    /// It starts again.
    Boot(NodeId),
}

impl TransitionModel {
    /// So many nodes, with `levels` and `budget`; nothing left out, and no rule taken out.
    #[must_use]
    pub const fn new(nodes: u16, start: Start, levels: Vec<LevelRegistration>, budget: Budget) -> Self {
        let users = NodeSet::EMPTY;
        Self { nodes, start, levels, later: None, users, budget, older_records: false, ignored: &[], bug: None }
    }

    /// What a node registers when it joins.
    fn levels_of(&self, id: NodeId) -> Vec<LevelRegistration> {
        self.levels.iter().filter(|level| !level.optional || self.users.contains(id)).cloned().collect()
    }

    /// Nobody has to do this: without it nothing may wait for ever.
    fn is_optional(&self, action: Action) -> bool {
        match action {
            Action::TakeOlder(..) | Action::Suspect(_) | Action::Leave(_) | Action::Crash(_) | Action::Boot(_) => true,
            Action::Register(_) => self.later.as_ref().is_none_or(|later| later.optional),
            Action::Take(_)
            | Action::Answer(..)
            | Action::Acknowledge(_)
            | Action::Report(_)
            | Action::Mark(_)
            | Action::Prove(..)
            | Action::Elect(_)
            | Action::Join(_) => false,
        }
    }

    /// Something that must go on can go on.
    fn can_go_on(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        // A request to join or to register may be refused; everything else does something.
        let asks = |action: &Action| matches!(action, Action::Join(_) | Action::Register(_));
        let does = |action: &Action| !asks(action) || self.next_state(state, *action).is_some();
        actions.iter().any(|action| !self.is_optional(*action) && does(action))
    }
}

impl Model for TransitionModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // What follows a violation says nothing any more.
        if state.violation.is_none() {
            with_bug(self.bug, || state.actions(actions));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        with_bug(self.bug, || state.apply(self, action)).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every invariant holds", |_, state: &State| state.violation.is_none()),
            Property::always("I-T16 nothing waits for ever", |model: &Self, state: &State| {
                state.violation.is_some() || !state.is_open() || model.can_go_on(state)
            }),
            Property::sometimes("everything ends", |_, state: &State| !state.is_open()),
        ]
    }
}

#[cfg(feature = "deliberate-bugs")]
fn with_bug<R>(bug: Option<Bug>, work: impl FnOnce() -> R) -> R {
    phalanx_protocol::bugs::with(bug, work)
}

#[cfg(not(feature = "deliberate-bugs"))]
fn with_bug<R>(_: Option<Bug>, work: impl FnOnce() -> R) -> R {
    work()
}
