//! Which commands this node takes at all (protocol RL-4): its own incarnation, no depoch older than one it has seen, and only
//! from its ack of Joining at the event-manager level until its ack of Leave, barrier 1 [RL-6].

use phalanx_messages::registration::Command;
use phalanx_messages::{NodeIncarnation, Term};

use crate::bugs::{self, Bug};

/// See the module. The caller asks the gate besides: a node without lease takes nothing.
#[derive(Debug, Clone)]
pub struct Admission {
    me: NodeIncarnation,
    seen_depoch: Term,
    accepting: bool,
}

impl Admission {
    /// Takes nothing yet.
    #[must_use]
    pub const fn new(me: NodeIncarnation) -> Self {
        Self { me, seen_depoch: Term(0), accepting: false }
    }

    /// The node has joined the level, or has let go of everything.
    pub const fn accept(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// A decision of that depoch was seen; older ones are no longer listened to.
    pub fn see(&mut self, depoch: Term) {
        self.seen_depoch = self.seen_depoch.max(depoch);
    }

    /// True if the command may be taken.
    pub fn admit(&mut self, depoch: Term, command: &Command) -> bool {
        let accepting = self.accepting || bugs::active(Bug::AdmittedAnyTime);
        let newest = depoch >= self.seen_depoch || bugs::active(Bug::OldDecisionsAdmitted);
        let admitted = accepting && command.target == self.me && newest;
        if admitted {
            self.see(depoch);
        }
        admitted
    }
}
