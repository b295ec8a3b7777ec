//! The file as it is written, before anything is checked. Every key of the contract has its place here; unknown ones are errors.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::timing::RawTiming;

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub node: Option<RawNode>,
    pub cluster: Option<RawCluster>,
    pub disk: Option<RawDisk>,
    pub interconnect: Option<RawInterconnect>,
    #[serde(default)]
    pub subsystem: Vec<RawSubsystem>,
    #[serde(default)]
    pub service: Vec<RawService>,
    pub fencing: Option<RawFencing>,
    #[serde(default)]
    pub event_group: Vec<RawEventGroup>,
    #[serde(default)]
    pub event: Vec<RawEvent>,
}

impl RawConfig {
    /// Nothing in it belongs to one node: it is a file for `dev`.
    pub fn is_template(&self) -> bool {
        self.node.is_none() && self.cluster.is_none() && self.disk.is_none() && self.interconnect.is_none()
    }

    /// It has `[cluster]` and nothing of one node: it is about the whole cluster.
    pub fn is_of_cluster(&self) -> bool {
        self.cluster.is_some() && self.node.is_none() && self.disk.is_none() && self.interconnect.is_none()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub name: Option<String>,
    pub state_dir: Option<String>,
    pub socket: Option<String>,
    pub socket_group: Option<String>,
    pub panic: Option<String>,
    pub watchdog: Option<String>,
    pub watchdog_pretimeout: Option<String>,
    pub stall: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    pub name: Option<String>,
    pub key_file: Option<String>,
    pub disk_votes: Option<RawScalar>,
    #[serde(default)]
    pub node: Vec<RawClusterNode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClusterNode {
    pub name: String,
    pub id: i64,
    pub address: String,
    pub votes: Option<i64>,
    pub panic: Option<String>,
    pub shutdown_timeout: Option<String>,
    pub watchdog_attested: Option<bool>,
    pub capacity: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFencing {
    #[serde(default)]
    pub methods: Vec<RawMethod>,
    #[serde(default)]
    pub storage: Vec<String>,
    #[serde(default)]
    pub node: Vec<RawFencingNode>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFencingNode {
    pub name: String,
    pub methods: Option<Vec<RawMethod>>,
    #[serde(default)]
    pub agents: BTreeMap<String, BTreeMap<String, RawScalar>>,
}

/// A level of the topology: one agent, or several that must all succeed.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawMethod {
    One(String),
    All(Vec<String>),
}

impl RawMethod {
    pub fn agents(&self) -> &[String] {
        match self {
            Self::One(agent) => std::slice::from_ref(agent),
            Self::All(agents) => agents,
        }
    }
}

/// A parameter of a fence agent: agents take text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawScalar {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl fmt::Display for RawScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDisk {
    pub backend: Option<String>,
    pub path: Option<String>,
    pub timing: Option<RawTiming>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInterconnect {
    pub bind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSubsystem {
    pub name: String,
    pub level: i64,
    #[serde(default)]
    pub barriers: RawBarriers,
    pub on_joining: Option<RawCommand>,
    pub on_leaving: Option<RawCommand>,
    pub on_forced_leaving: Option<RawCommand>,
    pub on_panic: Option<RawCommand>,
    pub timeout: Option<String>,
}

/// A command: a line that is split into words, the words, or a line for the shell.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a command is \"PROGRAM ARGUMENT\", [\"PROGRAM\", \"ARGUMENT\"] or { shell = \"COMMAND LINE\" }"
)]
pub(super) enum RawCommand {
    Line(String),
    Words(Vec<String>),
    Shell(RawShell),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShell {
    pub shell: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBarriers {
    pub joining: Option<i64>,
    pub leaving: Option<i64>,
    pub forced_leaving: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawNodes {
    Any(String),
    Listed(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPreferences {
    pub ordered: Option<Vec<String>>,
    pub unordered: Option<Vec<String>>,
}

/// How a service is looked at; `false` = not at all.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "monitor is false or { command = [...], interval = \"10s\", timeout = \"20s\", tolerance = 1 }"
)]
pub(super) enum RawMonitor {
    Flag(bool),
    Keys(RawMonitorKeys),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMonitorKeys {
    pub command: Option<RawCommand>,
    pub interval: Option<String>,
    pub timeout: Option<String>,
    pub tolerance: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRestart {
    pub limit: Option<i64>,
    pub window: Option<String>,
    pub backoff: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub name: String,
    pub allowable_nodes: Option<RawNodes>,
    #[serde(default)]
    pub disallowable_nodes: Vec<String>,
    pub node_preferences: Option<RawPreferences>,
    pub auto_register: Option<String>,
    pub maturity_count: Option<i64>,
    pub maturity_time: Option<String>,
    pub start_command: Option<RawCommand>,
    pub start_timeout: Option<String>,
    pub stop_command: Option<RawCommand>,
    pub stop_timeout: Option<String>,
    pub stop_retries: Option<i64>,
    pub notify_command: Option<RawCommand>,
    pub notify_timeout: Option<String>,
    pub notify_retries: Option<i64>,
    pub recovery_command: Option<RawCommand>,
    pub recovery_timeout: Option<String>,
    pub recovery_retries: Option<i64>,
    pub agent: Option<String>,
    pub agent_parameters: Option<BTreeMap<String, RawScalar>>,
    pub monitor: Option<RawMonitor>,
    pub restart: Option<RawRestart>,
    pub leaves: Option<String>,
    pub start_retries: Option<i64>,
    pub stop_failure: Option<String>,
    pub recover_lost_start: Option<bool>,
    pub event_group: Option<String>,
    pub transfer_cost: Option<String>,
    pub stable_time: Option<String>,
    pub weight: Option<i64>,
    pub parent: Option<String>,
    pub placement_policy: Option<String>,
    pub inherit_actions: Option<bool>,
    pub child_failure: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    pub name: String,
    pub watcher: String,
    #[serde(rename = "in", default)]
    pub input: BTreeMap<String, RawScalar>,
    pub action: Option<RawCommand>,
    pub timeout: Option<String>,
    pub quiet: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEventGroup {
    pub name: String,
    pub events: Vec<String>,
    #[serde(default)]
    pub nodes: Vec<String>,
    pub enabled: Option<bool>,
}
