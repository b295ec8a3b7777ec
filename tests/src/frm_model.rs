//! MC1: every interleaving of the production [`Frm`](phalanx_protocol::frm::Frm) on regular registers, without any clock (protocol §3.10, §8.2).
//!
//! Each node drives its own [`Frm`](phalanx_protocol::frm::Frm). What surrounds it is as hostile as the system model allows (protocol §1.1):
//! - a register is *regular*: a read that overlaps a write returns the old value or the new one, as it likes, each time;
//! - readers look at one register after the other, and anything may happen in between (a freeze is just an interleaving);
//! - a node crashes at any point; its outstanding writes land later or never;
//! - whether a claimant has `expired` is answered either way at every look.
//!
//! Checked: I-M1 one owner a term, I-M2 no committed decision is lost, I-M6 nothing in a register goes back. The rule that a
//! new incarnation writes only when no write of the old one can land (§3.7) is the model's to keep or, in one variant, to break.

mod state;

use phalanx_messages::NodeId;
use phalanx_protocol::bugs::Bug;
use stateright::{Model, Property};

use state::{Doing, Node, Run};
pub use state::{Paused, State, Values, Write};

/// How far the state space reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Nodes.
    pub nodes: u16,
    /// Highest term.
    pub terms: u64,
    /// Commits after the first of a term, over all terms.
    pub commits: u8,
    /// Crashes.
    pub crashes: u8,
    /// An election reads the registers first (protocol §3.4 step 1). Otherwise it claims any term above those the node has
    /// used itself, which includes every outcome of the reading and saves it.
    pub survey: bool,
    /// A claimant or owner gives up at any point; otherwise only an owner at rest resigns.
    pub resign_any_time: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct FrmModel {
    /// How far to look.
    pub bounds: Bounds,
    /// The rule taken out of the machine. Needs the feature `deliberate-bugs`.
    pub bug: Option<Bug>,
    /// Break protocol §3.7: a new incarnation starts while a write of the old one can still land.
    pub early_restart: bool,
}

/// One step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stand for election with this term (or whatever the reading says, if elections read first).
    Elect(NodeId, u64),
    /// Commit one more decision.
    Commit(NodeId),
    /// Hand over or give up.
    Resign(NodeId),
    /// Look again after `Waiting` or `Suspended`.
    Poll(NodeId),
    /// The owner sees a reading of the lease thread.
    Observe(NodeId),
    /// Read the next register or record.
    Read {
        /// Who reads.
        reader: NodeId,
        /// Which of the values that the register may return.
        value: Values,
        /// The caller does not hold the claimant for expired.
        alive: bool,
    },
    /// The outstanding write completes.
    Complete(NodeId),
    /// Stop for good at this point.
    Crash(NodeId),
    /// Start again.
    Restart(NodeId),
    /// An outstanding write of a dead incarnation takes effect.
    Land(NodeId, Write),
    /// It never will.
    Vanish(NodeId, Write),
}

impl FrmModel {
    /// The protocol as it is.
    #[must_use]
    pub const fn of(bounds: Bounds) -> Self {
        Self { bounds, bug: None, early_restart: false }
    }

    /// Runs a script from the start.
    ///
    /// # Panics
    /// If a step of it is not possible.
    #[must_use]
    pub fn run(&self, script: &[Action]) -> State {
        let mut state = State::initial(self.bounds.nodes);
        for (index, action) in script.iter().enumerate() {
            let mut possible = Vec::new();
            self.actions(&state, &mut possible);
            assert!(possible.contains(action), "step {index}: {action:?} is not one of {possible:?} in {state:#?}");
            state =
                self.next_state(&state, *action).unwrap_or_else(|| panic!("step {index}: {action:?} leads nowhere"));
        }
        state
    }

    fn actions_of_running(&self, state: &State, id: NodeId, node: &Node, actions: &mut Vec<Action>) {
        let Run::Up { frm, doing, .. } = &node.run else { return };
        if state.crashes < self.bounds.crashes {
            actions.push(Action::Crash(id));
        }
        match doing {
            Doing::Resting if frm.is_idle() => self.elections(id, node, actions),
            Doing::Resting => {
                if state.decisions_made < self.bounds.commits {
                    actions.push(Action::Commit(id));
                }
                actions.push(Action::Resign(id));
                actions.push(Action::Observe(id));
            }
            Doing::Paused(_) => {
                actions.push(Action::Poll(id));
                if self.bounds.resign_any_time {
                    actions.push(Action::Resign(id));
                }
            }
            Doing::Booting | Doing::Publishing | Doing::Writing => {
                actions.push(Action::Complete(id));
                self.resign(id, doing, actions);
            }
            Doing::Reading { survey, read } => {
                let register = &state.nodes[state.reads_next(id, read.len())].claim;
                for value in register.values() {
                    actions.push(Action::Read { reader: id, value, alive: false });
                    if !survey && state::is_claimed(register.get(value)) {
                        actions.push(Action::Read { reader: id, value, alive: true });
                    }
                }
                self.resign(id, doing, actions);
            }
            Doing::Loading { next, .. } => {
                for value in state.nodes[*next].record.values() {
                    actions.push(Action::Read { reader: id, value, alive: false });
                }
            }
        }
    }

    fn resign(&self, id: NodeId, doing: &Doing, actions: &mut Vec<Action>) {
        if self.bounds.resign_any_time && !matches!(doing, Doing::Booting) {
            actions.push(Action::Resign(id));
        }
    }

    fn elections(&self, id: NodeId, node: &Node, actions: &mut Vec<Action>) {
        let Run::Up { frm, .. } = &node.run else { return };
        let used = frm.claim().term.max(frm.claim().owned).0;
        let last = if self.bounds.survey { self.bounds.terms.min(used + 1) } else { self.bounds.terms };
        actions.extend((used + 1..=last).map(|term| Action::Elect(id, term)));
    }

    fn actions_of_dead(&self, id: NodeId, node: &Node, actions: &mut Vec<Action>) {
        for write in [Write::Claim, Write::Record] {
            if node.may_land(write, self.early_restart) {
                actions.push(Action::Land(id, write));
                actions.push(Action::Vanish(id, write));
            }
        }
        let settled = !node.claim.is_pending() && !node.record.is_pending();
        if node.run == Run::Down && (settled || self.early_restart) {
            actions.push(Action::Restart(id));
        }
    }
}

impl Model for FrmModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self.bounds.nodes)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // What follows a violation says nothing any more.
        if state.two_owners || state.chain_broken {
            return;
        }
        for (index, node) in state.nodes.iter().enumerate() {
            let id = state::id(index);
            self.actions_of_running(state, id, node, actions);
            self.actions_of_dead(id, node, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.apply(self, action);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I-M1 one owner a term", |_, state: &State| !state.two_owners),
            Property::always("I-M2 no committed decision is lost", |_, state: &State| !state.chain_broken),
            Property::always("I-M6 nothing goes back", |model: &Self, state: &State| {
                model.early_restart || !state.gone_back
            }),
            Property::sometimes("a decision survives a change of owner", |_, state: &State| state.decision_survived()),
            Property::sometimes("a claimant waits for a higher one", |_, state: &State| state.pauses(Paused::Waiting)),
            Property::sometimes("an owner is suspended", |_, state: &State| state.pauses(Paused::Suspended)),
            Property::sometimes("the last term is owned", |model: &Self, state: &State| {
                state.owners.len() as u64 == model.bounds.terms
            }),
            Property::sometimes("a record lands after its writer was superseded", |model: &Self, state: &State| {
                model.bounds.crashes == 0 || state.landed_late
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.nodes.iter().all(|node| node.highest_term().0 <= self.bounds.terms)
    }
}
