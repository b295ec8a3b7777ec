//! The disk calls of the lease thread: inline, or on a thread of their own if they may hang.
//!
//! A write that hangs is awaited, never repeated, and meanwhile the lease thread must go on: close the gate when the lease
//! ends, and feed its warden as long as it may.

use std::io;
use std::sync::mpsc;

use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::NodeRegister;
use phalanx_messages::{NodeId, Term};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::lease::Lease;
use phalanx_storage::{AreaWriter, ClusterDisk, Durability};

use crate::clock::Clock;
use crate::guard::PanicGuard;

/// What is asked of the disk; one at a time.
pub(super) enum Job {
    /// Write the own register.
    Write(Box<NodeRegister>, Durability),
    /// Read all registers.
    ReadRegisters,
    /// Read the record of the owner of that term, after that reading.
    ReadRecord(Box<RegistersReading>, Term, NodeId),
}

/// What came of it.
pub(super) enum Done {
    /// The disk was cut: touching it again may kill this process, so the node ends by itself.
    Cut(String),
    /// Of the write with that heartbeat.
    Written(u64, Result<(), String>),
    /// The registers.
    Registers(Result<Box<RegistersReading>, String>),
    /// The registers with the record; none if it could not be read.
    Record(Box<RegistersReading>, Option<MembershipRecord>),
}

/// Makes the calls.
pub(super) struct Caller {
    pub disk: ClusterDisk,
    pub writer: AreaWriter<NodeRegister>,
    pub clock: Clock,
}

impl Caller {
    pub fn call(&mut self, job: Job) -> Done {
        match job {
            Job::Write(register, durability) => {
                // The renewal looks at the length each cycle (protocol §1.3).
                if let Err(error) = self.disk.verify()
                    && error.kind() == io::ErrorKind::UnexpectedEof
                {
                    return Done::Cut(error.to_string());
                }
                let written = self.writer.write(&register, durability);
                Done::Written(register.heartbeat, written.map_err(|error| error.to_string()))
            }
            Job::ReadRegisters => Done::Registers(self.read().map(Box::new).map_err(|error| error.to_string())),
            Job::ReadRecord(reading, term, owner) => {
                let record = self.record_of(term, owner).unwrap_or_default();
                Done::Record(reading, record)
            }
        }
    }

    pub fn read(&self) -> io::Result<RegistersReading> {
        let begun = self.clock.now();
        let registers = self.disk.registers().read_all()?;
        Ok(RegistersReading { begun, ended: self.clock.now(), registers })
    }

    /// The record that tells whether this node is marked.
    fn record_of(&self, term: Term, owner: NodeId) -> io::Result<Option<MembershipRecord>> {
        let record = self.disk.memberships().read(owner)?;
        if Lease::owner_wrote(term, record.as_ref()) { Ok(record) } else { Ok(self.disk.memberships().newest()?) }
    }
}

/// Where the calls are made.
pub(super) enum Io {
    /// On the lease thread itself: on a disk that answers or fails at once.
    Inline(Box<Caller>),
    /// On a thread beside it, which answers as it can.
    Thread(mpsc::Sender<Job>),
}

impl Io {
    /// Moves the calls to a thread of their own.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn move_to_thread(self, guard: PanicGuard, answer: impl Fn(Done) + Send + 'static) -> io::Result<Self> {
        let Self::Inline(mut caller) = self else { return Ok(self) };
        let (jobs, todo) = mpsc::channel();
        std::thread::Builder::new().name("phalanx-renewal".to_owned()).spawn(move || {
            while let Ok(job) = todo.recv() {
                answer(guard.run(|| caller.call(job)));
            }
        })?;
        Ok(Self::Thread(jobs))
    }

    /// Begins a call; what came of it at once, if it is made inline.
    pub fn begin(&mut self, job: Job) -> Option<Done> {
        match self {
            Self::Inline(caller) => Some(caller.call(job)),
            Self::Thread(jobs) => {
                jobs.send(job).ok(); // a thread that has ended has panicked, which its guard told
                None
            }
        }
    }
}
