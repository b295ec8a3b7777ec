//! Carries the machine's outputs out.

use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::peer::{MembershipMessage, PeerMessage};
use phalanx_protocol::chronicle::Happening;
use phalanx_protocol::manager::{DiskAnswer, DiskRequest, DiskResult, End, ManagerInput, ManagerOutput};
use phalanx_storage::Durability;

use super::words::{refusal_text, say};
use super::{LeaveBegun, MembershipEnded, MembershipManager};
use crate::disk::{
    DiskActor, DiskFailure, ReadConfiguration, ReadMembership, ReadRegisters, WriteConfiguration, WriteMembership,
};
use crate::fence_actor::SeekProofs;
use crate::interconnect::{MasterIs, SetHeartbeatTargets, SetSeen};
use crate::ports::{ConfigurationChanged, Happened, SendToPeer, SendToPeers};
use crate::registration_and_launch::LeaseView;
use crate::subsystem::SubsystemEvent;

impl MembershipManager {
    pub(super) fn perform(&mut self, output: ManagerOutput, ctx: &mut Context<Self>) {
        match output {
            ManagerOutput::Disk(request) => self.disk_request(request, ctx),
            ManagerOutput::Publish(publication) => drop(self.edges.lease.publish(publication)),
            ManagerOutput::PublishClaim(publication) => {
                let written = self.edges.lease.publish(publication);
                let written = async move { written.await.map_err(|_| "the lease thread has ended".to_owned()) };
                self.answer_later(written, ctx, |written| ManagerInput::ClaimPublished(written.map(|_| ())));
            }
            ManagerOutput::RenewLease => self.edges.lease.renew_now(),
            ManagerOutput::StopLease(last_word) => {
                let stopped = self.edges.lease.stop(Some(last_word));
                self.answer_later(stopped, ctx, |_| ManagerInput::LeaseStopped);
            }
            ManagerOutput::ProbeLater => {
                ctx.run_later(self.edges.probe, |actor, ctx| actor.take(ManagerInput::Probe, ctx));
            }
            ManagerOutput::Send { to, message } => {
                self.edges.peers.do_send(SendToPeer { to, message: PeerMessage::Membership(message) });
            }
            ManagerOutput::Tell { to, record } => {
                let message = PeerMessage::Membership(MembershipMessage::Notify(record));
                self.edges.many.do_send(SendToPeers { to, message });
            }
            ManagerOutput::Notify(notification) => self.notify_subsystem(notification),
            ManagerOutput::Resume { level, states } => self.tell_subsystem(level, SubsystemEvent::Resumed(states)),
            ManagerOutput::LevelRefused { level, refusal } => self.refuse_subsystem(level, refusal),
            ManagerOutput::Deregistered(level) => self.release(level, SubsystemEvent::Withdrawn),
            ManagerOutput::Seen(revision) => self.edges.seen.do_send(SetSeen(revision)),
            ManagerOutput::MasterIs(master) => self.edges.master.do_send(MasterIs(Some(master))),
            ManagerOutput::HeartbeatTargets(targets) => self.edges.targets.do_send(SetHeartbeatTargets(targets)),
            ManagerOutput::SeekProofs(wanted) => {
                if let Some(fence) = &self.edges.fence {
                    fence.do_send(SeekProofs(wanted));
                }
            }
            ManagerOutput::Leases { expired, dead, gone } => {
                for interested in &self.edges.leases {
                    interested.do_send(LeaseView { expired, dead: dead.clone(), gone: gone.clone() });
                }
            }
            ManagerOutput::ConfigurationChanged(configuration) => {
                tracing::info!(revision = %configuration.revision, "the membership configuration has changed");
                for interested in &self.edges.configuration {
                    interested.do_send(ConfigurationChanged(configuration.clone()));
                }
            }
            // The trace tells who has acknowledged what: a transition of a large cluster has thousands of these.
            ManagerOutput::Happened { happening: happening @ Happening::StepAcknowledged { .. }, .. } => {
                tracing::debug!(?happening, "membership");
            }
            ManagerOutput::Happened { happening, by_master, term } => {
                tracing::info!(?happening, "membership");
                for observer in &self.edges.observers {
                    observer.do_send(Happened { happening: happening.clone(), by_master, term });
                }
            }
            ManagerOutput::LeaveBegun => self.edges.leaving.do_send(LeaveBegun),
            ManagerOutput::LeaveTaken(taken) => self.leave_taken = Some(taken),
            ManagerOutput::Answer { counter, answer } => {
                if let Some(asking) = self.asking.remove(&counter) {
                    asking.send(answer).ok(); // whoever asked may have gone
                }
            }
            ManagerOutput::Remark(remark) => say(&remark),
            ManagerOutput::Ended(how) => self.edges.ended.do_send(match how {
                End::Left => MembershipEnded::Left,
                End::JoinFailed(text) => MembershipEnded::Refused(text),
                End::Refused(refusal) => MembershipEnded::Refused(refusal_text(&refusal)),
            }),
            ManagerOutput::Panic { reason } => self.edges.guard.node_panic(&reason),
        }
    }

    fn disk_request(&self, request: DiskRequest, ctx: &mut Context<Self>) {
        match request {
            DiskRequest::ReadRegisters(reader) => {
                self.ask_disk(ReadRegisters, ctx, move |reading| DiskAnswer::Registers(reader, reading.map(Arc::new)));
            }
            DiskRequest::ReadMembership(reader) => {
                self.ask_disk(ReadMembership, ctx, move |record| DiskAnswer::Membership(reader, record));
            }
            DiskRequest::ReadConfiguration(reader, revision) => {
                let read = ReadConfiguration { revision: Some(revision) };
                self.ask_disk(read, ctx, move |record| DiskAnswer::Configuration(reader, record));
            }
            DiskRequest::WriteConfiguration { record, keep } => {
                let write = WriteConfiguration { record, keep, durability: Durability::Durable };
                self.ask_disk(write, ctx, DiskAnswer::ConfigurationWritten);
            }
            DiskRequest::WriteMembership { record, durable } => {
                let durability = if durable { Durability::Durable } else { Durability::Volatile };
                self.ask_disk(WriteMembership { record, durability }, ctx, DiskAnswer::MembershipWritten);
            }
        }
    }

    fn ask_disk<M, T>(
        &self,
        request: M,
        ctx: &mut Context<Self>,
        answer: impl FnOnce(DiskResult<T>) -> DiskAnswer + 'static,
    ) where
        M: Message<Result = Result<T, DiskFailure>> + Send + 'static,
        T: Send + 'static,
        DiskActor: Handler<M>,
    {
        let request = self.edges.disk.send(request);
        let work = async move { request.await.map_err(DiskFailure::gone)? };
        self.answer_later(work, ctx, |result: Result<T, DiskFailure>| {
            ManagerInput::Disk(answer(result.map_err(|failure| failure.to_string())))
        });
    }

    fn answer_later<F: Future + 'static>(
        &self,
        work: F,
        ctx: &mut Context<Self>,
        answer: impl FnOnce(F::Output) -> ManagerInput + 'static,
    ) {
        ctx.spawn(work.into_actor(self).map(|result, actor, ctx| actor.take(answer(result), ctx)));
    }
}
