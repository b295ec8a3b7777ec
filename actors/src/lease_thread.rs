//! The lease thread: a plain OS thread, the only writer of this node's register while the daemon lives (protocol §3.3, §9.1).
//!
//! It drives the pure [`Lease`] machine: renews, publishes claims and views, opens and closes the gate, feeds the warden. It
//! never shares an executor: a blocked executor must not delay a renewal, and must not keep a dead daemon's heartbeat going
//! either, so the thread renews only while every critical actor ticks ([`Liveness`]).
//!
//! Nor does it wait for a disk that may hang: there its calls are made beside it, and it goes on closing the gate and feeding.

mod io;

use std::collections::VecDeque;
use std::fmt;
use std::io::{Error, Result as IoResult};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Recipient;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_messages::{Instant, NodeIncarnation};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::lease::{Lease, LeaseInput, LeaseOutput, OwnerRecord, StallPolicy};
use phalanx_storage::{ClusterDisk, Durability};
use tokio::sync::oneshot;

use self::io::{Caller, Done, Io, Job};
use crate::clock::Clock;
use crate::gate::Gate;
use crate::guard::PanicGuard;
use crate::ports::{LeaseChanged, NodePanic, RegistersRead, WardenLine, Watchdog};

pub use phalanx_protocol::lease::Publication;

/// What a lease thread is told about its node.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// This node and its incarnation.
    pub me: NodeIncarnation,
    /// Timing of the disk.
    pub profile: TimingProfile,
    /// Time.
    pub clock: Clock,
    /// What the register says first: host, boot, nonce, fence handle, claim.
    pub first: NodeRegister,
    /// What a lost lease means. Must be [`StallPolicy::Panic`] with a watchdog: others may take the silence for a death.
    pub stall: StallPolicy,
}

/// Whom a lease thread talks to.
pub struct LeaseEdges {
    /// Each reading of all registers goes there.
    pub registers: Vec<Recipient<RegistersRead>>,
    /// The lease was lost or is valid again.
    pub lease: Vec<Recipient<LeaseChanged>>,
    /// This node is no longer fit.
    pub panic: Recipient<NodePanic>,
    /// Opened and closed here.
    pub gate: Gate,
    /// The warden waits for signs of life, and freezes what it keeps while the lease is lost.
    pub warden: Option<Box<dyn WardenLine>>,
    /// Fed from here, and never after the lease has ended.
    pub watchdog: Option<Box<dyn Watchdog>>,
}

enum Command {
    Publish(Box<Publication>, oneshot::Sender<u64>),
    RenewNow,
    Watch(Recipient<RegistersRead>, Recipient<LeaseChanged>),
    /// The disk has answered.
    Done(Box<Done>),
    Stop(Option<OwnState>, oneshot::Sender<()>),
}

/// Everybody else's access to the lease thread. Cheap to clone.
#[derive(Clone)]
pub struct LeaseHandle {
    send: Arc<dyn Fn(Command) + Send + Sync>,
    shared: Arc<Shared>,
}

impl fmt::Debug for LeaseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseHandle").finish_non_exhaustive()
    }
}

struct Shared {
    clock: Clock,
    last_renewal: AtomicU64,
    alive: Mutex<Vec<Arc<Cell>>>,
}

struct Cell {
    name: &'static str,
    ticked: AtomicU64,
}

/// Held by a critical actor: while it does not tick, this node's lease is not renewed.
#[derive(Clone)]
pub struct Liveness {
    clock: Clock,
    cell: Arc<Cell>,
}

impl Liveness {
    /// The actor is alive now.
    pub fn tick(&self) {
        self.cell.ticked.store(self.clock.now().0, Ordering::Relaxed);
    }
}

impl LeaseHandle {
    /// Changes the register. Resolves with the heartbeat of a write that carries the change, once that write has completed;
    /// fails if the thread has ended.
    pub fn publish(&self, publication: Publication) -> oneshot::Receiver<u64> {
        let (written, receiver) = oneshot::channel();
        (self.send)(Command::Publish(Box::new(publication), written));
        receiver
    }

    /// Runs a renewal cycle at once.
    pub fn renew_now(&self) {
        (self.send)(Command::RenewNow);
    }

    /// Adds receivers of readings and lease changes, which are told of every one from now on.
    pub fn watch(&self, registers: Recipient<RegistersRead>, lease: Recipient<LeaseChanged>) {
        (self.send)(Command::Watch(registers, lease));
    }

    /// When the last renewal that counted was issued.
    #[must_use]
    pub fn last_renewal(&self) -> Instant {
        Instant(self.shared.last_renewal.load(Ordering::Relaxed))
    }

    /// A critical actor that must tick at least once in two renewal periods from now on.
    #[must_use]
    pub fn liveness(&self, name: &'static str) -> Liveness {
        let clock = self.shared.clock;
        let cell = Arc::new(Cell { name, ticked: AtomicU64::new(clock.now().0) });
        self.shared.alive.lock().unwrap_or_else(PoisonError::into_inner).push(cell.clone());
        Liveness { clock, cell }
    }

    /// Writes a last word, if there is one, and ends the thread.
    pub fn stop(&self, final_state: Option<OwnState>) -> oneshot::Receiver<()> {
        let (stopped, receiver) = oneshot::channel();
        (self.send)(Command::Stop(final_state, stopped));
        receiver
    }
}

/// Writes the register of this incarnation for the first time, reads it back, and goes on renewing on a thread of its own. On a
/// disk of several hosts it is read back only after two I/O time-outs, in which another start of this node would have written.
///
/// # Errors
/// If the register cannot be written, belongs to a newer start, or does not read back (protocol §3.7 step 4).
pub fn spawn(settings: LeaseSettings, disk: ClusterDisk, edges: LeaseEdges) -> IoResult<LeaseHandle> {
    let (sender, commands) = mpsc::channel();
    let capabilities = disk.geometry().capabilities;
    let answers = sender.clone();
    let (handle, mut driver) = prepare(settings, disk, edges, move |command| drop(sender.send(command)))?;
    if capabilities.several_hosts {
        driver.is_alone()?;
    }
    if capabilities.may_hang {
        driver.calls_beside(answers)?;
    }
    std::thread::Builder::new().name("phalanx-lease".to_owned()).spawn(move || {
        while !driver.ended {
            match commands.recv_timeout(driver.pause()) {
                Ok(command) => driver.turn(Some(command)),
                Err(RecvTimeoutError::Timeout) => driver.turn(None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok(handle)
}

/// The same on the caller's executor and tokio's clock, for simulated tests.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_inline(settings: LeaseSettings, disk: ClusterDisk, edges: LeaseEdges) -> IoResult<LeaseHandle> {
    let (sender, mut commands) = tokio::sync::mpsc::unbounded_channel();
    let (handle, mut driver) = prepare(settings, disk, edges, move |command| drop(sender.send(command)))?;
    actix_rt::spawn(async move {
        while !driver.ended {
            match tokio::time::timeout(driver.pause(), commands.recv()).await {
                Ok(Some(command)) => driver.turn(Some(command)),
                Ok(None) => return,
                Err(_) => driver.turn(None),
            }
        }
    });
    Ok(handle)
}

fn prepare(
    settings: LeaseSettings,
    disk: ClusterDisk,
    edges: LeaseEdges,
    send: impl Fn(Command) + Send + Sync + 'static,
) -> IoResult<(LeaseHandle, Driver)> {
    let LeaseSettings { me, profile, clock, first, stall } = settings;
    if edges.watchdog.is_some() && stall == StallPolicy::RideThrough {
        return Err(Error::other("a node with a hardware watchdog cannot ride a stall through"));
    }
    let nonce = first.nonce;
    let writer = disk.registers().writer(me.node, me.incarnation)?;
    let shared = Arc::new(Shared { clock, last_renewal: AtomicU64::new(0), alive: Mutex::default() });
    let lease = Lease::new(me, profile, stall, first);
    let caller = Caller { disk, writer, clock };
    let mut driver = Driver {
        guard: PanicGuard::new("lease thread", edges.gate.clone(), edges.panic.clone()),
        lease,
        profile,
        clock,
        nonce,
        me,
        io: Io::Inline(Box::new(caller)),
        edges,
        shared: shared.clone(),
        waiting: Vec::new(),
        stopping: None,
        fed_at: None,
        late_actor: None,
        ended: false,
        failure: None,
    };
    driver.tick();
    match driver.failure.take() {
        Some(reason) => Err(Error::other(reason)),
        None => Ok((LeaseHandle { send: Arc::new(send), shared }, driver)),
    }
}

/// Carries the machine's outputs out. The machine asks for one thing at a time, so at most one write is outstanding.
struct Driver {
    guard: PanicGuard,
    lease: Lease,
    profile: TimingProfile,
    clock: Clock,
    nonce: u64,
    me: NodeIncarnation,
    io: Io,
    edges: LeaseEdges,
    shared: Arc<Shared>,
    /// Those whose publication a write carries, each with the heartbeat of the last write begun before it.
    waiting: Vec<(u64, oneshot::Sender<u64>)>,
    stopping: Option<oneshot::Sender<()>>,
    fed_at: Option<Instant>,
    /// A critical actor that does not tick, if that was said already.
    late_actor: Option<&'static str>,
    ended: bool,
    /// Why the node must halt, or the last I/O error.
    failure: Option<String>,
}

impl Driver {
    /// Waits, and reads what it has written (protocol §3.7 step 4): a second host with this node id shows itself.
    fn is_alone(&mut self) -> IoResult<()> {
        let (_awake, asleep) = mpsc::channel::<()>();
        let until = self.clock.now().plus(2 * self.profile.io_timeout_ms);
        while self.clock.now() < until {
            self.feed(self.clock.now());
            let left_ms = until.since(self.clock.now());
            asleep.recv_timeout(Duration::from_millis(left_ms.min(self.profile.feed_ms()))).ok(); // nobody wakes it
        }
        let Io::Inline(caller) = &self.io else { return Ok(()) };
        let mut registers = caller.read()?.registers;
        match registers.remove(&self.me.node).flatten() {
            Some(own) if (own.incarnation, own.nonce) == (self.me.incarnation, self.nonce) => Ok(()),
            own => {
                let by = own.map_or_else(
                    || "it is unreadable".to_owned(),
                    |own| format!("start {} on host {}", own.incarnation, own.host),
                );
                Err(Error::other(format!("another host uses the id of node {} ({by})", self.me.node)))
            }
        }
    }

    /// Makes the disk calls on a thread of their own from now on. A panic in there is a panic of the node.
    fn calls_beside(&mut self, commands: mpsc::Sender<Command>) -> IoResult<()> {
        let (begun, _) = mpsc::channel();
        let io = std::mem::replace(&mut self.io, Io::Thread(begun));
        let guard = self.guard.named("lease thread, disk");
        self.io = io.move_to_thread(guard, move |done| drop(commands.send(Command::Done(Box::new(done)))))?;
        Ok(())
    }

    /// Until something is due.
    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let feed = self.fed_at.unwrap_or(now).plus(self.profile.feed_ms());
        Duration::from_millis(self.lease.due().min(feed).since(now).max(1))
    }

    /// One turn of the loop. If it panics the node does: a thread that ended silently would leave the gate open for a while.
    fn turn(&mut self, command: Option<Command>) {
        let guard = self.guard.clone();
        guard.run(|| {
            if let Some(command) = command {
                self.command(command);
            }
            self.tick();
        });
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let alive = self.critical_actors_tick(now);
        self.run(LeaseInput::Tick { now, alive });
        self.feed(now);
    }

    /// The conjunction rule (protocol §9.1), generously: within 2 R, since an actor ticks as often as the node renews.
    fn critical_actors_tick(&mut self, now: Instant) -> bool {
        let cells = self.shared.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let ticked =
            |cell: &Cell| now.since(Instant(cell.ticked.load(Ordering::Relaxed))) < 2 * self.profile.renewal_ms;
        let late = cells.iter().find(|cell| !ticked(cell)).map(|cell| cell.name);
        if let Some(actor) = late.filter(|actor| self.late_actor != Some(actor)) {
            tracing::warn!(actor, "does not tick; the lease is not renewed");
        }
        drop(cells);
        self.late_actor = late;
        late.is_none()
    }

    fn feed(&mut self, now: Instant) {
        if self.fed_at.is_some_and(|fed_at| now.since(fed_at) < self.profile.feed_ms()) {
            return;
        }
        self.fed_at = Some(now);
        if !self.lease.may_feed(now) || self.edges.gate.is_panicking() {
            return;
        }
        if let Some(warden) = &mut self.edges.warden {
            warden.alive();
        }
        if let Some(Err(error)) = self.edges.watchdog.as_mut().map(|watchdog| watchdog.feed()) {
            tracing::error!(%error, "failed to feed the watchdog: it will reset this host");
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Publish(publication, written) => {
                self.waiting.push((self.lease.heartbeat(), written));
                self.run(LeaseInput::Publish { now, publication: *publication });
            }
            Command::RenewNow => self.run(LeaseInput::RenewNow { now }),
            Command::Watch(registers, lease) => {
                lease.do_send(LeaseChanged { valid: self.lease.is_valid(now) });
                self.edges.registers.push(registers);
                self.edges.lease.push(lease);
            }
            Command::Done(done) => {
                let outputs = self.done(*done);
                self.carry_out(outputs.into());
            }
            Command::Stop(final_state, stopped) => {
                self.stopping = Some(stopped);
                self.run(LeaseInput::Stop { now, final_state });
            }
        }
    }

    fn run(&mut self, input: LeaseInput<'_>) {
        let outputs = self.lease.step(input).into();
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, mut outputs: VecDeque<LeaseOutput>) {
        while let Some(output) = outputs.pop_front() {
            outputs.extend(self.perform(output));
        }
    }

    fn perform(&mut self, output: LeaseOutput) -> Vec<LeaseOutput> {
        match output {
            LeaseOutput::Write { register, durable } => {
                let durability = if durable { Durability::Durable } else { Durability::Volatile };
                self.ask(Job::Write(register, durability))
            }
            LeaseOutput::Read => self.ask(Job::ReadRegisters),
            LeaseOutput::Valid { until } => {
                tracing::info!("the lease is valid");
                self.extended(until);
                self.tell(true);
                Vec::new()
            }
            LeaseOutput::Extended { until } => {
                self.extended(until);
                Vec::new()
            }
            LeaseOutput::Late => {
                tracing::warn!("no renewal counted for {} ms", self.profile.warn_ms);
                Vec::new()
            }
            LeaseOutput::Lost => {
                tracing::error!("the lease is lost: gate closed");
                self.edges.gate.close();
                self.tell(false);
                Vec::new()
            }
            LeaseOutput::Panic { reason } => {
                self.guard.node_panic(&reason);
                self.failure = Some(reason);
                self.ended = true;
                Vec::new()
            }
            LeaseOutput::Stopped => {
                self.edges.gate.close();
                self.ended = true;
                if let Some(stopped) = self.stopping.take() {
                    stopped.send(()).ok();
                }
                Vec::new()
            }
        }
    }

    fn extended(&self, until: Instant) {
        self.shared.last_renewal.store(until.0.saturating_sub(self.profile.lease_ms), Ordering::Relaxed);
        self.edges.gate.extend(until);
    }

    fn tell(&mut self, valid: bool) {
        if let Some(warden) = &mut self.edges.warden {
            warden.lease(valid);
        }
        for watcher in &self.edges.lease {
            watcher.do_send(LeaseChanged { valid });
        }
    }

    fn ask(&mut self, job: Job) -> Vec<LeaseOutput> {
        match self.io.begin(job) {
            Some(done) => self.done(done),
            None => Vec::new(),
        }
    }

    fn done(&mut self, done: Done) -> Vec<LeaseOutput> {
        match done {
            Done::Cut(reason) => {
                self.guard.node_panic(&reason);
                self.failure = Some(reason);
                self.ended = true;
                Vec::new()
            }
            Done::Written(heartbeat, result) => self.written(heartbeat, result),
            Done::Registers(Ok(reading)) => match self.lease.owner_in(&reading.registers) {
                Some((term, owner)) => self.ask(Job::ReadRecord(reading, term, owner)),
                None => self.read(*reading, OwnerRecord::NoOwner),
            },
            Done::Registers(Err(error)) => {
                tracing::error!(%error, "failed to read the registers");
                self.failure = Some(error);
                self.lease.step(LeaseInput::ReadFailed { now: self.clock.now() })
            }
            Done::Record(reading, Some(record)) => self.read(*reading, OwnerRecord::Read(&record)),
            Done::Record(reading, None) => self.read(*reading, OwnerRecord::Unreadable),
        }
    }

    fn written(&mut self, heartbeat: u64, result: Result<(), String>) -> Vec<LeaseOutput> {
        let now = self.clock.now();
        match result {
            Ok(()) => {
                let carried = self.waiting.extract_if(.., |(since, _)| *since < heartbeat);
                for (_, waiting) in carried {
                    waiting.send(heartbeat).ok();
                }
                self.lease.step(LeaseInput::WriteCompleted { now })
            }
            Err(error) => {
                tracing::error!(%error, "failed to write the own register");
                self.failure = Some(error);
                self.lease.step(LeaseInput::WriteFailed { now })
            }
        }
    }

    fn read(&mut self, reading: RegistersReading, record: OwnerRecord<'_>) -> Vec<LeaseOutput> {
        let ended = self.clock.now();
        let outputs = self.lease.step(LeaseInput::ReadCompleted { ended, registers: &reading.registers, record });
        let reading = Arc::new(reading);
        for watcher in &self.edges.registers {
            watcher.do_send(RegistersRead(reading.clone()));
        }
        outputs
    }
}
