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
        let mine = command.target == self.me
            || (command.target.node == self.me.node && bugs::active(Bug::CommandsForAnyIncarnation));
        let admitted = accepting && mine && newest;
        if admitted {
            self.see(depoch);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::registration::CommandKind;
    use phalanx_messages::{Incarnation, NodeId, OperationId};

    use super::*;

    const ME: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(3) };

    fn start(target: NodeIncarnation) -> Command {
        let operation = OperationId::default();
        let (service, kind, victim) = (phalanx_messages::registration::Instance::only("s"), CommandKind::Start, None);
        Command { instance: service, operation, kind, target, victim, generation: operation }
    }

    #[test]
    fn commands_are_taken_only_while_the_node_is_at_the_level() {
        let mut admission = Admission::new(ME);
        assert!(!admission.admit(Term(1), &start(ME)), "it has not joined yet");
        admission.accept(true);
        assert!(admission.admit(Term(1), &start(ME)));
        assert!(!admission.admit(Term(1), &start(NodeIncarnation { incarnation: Incarnation(2), ..ME })));
        admission.accept(false);
        assert!(!admission.admit(Term(1), &start(ME)), "it has left");
    }

    /// Protocol M-4 for decisions: whoever was deposed is no longer listened to.
    #[test]
    fn commands_of_an_older_depoch_are_not_taken() {
        let mut admission = Admission::new(ME);
        admission.accept(true);
        assert!(admission.admit(Term(2), &start(ME)));
        assert!(!admission.admit(Term(1), &start(ME)));
        admission.see(Term(4));
        assert!(!admission.admit(Term(3), &start(ME)) && admission.admit(Term(4), &start(ME)));
    }
}
