//! A node inside an application: what its file says, without a warden (architecture §4, "Embedded nodes").
//!
//! Such a node runs no commands: it has subsystems of its application only, and it is no place for services that are commands. What
//! is left of it when the application dies is nothing but its process, so a survivor on the same host proves its death by that.

use std::fs::File;
use std::path::{Path, PathBuf};

use actix::prelude::*;
use anyhow::Context as _;
use phalanx_actors::interconnect::{ClusterKeys, Network, StaticKeyPair};
use phalanx_messages::launch::{LaunchResult, WardenRequest};
use phalanx_messages::register::{Containment, FenceHandle, ProcessIdentity};

use super::{BootError, HostIdentity, Node, NodeBuilder, NodeHandle, TEST_HOST_VARIABLE, WardenPort};
use phalanx_storage::Backend;

use crate::config::NodeConfig;
use crate::containment::process::own_identity;
use crate::daemon::{KEY_FILE, admit, open_disk_of};
use crate::fence_agents::FenceAgents;
use crate::local_fence::LocalFence;
use crate::waiting::Patience;
use crate::warden::id_lock;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

impl Node {
    /// The node that a file describes, with its disk, key, address and socket (`phalanx init` writes such files). Needs the executor
    /// that it will run on.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or cannot be opened; nothing is waited for, except what another host or an earlier
    /// boot may still write.
    pub fn from_file(file: &Path) -> anyhow::Result<NodeBuilder> {
        let config = NodeConfig::load_to_run(file)?;
        anyhow::ensure!(
            config.subsystems.is_empty(),
            "`[[subsystem]]` in {} runs commands, and a node inside an application runs none",
            file.display()
        );
        anyhow::ensure!(
            config.guard.watchdog.is_none(),
            "`watchdog` in {} is let go by a warden, and a node inside an application has none",
            file.display()
        );
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("failed to make `state_dir` {}", config.state_dir.display()))?;
        let path = config.state_dir.join(format!("{}.lock", config.node));
        let lock = id_lock::take(&path, Patience::endless(true)).map_err(|unmet| anyhow::anyhow!(unmet.text()))?;
        admit(&config, &|| false).map_err(|unmet| anyhow::anyhow!(unmet.text()))?;
        let listener = std::net::TcpListener::bind(&config.bind)
            .with_context(|| format!("failed to listen on `bind` {}", config.bind))?;
        let mut builder = Self::of_config(&config, listener)?;
        builder.lock = Some((lock, std::path::absolute(&path)?));
        Ok(builder)
    }

    /// What every node of a file has, whoever runs it.
    pub(crate) fn of_config(config: &NodeConfig, listener: std::net::TcpListener) -> anyhow::Result<NodeBuilder> {
        let disk = open_disk_of(config)?;
        let host = HostIdentity::read()?;
        let keys = ClusterKeys::load(&config.key_file).context("failed to read the cluster key (`key_file`)")?;
        let key_pair = StaticKeyPair::load_or_create(&config.state_dir.join(KEY_FILE))
            .with_context(|| format!("`state_dir` {} cannot be used", config.state_dir.display()))?;
        rustix::net::listen(&listener, BACKLOG)?; // every peer may call at once
        listener.set_nonblocking(true)?;
        let network = Network::tcp(tokio::net::TcpListener::from_std(listener)?);
        let local_fence = LocalFence::new(disk.clone(), host.boot).start().recipient();
        let builder =
            Self::builder(disk, &config.node, keys, key_pair, network, host).key_file(config.key_file.clone());
        let agents = FenceAgents::beside(&config.file).start().recipient();
        // Hosts of a test share one kernel.
        let own_host = config.backend == Backend::Direct && std::env::var_os(TEST_HOST_VARIABLE).is_none();
        let builder = builder.samples_load(own_host);
        let builder = builder.socket(config.socket.clone()).socket_group(config.socket_group).stall(config.guard.stall);
        Ok(builder.local_fence(local_fence).fence_agents(agents))
    }
}

impl NodeBuilder {
    /// Starts the node on the current executor. It runs no commands.
    ///
    /// # Errors
    /// [`BootError`]: nothing of the node runs then.
    pub fn start_without_warden(mut self) -> Result<NodeHandle, BootError> {
        let lock = self.lock.take();
        self.start(move |_| {
            let id_lock = lock.as_ref().map_or_else(String::new, |(_, path)| path.display().to_string());
            let (containment, warden) = (Containment::None, ProcessIdentity::default());
            let fence = FenceHandle { containment, warden, daemon: own_identity()?, id_lock };
            Ok(WardenPort { requests: NoWarden { _lock: lock }.start().recipient(), fence, line: None, watchdog: None })
        })
    }
}

/// Stands where a warden would; holds the lock of the node id for as long as anything of the node lives.
struct NoWarden {
    _lock: Option<(File, PathBuf)>,
}

impl Actor for NoWarden {
    type Context = Context<Self>;
}

impl Handler<WardenRequest> for NoWarden {
    type Result = MessageResult<WardenRequest>;

    fn handle(&mut self, request: WardenRequest, _: &mut Self::Context) -> Self::Result {
        MessageResult(match request {
            WardenRequest::Launch(_) => {
                let text = "this node runs inside an application, without a warden: it runs no commands".to_owned();
                LaunchResult::Failed { text }
            }
            // Nothing runs here.
            WardenRequest::Kill { .. } | WardenRequest::Watch { .. } | WardenRequest::Forget { .. } => {
                LaunchResult::Succeeded
            }
        })
    }
}
