//! Whole nodes in one process: all their actors on one executor, real connections over loopback - or, where those would take more
//! descriptors than the process may have, pipes in memory - and one mmap disk file.
//!
//! Five levels of two barriers below the event manager, whose subsystems answer at once: what remains is our own work. Commands are
//! not run. A node that is forced out is dead as soon as somebody asks for the proof.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use actix::prelude::*;
use anyhow::{Context as _, bail};
use phalanx_actors::interconnect::{ClusterKey, Disconnect, Network, StaticKeyPair};
use phalanx_actors::lease_thread::LeaseHandle;
use phalanx_actors::local_api::{Follow, Follower};
use phalanx_actors::ports::{AskMaster, InjectPanic, ProveDead};
use phalanx_messages::launch::{LaunchResult, WardenRequest};
use phalanx_messages::membership::{BarrierCounts, Certainty, LevelRegistration};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_messages::peer::{MasterAnswer, MasterRequest};
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::register::FenceHandle;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::{Level, NodeId, NodeIncarnation};
use phalanx_node::builder::{HostIdentity, Node, NodeHandle, WardenPort};
use phalanx_storage::{ClusterDisk, Layout, MmapDisk};
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::pipes::Pipes;
use crate::node_cluster::{configuration_of, superblock_of};

/// Levels below the event manager.
pub const LEVELS: u16 = 5;
/// Barriers of each of them.
pub const BARRIERS: u8 = 2;
/// A step that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A group that takes longer than this to join has failed: each of its nodes shakes hands with all others, on one executor.
const FORMING_PATIENCE: Duration = Duration::from_secs(300);
/// Each cluster of a process has its own port.
static PORT: AtomicU16 = AtomicU16::new(0);

/// Says that every command succeeded.
struct Warden;

impl Actor for Warden {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for Warden {
    type Result = MessageResult<WardenRequest>;

    fn handle(&mut self, _: WardenRequest, _: &mut Self::Context) -> Self::Result {
        MessageResult(LaunchResult::Succeeded)
    }
}

/// A subsystem that answers at once.
struct Subsystem(Recipient<SubsystemAcknowledged>);

impl Actor for Subsystem {
    type Context = Context<Self>;
}

impl Handler<SubsystemNotification> for Subsystem {
    type Result = ();

    fn handle(&mut self, notification: SubsystemNotification, _: &mut Self::Context) {
        for notice in notification.batch {
            let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            self.0.do_send(SubsystemAcknowledged { subject, id: notice.id, answer: SubsystemAnswer::Acknowledged });
        }
    }
}

/// The leases of the running nodes.
type Leases = Rc<RefCell<BTreeMap<NodeIncarnation, LeaseHandle>>>;

/// Ends the victim's lease, which is all of it that writes, and says that it is dead.
struct Fence(Leases);

impl Actor for Fence {
    type Context = Context<Self>;
}

impl Handler<ProveDead> for Fence {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, ProveDead { victim, .. }: ProveDead, _: &mut Self::Context) -> Self::Result {
        let stopped = self.0.borrow().get(&victim).map(|lease| lease.stop(None));
        Box::pin(async move {
            if let Some(stopped) = stopped {
                stopped.await.ok(); // it may have ended before
            }
            Ok(())
        })
    }
}

/// What the nodes are connected by.
#[derive(Debug)]
pub enum Wires {
    /// Connections over loopback.
    Tcp,
    /// Memory.
    Pipes(Pipes),
}

impl Wires {
    /// TCP if this process may have the descriptors that so many nodes need, both ends of each connection and some more.
    #[must_use]
    pub fn for_nodes(nodes: u16) -> Self {
        let needed = u64::from(nodes) * (u64::from(nodes) + 8);
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if allowed.is_none_or(|allowed| needed <= allowed) { Self::Tcp } else { Self::Pipes(Pipes::default()) }
    }

    /// For the name of a figure.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "over loopback",
            Self::Pipes(_) => "over pipes in memory",
        }
    }
}

/// See the module.
pub struct ActorCluster {
    wires: Wires,
    disk: ClusterDisk,
    key: ClusterKey,
    addresses: BTreeMap<u16, String>,
    /// The cluster learns a node's key at its first join.
    keys: BTreeMap<u16, StaticKeyPair>,
    nodes: BTreeMap<u16, NodeHandle>,
    leases: Leases,
    fence: Recipient<ProveDead>,
    _dir: TempDir,
}

impl ActorCluster {
    /// A formatted disk for `nodes` nodes, which will be connected over loopback; none runs yet.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(nodes: u16) -> anyhow::Result<Self> {
        Self::over(nodes, Wires::Tcp)
    }

    /// The same over wires of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(nodes: u16, wires: Wires) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("phalanx-bench-").tempdir()?;
        let process = std::process::id();
        let port =
            20_000 + u16::try_from(process % 100).unwrap_or(0) * 100 + PORT.fetch_add(1, Ordering::Relaxed) % 100;
        // An address for each node, so that a port which is free for a moment is not taken by somebody's outgoing connection.
        let address = |id: u16| format!("127.84.{}.{}:{port}", id / 200 + 1, id % 200 + 1);
        let addresses: BTreeMap<u16, String> = (0..nodes).map(|id| (id, address(id))).collect();
        let configuration = configuration_of(addresses.clone());
        let superblock = superblock_of(&configuration, TimingProfile::LOCAL_MMAP);
        let layout = Layout::new(superblock.nodes_max, superblock.services_max)?;
        let disk = MmapDisk::create(&dir.path().join("bench.disk"), layout.blocks_needed())?;
        phalanx_storage::format(&disk, &superblock, &configuration, &RegistrationRecord::default())?;
        let leases = Leases::default();
        let fence = Fence(leases.clone()).start().recipient();
        let (disk, key) = (ClusterDisk::open(Arc::new(disk))?, ClusterKey::generate()?);
        let own_key = |id: &u16| anyhow::Ok((*id, StaticKeyPair::generate()?));
        let keys = addresses.keys().map(own_key).collect::<Result<_, _>>()?;
        Ok(Self { wires, disk, key, addresses, keys, nodes: BTreeMap::new(), leases, fence, _dir: dir })
    }

    /// Starts a node; it joins by itself.
    ///
    /// # Errors
    /// If it does not boot.
    pub async fn start(&mut self, id: u16) -> anyhow::Result<()> {
        let address = self.addresses.get(&id).context("a node of this cluster")?;
        let network = match &self.wires {
            Wires::Pipes(pipes) => pipes.network(address),
            Wires::Tcp => {
                let listener = tokio::time::timeout(PATIENCE, listen(address)).await;
                Network::tcp(listener.with_context(|| format!("{address} does not become free"))??)
            }
        };
        let host = HostIdentity { host: Uuid::from_u128(1), boot: Uuid::from_u128(2) };
        let mut builder =
            Node::builder(self.disk.clone(), format!("n{id}"), self.key.clone(), self.keys[&id].clone(), network, host)
                .local_fence(self.fence.clone())
                .on_panic(Box::new(|_| {}));
        for level in 1..=LEVELS {
            let registration = LevelRegistration {
                level: Level(level * 100),
                name: format!("level-{level}"),
                barriers: BarrierCounts { joining: BARRIERS, leaving: BARRIERS, forced_leaving: BARRIERS },
                needs: Certainty::Io,
                optional: false,
            };
            builder = builder.level(registration, Box::new(|answers| Subsystem(answers).start().recipient()));
        }
        let warden = Warden.start().recipient();
        let handle = builder.start(|_| {
            Ok(WardenPort { requests: warden, fence: FenceHandle::default(), line: None, watchdog: None })
        })?;
        self.leases.borrow_mut().insert(handle.me(), handle.lease().clone());
        self.nodes.insert(id, handle);
        Ok(())
    }

    /// Forms the cluster: the first node alone, so that it is master, then groups of `group` at once.
    ///
    /// # Errors
    /// If one does not join in time.
    pub async fn form(&mut self, group: u16) -> anyhow::Result<()> {
        let (mut next, nodes) = (0, self.last().0 + 1);
        while next < nodes {
            let end = next.saturating_add(if next == 0 { 1 } else { group }).min(nodes);
            self.start_all(next..end).await?;
            next = end;
        }
        Ok(())
    }

    /// Starts `ids` at once and waits until all of them are joined.
    ///
    /// # Errors
    /// If one does not join in time.
    async fn start_all(&mut self, ids: std::ops::Range<u16>) -> anyhow::Result<()> {
        for id in ids.clone() {
            self.start(id).await?;
        }
        for id in ids {
            self.joined_within(id, FORMING_PATIENCE).await?;
        }
        Ok(())
    }

    fn node(&self, id: u16) -> anyhow::Result<&NodeHandle> {
        self.nodes.get(&id).with_context(|| format!("n{id} runs"))
    }

    /// Waits until a node is joined.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn joined(&self, id: u16) -> anyhow::Result<()> {
        self.joined_within(id, PATIENCE).await
    }

    async fn joined_within(&self, id: u16, patience: Duration) -> anyhow::Result<()> {
        let joined = tokio::time::timeout(patience, self.node(id)?.joined()).await;
        if joined.with_context(|| format!("n{id} did not join in time"))? { Ok(()) } else { bail!("n{id} ended") }
    }

    /// What the first node, the master, sees from now on.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn follow_master(&self) -> anyhow::Result<Follower> {
        Ok(self.node(0)?.actors().local_api.send(Follow).await?)
    }

    /// Asks for a node's graceful leave.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn leave(&self, id: u16) -> anyhow::Result<()> {
        self.node(id)?.leave().await;
        Ok(())
    }

    /// Has the master force a node out.
    ///
    /// # Errors
    /// If the master refuses.
    pub async fn force(&self, id: u16) -> anyhow::Result<()> {
        let request = MasterRequest::Fence { victim: self.node(id)?.me(), reason: "bench".to_owned() };
        match self.node(0)?.actors().membership.send(AskMaster(request)).await? {
            MasterAnswer::Accepted => Ok(()),
            other @ (MasterAnswer::Changed { .. }
            | MasterAnswer::Unchanged { .. }
            | MasterAnswer::ChangeRefused(_)
            | MasterAnswer::Refused { .. }) => bail!("the master refuses to force n{id} out: {other:?}"),
        }
    }

    /// Ends what is left of a node that has left or was forced out, so that it can be started again.
    ///
    /// # Errors
    /// If its listener does not close in time.
    pub async fn clear(&mut self, id: u16) -> anyhow::Result<()> {
        let handle = self.nodes.remove(&id).with_context(|| format!("n{id} ran"))?;
        self.leases.borrow_mut().remove(&handle.me());
        handle.lease().stop(None).await.ok(); // it has ended already if the node has left
        // Its actors know each other, so none goes by itself. In a process of its own it would have ended.
        let actors = handle.actors();
        actors.membership.do_send(InjectPanic);
        actors.registration.do_send(InjectPanic);
        actors.event_manager.do_send(InjectPanic);
        actors.fence.do_send(InjectPanic);
        actors.disk.do_send(InjectPanic);
        actors.interconnect.do_send(Disconnect);
        let interconnect = actors.interconnect.clone();
        let gone = async move {
            while interconnect.connected() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.context("the interconnect of a node that has ended still runs")
    }

    /// Ends every node.
    ///
    /// # Errors
    /// As [`Self::clear`].
    pub async fn end(mut self) -> anyhow::Result<()> {
        let ids: Vec<u16> = self.nodes.keys().copied().collect();
        for id in ids {
            self.clear(id).await?;
        }
        Ok(())
    }

    /// Id of the node with the highest one.
    #[must_use]
    pub fn last(&self) -> NodeId {
        NodeId(self.addresses.keys().next_back().copied().unwrap_or(0))
    }
}

/// Listens there as soon as the task of an earlier start that listened is gone.
async fn listen(address: &str) -> std::io::Result<TcpListener> {
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            bound => return bound,
        }
    }
}
