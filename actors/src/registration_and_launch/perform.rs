//! Carries the machine's outputs out.

use actix::prelude::*;
use phalanx_messages::launch::{Owner, WardenRequest};
use phalanx_messages::peer::PeerMessage;
use phalanx_messages::registration::Instance;
use phalanx_protocol::launcher::{LauncherInput, LauncherOutput, LauncherRead, LauncherWrite};

use phalanx_storage::Durability;

use super::{
    ReadDecisions, ReadRegistration, RegistrationAndLaunch, RequestForce, SendToPeer, ServiceHappened, WriteDecision,
    WriteRegistration,
};
use crate::client_service::{ClientService, ClientServiceSettings, DatabaseSeen, Perform, Registered, monitor_owner};
use crate::disk::DiskFailure;
use crate::ports::DatabaseCommitted;
use crate::restart::Restarts;

impl RegistrationAndLaunch {
    pub(super) fn perform(&mut self, output: LauncherOutput, ctx: &mut Context<Self>) {
        match output {
            LauncherOutput::Read(LauncherRead::Decisions) => {
                let read = self.edges.read_decisions.send(ReadDecisions);
                self.answer_later(read, ctx, LauncherInput::DecisionsRead);
            }
            LauncherOutput::Read(LauncherRead::Registration(reader)) => {
                let read = self.edges.read_registration.send(ReadRegistration);
                self.answer_later(read, ctx, move |newest| LauncherInput::RegistrationRead(reader, newest));
            }
            LauncherOutput::Write(LauncherWrite::Decision(register)) => {
                let write = WriteDecision { register, durability: Durability::Durable };
                self.answer_later(self.edges.write_decision.send(write), ctx, LauncherInput::Written);
            }
            LauncherOutput::Write(LauncherWrite::Registration { record, durable }) => {
                let durability = if durable { Durability::Durable } else { Durability::Volatile };
                let write = WriteRegistration { record, durability };
                self.answer_later(self.edges.write_registration.send(write), ctx, LauncherInput::Written);
            }
            LauncherOutput::Send { to, message } => {
                self.edges.peers.do_send(SendToPeer { to, message: PeerMessage::Registration(message) });
            }
            LauncherOutput::Perform { order, victim } => {
                if let Some(service) = self.service(&order.command.instance) {
                    service.do_send(Perform { order: *order, victim });
                }
            }
            LauncherOutput::DatabaseSeen { instance, revision, awaited, defined } => {
                let address = if defined {
                    self.service(&instance)
                } else {
                    self.forget(&instance);
                    self.monitors.remove(&instance);
                    self.services.remove(&instance)
                };
                if let Some(address) = address {
                    address.do_send(DatabaseSeen { revision, awaited });
                }
            }
            LauncherOutput::Registered { instance, here } => {
                // A service that was removed hears by its end; one that never ran here has nobody to tell.
                let address =
                    if here.is_some() { self.service(&instance) } else { self.services.get(&instance).cloned() };
                if let Some(address) = address {
                    address.do_send(Registered(here));
                }
            }
            LauncherOutput::Force { victim, reason } => self.edges.force.do_send(RequestForce { victim, reason }),
            LauncherOutput::Happened { service, node, text } => {
                tracing::info!("{text}");
                let happened = ServiceHappened { service, node, text };
                self.edges.happened.iter().for_each(|listener| listener.do_send(happened.clone()));
            }
            LauncherOutput::Adopted(change) => {
                if let Some(answer) = self.changes.remove(&change) {
                    answer.send(Ok(())).ok(); // the watcher may have gone
                }
            }
            LauncherOutput::Answer { counter, answer } => {
                if let Some(asked) = self.orders.remove(&counter) {
                    asked.send(answer).ok(); // whoever asked may have gone
                }
            }
            LauncherOutput::Committed(record) => {
                let committed = DatabaseCommitted(record);
                self.edges.committed.iter().for_each(|listener| listener.do_send(committed.clone()));
            }
            LauncherOutput::Leader(leader) => tracing::info!(?leader, "registration decisions are made by"),
            LauncherOutput::DiskFailed(failure) => {
                tracing::warn!(failure, "disk request of registration-and-launch failed");
            }
        }
    }

    /// What is kept of the output of an instance that is defined no more goes with it.
    fn forget(&self, instance: &Instance) {
        for owner in [Owner::Service(instance.lane()), monitor_owner(&instance.lane())] {
            self.edges.warden.do_send(WardenRequest::Forget { owner });
        }
    }

    fn answer_later<T: 'static>(
        &self,
        request: impl Future<Output = Result<Result<T, DiskFailure>, MailboxError>> + 'static,
        ctx: &mut Context<Self>,
        answer: impl FnOnce(Result<T, String>) -> LauncherInput + 'static,
    ) {
        ctx.spawn(request.into_actor(self).map(|answered, actor, ctx| {
            let answered = match answered {
                Ok(done) => done.map_err(|failure| failure.to_string()),
                Err(closed) => Err(format!("the disk actor is gone: {closed}")),
            };
            actor.give(answer(answered), ctx);
        }));
    }

    /// The actor of that instance; started when it is first needed. `None` only before this actor has started itself.
    fn service(&mut self, instance: &Instance) -> Option<Addr<ClientService>> {
        if let Some(service) = self.services.get(instance).filter(|service| service.connected()) {
            return Some(service.clone());
        }
        let service = ClientService::new(ClientServiceSettings {
            surroundings: self.settings.surroundings.clone(),
            kill_ms: self.settings.profile.kill_ms,
            gate: self.settings.gate.clone(),
            restarts: Restarts::new(self.settings.guard.clone(), self.settings.clock),
            warden: self.edges.warden.clone(),
            actors: self.edges.actors.clone(),
            reported: self.own.clone()?.recipient(),
            monitored: self.own.clone()?.recipient(),
            orders: self.own.clone()?.recipient(),
        })
        .start();
        self.services.insert(instance.clone(), service.clone());
        Some(service)
    }
}
