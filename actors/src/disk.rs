//! The disk actor: owns every region of the shared disk but this node's own register, which is the lease thread's
//! (protocol §9.1, "Who writes what").
//!
//! Disk calls block, so they run on one I/O thread, in the order in which they were asked for. On a disk whose I/Os may hang
//! there are three (see `Lane`), so that a write that hangs holds up its own register machine and no other (protocol §1.4).
//! Within one of them a read begins only after every earlier write has completed; between them it is the register machine that
//! waits for its write before it reads (protocol §3.2). Under a simulated clock the same work is done inline.
//!
//! Volatile writes are flushed once a second on a thread beside it, which nothing waits for (protocol §1.3).
//!
//! Once in two renewals it looks at the records that this node has written last, and writes one that has rotted since once more
//! (protocol D5, §3.8): a record of the master that nobody can read would cost every node its lease (L-4).
//!
//! Never: decides, retries or writes anything that it was not asked to write.

mod flusher;
mod requests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{NodeId, NodeIncarnation};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::proxy_repair::Repair;
use phalanx_storage::{AreaRecord, AreaWriter, ClusterDisk, Durability};
use tokio::sync::oneshot;

use self::flusher::Flusher;
pub use self::requests::{
    DiskFailure, LookAtUnreadable, ReadConfiguration, ReadDecisions, ReadMembership, ReadRegisters, ReadRegistration,
    RepairRegister, WriteConfiguration, WriteDecision, WriteMembership, WriteRegistration,
};
use crate::clock::Clock;
use crate::guard::PanicGuard;
use crate::ports::InjectPanic;

/// Where the disk calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoMode {
    /// On a thread of its own; for real disks.
    Thread,
    /// In the handler; for disks in memory under a clock that tests control.
    Inline,
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// One I/O thread.
struct Thread {
    jobs: mpsc::Sender<Job>,
    /// Asked to heal and not done with it: a thread that hangs is not asked again.
    healing: Arc<AtomicBool>,
}

/// See the module.
pub struct DiskActor {
    queue: Queue,
    guard: PanicGuard,
    /// Between two looks at what was written last.
    heal_every: Duration,
}

/// What hangs together.
#[derive(Debug, Clone, Copy)]
enum Lane {
    /// Reads of all registers: also whoever looks for a last word needs them.
    Registers,
    /// Membership and configuration areas.
    Membership,
    /// Decision registers and registration areas.
    Registration,
}

impl Lane {
    const ALL: [Self; 3] = [Self::Registers, Self::Membership, Self::Registration];
}

enum Queue {
    /// One thread for everything, or one for each lane.
    Threads {
        lanes: Vec<Thread>,
        _flusher: Flusher,
    },
    Inline(Box<Worker>),
}

impl DiskActor {
    /// A disk actor for this incarnation of a node.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn new(
        disk: ClusterDisk,
        me: NodeIncarnation,
        clock: Clock,
        mode: IoMode,
        guard: PanicGuard,
    ) -> std::io::Result<Self> {
        let heal_every = Duration::from_millis(2 * disk.superblock().profile.renewal_ms);
        let queue = match mode {
            IoMode::Inline => Queue::Inline(Box::new(Worker::new(disk, me, clock))),
            IoMode::Thread => {
                let _flusher = Flusher::start(disk.clone())?;
                let count = if disk.geometry().capabilities.may_hang { Lane::ALL.len() } else { 1 };
                let lane = |_| start_io_thread(Worker::new(disk.clone(), me, clock), guard.clone());
                Queue::Threads { lanes: (0..count).map(lane).collect::<std::io::Result<_>>()?, _flusher }
            }
        };
        Ok(Self { queue, guard, heal_every })
    }

    fn heal(&mut self) {
        match &mut self.queue {
            Queue::Inline(worker) => worker.heal(),
            Queue::Threads { lanes, .. } => {
                for Thread { jobs, healing } in lanes.iter().filter(|lane| !lane.healing.swap(true, Ordering::SeqCst)) {
                    let done = healing.clone();
                    let job = move |worker: &mut Worker| {
                        worker.heal();
                        done.store(false, Ordering::SeqCst);
                    };
                    jobs.send(Box::new(job)).ok(); // a thread that has ended has panicked, which its guard told
                }
            }
        }
    }

    fn ask<T: Send + 'static>(
        &mut self,
        lane: Lane,
        work: impl FnOnce(&mut Worker) -> Result<T, DiskFailure> + Send + 'static,
    ) -> ResponseFuture<Result<T, DiskFailure>> {
        let guard = self.guard.clone();
        guard.run(|| match &mut self.queue {
            Queue::Inline(worker) => {
                let answer = work(worker);
                Box::pin(async move { answer })
            }
            Queue::Threads { lanes, .. } => {
                let (answer, answered) = oneshot::channel();
                let jobs = &lanes[lane as usize % lanes.len()].jobs;
                // If the thread is gone, the dropped sender tells the caller.
                jobs.send(Box::new(move |worker| drop(answer.send(work(worker))))).ok();
                Box::pin(async move { answered.await.unwrap_or_else(|gone| Err(DiskFailure::gone(gone))) })
                    as ResponseFuture<Result<T, DiskFailure>>
            }
        })
    }
}

impl Actor for DiskActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.heal_every, |actor, _| actor.guard.clone().run(|| actor.heal()));
    }
}

/// Ends when the actor is dropped and what was asked for is done. A panic in there is a panic of the node, as in a handler.
fn start_io_thread(mut worker: Worker, guard: PanicGuard) -> std::io::Result<Thread> {
    let (jobs, todo) = mpsc::channel::<Job>();
    std::thread::Builder::new().name("phalanx-disk".to_owned()).spawn(move || {
        while let Ok(job) = todo.recv() {
            guard.run(|| job(&mut worker));
        }
    })?;
    Ok(Thread { jobs, healing: Arc::default() })
}

/// Does the work; lives on an I/O thread.
struct Worker {
    disk: ClusterDisk,
    me: NodeIncarnation,
    clock: Clock,
    membership: Option<Own<MembershipRecord>>,
    configuration: Option<Own<ConfigurationRecord>>,
    decision: Option<Own<DecisionRegister>>,
    registration: Option<Own<RegistrationRecord>>,
}

/// This node's pair of an area.
struct Own<T> {
    writer: AreaWriter<T>,
    /// The record of its last write that has completed.
    last: Option<Arc<T>>,
}

impl<T: AreaRecord> Own<T> {
    fn heal(own: &mut Option<Self>, area: &phalanx_storage::Area<T>) {
        let Some(Self { writer, last: Some(last) }) = own else { return };
        match writer.heal(last, Durability::Durable) {
            Ok(false) => {}
            Ok(true) => {
                let record = area.region().names().1;
                tracing::warn!(record, "what this node wrote last was unreadable: written again");
            }
            Err(error) => tracing::warn!(%error, "failed to look at what this node wrote last"),
        }
    }
}

impl Worker {
    const fn new(disk: ClusterDisk, me: NodeIncarnation, clock: Clock) -> Self {
        Self { disk, me, clock, membership: None, configuration: None, decision: None, registration: None }
    }

    fn heal(&mut self) {
        if self.disk.verify().is_err() {
            return; // a disk that was cut is the renewal's to find out; nothing of it is touched here
        }
        Own::heal(&mut self.membership, self.disk.memberships());
        Own::heal(&mut self.configuration, self.disk.configurations());
        Own::heal(&mut self.decision, self.disk.decisions());
        Own::heal(&mut self.registration, self.disk.registrations());
    }

    fn repair(&self, repair: &Repair) -> Result<bool, DiskFailure> {
        let Repair { node, digest, register } = repair;
        let area = self.disk.registers();
        if area.unreadable(*node).map_err(failure)? != Some(*digest) {
            return Ok(false);
        }
        let mut writer = area.writer(*node, register.incarnation).map_err(failure)?;
        for _ in 0..2 {
            writer.write(register, Durability::Durable).map_err(failure)?;
        }
        Ok(true)
    }

    fn registers(&self) -> Result<RegistersReading, DiskFailure> {
        let begun = self.clock.now();
        let registers = self.disk.registers().read_all().map_err(failure)?;
        Ok(RegistersReading { begun, ended: self.clock.now(), registers })
    }
}

/// The one writer of this node's pair, made at the first write.
fn writer<'a, T: AreaRecord>(
    own: &'a mut Option<Own<T>>,
    area: &phalanx_storage::Area<T>,
    me: NodeIncarnation,
) -> Result<&'a mut Own<T>, DiskFailure> {
    match own {
        Some(own) => Ok(own),
        None => {
            let writer = area.writer(me.node, me.incarnation).map_err(failure)?;
            Ok(own.insert(Own { writer, last: None }))
        }
    }
}

fn write<T: AreaRecord>(
    own: &mut Option<Own<T>>,
    area: &phalanx_storage::Area<T>,
    me: NodeIncarnation,
    record: Arc<T>,
    durability: Durability,
) -> Result<(), DiskFailure> {
    let own = writer(own, area, me)?;
    own.writer.write(&record, durability).map_err(failure)?;
    own.last = Some(record);
    Ok(())
}

/// The whole chain of causes in one line: it crosses a mailbox.
fn failure(error: impl std::error::Error) -> DiskFailure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    DiskFailure(text)
}

impl Handler<ReadRegisters> for DiskActor {
    type Result = ResponseFuture<Result<RegistersReading, DiskFailure>>;

    fn handle(&mut self, _: ReadRegisters, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Registers, |worker| worker.registers())
    }
}

impl Handler<LookAtUnreadable> for DiskActor {
    type Result = ResponseFuture<Result<Option<u32>, DiskFailure>>;

    fn handle(&mut self, LookAtUnreadable(node): LookAtUnreadable, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Registers, move |worker| worker.disk.registers().unreadable(node).map_err(failure))
    }
}

impl Handler<RepairRegister> for DiskActor {
    type Result = ResponseFuture<Result<bool, DiskFailure>>;

    fn handle(&mut self, RepairRegister(repair): RepairRegister, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Registers, move |worker| worker.repair(&repair))
    }
}

impl Handler<ReadMembership> for DiskActor {
    type Result = ResponseFuture<Result<Option<MembershipRecord>, DiskFailure>>;

    fn handle(&mut self, _: ReadMembership, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Membership, |worker| worker.disk.memberships().newest().map_err(failure))
    }
}

impl Handler<WriteMembership> for DiskActor {
    type Result = ResponseFuture<Result<(), DiskFailure>>;

    fn handle(
        &mut self,
        WriteMembership { record, durability }: WriteMembership,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.ask(Lane::Membership, move |worker| {
            write(&mut worker.membership, worker.disk.memberships(), worker.me, record, durability)
        })
    }
}

impl Handler<ReadConfiguration> for DiskActor {
    type Result = ResponseFuture<Result<Option<ConfigurationRecord>, DiskFailure>>;

    fn handle(&mut self, ReadConfiguration { revision }: ReadConfiguration, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Membership, move |worker| match revision {
            Some(revision) => worker.disk.configurations().find(revision).map_err(failure),
            None => worker.disk.configurations().newest().map_err(failure),
        })
    }
}

impl Handler<WriteConfiguration> for DiskActor {
    type Result = ResponseFuture<Result<(), DiskFailure>>;

    fn handle(&mut self, message: WriteConfiguration, _: &mut Self::Context) -> Self::Result {
        let WriteConfiguration { record, keep, durability } = message;
        self.ask(Lane::Membership, move |worker| {
            let area = worker.disk.configurations();
            writer(&mut worker.configuration, area, worker.me)?.writer.keep(keep).map_err(failure)?;
            write(&mut worker.configuration, area, worker.me, record, durability)
        })
    }
}

impl Handler<ReadDecisions> for DiskActor {
    type Result = ResponseFuture<Result<BTreeMap<NodeId, Option<DecisionRegister>>, DiskFailure>>;

    fn handle(&mut self, _: ReadDecisions, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Registration, |worker| worker.disk.decisions().read_all().map_err(failure))
    }
}

impl Handler<WriteDecision> for DiskActor {
    type Result = ResponseFuture<Result<(), DiskFailure>>;

    fn handle(&mut self, WriteDecision { register, durability }: WriteDecision, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Registration, move |worker| {
            write(&mut worker.decision, worker.disk.decisions(), worker.me, Arc::new(register), durability)
        })
    }
}

impl Handler<ReadRegistration> for DiskActor {
    type Result = ResponseFuture<Result<Option<RegistrationRecord>, DiskFailure>>;

    fn handle(&mut self, _: ReadRegistration, _: &mut Self::Context) -> Self::Result {
        self.ask(Lane::Registration, |worker| worker.disk.registrations().newest().map_err(failure))
    }
}

impl Handler<WriteRegistration> for DiskActor {
    type Result = ResponseFuture<Result<(), DiskFailure>>;

    fn handle(&mut self, message: WriteRegistration, _: &mut Self::Context) -> Self::Result {
        let WriteRegistration { record, durability } = message;
        self.ask(Lane::Registration, move |worker| {
            write(&mut worker.registration, worker.disk.registrations(), worker.me, record, durability)
        })
    }
}

impl Handler<InjectPanic> for DiskActor {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        self.guard.clone().run(|| panic!("injected"));
    }
}
