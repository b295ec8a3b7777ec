//! A whole cluster in one process: real nodes with all their actors, on one disk in memory and real loopback connections.
//!
//! What process tests do with processes, tests here do with mailboxes: every actor of every node can be reached and listened
//! to. Commands are not run: a warden that is asked for one says that it succeeded, and remembers that it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use phalanx_actors::interconnect::{ClusterKey, Network, StaticKeyPair};
use phalanx_messages::NodeId;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::launch::{LaunchResult, WardenRequest};
use phalanx_messages::membership::NodeState;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::FenceHandle;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::service::ServiceDefinition;
use phalanx_node::builder::{HostIdentity, Node, NodeBuilder, NodeHandle, WardenPort};
use phalanx_storage::{ClusterDisk, FaultyDisk, Layout, MemoryDisk, Superblock};
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

/// Says that every command succeeded.
struct FakeWarden(Arc<Mutex<Vec<WardenRequest>>>);

impl Actor for FakeWarden {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for FakeWarden {
    type Result = MessageResult<WardenRequest>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        MessageResult(LaunchResult::Succeeded)
    }
}

/// One node of a [`TestCluster`].
pub struct TestNode {
    /// The node.
    pub handle: NodeHandle,
    panicked: watch::Receiver<Option<String>>,
    requests: Arc<Mutex<Vec<WardenRequest>>>,
}

impl TestNode {
    /// Waits for the node's panic, and gives its reason.
    ///
    /// # Panics
    /// If the node goes without panicking.
    pub async fn panicked(&self) -> String {
        let mut panicked = self.panicked.clone();
        let reason = panicked.wait_for(Option::is_some).await.expect("the node lives until it panics");
        reason.clone().unwrap_or_default()
    }

    /// What the node asked its warden for.
    #[must_use]
    pub fn requests(&self) -> Vec<WardenRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// See the module.
pub struct TestCluster {
    /// The disk of all nodes.
    pub disk: ClusterDisk,
    memory: MemoryDisk,
    key: ClusterKey,
    listeners: BTreeMap<NodeId, TcpListener>,
}

impl TestCluster {
    /// A formatted disk for `nodes` nodes with these services; no node runs yet.
    ///
    /// # Panics
    /// If the loopback has no free port.
    pub async fn new(nodes: u16, services: Vec<ServiceDefinition>) -> Self {
        Self::timed(nodes, services, TimingProfile::DEV).await
    }

    /// The same with another timing.
    ///
    /// # Panics
    /// If the loopback has no free port.
    pub async fn timed(nodes: u16, services: Vec<ServiceDefinition>, profile: TimingProfile) -> Self {
        let mut listeners = BTreeMap::new();
        for id in 0..nodes {
            listeners.insert(NodeId(id), TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let configuration = configuration_of(listeners.iter().map(|(id, listener)| (id.0, address(listener))));
        let memory = format_for(&configuration, profile, services);
        let disk = ClusterDisk::open(Arc::new(memory.clone())).expect("just formatted");
        Self { disk, memory, key: ClusterKey::generate().expect("random bytes"), listeners }
    }

    /// Starts a node on the current executor.
    ///
    /// # Panics
    /// If it was started before, or does not boot.
    pub fn start(&mut self, id: u16) -> TestNode {
        self.start_with(id, |builder| builder)
    }

    /// Starts a node that is built with something more.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(&mut self, id: u16, more: impl FnOnce(NodeBuilder) -> NodeBuilder) -> TestNode {
        self.start_over(id, self.disk.clone(), more)
    }

    /// Starts a node with a path of its own to the disk, which can be told to misbehave.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_on_faulty(&mut self, id: u16) -> (TestNode, FaultyDisk) {
        let path = FaultyDisk::around(Arc::new(self.memory.clone()));
        let disk = ClusterDisk::open(Arc::new(path.clone())).expect("formatted");
        (self.start_over(id, disk, |builder| builder), path)
    }

    fn start_over(&mut self, id: u16, disk: ClusterDisk, more: impl FnOnce(NodeBuilder) -> NodeBuilder) -> TestNode {
        let listener = self.listeners.remove(&NodeId(id)).expect("each node is started once");
        let host = HostIdentity { host: Uuid::from_u128(1), boot: Uuid::from_u128(2) };
        let key_pair = StaticKeyPair::generate().expect("random bytes");
        let (panic_sender, panicked) = watch::channel(None);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let warden = FakeWarden(requests.clone()).start().recipient();
        let on_panic = Box::new(move |reason: &str| drop(panic_sender.send_replace(Some(reason.to_owned()))));
        let builder = Node::builder(disk, format!("n{id}"), self.key.clone(), key_pair, Network::tcp(listener), host)
            .on_panic(on_panic);
        let handle = more(builder)
            .start(|_| Ok(WardenPort { requests: warden, fence: FenceHandle::default(), line: None, watchdog: None }))
            .expect("the node boots");
        TestNode { handle, panicked, requests }
    }
}

/// A configuration of nodes at these addresses, named `n<id>`.
#[must_use]
pub fn configuration_of(addresses: impl IntoIterator<Item = (u16, String)>) -> ConfigurationRecord {
    let node = |(id, address)| (NodeId(id), NodeConfiguration::new(format!("n{id}"), address));
    let nodes = addresses.into_iter().map(node).collect();
    ConfigurationRecord { cluster: "test".to_owned(), nodes, ..ConfigurationRecord::default() }
}

/// A disk in memory, formatted for this configuration and these services.
///
/// # Panics
/// If it does not take them.
#[must_use]
pub fn format_for(
    configuration: &ConfigurationRecord,
    profile: TimingProfile,
    services: Vec<ServiceDefinition>,
) -> MemoryDisk {
    let superblock = superblock_of(configuration, profile);
    let layout = Layout::new(superblock.nodes_max, superblock.services_max).expect("a small disk");
    let disk = MemoryDisk::new(layout.blocks_needed());
    let services = RegistrationRecord::of_definitions(services);
    phalanx_storage::format(&disk, &superblock, configuration, &services).expect("memory takes everything");
    disk
}

/// Of a disk that has room for these nodes and few services.
///
/// # Panics
/// If there are more nodes than an id can name.
#[must_use]
pub fn superblock_of(configuration: &ConfigurationRecord, profile: TimingProfile) -> Superblock {
    Superblock {
        cluster: Uuid::now_v7(),
        name: configuration.cluster.clone(),
        nodes_max: u16::try_from(configuration.nodes.len()).expect("few nodes").max(2),
        services_max: 4,
        profile,
        created_at_ms: 0,
    }
}

/// State of `node` as `at` knows it.
pub async fn state(at: &TestNode, node: u16) -> NodeState {
    let status = at.handle.membership().await.expect("the membership manager lives");
    status.record.nodes.get(&NodeId(node)).map_or(NodeState::Inactive, |entry| entry.state)
}
