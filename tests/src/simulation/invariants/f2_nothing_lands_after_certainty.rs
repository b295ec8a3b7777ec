//! I-F2: once it is committed that nothing of an incarnation is written any more, nothing of it is.

use phalanx_messages::NodeIncarnation;

use crate::simulation::truth::Truth;

pub fn check(who: NodeIncarnation, truth: &Truth, what: &str) -> Vec<String> {
    if truth.io_certain.contains(&who) {
        return vec![format!("I-F2: {what} of {who} takes effect after certainty that nothing does")];
    }
    Vec::new()
}
