//! What `phalanx event` prints: events, event groups and occurrences as a node tells them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Printed by `event list`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventsReport {
    /// The node that answers; what is said of watching is said of it alone.
    pub node: String,
    /// The event groups by name.
    pub groups: Vec<EventGroupStatus>,
    /// The events by name.
    pub events: Vec<EventStatus>,
}

/// An event group.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventGroupStatus {
    /// Its name.
    pub name: String,
    /// An administrator has not disabled it.
    pub enabled: bool,
    /// Its events.
    pub events: Vec<String>,
    /// Services that name it.
    pub services: Vec<String>,
    /// Nodes that its definition lists; none = all.
    pub nodes: Vec<String>,
    /// Nodes on which it is enabled now, by the newest committed database that this node knows.
    pub enabled_on: Vec<String>,
}

/// An event, and what this node does about it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventStatus {
    /// Its name.
    pub name: String,
    /// Its watcher.
    pub watcher: String,
    /// IN parameters that its definition gives.
    #[serde(rename = "in")]
    pub input: BTreeMap<String, String>,
    /// Its action function; none = occurrences are only told.
    pub action: Option<String>,
    /// Occurrences within this time after one that was acted on are counted and not acted on, in milliseconds.
    pub quiet_ms: u64,
    /// Groups that have it.
    pub groups: Vec<String>,
    /// On this node: `watching`, `off` (no group with it is enabled here) or `failed`.
    pub state: String,
    /// Why it is not watched, if it should be.
    pub reason: Option<String>,
    /// Occurrences on this node since the node started.
    pub occurrences: u64,
    /// How many of them were acted on.
    pub acted: u64,
    /// The newest, wall clock, milliseconds since the Unix epoch.
    pub last_at_ms: Option<u64>,
}

/// One occurrence of an event, for one service that it is watched for. A later report with the same number replaces it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OccurrenceReport {
    /// Grows with each occurrence on that node since the node started.
    pub number: u64,
    /// Wall clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Node on which it was seen.
    pub node: String,
    /// The event.
    pub event: String,
    /// The event group that it was watched for; none in a test of an event without a group.
    pub group: Option<String>,
    /// The service that it was watched for, if one.
    pub service: Option<String>,
    /// OUT parameters.
    pub out: BTreeMap<String, String>,
    /// `told` (there is no action function), `waiting` (until this node has its lease), `running`, `succeeded`, `failed`,
    /// `quiet`, `busy` (the action function still ran), `dropped` (its group was disabled while it waited), `would-run` (a test
    /// that runs nothing).
    pub done: String,
    /// What was run, in words, or what it said when it failed.
    pub text: String,
    /// How often the same was seen again within the quiet time.
    pub repeats: u64,
    /// It did not occur: an administrator tests it.
    pub test: bool,
}
