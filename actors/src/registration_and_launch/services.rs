//! The newest database known on this node, the commands for it, and their results.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::registration::{OperationResult, Order, RegistrationMessage, RegistrationRecord};
use phalanx_messages::{NodeId, Term};
use phalanx_protocol::registration::{DeciderInput, Event, outstanding};

use super::{ReadRegistration, RegistrationAndLaunch};
use crate::client_service::{ClientService, ClientServiceSettings, DatabaseSeen, Perform};
use crate::ports::SendToPeer;
use crate::restart::Restarts;

/// A database not heard of for this long is read again.
const STALE_MS: u64 = 2_000;
/// Commands kept that came before this node had joined the level.
const EARLY_MAX: usize = 4_096;

impl RegistrationAndLaunch {
    /// A command for this node, from whoever decides.
    pub(super) fn take(&mut self, depoch: Term, order: Order) {
        if order.command.target == self.settings.me && !self.joined && self.early.len() < EARLY_MAX {
            self.early.push((depoch, order));
            return;
        }
        if !self.admission.admit(depoch, &order.command) {
            return;
        }
        let victim = order.command.victim.map(|victim| self.configuration.name_of(victim.node));
        if let Some(service) = self.service(&order.command.service) {
            service.do_send(Perform { order, victim });
        }
    }

    /// The actor of that service; started when it is first needed. `None` only before this actor has started itself.
    fn service(&mut self, name: &str) -> Option<Addr<ClientService>> {
        if let Some(service) = self.services.get(name).filter(|service| service.connected()) {
            return Some(service.clone());
        }
        let service = ClientService::new(ClientServiceSettings {
            surroundings: self.settings.surroundings.clone(),
            kill_ms: self.settings.profile.kill_ms,
            gate: self.settings.gate.clone(),
            restarts: Restarts::new(self.settings.guard.clone(), self.settings.clock),
            warden: self.edges.warden.clone(),
            reported: self.own.clone()?,
        })
        .start();
        self.services.insert(name.to_owned(), service.clone());
        Some(service)
    }

    /// To whoever decides; to everybody if that is not known. The service repeats it until it is consumed.
    pub(super) fn reported(&mut self, result: OperationResult, ctx: &mut Context<Self>) {
        let leader = self.decider.leader();
        let me = self.settings.me;
        if leader.is_none_or(|leader| leader == me.node) {
            let finished = Event::Finished { from: me, result: result.clone() };
            self.drive(DeciderInput::Happened(vec![finished]), ctx);
        }
        for peer in self.peers().filter(|peer| leader.is_none_or(|leader| leader == *peer)) {
            self.say(peer, RegistrationMessage::Results(vec![result.clone()]));
        }
    }

    /// Takes over a newer database.
    pub(super) fn learn(&mut self, record: Arc<RegistrationRecord>, ctx: &mut Context<Self>) {
        self.known_at = self.settings.clock.now();
        if record.revision < self.known.revision {
            return;
        }
        self.admission.see(record.revision.term);
        self.known = record;
        self.tell_services();
        self.run_timers(ctx);
        self.answer_orders(ctx);
    }

    fn tell_services(&mut self) {
        let mut awaited: std::collections::BTreeMap<&str, BTreeSet<_>> = Default::default();
        let commands = outstanding(&self.known);
        for command in commands.iter().filter(|command| command.target == self.settings.me) {
            awaited.entry(&command.service).or_default().insert((command.kind, command.operation));
        }
        let revision = self.known.revision;
        let seen: Vec<_> = (self.known.services.keys())
            .map(|name| (name.clone(), awaited.remove(name.as_str()).unwrap_or_default()))
            .collect();
        for (name, awaited) in seen {
            if let Some(service) = self.service(&name) {
                service.do_send(DatabaseSeen { revision, awaited });
            }
        }
        // One that was removed awaits nothing any more; its actor ends with its last result.
        let removed = self.services.extract_if(.., |name, _| !self.known.services.contains_key(name));
        removed.for_each(|(_, service)| service.do_send(DatabaseSeen { revision, awaited: BTreeSet::new() }));
    }

    /// Everybody runs the timers; who decides uses what expires (protocol RL-9).
    pub(super) fn run_timers(&mut self, ctx: &mut Context<Self>) {
        let expired = self.timers.observe(&self.known, self.settings.clock.now());
        if !expired.is_empty() && self.decider.committed().is_some() {
            self.drive(DeciderInput::Happened(expired), ctx);
        }
    }

    pub(super) fn refresh_if_stale(&mut self, ctx: &mut Context<Self>) {
        let age_ms = self.settings.clock.now().since(self.known_at);
        let owner = self.decider.committed().is_some();
        if !self.draining.is_empty() || (!owner && self.joined && age_ms >= STALE_MS) {
            self.refresh(ctx);
        }
    }

    pub(super) fn refresh_if_announced(&mut self, ctx: &mut Context<Self>) {
        if self.announced > self.known.revision || !self.draining.is_empty() {
            self.refresh(ctx);
        }
    }

    /// Reads the newest database; what was announced meanwhile is read afterwards.
    pub(super) fn refresh(&mut self, ctx: &mut Context<Self>) {
        if self.reading_known {
            return;
        }
        self.reading_known = true;
        self.readings_begun += 1;
        let (reading, before) = (self.readings_begun, self.announced);
        let read = self.edges.read_registration.send(ReadRegistration);
        ctx.spawn(read.into_actor(self).map(move |answer, actor, ctx| {
            actor.guarded(|actor| {
                actor.reading_known = false;
                match answer {
                    Ok(Ok(record)) => {
                        actor.learn(record.unwrap_or_default().into(), ctx);
                        actor.answer_if_drained(reading, ctx);
                    }
                    Ok(Err(failure)) => tracing::warn!(%failure, "the registration database cannot be read"),
                    Err(closed) => tracing::warn!(%closed, "the disk actor is gone"),
                }
                if actor.announced > before {
                    actor.refresh_if_announced(ctx);
                }
            });
        }));
    }

    /// The other nodes at the level.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> + use<> {
        let me = self.settings.me.node;
        let view = self.level.view();
        let peers: Vec<NodeId> =
            view.nodes.keys().copied().filter(|node| *node != me && view.is_present(*node)).collect();
        peers.into_iter()
    }

    pub(super) fn say(&self, to: NodeId, message: RegistrationMessage) {
        self.edges.peers.do_send(SendToPeer { to, message: PeerMessage::Registration(message) });
    }
}
