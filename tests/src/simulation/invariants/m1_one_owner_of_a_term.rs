//! I-M1: at most one node, in one of its starts, owns a term.

use phalanx_messages::{NodeIncarnation, Term};

use crate::simulation::truth::Truth;

pub fn check(who: NodeIncarnation, term: Term, truth: &Truth) -> Vec<String> {
    let other = truth.owners.get(&term).filter(|owner| **owner != who);
    other.map(|owner| format!("I-M1: {owner} and {who} own term {term}")).into_iter().collect()
}
