//! A node's lease on a formatted disk in memory, and everything that its edges say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use phalanx_actors::clock::Clock;
use phalanx_actors::gate::Gate;
use phalanx_actors::lease_thread::{self, LeaseEdges, LeaseHandle, LeaseSettings, Publication};
use phalanx_actors::ports::{LeaseChanged, NodePanic, RegistersRead, WardenLine};
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::{MemberEntry, MembershipRecord, NodeState};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister, OwnState, Pill};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Revision, Term};
use phalanx_protocol::lease::StallPolicy;
use phalanx_storage::{ClusterDisk, Durability, FaultyDisk, MemoryDisk, Superblock, format};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub const ME: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };
pub const MASTER: NodeId = NodeId(0);
pub const PROFILE: TimingProfile = TimingProfile::DEV; // R 500 ms, L 2 s, feed 250 ms

/// A warden that counts.
pub struct FedWarden(Arc<AtomicU64>);

impl WardenLine for FedWarden {
    fn alive(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn lease(&mut self, _: bool) {}
}

/// Something that an edge said.
#[derive(Debug)]
pub enum Heard {
    Read(RegistersRead),
    Lease(bool),
    Panic(String),
}

pub struct Listener(UnboundedSender<Heard>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<RegistersRead> for Listener {
    type Result = ();

    fn handle(&mut self, message: RegistersRead, _: &mut Self::Context) {
        self.0.send(Heard::Read(message)).ok();
    }
}

impl Handler<LeaseChanged> for Listener {
    type Result = ();

    fn handle(&mut self, message: LeaseChanged, _: &mut Self::Context) {
        self.0.send(Heard::Lease(message.valid)).ok();
    }
}

impl Handler<NodePanic> for Listener {
    type Result = ();

    fn handle(&mut self, message: NodePanic, _: &mut Self::Context) {
        self.0.send(Heard::Panic(message.reason)).ok();
    }
}

/// A node's lease on a formatted disk in memory.
pub struct World {
    pub blocks: MemoryDisk,
    pub faulty: FaultyDisk,
    pub disk: ClusterDisk,
    pub gate: Gate,
    pub clock: Clock,
    pub feeds: Arc<AtomicU64>,
    pub listener: Addr<Listener>,
    pub heard: UnboundedReceiver<Heard>,
}

impl World {
    pub fn new(clock: Clock) -> Self {
        let blocks = MemoryDisk::new(4_096);
        let superblock = Superblock {
            cluster: uuid::Uuid::from_u128(7),
            name: "alpha".to_owned(),
            nodes_max: 4,
            services_max: 10,
            profile: PROFILE,
            created_at_ms: 0,
        };
        let configuration = ConfigurationRecord::default();
        format(&blocks, &superblock, &configuration, &RegistrationRecord::default()).unwrap();
        let disk = ClusterDisk::open(Arc::new(blocks.clone())).unwrap();
        let faulty = FaultyDisk::around(Arc::new(blocks.clone()));
        let (sender, heard) = unbounded_channel();
        let (gate, feeds) = (Gate::new(clock), Arc::default());
        Self { blocks, faulty, disk, gate, clock, feeds, listener: Listener(sender).start(), heard }
    }

    /// On tokio's clock, which is paused from here on.
    pub fn paused() -> Self {
        tokio::time::pause();
        Self::new(Clock::tokio())
    }

    pub fn settings(&self) -> LeaseSettings {
        let first = NodeRegister { own_state: OwnState::Booting, nonce: 77, ..NodeRegister::default() };
        LeaseSettings { me: ME, profile: PROFILE, clock: self.clock, first, stall: StallPolicy::RideThrough }
    }

    pub fn edges(&self) -> LeaseEdges {
        let feeds = self.feeds.clone();
        LeaseEdges {
            registers: vec![self.listener.clone().recipient()],
            lease: vec![self.listener.clone().recipient()],
            panic: self.listener.clone().recipient(),
            gate: self.gate.clone(),
            warden: Some(Box::new(FedWarden(feeds))),
            watchdog: None,
        }
    }

    pub fn inline(&self) -> LeaseHandle {
        lease_thread::spawn_inline(self.settings(), self.disk.clone(), self.edges()).unwrap()
    }

    pub fn thread(&self) -> LeaseHandle {
        lease_thread::spawn(self.settings(), self.disk.clone(), self.edges()).unwrap()
    }

    /// The real thread, on a disk whose I/Os may hang.
    pub fn thread_on_faulty(&self) -> LeaseHandle {
        let disk = ClusterDisk::open(Arc::new(self.faulty.clone())).unwrap();
        lease_thread::spawn(self.settings(), disk, self.edges()).unwrap()
    }

    pub fn own(&self) -> NodeRegister {
        self.disk.registers().read(ME.node).unwrap().unwrap()
    }

    /// Makes the other node owner of term 3, with pills and a record in which this node has that state.
    pub fn master(&self, state: NodeState, pills: Vec<Pill>) {
        let claim = Claim { term: Term(3), phase: ClaimPhase::Owner, owned: Term(3) };
        let register = NodeRegister { incarnation: Incarnation(1), claim, pills, ..NodeRegister::default() };
        let entry = MemberEntry { incarnation: ME.incarnation, state, ..MemberEntry::default() };
        let revision = Revision { term: Term(3), seq: 5 };
        let record = MembershipRecord { revision, nodes: [(ME.node, entry)].into(), ..MembershipRecord::default() };
        let incarnation = Incarnation(1);
        let mut writer = self.disk.memberships().writer(MASTER, incarnation).unwrap();
        writer.write(&record, Durability::Volatile).unwrap();
        let mut writer = self.disk.registers().writer(MASTER, incarnation).unwrap();
        writer.write(&register, Durability::Volatile).unwrap();
    }

    pub async fn lease(&mut self) -> bool {
        loop {
            match self.heard.recv().await {
                Some(Heard::Lease(valid)) => return valid,
                Some(Heard::Read(_)) => {}
                Some(Heard::Panic(reason)) => panic!("{reason}"),
                None => panic!("nobody speaks"),
            }
        }
    }

    pub async fn panicked(&mut self) -> String {
        loop {
            match self.heard.recv().await {
                Some(Heard::Panic(reason)) => return reason,
                Some(Heard::Lease(_) | Heard::Read(_)) => {}
                None => panic!("nobody speaks"),
            }
        }
    }

    pub async fn next_read(&mut self) -> RegistersRead {
        loop {
            match self.heard.recv().await {
                Some(Heard::Read(read)) => return read,
                Some(Heard::Lease(_)) => {}
                Some(Heard::Panic(reason)) => panic!("{reason}"),
                None => panic!("nobody speaks"),
            }
        }
    }
}

pub async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

pub fn member() -> Publication {
    Publication { own_state: Some(OwnState::Member), ..Publication::default() }
}
