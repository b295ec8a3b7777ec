//! Breadth first over all states, so that a counterexample is a shortest one; states are told apart by 64 bits.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::decisions::{Books, Passage};
use super::initial::Lane;
use super::state::State;
use super::{RegistrationModel, with_bug};

/// What a search found.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Length of the longest shortest way to one.
    pub depth: usize,
    /// Every state was looked at.
    pub exhaustive: bool,
    /// What was broken, and one line for each step to it.
    pub violation: Option<(String, Vec<String>)>,
    /// Which machines went from what to what.
    pub passages: BTreeSet<Passage>,
    /// Wall-clock time.
    pub took: Duration,
}

impl Explored {
    /// Fails unless everything was looked at and nothing is broken.
    ///
    /// # Panics
    /// With the shortest counterexample.
    pub fn assert_holds(&self, name: &str) {
        if let Some((what, steps)) = &self.violation {
            panic!("{name}: {what}, after {} steps:\n{}", steps.len(), steps.join("\n"));
        }
        assert!(self.exhaustive, "{name}: only {} states were looked at", self.states);
    }
}

/// Where a state was reached from, by which of the steps there.
type Parent = Option<(u32, u16)>;

struct Search<'a, 'b> {
    books: &'a mut Books<'b>,
    known: HashMap<u64, u32>,
    parents: Vec<Parent>,
    /// Steps that must happen, as pairs of states.
    edges: Vec<(u32, u32)>,
    depth: usize,
}

/// Looks at every state that can be reached, or at `states_max` of them.
#[must_use]
pub fn explore(model: &RegistrationModel, states_max: usize) -> Explored {
    with_bug(model.bug, || {
        let began = now();
        let lanes: Vec<Lane> = model.lanes();
        let mut books = Books::new(model, &lanes);
        let mut search =
            Search { books: &mut books, known: HashMap::new(), parents: Vec::new(), edges: Vec::new(), depth: 0 };
        let (violation, exhaustive) = search.run(states_max);
        let (states, depth) = (search.parents.len(), search.depth);
        let passages = std::mem::take(&mut books.passages);
        Explored { states, depth, exhaustive, violation, passages, took: began.elapsed() }
    })
}

#[expect(clippy::disallowed_methods, reason = "how long a search takes is printed, nothing depends on it")]
fn now() -> Instant {
    Instant::now()
}

type Violation = Option<(String, Vec<String>)>;

impl Search<'_, '_> {
    fn run(&mut self, states_max: usize) -> (Violation, bool) {
        let initial = self.books.initial();
        self.known.insert(initial.fingerprint(), 0);
        self.parents.push(None);
        let mut front = vec![(0, initial)];
        while !front.is_empty() {
            let mut next = Vec::new();
            for (id, state) in front {
                if let Some(violation) = self.look_at(id, &state, &mut next) {
                    return (Some(violation), false);
                }
                if self.parents.len() >= states_max {
                    return (None, false);
                }
            }
            front = next;
            self.depth += usize::from(!front.is_empty());
        }
        (self.circle(), true)
    }

    fn look_at(&mut self, id: u32, state: &State, next: &mut Vec<(u32, State)>) -> Violation {
        if let Some(what) = self.books.violation(state) {
            return Some((what, self.way_to(id, None)));
        }
        let mut rests = true;
        for (place, step) in self.books.steps(state).into_iter().enumerate() {
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            if let Some(what) = step.violation {
                return Some((what, self.way_to(id, Some(place))));
            }
            let new = u32::try_from(self.parents.len()).unwrap_or(u32::MAX);
            let to = match self.known.entry(step.state.fingerprint()) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => {
                    free.insert(new);
                    self.parents.push(Some((id, place)));
                    next.push((new, step.state));
                    new
                }
            };
            rests &= !step.must;
            if step.must && self.books.model.look_for_cycles {
                self.edges.push((id, to));
            }
        }
        let what = if rests { self.books.at_rest(state) } else { None }?;
        Some((what, self.way_to(id, None)))
    }

    /// One line for each step from the beginning to a state, and on.
    fn way_to(&mut self, id: u32, further: Option<u16>) -> Vec<String> {
        let (mut state, mut lines) = (self.books.initial(), Vec::new());
        for place in self.places_to(id).into_iter().chain(further) {
            let Some(step) = self.books.steps(&state).into_iter().nth(usize::from(place)) else { return lines };
            lines.push(self.books.describe(&step.action, &step.state));
            state = step.state;
        }
        lines
    }

    fn places_to(&self, mut id: u32) -> Vec<u16> {
        let mut places = Vec::new();
        while let Some((parent, place)) = self.parents[id as usize] {
            places.push(place);
            id = parent;
        }
        places.reverse();
        places
    }

    fn state(&mut self, id: u32) -> State {
        let mut state = self.books.initial();
        for place in self.places_to(id) {
            if let Some(step) = self.books.steps(&state).into_iter().nth(usize::from(place)) {
                state = step.state;
            }
        }
        state
    }

    /// I-R20: steps that must happen lead round in a circle.
    fn circle(&mut self) -> Violation {
        self.edges.sort_unstable();
        self.edges.dedup();
        let mut incoming = vec![0_u32; self.parents.len()];
        self.edges.iter().for_each(|(_, to)| incoming[*to as usize] += 1);
        let mut free: Vec<u32> = ids(&incoming).filter(|id| incoming[*id as usize] == 0).collect();
        while let Some(id) = free.pop() {
            let first = self.edges.partition_point(|(from, _)| *from < id);
            for (_, to) in self.edges[first..].iter().take_while(|(from, _)| *from == id) {
                incoming[*to as usize] -= 1;
                if incoming[*to as usize] == 0 {
                    free.push(*to);
                }
            }
        }
        let left: BTreeSet<u32> = ids(&incoming).filter(|id| incoming[*id as usize] > 0).collect();
        let mut round = self.round(&left)?;
        let first = round.iter().copied().enumerate().min_by_key(|(_, id)| *id).map_or(0, |(place, _)| place);
        round.rotate_left(first);
        let mut lines = self.way_to(round[0], None);
        lines.push("... and then for ever:".to_owned());
        for (place, id) in round.iter().enumerate() {
            let (from, to) = (self.state(*id), self.state(round[(place + 1) % round.len()]));
            let step = self.books.steps(&from).into_iter().find(|step| step.must && step.state == to);
            lines.extend(step.map(|step| self.books.describe(&step.action, &step.state)));
        }
        Some(("I-R20: steps that must happen lead round in a circle".to_owned(), lines))
    }

    /// Every one of these has an edge from another of these: go back until one comes again.
    fn round(&self, left: &BTreeSet<u32>) -> Option<Vec<u32>> {
        let mut before: HashMap<u32, u32> = HashMap::new();
        for (from, to) in self.edges.iter().filter(|(from, to)| left.contains(from) && left.contains(to)) {
            before.insert(*to, *from);
        }
        let mut way = vec![*left.first()?];
        loop {
            let next = *before.get(way.last()?)?;
            if let Some(place) = way.iter().position(|id| *id == next) {
                let mut round = way.split_off(place);
                round.reverse();
                return Some(round);
            }
            way.push(next);
        }
    }
}

fn ids(of: &[u32]) -> impl Iterator<Item = u32> + use<> {
    0..u32::try_from(of.len()).unwrap_or(u32::MAX)
}
