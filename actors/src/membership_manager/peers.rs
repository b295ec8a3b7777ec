//! Messages of other nodes, and the state of the connections to them.

use phalanx_messages::peer::{MembershipMessage, PeerMessage};
use phalanx_messages::{NodeId, Revision};
use phalanx_protocol::coordinator::CoordinatorInput;

use super::*;
use crate::lease_thread::Publication;
use crate::ports::{PeerEvent, RequestForce, RequestLeave};

impl MembershipManager {
    fn peer_event(&mut self, event: PeerEvent, ctx: &mut Context<Self>) {
        match event {
            PeerEvent::Up(peer) => {
                self.detector.up(peer);
                self.probes.remove(&peer.node);
                self.publish_hears();
                self.asked_at = None;
            }
            PeerEvent::Down(peer) => {
                let now = self.now();
                self.detector.down(peer, now);
                self.publish_hears();
                if !self.ended {
                    self.probe(peer.node, ctx);
                }
            }
            PeerEvent::Received { from, message: PeerMessage::Membership(message) } => {
                self.received(from, message, ctx);
            }
            PeerEvent::Received { from, message: PeerMessage::Heartbeat(heartbeat) } => {
                let revision = heartbeat.seen;
                self.coordinate(CoordinatorInput::Seen { from, revision }, ctx);
            }
            PeerEvent::Received { message: PeerMessage::Registration(_), .. } => {}
        }
    }

    /// A changed view goes to the disk at once (protocol §4.1).
    fn publish_hears(&self) {
        let hears = Some(self.heard());
        drop(self.edges.lease.publish(Publication { hears, ..Publication::default() }));
    }

    /// True if a message of this revision is too old to be followed (protocol M-4).
    fn is_stale(&self, from: NodeId, revision: Revision) -> bool {
        let stale = revision.term < self.newest.revision.term;
        if stale {
            self.refuse_stale(from);
        }
        stale
    }

    fn received(&mut self, from: NodeIncarnation, message: MembershipMessage, ctx: &mut Context<Self>) {
        match message {
            MembershipMessage::JoinRequest { levels, boot, hears, public_key } => {
                self.join_requested(from, levels, boot, hears, public_key, ctx);
            }
            MembershipMessage::JoinRefused(refusal) => self.refused(refusal),
            MembershipMessage::LeaveRequest { node } => {
                self.coordinate(CoordinatorInput::LeaveRequest { node }, ctx);
            }
            MembershipMessage::ForceRequest { victim, reason } => self.force(victim, reason, ctx),
            MembershipMessage::Notify(record) => {
                if !self.is_stale(from.node, record.revision) {
                    self.told(from.node, record.revision.term, *record, ctx);
                }
            }
            MembershipMessage::Acknowledged(answers) => self.acknowledged(from, answers, ctx),
            MembershipMessage::Stale { seen } => {
                if seen.term > self.frm.term() && self.coordinator.is_some() {
                    self.edges.lease.renew_now(); // its reading shows the newer claim
                }
            }
            MembershipMessage::NewMaster { revision } => {
                if !self.is_stale(from.node, revision) {
                    self.new_master(from.node, revision, ctx);
                }
            }
            MembershipMessage::Report { seen, steps } => {
                self.coordinate(CoordinatorInput::Report { from, seen, steps }, ctx);
            }
            MembershipMessage::Expelled { victim } if victim == self.settings.me => {
                self.edges.guard.node_panic("forced out by the master");
            }
            MembershipMessage::Expelled { .. } => {}
            MembershipMessage::Request { counter, request } => self.requested(from, counter, request, ctx),
            MembershipMessage::Answer { counter, answer } => self.request_answered(counter, answer, ctx),
        }
    }

    fn force(&mut self, victim: NodeIncarnation, reason: String, ctx: &mut Context<Self>) {
        match self.master() {
            Some(master) if master == self.me() => self.force_out(victim, reason, ctx),
            Some(master) => self.send(master, MembershipMessage::ForceRequest { victim, reason }),
            None => {} // asked again while the need exists
        }
    }
}

impl Handler<PeerEvent> for MembershipManager {
    type Result = ();

    fn handle(&mut self, message: PeerEvent, ctx: &mut Self::Context) {
        let guard = self.edges.guard.clone();
        guard.run(|| self.peer_event(message, ctx));
    }
}

impl Handler<RequestLeave> for MembershipManager {
    type Result = Result<(), String>;

    fn handle(&mut self, RequestLeave(node): RequestLeave, ctx: &mut Self::Context) -> Self::Result {
        let guard = self.edges.guard.clone();
        guard.run(|| self.request_leave(node, ctx))
    }
}

impl Handler<RequestForce> for MembershipManager {
    type Result = ();

    fn handle(&mut self, RequestForce { victim, reason }: RequestForce, ctx: &mut Self::Context) {
        let guard = self.edges.guard.clone();
        guard.run(|| self.force(victim, reason, ctx));
    }
}
