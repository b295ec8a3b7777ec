//! The scripted scenario: format, form, join, elect, forced leaves, registration, transfer, graceful leave.
//!
//! The service's commands are long, so that its database has two blocks and can be half written.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use phalanx_actors::ports::{CarryOut, GetDefinitions};
use phalanx_messages::NodeId;
use phalanx_messages::order::{DefinitionChange, RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::service::{Invocation, ServiceDefinition};
use phalanx_storage::{Block, Layout, MemoryDisk, Operation, Recorder, RecordingDisk, Superblock};
use uuid::Uuid;

use crate::simulated_cluster::{self, Event, Keys, Options, PROFILE, SimulatedCluster};

/// Nodes of the scenario.
pub const NODES: u16 = 3;
const SERVICE: &str = "clock";
/// Of each command, so that three of them do not fit one block.
const COMMAND_BYTES: usize = 1_500;

/// What an order is about, and what it makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The time-out of the start command, in milliseconds.
    Timeout(u64),
    /// The service should run, until a cluster forms anew (protocol §6.2, `want`).
    Wanted(bool),
    /// The node takes no services.
    Standby(u16, bool),
    /// Nothing that outlives the cluster.
    Nothing,
}

/// An order of an administrator.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// Operations of the disk that had ended when it was asked.
    pub asked: usize,
    /// And when it was told to be done.
    pub told: usize,
    /// What it changes.
    pub effect: Effect,
}

/// Everything that the scenario did.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The disk before it was formatted.
    pub blank: Vec<Block>,
    /// What was done to it, formatting included.
    pub operations: Vec<Operation>,
    /// Operations that formatted it.
    pub formatted: usize,
    /// What nodes, subsystems and the service did, each with the operations that had ended by then.
    pub events: Vec<Event>,
    /// The orders, one after the other.
    pub orders: Vec<Ordered>,
    /// The keys of the nodes, which survive.
    pub keys: Keys,
}

/// Remembers when it is woken: the answer is there.
struct Told {
    recorder: Recorder,
    at: OnceLock<usize>,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.at.get_or_init(|| self.recorder.len());
    }
}

/// The scenario as it runs.
struct Script {
    cluster: SimulatedCluster,
    recorder: Recorder,
    orders: Vec<Ordered>,
}

/// Runs the scenario; the seed draws how long messages and subsystems take.
///
/// # Panics
/// If the cluster does not do what it says.
#[must_use]
pub fn record(seed: u64) -> Recording {
    let recorder = Recorder::default();
    let memory = blank_disk();
    let blank = memory.snapshot();
    format(&memory, &recorder);
    let formatted = recorder.len();
    let options = Options { recorder: Some(recorder.clone()), ..Options::default() };
    let cluster = SimulatedCluster::on(memory, NODES, seed, options);
    let mut script = Script { cluster, recorder: recorder.clone(), orders: Vec::new() };
    script.run();
    script.cluster.check();
    let events = script.cluster.journal();
    let keys = script.cluster.keys().clone();
    Recording { blank, operations: recorder.operations(), formatted, events, orders: script.orders, keys }
}

fn superblock() -> Superblock {
    Superblock {
        cluster: Uuid::from_u128(0x83),
        name: "test".to_owned(),
        nodes_max: NODES,
        services_max: 20,
        profile: PROFILE,
        created_at_ms: 0,
    }
}

fn blank_disk() -> MemoryDisk {
    let superblock = superblock();
    let layout = Layout::new(superblock.nodes_max, superblock.services_max).expect("a small disk");
    MemoryDisk::new(layout.blocks_needed())
}

fn format(memory: &MemoryDisk, recorder: &Recorder) {
    let disk = RecordingDisk::around(Arc::new(memory.clone()), NODES, recorder.clone());
    let services = RegistrationRecord::of_definitions([service()]);
    phalanx_storage::format(&disk, &superblock(), &simulated_cluster::configuration(NODES), &services)
        .expect("memory takes everything");
}

fn service() -> ServiceDefinition {
    let mut service = simulated_cluster::service();
    let commands = [&mut service.start_command, &mut service.stop_command, &mut service.recovery_command];
    for command in commands.into_iter().flatten() {
        let Invocation::Shell(text) = &mut command.run else { continue };
        *text = format!("{text:COMMAND_BYTES$}");
    }
    service
}

impl Script {
    fn run(&mut self) {
        self.cluster.start(0);
        self.until_steady(&[0]);
        self.until_serving(1);
        self.cluster.start(1);
        self.cluster.start(2);
        self.until_steady(&[0, 1, 2]);
        self.define(1, 2_000);
        self.order(2, service_order(ServiceOrder::Transfer { to: Some(NodeId(1)) }), Effect::Nothing);
        self.cluster.until("the service on n1", |cluster| cluster.serving() == [1]);
        self.kill_and_recover();
        self.define(0, 3_000);
        self.order(0, service_order(ServiceOrder::Deregister), Effect::Wanted(false));
        self.until_serving(0);
        self.order(2, service_order(ServiceOrder::Register), Effect::Wanted(true));
        self.until_serving(1);
        self.cluster.start(1);
        self.until_steady(&[0, 1, 2]);
        let leaver = self.cluster.serving()[0];
        self.cluster.leave(leaver);
        let stay: Vec<u16> = (0..NODES).filter(|id| *id != leaver).collect();
        self.until_steady(&stay);
        self.until_serving(1);
        self.cluster.run(PROFILE.renewal_ms);
    }

    /// The master is killed, then the node with the service; both are recovered, and the first one comes back between.
    fn kill_and_recover(&mut self) {
        assert_eq!(self.cluster.master(), Some(0), "the first node leads");
        self.cluster.kill(0);
        self.until_steady(&[1, 2]);
        self.order(1, standby(true), Effect::Standby(2, true));
        self.cluster.start(0);
        self.until_steady(&[0, 1, 2]);
        self.order(0, standby(false), Effect::Standby(2, false));
        self.cluster.kill(1);
        self.until_steady(&[0, 2]);
        self.until_serving(1);
    }

    fn until_steady(&mut self, joined: &[u16]) {
        self.cluster.until(&format!("{joined:?} joined"), |cluster| cluster.is_steady(joined));
    }

    fn until_serving(&mut self, count: usize) {
        self.cluster.until(&format!("{count} instances"), |cluster| cluster.serving().len() == count);
    }

    /// Another time-out of the start command.
    fn define(&mut self, at: u16, timeout_ms: u64) {
        let definitions = self.ask(at, GetDefinitions).0;
        let before = definitions.into_iter().next().expect("the service");
        let mut after = before.clone();
        after.start_command.as_mut().expect("a command").timeout_ms = timeout_ms;
        let change = DefinitionChange { before: Some(before), after };
        self.order(at, RegistrationOrder::Apply([change].into_iter().collect()), Effect::Timeout(timeout_ms));
    }

    fn order(&mut self, at: u16, order: RegistrationOrder, effect: Effect) {
        let asked = self.recorder.len();
        let (answer, told) = self.ask(at, CarryOut(order.clone()));
        assert_eq!(answer.map_err(|failure| format!("{failure:?}")), Ok(()), "{order:?}");
        self.orders.push(Ordered { asked, told, effect });
    }

    /// Asks registration-and-launch of a node; the answer, and the operations that had ended when it came.
    fn ask<M>(&mut self, at: u16, message: M) -> (M::Result, usize)
    where
        M: actix::Message + Send + 'static,
        M::Result: Send,
        phalanx_actors::registration_and_launch::RegistrationAndLaunch: actix::Handler<M>,
    {
        let told = Arc::new(Told { recorder: self.recorder.clone(), at: OnceLock::new() });
        let waker = Waker::from(told.clone());
        let mut request = Box::pin(self.cluster.actors(at).registration.send(message));
        for _ in 0..10_000 {
            if let Poll::Ready(answer) = Pin::new(&mut request).poll(&mut Context::from_waker(&waker)) {
                let told = told.at.get().copied().unwrap_or_else(|| self.recorder.len());
                return (answer.expect("the node lives"), told);
            }
            self.cluster.step();
        }
        panic!("no answer from n{at}\n{}", self.cluster.text());
    }
}

fn service_order(order: ServiceOrder) -> RegistrationOrder {
    RegistrationOrder::Service { service: SERVICE.to_owned(), order }
}

fn standby(standby: bool) -> RegistrationOrder {
    RegistrationOrder::Standby { node: NodeId(2), standby }
}
