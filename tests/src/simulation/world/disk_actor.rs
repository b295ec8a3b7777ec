//! The disk actor: one I/O thread that does one job after the other (`phalanx_actors::disk`).

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::{Instant, NodeId};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::manager::{DiskAnswer, DiskRequest, ManagerInput, RecordReader};

use super::World;
use crate::simulation::disk::Fate;
use crate::simulation::process::{DiskThread, Job, ProcessEvent, Sampled};

pub(super) const FAILED: &str = "input/output error";

impl World {
    fn disk_thread(&mut self, node: NodeId) -> Option<&mut DiskThread> {
        Some(&mut self.process_mut(node)?.actors.as_mut()?.disk)
    }

    /// The disk actor is asked.
    pub(super) fn ask_disk_for(&mut self, node: NodeId, job: Job) {
        if let Some(thread) = self.disk_thread(node) {
            thread.jobs.push_back(job);
        }
        self.next_job(node);
    }

    fn next_job(&mut self, node: NodeId) {
        let begun = self.clock(node);
        let Some(thread) = self.disk_thread(node).filter(|thread| thread.doing.is_none()) else { return };
        let Some(job) = thread.jobs.pop_front() else { return };
        let sampled = match &job {
            Job::Membership(request) => self.begin_membership_job(node, request),
            Job::Read(_) => Sampled::new(),
            Job::Write(write) => {
                self.begin_service_write(node, write);
                Sampled::new()
            }
        };
        if let Some(thread) = self.disk_thread(node) {
            thread.doing = Some((job, begun, sampled));
        }
        let takes = self.io_time();
        self.plan(node, self.now + takes, ProcessEvent::DiskDone);
    }

    fn begin_membership_job(&mut self, node: NodeId, request: &DiskRequest) -> Sampled {
        match request {
            DiskRequest::ReadRegisters(_) => return self.sample_some_registers(),
            DiskRequest::ReadMembership(_) | DiskRequest::ReadConfiguration(..) => {}
            DiskRequest::WriteConfiguration { record, keep } => {
                self.disk.begin_configuration(node, Arc::clone(record), *keep);
            }
            DiskRequest::WriteMembership { record, durable } => {
                self.begin_membership_write(node, Arc::clone(record), *durable);
            }
        }
        Sampled::new()
    }

    fn begin_membership_write(&mut self, node: NodeId, record: Arc<MembershipRecord>, durable: bool) {
        let Some(process) = self.process(node) else { return };
        let (me, base) = (process.me, process.actors.as_ref().map(|actors| actors.base).unwrap_or_default());
        let found = self.truth.record_written(me, &record, base);
        self.broken_all(found);
        self.log.event(self.now, Some(node), "writes record", &[record.revision.term.0, record.revision.seq], || {
            record.revision.to_string()
        });
        if let Some(cell) = self.disk.memberships.get_mut(&node) {
            cell.begin(record, durable);
        }
    }

    pub(super) fn disk_done(&mut self, node: NodeId) {
        let Some((job, begun, sampled)) = self.disk_thread(node).and_then(|thread| thread.doing.take()) else { return };
        match job {
            Job::Membership(request) => {
                let answer = self.end_membership_job(node, request, begun, sampled);
                self.next_job(node);
                self.tell_manager(node, ManagerInput::Disk(answer));
            }
            Job::Read(read) => {
                let answer = self.service_read(node, read);
                self.next_job(node);
                self.tell_launcher(node, answer);
            }
            Job::Write(write) => {
                let answer = self.end_service_write(node, &write);
                self.next_job(node);
                self.tell_launcher(node, answer);
            }
        }
    }

    fn end_membership_job(&mut self, node: NodeId, job: DiskRequest, begun: Instant, sampled: Sampled) -> DiskAnswer {
        let ended = self.clock(node);
        let read_error = self.random.chance(self.setup.weather.read_error);
        match job {
            DiskRequest::ReadRegisters(reader) if read_error => DiskAnswer::Registers(reader, Err(FAILED.to_owned())),
            DiskRequest::ReadRegisters(reader) => {
                let registers = self.rest_of_registers(sampled);
                DiskAnswer::Registers(reader, Ok(Arc::new(RegistersReading { begun, ended, registers })))
            }
            DiskRequest::ReadMembership(reader) if read_error => DiskAnswer::Membership(reader, Err(FAILED.to_owned())),
            DiskRequest::ReadMembership(reader) => {
                let record = self.disk.newest_membership(&mut self.random);
                if let Some(actors) = self.process_mut(node).and_then(|process| process.actors.as_mut())
                    && reader == RecordReader::Base
                {
                    actors.base = record.revision;
                }
                DiskAnswer::Membership(reader, Ok(Some((*record).clone())))
            }
            DiskRequest::ReadConfiguration(reader, _) if read_error => {
                DiskAnswer::Configuration(reader, Err(FAILED.to_owned()))
            }
            DiskRequest::ReadConfiguration(reader, revision) => {
                let record = self.disk.find_configuration(revision).map(|record| (*record).clone());
                DiskAnswer::Configuration(reader, Ok(record))
            }
            DiskRequest::WriteConfiguration { .. } => {
                let (fate, result) = self.write_fate();
                let torn = self.random.coin();
                self.disk.end_configuration(node, fate, torn);
                DiskAnswer::ConfigurationWritten(result)
            }
            DiskRequest::WriteMembership { record, .. } => {
                let (fate, result) = self.write_fate();
                if let Some(cell) = self.disk.memberships.get_mut(&node) {
                    cell.end(fate);
                }
                if result.is_ok() {
                    self.truth.record_completed(record.revision);
                }
                DiskAnswer::MembershipWritten(result)
            }
        }
    }

    /// A write that returns an error may have happened.
    pub(super) fn write_fate(&mut self) -> (Fate, Result<(), String>) {
        if !self.random.chance(self.setup.weather.write_error) {
            return (Fate::Landed, Ok(()));
        }
        let fate = if self.random.coin() { Fate::Landed } else { Fate::Vanished };
        (fate, Err(FAILED.to_owned()))
    }

    /// A reading looks at one register after the other: some when it begins, the rest when it ends.
    pub(super) fn sample_some_registers(&mut self) -> Sampled {
        let early = self.random.next();
        let ids: Vec<NodeId> = self.disk.registers.keys().copied().filter(|id| early >> id.0 & 1 == 1).collect();
        ids.into_iter().map(|id| (id, self.sample(id))).collect()
    }

    pub(super) fn rest_of_registers(&mut self, mut sampled: Sampled) -> BTreeMap<NodeId, Option<NodeRegister>> {
        let missing: Vec<NodeId> = self.node_ids().into_iter().filter(|id| !sampled.contains_key(id)).collect();
        sampled.extend(missing.into_iter().map(|id| (id, self.sample(id))).collect::<Sampled>());
        sampled.into_iter().map(|(id, register)| (id, register.map(|register| (*register).clone()))).collect()
    }

    fn sample(&mut self, id: NodeId) -> Option<Arc<NodeRegister>> {
        if self.random.chance(self.setup.weather.unreadable) {
            return None;
        }
        Some(self.disk.registers[&id].read(&mut self.random))
    }
}
