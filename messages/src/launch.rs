//! Commands that a node runs for its client services and command subsystems, and what comes of them (architecture §4, §6).
//!
//! The warden runs them, because it survives the daemon and proves that they are gone.

use serde::{Deserialize, Serialize};

use crate::ids::OperationId;

/// Whose command it is; each owner has a containment of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// A client service.
    Service(String),
    /// A command subsystem.
    Subsystem(String),
    /// An event's action function, or a monitor: nothing of it may stay.
    Event(String),
}

/// What may remain of an owner after its processes were killed (architecture §4, "What outlives a process").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaves {
    /// Nothing: killing its containment ends it.
    Processes,
    /// Addresses, mounts, units: `clean_up` must succeed before the node may be called dead.
    State,
}

/// Which action function runs (spec, "4. Action Functions"), or which transition a command subsystem processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start_Command.
    Start,
    /// Stop_Command.
    Stop,
    /// Notify_Command.
    Notify,
    /// Recovery_Command.
    Recovery,
    /// A command subsystem's command for one notification.
    Transition,
    /// An event's action function, or what its watcher runs to detect it.
    Event,
}

/// One command to run.
///
/// A repeated request with the same `owner` and `operation` is not run again: it gets the first one's result
/// (protocol RL-4, RL-5). An operation older than the owner's newest is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Whose command it is.
    pub owner: Owner,
    /// Which committed operation it carries out; subsystem commands have none.
    pub operation: Option<OperationId>,
    /// What it is for.
    pub action: Action,
    /// Command line, given to `/bin/sh -c`.
    pub command: String,
    /// Variables added to the environment.
    pub environment: Vec<(String, String)>,
    /// Killed after this long, in milliseconds.
    pub timeout_ms: u64,
    /// What may remain after the processes.
    pub leaves: Leaves,
    /// Run by the warden if the node dies after this request: `stop_command` of a service, `on_panic` of a subsystem.
    pub clean_up: Option<String>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchResult {
    /// Exit status 0.
    Succeeded,
    /// It ran and failed, timed out or was killed; or it was refused. `text` is what the administrator reads.
    Failed {
        /// Exit status, signal or refusal, with the last lines it wrote to stderr.
        text: String,
    },
}

/// What the daemon asks of its warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "actix", derive(actix::Message), rtype(result = "LaunchResult"))]
pub enum WardenRequest {
    /// Run a command to its end. What it leaves running stays in the owner's containment.
    Launch(LaunchRequest),
    /// Kill the owner's containment and verify that it is empty. `Succeeded` = clean. Aborts a running launch of the owner.
    Kill {
        /// Whose processes.
        owner: Owner,
        /// The operation that this kill is, if it is one.
        operation: Option<OperationId>,
        /// Give up after this long, in milliseconds.
        timeout_ms: u64,
    },
}
