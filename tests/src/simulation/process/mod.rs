//! One daemon: the production machines of one start of one node, and what they wait for.
//!
//! Plain state; what happens to it is in [`super::world`]. A process that is stopped keeps its events until it goes on.

pub mod services;
pub mod subsystem;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use phalanx_messages::register::{NodeRegister, OwnState};
use phalanx_messages::registration::OperationResult;
use phalanx_messages::{Instant, Level, NodeId, NodeIncarnation, NotificationId, Revision};
use phalanx_protocol::events::Run;
use phalanx_protocol::launcher::{LauncherInput, LauncherRead, LauncherWrite};
use phalanx_protocol::lease::{Lease, Publication};
use phalanx_protocol::manager::{DiskRequest, Manager, ManagerInput};

use super::clock::Micros;
use super::network::Said;
use services::Services;
use subsystem::Subsystem;

/// Registers of one reading so far.
pub type Sampled = BTreeMap<NodeId, Option<Arc<NodeRegister>>>;

/// What happens inside one process.
#[derive(Debug, Clone)]
pub enum ProcessEvent {
    /// The start has read who it is.
    Booted,
    /// The lease thread wakes, if this is the newest alarm.
    LeaseWakes(u64),
    /// What the lease thread waited for has ended.
    LeaseDone,
    /// What the disk actor's I/O thread did has ended.
    DiskDone,
    /// The membership manager looks at the time.
    Tick,
    /// Heartbeats go out, silent links are closed, missing ones dialled.
    Beat,
    /// For registration-and-launch.
    Launcher(Box<LauncherInput>),
    /// Registration-and-launch looks at the time.
    LauncherTick,
    /// The warden tells how a command of a service has ended.
    CommandEnded(Box<OperationResult>),
    /// An action function of an event has ended.
    ActionEnded(Box<Run>),
    /// Results that nobody has consumed are told again.
    ReportsAgain,
    /// For the membership manager.
    Manager(Box<ManagerInput>),
    /// A connection stands.
    LinkUp {
        /// Which.
        connection: u64,
        /// To whom.
        peer: NodeIncarnation,
    },
    /// The other end has closed.
    LinkClosed {
        /// Which.
        connection: u64,
        /// To whom.
        peer: NodeId,
    },
    /// Something was said on a connection.
    Heard {
        /// Which.
        connection: u64,
        /// By whom.
        from: NodeIncarnation,
        /// What.
        said: Said,
    },
    /// A subsystem has done what it does about a step; it may have to wait for the others.
    Worked {
        /// Which.
        level: Level,
        /// About whom.
        subject: NodeIncarnation,
        /// The step.
        id: NotificationId,
    },
    /// A subsystem answers.
    Answers {
        /// Which.
        level: Level,
        /// About whom.
        subject: NodeIncarnation,
        /// The step.
        id: NotificationId,
    },
    /// The local fence has tried to kill somebody and to see it dead.
    Fenced(NodeIncarnation),
    /// The fence actor tries again.
    FenceAgain(NodeIncarnation),
    /// Something that uses the shared disk asks the gate.
    DataAsks,
    /// The gate was open: the write is given to the disk.
    DataSubmits {
        /// Counts the stops of this process up to then.
        stops: u64,
        /// When the lease was to end, as the gate said.
        expiry: Instant,
    },
    /// The write takes effect.
    DataLands,
    /// Its warden has died: it is no longer fit.
    WardenGone,
}

/// The I/O gate (protocol §3.3).
#[derive(Debug, Default, Clone, Copy)]
pub struct Gate {
    /// The lease ends then.
    pub expiry: Instant,
    /// Closed for good.
    pub panicking: bool,
}

impl Gate {
    /// True if the node may act, and still may `guard_ms` from now.
    #[must_use]
    pub fn is_open_for(&self, guard_ms: u64, now: Instant) -> bool {
        !self.panicking && now.plus(guard_ms) < self.expiry
    }
}

/// What other actors ask of the lease thread.
#[derive(Debug, Clone)]
pub enum LeaseCommand {
    /// Write these fields; true: whoever asked waits for it.
    Publish(Publication, bool),
    /// Renew at once.
    RenewNow,
    /// Write this last word and end.
    Stop(OwnState),
}

/// What the lease thread waits for.
#[derive(Debug)]
pub enum LeaseWait {
    /// The write of its register.
    Write,
    /// The reading of all registers, then of the owner's record.
    Read {
        /// When it began, by its own clock.
        begun: Instant,
        /// What was read so far.
        sampled: Sampled,
    },
}

/// The lease thread and its machine.
#[derive(Debug)]
pub struct LeaseThread {
    /// The machine.
    pub lease: Lease,
    /// Not taken yet.
    pub commands: VecDeque<LeaseCommand>,
    /// Its I/O blocks it.
    pub waits: Option<LeaseWait>,
    /// Publications that the next write that succeeds answers.
    pub unanswered: usize,
    /// Number of the newest alarm.
    pub alarm: u64,
    /// When it last fed the warden.
    pub fed_at: Option<Instant>,
    /// Issue of the last write of the register, by its own clock.
    pub issued: Instant,
    /// When its last reading began, in true time.
    pub read_begun: Micros,
    /// Its last reading could not make out the owner of the term, or its record.
    pub owner_unreadable: bool,
    /// When the lease was last lost, by its own clock.
    pub lost: Option<Instant>,
    /// It has ended.
    pub ended: bool,
}

/// What the disk actor is asked to do.
#[derive(Debug, Clone)]
pub enum Job {
    /// By the membership manager.
    Membership(DiskRequest),
    /// By registration-and-launch.
    Read(LauncherRead),
    /// By registration-and-launch.
    Write(LauncherWrite),
}

/// The disk actor's I/O thread: one job after the other.
#[derive(Debug, Default)]
pub struct DiskThread {
    /// What waits.
    pub jobs: VecDeque<Job>,
    /// What is being done: since when by the own clock, and what was read so far.
    pub doing: Option<(Job, Instant, Sampled)>,
}

/// One connection that this process holds for standing.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Its number.
    pub connection: u64,
    /// Who is at the other end.
    pub peer: NodeIncarnation,
    /// When something was last heard, in true time.
    pub heard: Micros,
}

/// A search of the fence actor for one proof of death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// The local fence is at work.
    Running,
    /// It has failed, and is tried again.
    Failed,
}

/// What runs once the lease is there.
#[derive(Debug)]
pub struct Actors {
    /// The membership manager's machine.
    pub manager: Manager,
    /// Connections that stand.
    pub links: BTreeMap<NodeId, Link>,
    /// Peers that are being dialled.
    pub dialling: Vec<NodeId>,
    /// The disk actor's thread.
    pub disk: DiskThread,
    /// The fence actor.
    pub searches: BTreeMap<NodeIncarnation, Search>,
    /// The subsystems of the kernel levels.
    pub subsystems: BTreeMap<Level, Subsystem>,
    /// Registration and launch.
    pub services: Services,
    /// The newest step that the subsystems have begun, by subject.
    pub begun: BTreeMap<NodeIncarnation, NotificationId>,
    /// What heartbeats say was processed.
    pub seen: Revision,
    /// When the membership manager last ticked.
    pub ticked: Instant,
    /// Number of the newest request of an administrator.
    pub asked: u64,
    /// The master's base, as it was read while claiming a term.
    pub base: Revision,
}

/// See the module.
#[derive(Debug)]
pub struct Process {
    /// Tells it from every other process.
    pub id: u64,
    /// Which start of which node; the incarnation is 0 until the disk has told.
    pub me: NodeIncarnation,
    /// Its events wait.
    pub stopped: bool,
    /// How often it was stopped.
    pub stops: u64,
    /// What happened while it was stopped.
    pub deferred: Vec<ProcessEvent>,
    /// The gate.
    pub gate: Gate,
    /// From the end of the boot on.
    pub lease: Option<LeaseThread>,
    /// From the first renewal on.
    pub actors: Option<Box<Actors>>,
    /// A data write was given to the disk.
    pub data_in_flight: bool,
    /// It was asked to leave and ends when it has left.
    pub leaving: bool,
}

impl Process {
    /// A process that knows only which node it is to be.
    #[must_use]
    pub fn new(id: u64, me: NodeIncarnation) -> Self {
        Self {
            id,
            me,
            stopped: false,
            stops: 0,
            deferred: Vec::new(),
            gate: Gate::default(),
            lease: None,
            actors: None,
            data_in_flight: false,
            leaving: false,
        }
    }
}
