//! The interconnect of each node: heartbeats, silence, dialling (protocol §4.1; `phalanx_actors::interconnect`).

use std::sync::Arc;

use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::{NodeId, NodeIncarnation};
use phalanx_protocol::launcher::LauncherInput;
use phalanx_protocol::manager::ManagerInput;

use super::{Event, World};
use crate::simulation::clock::MS;
use crate::simulation::network::{Arrival, Due, Said};
use crate::simulation::process::{Actors, Link, ProcessEvent};

impl World {
    pub(super) fn actors(&self, node: NodeId) -> Option<&Actors> {
        self.process(node)?.actors.as_deref()
    }

    pub(super) fn actors_mut(&mut self, node: NodeId) -> Option<&mut Actors> {
        self.process_mut(node)?.actors.as_deref_mut()
    }

    pub(super) fn plan_arrivals(&mut self, due: impl IntoIterator<Item = Due>) {
        for Due { at, connection, to } in due {
            self.queue.plan(at, Event::Arrive { connection, to });
        }
    }

    /// Something has come to the host of `to`; its process takes it when it runs.
    pub(super) fn arrived(&mut self, connection: u64, to: NodeId) {
        let Some(arrival) = self.network.arrive(connection, to) else { return };
        let event = match arrival {
            Arrival::Message(from, said) => ProcessEvent::Heard { connection, from, said },
            Arrival::Closed => {
                let links = self.actors(to).map(|actors| &actors.links);
                let peer = links.and_then(|links| links.values().find(|link| link.connection == connection));
                let Some(peer) = peer.map(|link| link.peer.node) else { return };
                ProcessEvent::LinkClosed { connection, peer }
            }
        };
        self.plan(to, self.now, event);
    }

    pub(super) fn heard(&mut self, node: NodeId, connection: u64, from: NodeIncarnation, said: Said) {
        let now = self.now;
        let Some(link) = self.actors_mut(node).and_then(|actors| actors.links.get_mut(&from.node)) else { return };
        if link.connection != connection {
            return;
        }
        link.heard = now;
        match said {
            Said::Beat(seen) => self.manage(node, ManagerInput::Heartbeat { from, seen }),
            Said::Membership(message) => {
                if let MembershipMessage::JoinRefused(refusal) = &*message {
                    self.coverage.refused(refusal);
                }
                self.manage(node, ManagerInput::Received { from, message: (*message).clone() });
            }
            Said::Registration(message) => {
                self.launch(node, LauncherInput::Received { from, message: (*message).clone() });
            }
        }
    }

    pub(super) fn send(&mut self, node: NodeId, to: NodeId, said: Said) {
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let Some(link) = self.actors(node).and_then(|actors| actors.links.get(&to)).copied() else { return };
        let due = self.network.say(link.connection, me, to, said, self.now, &self.setup.weather);
        self.plan_arrivals(due);
    }

    pub(super) fn send_message(&mut self, node: NodeId, to: NodeId, message: MembershipMessage) {
        self.send(node, to, Said::Membership(Arc::new(message)));
    }

    pub(super) fn beat(&mut self, node: NodeId) {
        let (net_us, now) = (self.setup.profile.net_ms * MS, self.now);
        let Some(actors) = self.actors(node) else { return };
        let seen = actors.seen;
        let links: Vec<Link> = actors.links.values().copied().collect();
        for link in links {
            if now.saturating_sub(link.heard) > net_us {
                self.coverage.reach("silent link closed");
                self.close_link(node, link);
            } else {
                self.send(node, link.peer.node, Said::Beat(seen));
            }
        }
        self.dial_missing(node);
        self.plan_in_ms(node, self.setup.profile.heartbeat_ms(), ProcessEvent::Beat);
    }

    /// Of each pair the higher id dials.
    fn dial_missing(&mut self, node: NodeId) {
        let peers: Vec<NodeId> = self.node_ids().into_iter().filter(|peer| *peer < node).collect();
        for peer in peers {
            let at = self.now + self.random.between(MS, 100 * MS);
            let Some(process) = self.process_mut(node) else { return };
            let id = process.id;
            let Some(actors) = &mut process.actors else { return };
            if !actors.links.contains_key(&peer) && !actors.dialling.contains(&peer) {
                actors.dialling.push(peer);
                self.queue.plan(at, Event::Dial { from: node, to: peer, process: id });
            }
        }
    }

    pub(super) fn dial(&mut self, from: NodeId, to: NodeId, process: u64) {
        let Some(caller) = self.process(from).filter(|caller| caller.id == process) else { return };
        let (stopped, me) = (caller.stopped, caller.me);
        let Some(actors) = &caller.actors else { return };
        let connected = actors.links.contains_key(&to);
        if !connected && !stopped && self.connect(from, me, to) {
            return; // until both ends know of the connection nobody dials again
        }
        if let Some(actors) = self.actors_mut(from) {
            actors.dialling.retain(|peer| *peer != to);
        }
    }

    fn connect(&mut self, from: NodeId, me: NodeIncarnation, to: NodeId) -> bool {
        let configured = |at: NodeId, who: NodeId| {
            self.configuration_of(at).is_some_and(|configuration| configuration.nodes.contains_key(&who))
        };
        let called = self.process(to).filter(|called| called.actors.is_some() && !called.stopped);
        let Some(peer) = called.map(|called| called.me) else { return false };
        if self.network.is_cut(from, to)
            || self.network.is_cut(to, from)
            || !configured(from, to)
            || !configured(to, from)
        {
            return false;
        }
        let (connection, up, due) = self.network.connect(me, peer, self.now, &self.setup.weather);
        self.plan(to, self.now, ProcessEvent::LinkUp { connection, peer: me });
        self.plan(from, up, ProcessEvent::LinkUp { connection, peer });
        self.plan_arrivals(due);
        true
    }

    pub(super) fn link_up(&mut self, node: NodeId, connection: u64, peer: NodeIncarnation) {
        let heard = self.now;
        let Some(actors) = self.actors_mut(node) else { return };
        if let Some(old) = actors.links.get(&peer.node).copied() {
            if old.connection > connection {
                return;
            }
            self.close_link(node, old);
        }
        let Some(actors) = self.actors_mut(node) else { return };
        actors.dialling.retain(|dialled| *dialled != peer.node);
        actors.links.insert(peer.node, Link { connection, peer, heard });
        self.log.event(self.now, Some(node), "link up", &[connection, u64::from(peer.node.0)], || peer.to_string());
        self.manage(node, ManagerInput::Up(peer));
        self.launch(node, LauncherInput::Up(peer));
    }

    /// This end gives the connection up.
    pub(super) fn close_link(&mut self, node: NodeId, link: Link) {
        let due = self.network.close(link.connection, link.peer.node, self.now, &self.setup.weather);
        self.plan_arrivals(due);
        self.link_closed(node, link.connection, link.peer.node);
    }

    pub(super) fn link_closed(&mut self, node: NodeId, connection: u64, peer: NodeId) {
        let Some(actors) = self.actors_mut(node) else { return };
        let Some(link) = actors.links.get(&peer).filter(|link| link.connection == connection).copied() else { return };
        actors.links.remove(&peer);
        self.note_unlinked();
        self.log.event(self.now, Some(node), "link down", &[connection, u64::from(peer.0)], || link.peer.to_string());
        self.manage(node, ManagerInput::Down(link.peer));
    }
}

impl World {
    fn is_linked(&self, one: NodeIncarnation, other: NodeIncarnation) -> bool {
        let sees = |from: NodeIncarnation, to: NodeIncarnation| {
            let process = self.process(from.node).filter(|process| process.me == from);
            let link = process.and_then(|process| process.actors.as_ref()?.links.get(&to.node));
            link.is_some_and(|link| link.peer == to)
        };
        sees(one, other) && sees(other, one)
    }

    /// Takes down which members are not connected to each other now.
    pub(super) fn note_unlinked(&mut self) {
        let members = self.truth.members();
        for (index, one) in members.iter().enumerate() {
            for other in &members[..index] {
                if !self.is_linked(*one, *other) {
                    self.unlinked.insert((*other, *one), self.now);
                    self.unlinked.insert((*one, *other), self.now);
                }
            }
        }
    }

    /// A member is forced out because of links: one of its links to another member was really cut, and lately.
    pub(super) fn check_links_of(&mut self, victim: NodeIncarnation) {
        let profile = self.setup.profile;
        let window = (5 * profile.settle_ms + 2 * profile.net_ms + 2 * profile.renewal_ms) * MS;
        let members = self.truth.members();
        let cut = |other: &NodeIncarnation| {
            let lately = self.unlinked.get(&(victim, *other)).is_some_and(|at| self.now - at <= window);
            *other != victim && (lately || !self.is_linked(victim, *other))
        };
        if !members.iter().any(cut) {
            self.broken(format!("4.3: {victim} is forced out because of links, and all its links to members stand"));
        }
    }
}
