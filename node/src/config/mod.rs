//! Configuration files: TOML in, checked settings out (architecture §6).
//!
//! A file is parsed with spans first, so that every error shows file, line, column and what to do. Then it is layered:
//! file, then `conf.d/*.toml` beside it, then `PHALANX_CONF__<TABLE>__<KEY>`. What comes out ([`NodeConfig`],
//! [`ClusterTemplate`]) cannot be wrong in itself; unknown keys and keys that are not built yet are errors, never ignored.

mod check;
mod cluster;
mod command;
mod document;
mod duration;
mod error;
mod event;
mod event_text;
mod fencing;
mod group;
mod guard;
mod names;
mod raw;
mod service;
mod service_text;
mod subsystem;
mod timing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration, NodeSettings, PanicPolicy};
use phalanx_messages::event::{EventDefinition, EventGroupDefinition};
use phalanx_messages::launch::Program;
use phalanx_messages::membership::BarrierCounts;
use phalanx_messages::profile::TimingProfile;
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::{Level, NodeId};
use phalanx_storage::Backend;

pub(crate) use check::SOCKET_PATH_BYTES_MAX;
pub use cluster::{DISK_ALONE, parse_panic};
pub use duration::{parse_ms as parse_duration_ms, text as duration_text};
pub use error::{ConfigError, ConfigErrors};
pub use event_text::{event_difference, event_group_difference, event_group_keys, event_keys, events_text};
pub use fencing::is_known_for_storage;
pub use guard::HostGuard;
pub(crate) use names::{mistake_in_address, mistake_in_name};
pub use service_text::{KeyDifference, NameOf, difference as service_difference, keys as service_keys, service_text};

/// Everything one node is told by its own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The file it came from, absolute; the daemon is started with it.
    pub file: PathBuf,
    /// Name of the cluster.
    pub cluster: String,
    /// Votes of the shared disk; none = not said.
    pub disk_votes: Option<DiskVotes>,
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
    /// The group whose members may use the local socket besides its owner and root.
    pub socket_group: Option<u32>,
    /// What the node does after a panic, if the file says: used by `disk create` for nodes that have none of their own; a
    /// running cluster reads it from the disk.
    pub panic: Option<PanicPolicy>,
    /// What stops the node if it hangs, and what a lost lease means.
    pub guard: HostGuard,
    /// The shared disk: a file or a block device.
    pub disk: PathBuf,
    /// How it is reached; must be what it was formatted for.
    pub backend: Backend,
    /// Name of the timing profile that [`Self::profile`] began as.
    pub timing: String,
    /// The timing profile that `disk create` writes to the superblock; nodes take that of the disk.
    pub profile: TimingProfile,
    /// Where the interconnect listens.
    pub bind: String,
    /// The command subsystems, by ascending level.
    pub subsystems: Vec<SubsystemConfig>,
    /// The services defined in the file: written to the disk by `disk create`.
    pub services: Vec<ServiceDefinition>,
    /// The events and event groups.
    pub events: EventDefinitions,
}

/// `disk_votes` under `[cluster]`: the votes of the shared disk for quorum (protocol §4.4), or none if it decides alone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DiskVotes(pub Option<u16>);

impl fmt::Display for DiskVotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(votes) => votes.fmt(f),
            None => write!(f, "\"{DISK_ALONE}\""),
        }
    }
}

/// The events and event groups that a file defines, or that a cluster has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EventDefinitions {
    /// The events.
    pub events: Vec<EventDefinition>,
    /// The event groups.
    pub groups: Vec<EventGroupDefinition>,
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
    /// What else is said of it; what is not said is left as it is, or gets its default.
    pub settings: NodeSettings,
}

impl ClusterNode {
    /// The node as a new disk has it.
    #[must_use]
    pub fn configuration(&self, panic: Option<PanicPolicy>) -> NodeConfiguration {
        let NodeSettings { votes, panic: own, shutdown_ms, watchdog_attested, fence, capacity } = self.settings.clone();
        let default = NodeConfiguration::new(&self.name, &self.address);
        NodeConfiguration {
            votes: votes.unwrap_or(default.votes),
            panic: own.or(panic).unwrap_or(default.panic),
            shutdown_ms: shutdown_ms.unwrap_or(default.shutdown_ms),
            watchdog_attested: watchdog_attested.unwrap_or(default.watchdog_attested),
            fence: fence.unwrap_or_default(),
            capacity: capacity.unwrap_or(default.capacity),
            ..default
        }
    }
}

/// A file for a whole cluster, as `config show` prints it and `config apply` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// Votes of the shared disk; none = not said.
    pub disk_votes: Option<DiskVotes>,
    /// The nodes.
    pub nodes: Vec<ClusterNode>,
    /// The services.
    pub services: Vec<ServiceDefinition>,
    /// The events and event groups.
    pub events: EventDefinitions,
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
    pub on_joining: Option<Program>,
    /// Run for each barrier of a graceful leave.
    pub on_leaving: Option<Program>,
    /// Run for each barrier of a forced leave.
    pub on_forced_leaving: Option<Program>,
    /// Run by the warden after the node has died, before it may be called dead.
    pub on_panic: Option<Program>,
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
    /// The events and event groups.
    pub events: EventDefinitions,
}

/// What `config check` found a file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The file of one node.
    Node(Box<NodeConfig>),
    /// A file for `phalanx dev`.
    Template(ClusterTemplate),
    /// A file for a whole cluster.
    Cluster(ClusterConfig),
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

    /// The same for a node that is about to run, which takes its services from the disk: their agents need not be installed.
    ///
    /// # Errors
    /// Every mistake found, each with its place.
    pub fn load_to_run(file: &Path) -> Result<Self, ConfigErrors> {
        let mut documents = document::Documents::open(file)?;
        documents.agents_may_be_absent = true;
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

    /// The configuration area as `disk create` writes it.
    #[must_use]
    pub fn configuration(&self) -> ConfigurationRecord {
        let node = |node: &ClusterNode| (node.id, node.configuration(self.panic));
        let nodes = self.cluster_nodes.iter().map(node).collect::<BTreeMap<_, _>>();
        let disk_votes = self.disk_votes.unwrap_or_default().0;
        ConfigurationRecord { cluster: self.cluster.clone(), nodes, disk_votes, ..ConfigurationRecord::default() }
    }
}

impl ClusterConfig {
    /// Reads and checks what a file says of the whole cluster: one for it, or that of any node.
    ///
    /// # Errors
    /// Every mistake found, each with its place.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        if let Some(documents) = document::Documents::open_of_cluster(file)? {
            return cluster::check(&documents);
        }
        let NodeConfig { cluster, disk_votes, cluster_nodes: nodes, services, events, .. } = NodeConfig::load(file)?;
        Ok(Self { cluster, disk_votes, nodes, services, events })
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

/// Reads and checks any file, whichever it is: one with `[node]` is a node's, one with `[cluster]` alone is for the cluster,
/// others are for `dev`.
///
/// # Errors
/// Every mistake found, each with its place.
pub fn check_file(file: &Path) -> Result<Checked, ConfigErrors> {
    if let Some(documents) = document::Documents::open_of_cluster(file)? {
        return cluster::check(&documents).map(Checked::Cluster);
    }
    let documents = document::Documents::open(file)?;
    if documents.raw.is_template() {
        return check::template_of_any_nodes(&documents).map(Checked::Template);
    }
    check::node(&documents).map(|config| Checked::Node(Box::new(config)))
}

/// The `[[service]]`, `[[event]]` and `[[event_group]]` tables of any file, whose node names mean `nodes`. A name of an event or
/// event group that is not in the file may be one that the cluster has. `panic_may_exit`: a service may leave state behind that
/// nothing removes when its node panics (architecture §4).
///
/// # Errors
/// Every mistake found, each with its place.
pub fn definitions_of_file(
    file: &Path,
    nodes: &[ClusterNode],
    panic_may_exit: bool,
) -> Result<(Vec<ServiceDefinition>, EventDefinitions), ConfigErrors> {
    check::definitions(&document::Documents::open(file)?, nodes, panic_may_exit)
}

/// The same for a text.
///
/// # Errors
/// Every mistake found, each with its place.
pub fn definitions_of_text(
    name: &str,
    text: &str,
    nodes: &[ClusterNode],
    panic_may_exit: bool,
) -> Result<(Vec<ServiceDefinition>, EventDefinitions), ConfigErrors> {
    check::definitions(&document::Documents::of_text(name, text)?, nodes, panic_may_exit)
}

/// The `[[service]]` tables alone of a text.
///
/// # Errors
/// Every mistake found, each with its place.
pub fn services_of_text(
    name: &str,
    text: &str,
    nodes: &[ClusterNode],
    panic_may_exit: bool,
) -> Result<Vec<ServiceDefinition>, ConfigErrors> {
    definitions_of_text(name, text, nodes, panic_may_exit).map(|(services, _)| services)
}

#[cfg(test)]
mod tests;
