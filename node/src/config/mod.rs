//! Configuration files: TOML in, checked settings out (architecture §6).
//!
//! A file is parsed with spans first, so that every error shows file, line, column and what to do. Then it is layered:
//! file, then `conf.d/*.toml` beside it, then `PHALANX_CONF__<TABLE>__<KEY>`. What comes out ([`NodeConfig`],
//! [`ClusterTemplate`]) cannot be wrong in itself; unknown keys and keys that are not built yet are errors, never ignored.

mod check;
mod document;
mod duration;
mod error;
mod names;
mod raw;
mod service;
mod subsystem;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration, PanicPolicy};
use phalanx_messages::membership::BarrierCounts;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{Level, NodeId, Revision};

pub(crate) use check::SOCKET_PATH_BYTES_MAX;
pub use duration::parse_ms as parse_duration_ms;
pub use error::{ConfigError, ConfigErrors};
pub(crate) use names::{mistake_in_address, mistake_in_name};

/// Everything one node is told by its own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The file it came from, absolute; the daemon is started with it.
    pub file: PathBuf,
    /// Name of the cluster.
    pub cluster: String,
    /// The nodes listed under `[[cluster.node]]`: used by `disk create`; a running cluster reads them from the disk.
    pub cluster_nodes: Vec<ClusterNode>,
    /// File with the cluster key as 64 hexadecimal digits, readable by its owner only.
    pub key_file: PathBuf,
    /// This node's name.
    pub node: String,
    /// This node's id.
    pub id: NodeId,
    /// Directory of this node's own files: id lock, static key, logs.
    pub state_dir: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// What the node does after a panic.
    pub panic: PanicPolicy,
    /// The shared disk: a file.
    pub disk: PathBuf,
    /// Name of the timing profile; used by `disk create` only.
    pub timing: String,
    /// Where the interconnect listens.
    pub bind: String,
    /// The command subsystems, by ascending level.
    pub subsystems: Vec<SubsystemConfig>,
    /// The services defined in the file: written to the disk by `disk create`.
    pub services: Vec<ServiceDefinition>,
}

/// One line of `[[cluster.node]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: NodeId,
    /// Where its interconnect listens.
    pub address: String,
}

/// One `[[subsystem]]`: a level whose work is done by commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubsystemConfig {
    /// Its name, the same on every node.
    pub name: String,
    /// Its place in the global transition ordering.
    pub level: Level,
    /// Its barriers.
    pub barriers: BarrierCounts,
    /// Run for each barrier of a join; none = nothing to do.
    pub on_joining: Option<String>,
    /// Run for each barrier of a graceful leave.
    pub on_leaving: Option<String>,
    /// Run for each barrier of a forced leave.
    pub on_forced_leaving: Option<String>,
    /// Run by the warden after the node has died, before it may be called dead.
    pub on_panic: Option<String>,
    /// A command is killed and counted as failed after this long.
    pub timeout_ms: u64,
}

/// A file for `phalanx dev`: subsystems and services, without a node of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterTemplate {
    /// The command subsystems, by ascending level.
    pub subsystems: Vec<SubsystemConfig>,
    /// The services.
    pub services: Vec<ServiceDefinition>,
}

/// What `config check` found a file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The file of one node.
    Node(Box<NodeConfig>),
    /// A file for `phalanx dev`.
    Template(ClusterTemplate),
}

impl NodeConfig {
    /// Reads, layers and checks the file of one node.
    ///
    /// # Errors
    /// Every mistake found, each with its place.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let documents = document::Documents::open(file)?;
        check::node(&documents)
    }

    /// Checks a text as if it stood in `file`, alone: without drop-ins and environment.
    ///
    /// # Errors
    /// Every mistake found, each with its place.
    pub fn of_text(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let documents = document::Documents::of_file_text(file, text)?;
        check::node(&documents)
    }

    /// The timing profile that `disk create` writes to the superblock.
    #[must_use]
    pub fn profile(&self) -> TimingProfile {
        TimingProfile::named(&self.timing).unwrap_or(TimingProfile::DEV)
    }

    /// The configuration area as `disk create` writes it.
    #[must_use]
    pub fn configuration(&self) -> ConfigurationRecord {
        let node = |node: &ClusterNode| {
            let (name, address) = (node.name.clone(), node.address.clone());
            (node.id, NodeConfiguration { name, address, public_key: None, votes: 1, panic: self.panic })
        };
        let nodes = self.cluster_nodes.iter().map(node).collect::<BTreeMap<_, _>>();
        ConfigurationRecord { revision: Revision::default(), cluster: self.cluster.clone(), nodes }
    }
}

impl ClusterTemplate {
    /// Checks the text of a file for `dev`, whose nodes are named `nodes` and numbered in that order.
    ///
    /// # Errors
    /// Every mistake found, each with its place.
    pub fn of_text(name: &str, text: &str, nodes: &[String]) -> Result<Self, ConfigErrors> {
        let documents = document::Documents::of_text(name, text)?;
        check::template(&documents, nodes)
    }
}

/// Reads and checks any file, whichever it is: one with `[node]` is a node's, others are for `dev`.
///
/// # Errors
/// Every mistake found, each with its place.
pub fn check_file(file: &Path) -> Result<Checked, ConfigErrors> {
    let documents = document::Documents::open(file)?;
    if documents.raw.is_template() {
        return check::template_of_any_nodes(&documents).map(Checked::Template);
    }
    check::node(&documents).map(|config| Checked::Node(Box::new(config)))
}

#[cfg(test)]
mod tests;
