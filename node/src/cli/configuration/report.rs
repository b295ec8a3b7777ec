//! What `config show` and `config apply` print with `--output json`.

use std::collections::BTreeMap;

use phalanx_messages::configuration::{FenceAgent, PanicPolicy};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::cli::apply::{EventDifference, ServiceDifference};
use crate::config::KeyDifference;
use phalanx_messages::service_report::PlannedStep;

/// `config show`: the membership database. Stable keys; more may be added.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ConfigurationShown {
    /// Name of the cluster.
    pub cluster: String,
    /// Revision of the membership configuration.
    pub revision: String,
    /// Votes of the shared disk for quorum; null = it decides alone.
    pub disk_votes: Option<u16>,
    /// The nodes by id.
    pub nodes: Vec<ConfiguredNode>,
    /// The services by name, each with the keys of its `[[service]]` table.
    pub services: Vec<BTreeMap<String, Value>>,
    /// The events by name, each with the keys of its `[[event]]` table.
    pub events: Vec<BTreeMap<String, Value>>,
    /// The event groups by name, each with the keys of its `[[event_group]]` table.
    pub event_groups: Vec<BTreeMap<String, Value>>,
}

/// One node of the membership database.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ConfiguredNode {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u16,
    /// Where its interconnect listens.
    pub address: String,
    /// Its votes.
    pub votes: u8,
    /// What it does after a panic.
    pub panic: PanicPolicy,
    /// A graceful leave that takes longer is ended, in milliseconds.
    pub shutdown_ms: u64,
    /// The administrator vouches for its hardware watchdog.
    pub watchdog_attested: bool,
    /// Its fence methods, in order.
    pub fence: Vec<FenceAgent>,
    /// Weight of the services that it takes at most; 0 = any.
    pub capacity: u32,
    /// Its static key is known: it has joined before.
    pub has_key: bool,
}

/// `config apply`: what differed, and what became of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ConfigurationApplied {
    /// What differs about the cluster as a whole.
    pub cluster: Vec<KeyDifference>,
    /// What differs, by node.
    pub nodes: Vec<NodeDifference>,
    /// Nodes that the file does not name and that stay.
    pub nodes_left_alone: Vec<String>,
    /// What differs, by service.
    pub services: Vec<ServiceDifference>,
    /// Services that the file does not name and that stay.
    pub services_left_alone: Vec<String>,
    /// What differs, by event and event group.
    pub events: Vec<EventDifference>,
    /// Events and event groups that the file does not name and that stay.
    pub events_left_alone: Vec<String>,
    /// What it does to services at once.
    pub plan: Vec<PlannedStep>,
    /// False for `--dry-run`, and if nothing differs.
    pub applied: bool,
}

/// One node in a difference.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NodeDifference {
    /// The node.
    pub node: String,
    /// `added`, `changed` or `removed`.
    pub kind: String,
    /// The keys that differ.
    pub keys: Vec<KeyDifference>,
}
