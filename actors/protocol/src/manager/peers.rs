//! Messages of other nodes, and the state of the connections to them.

use crate::agent::AgentInput;
use crate::coordinator::CoordinatorInput;
use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::{NodeId, Revision};

use super::*;
use crate::lease::Publication;

impl Manager {
    pub(super) fn connected(&mut self, peer: NodeIncarnation) {
        self.detector.up(peer);
        self.probes.remove(&peer.node);
        self.publish_hears();
        self.asked_at = None;
    }

    pub(super) fn disconnected(&mut self, peer: NodeIncarnation) {
        let now = self.now();
        self.detector.down(peer, now);
        self.publish_hears();
        self.probe(peer.node);
    }

    /// A changed view goes to the disk at once (protocol §4.1).
    fn publish_hears(&mut self) {
        let hears = Some(self.heard());
        self.publish(Publication { hears, ..Publication::default() });
    }

    /// True if a message of this revision is too old to be followed (protocol M-4).
    fn is_stale(&mut self, from: NodeId, revision: Revision) -> bool {
        let stale = revision.term < self.newest.revision.term;
        if stale {
            self.refuse_stale(from);
        }
        stale
    }

    pub(super) fn received(&mut self, from: NodeIncarnation, message: MembershipMessage) {
        match message {
            MembershipMessage::JoinRequest { levels, boot, hears, public_key } => {
                self.join_requested(from, levels, boot, hears, public_key);
            }
            MembershipMessage::JoinRefused(refusal) => self.refused(refusal),
            MembershipMessage::LeaveRequest { node } => {
                self.coordinate(CoordinatorInput::LeaveRequest { node });
            }
            MembershipMessage::ForceRequest { victim, reason } => self.force_requested(from, victim, reason),
            MembershipMessage::Notify(record) => {
                if !self.is_stale(from.node, record.revision) {
                    self.told(from.node, record.revision.term, record);
                }
            }
            MembershipMessage::Acknowledged(answers) => self.acknowledged(from, answers),
            MembershipMessage::Stale { seen } => {
                if seen.term > self.frm.term() && self.coordinator.is_some() {
                    self.emit(ManagerOutput::RenewLease); // its reading shows the newer claim
                }
            }
            MembershipMessage::NewMaster { revision } => {
                if !self.is_stale(from.node, revision) {
                    self.new_master(from.node, revision);
                }
            }
            MembershipMessage::Report { seen, steps } => {
                self.coordinate(CoordinatorInput::Report { from, seen, steps });
            }
            MembershipMessage::Expelled { victim } if victim == self.settings.me => {
                self.panic("forced out by the master");
            }
            MembershipMessage::Expelled { .. } => {}
            MembershipMessage::Request { counter, request } => self.requested(from, counter, request),
            MembershipMessage::Answer { counter, answer } => self.request_answered(counter, answer),
            MembershipMessage::RegisterLevel { registration, seen } => {
                self.coordinate(CoordinatorInput::Register { from, registration, seen });
            }
            MembershipMessage::WithdrawLevel { level, seen } => {
                self.coordinate(CoordinatorInput::Withdraw { from, level, seen });
            }
            MembershipMessage::LevelRefused { registration, refusal } => {
                self.advise(AgentInput::Refused(registration, refusal), from.node);
            }
        }
    }

    /// A master that asks the victim itself may not mark it for want of votes (protocol §4.4). Once the victim has panicked, its next
    /// start proves its end and brings its vote back.
    fn force_requested(&mut self, from: NodeIncarnation, victim: NodeIncarnation, reason: String) {
        if victim == self.settings.me && self.master() == Some(from.node) {
            return self.panic(format!("{reason}; the master may not force it out without its vote"));
        }
        self.force(victim, reason);
    }

    pub(super) fn force(&mut self, victim: NodeIncarnation, reason: String) {
        match self.master() {
            Some(master) if master == self.here() => self.force_out(victim, reason),
            Some(master) => self.send(master, MembershipMessage::ForceRequest { victim, reason }),
            None => {} // asked again while the need exists
        }
    }
}
