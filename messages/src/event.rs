//! Events and event groups: what watchers look for, and what is done about it (spec, "5. Event Manager Daemon", Table 4).
//!
//! Definitions are part of the registration database, so that they change in the same transaction as the services that use them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::service::ServiceCommand;

/// A value of an IN or OUT parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ParameterValue {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A duration in milliseconds.
    DurationMs(u64),
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::DurationMs(ms) => ms.fmt(f),
        }
    }
}

/// Values by the names of their parameters.
pub type Parameters = BTreeMap<String, ParameterValue>;

/// One event: a condition that a watcher detects, and the action function that runs when it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventDefinition {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The watcher that detects it: `process`, `tcp`, `timer`, ... or `external:NAME` for a program outside the node.
    pub watcher: String,
    /// IN parameters: what exactly the watcher looks for.
    pub parameters: Parameters,
    /// What is done; may refer to `${in.NAME}` and `${out.NAME}`. Without one the event is only told.
    pub action: Option<ServiceCommand>,
    /// Occurrences within this time after one that was acted on are counted and not acted on, in milliseconds.
    pub quiet_ms: u64,
}

/// Events that are enabled and disabled together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventGroupDefinition {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Names of its events.
    pub events: Vec<String>,
    /// Where it is enabled if no service names it: these nodes; none = all. A group that services name is enabled where they are
    /// registered (spec: "enable this event_group upon registration of the service").
    pub nodes: Vec<NodeId>,
    /// An administrator has not disabled it.
    pub enabled: bool,
}
