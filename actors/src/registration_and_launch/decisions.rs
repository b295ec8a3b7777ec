//! Carries out what the decision machine asks, strictly in order: each disk request after the one before has completed.

use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::NodeIncarnation;
use phalanx_messages::registration::{Order, RegistrationMessage, RegistrationRecord};
use phalanx_protocol::registration::{Change, DeciderInput, DeciderOutput, is_only_member, tell, victims_of_failure};

use super::{ReadDecisions, ReadRegistration, RegistrationAndLaunch, WriteDecision, WriteRegistration};
use crate::ports::{RequestForce, ServiceHappened};

/// A need to force a node out is told again this often.
const FORCE_AGAIN_MS: u64 = 1_000;

/// Everybody is told again this often what is committed.
const ANNOUNCE_AGAIN_MS: u64 = 1_000;

/// How a disk request ended: the machine's next input, or what to try again.
type Ended = Result<DeciderInput, (DeciderOutput, String)>;

impl RegistrationAndLaunch {
    /// Gives the machine an input and carries out what follows.
    pub(super) fn drive(&mut self, input: DeciderInput, ctx: &mut Context<Self>) {
        self.work.extend(self.decider.step(input));
        self.pump(ctx);
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while !self.disk_busy {
            let Some(output) = self.work.pop_front() else { return };
            match output {
                DeciderOutput::ReadRegisters
                | DeciderOutput::Publish(_)
                | DeciderOutput::Load
                | DeciderOutput::Write(_) => self.ask_disk(output, ctx),
                DeciderOutput::Committed { record, changes } => self.committed(&record, &changes, ctx),
                DeciderOutput::Send(orders) => self.send_orders(orders),
                DeciderOutput::Leader(leader) => tracing::info!(?leader, "registration decisions are made by"),
                DeciderOutput::Adopted(token) => self.adopted(token, ctx),
            }
        }
    }

    fn ask_disk(&mut self, output: DeciderOutput, ctx: &mut Context<Self>) {
        self.disk_busy = true;
        let writes = matches!(output, DeciderOutput::Publish(_) | DeciderOutput::Write(_));
        if writes && !self.settings.gate.is_open_for(self.settings.profile.guard_ms) {
            return self.ask_disk_later(output, ctx);
        }
        let ended = self.disk_request(output);
        ctx.spawn(ended.into_actor(self).map(|ended, actor, ctx| actor.guarded(|actor| actor.disk_ended(ended, ctx))));
    }

    /// The lease is lost, or the disk failed: the same request again, since what failed may have happened.
    fn ask_disk_later(&self, output: DeciderOutput, ctx: &mut Context<Self>) {
        ctx.run_later(self.tau(), |actor, ctx| actor.guarded(|actor| actor.ask_disk(output, ctx)));
    }

    fn disk_ended(&mut self, ended: Ended, ctx: &mut Context<Self>) {
        match ended {
            Ok(input) => {
                self.disk_busy = false;
                self.drive(input, ctx);
            }
            Err((output, failure)) => {
                tracing::warn!(failure, "disk request of registration-and-launch failed");
                self.ask_disk_later(output, ctx);
            }
        }
    }

    fn disk_request(&self, output: DeciderOutput) -> std::pin::Pin<Box<dyn Future<Output = Ended>>> {
        let edges = self.edges.clone();
        let durability = self.settings.durability;
        Box::pin(async move {
            let done = match &output {
                DeciderOutput::ReadRegisters => {
                    flat(edges.read_decisions.send(ReadDecisions).await).map(DeciderInput::Registers)
                }
                DeciderOutput::Publish(register) => {
                    let write = WriteDecision { register: *register, durability };
                    flat(edges.write_decision.send(write).await).map(|()| DeciderInput::Published)
                }
                DeciderOutput::Load => {
                    let newest = flat(edges.read_registration.send(ReadRegistration).await);
                    newest.map(|newest| DeciderInput::Loaded(newest.map(Box::new)))
                }
                DeciderOutput::Write(record) => {
                    let write = WriteRegistration { record: record.clone(), durability };
                    flat(edges.write_registration.send(write).await).map(|()| DeciderInput::Written)
                }
                DeciderOutput::Committed { .. }
                | DeciderOutput::Send(_)
                | DeciderOutput::Leader(_)
                | DeciderOutput::Adopted(_) => Err("not a disk request".to_owned()),
            };
            done.map_err(|failure| (output, failure))
        })
    }

    fn committed(&mut self, record: &Arc<RegistrationRecord>, changes: &[Change], ctx: &mut Context<Self>) {
        self.announced = self.announced.max(record.revision);
        self.learn(record.clone(), ctx);
        if !self.draining.is_empty() {
            self.refresh(ctx);
        }
        for change in changes {
            let text = tell(change, &self.configuration);
            tracing::info!(revision = %record.revision, "{text}");
            let node = (!change.run.state.is_idle()).then_some(change.run.node.node);
            let happened = ServiceHappened { service: change.service.clone(), node, text };
            self.edges.happened.iter().for_each(|listener| listener.do_send(happened.clone()));
        }
        self.announce();
        self.request_forces();
    }

    /// Tells everybody which database is committed; repeated, since any message may be lost.
    pub(super) fn announce(&mut self) {
        let Some(revision) = self.decider.committed().map(|record| record.revision) else { return };
        self.announced_at = self.settings.clock.now();
        for peer in self.peers() {
            self.say(peer, RegistrationMessage::Committed { revision });
        }
    }

    pub(super) fn announce_again(&mut self) {
        if self.settings.gate.is_open() && self.settings.clock.now().since(self.announced_at) >= ANNOUNCE_AGAIN_MS {
            self.announce();
        }
    }

    /// A node without lease sends nothing; the commands are sent again when it has one, by whoever decides then.
    fn send_orders(&mut self, orders: Vec<Order>) {
        if !self.settings.gate.is_open() {
            return;
        }
        let Some(depoch) = self.decider.committed().map(|record| record.revision.term) else { return };
        let me = self.settings.me;
        let (mine, others): (Vec<Order>, Vec<Order>) = orders.into_iter().partition(|order| order.command.target == me);
        mine.into_iter().for_each(|order| self.take(depoch, order));
        for peer in self.peers() {
            let its = |order: &&Order| order.command.target.node == peer;
            let orders: Vec<Order> = others.iter().filter(its).cloned().collect();
            if !orders.is_empty() {
                self.say(peer, RegistrationMessage::Orders { depoch, orders });
            }
        }
    }

    /// Tells a new peer where the database is.
    pub(super) fn greet(&self, peer: NodeIncarnation) {
        if let Some(record) = self.decider.committed() {
            self.say(peer.node, RegistrationMessage::Committed { revision: record.revision });
        }
    }

    /// Protocol RL-8: as long as the need exists. The only member is not forced out unless it leaves.
    pub(super) fn request_forces(&mut self) {
        let Some(record) = self.decider.committed().cloned() else { return };
        let now = self.settings.clock.now();
        let victims = victims_of_failure(&record);
        if victims.is_empty() || now.since(self.forced_at) < FORCE_AGAIN_MS {
            return;
        }
        self.forced_at = now;
        for (victim, reason) in victims {
            if !is_only_member(&record.seen(), victim.node) {
                self.edges.force.do_send(RequestForce { victim, reason });
            }
        }
    }
}

fn flat<T>(answer: Result<Result<T, crate::disk::DiskFailure>, MailboxError>) -> Result<T, String> {
    match answer {
        Ok(done) => done.map_err(|failure| failure.to_string()),
        Err(closed) => Err(format!("the disk actor is gone: {closed}")),
    }
}
