//! Definition of a client service: choosing parameters and action functions (spec, "2. Choosing Parameters" and "4. Action
//! Functions"; protocol §6.2).

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::launch::Leaves;

/// Nodes a service may run on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AllowableNodes {
    /// Every node (`"*"`).
    #[default]
    Any,
    /// Just these.
    Listed(Vec<NodeId>),
}

/// Nodes a service would rather run on.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodePreferences {
    /// None.
    #[default]
    None,
    /// These before others, the least loaded first.
    Unordered(Vec<NodeId>),
    /// These before others, in this order.
    Ordered(Vec<NodeId>),
}

/// When a service is registered without being asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoRegister {
    /// Never.
    Manual,
    /// When the cluster forms.
    PowerUp,
    /// When the cluster forms and when the definition is applied.
    #[default]
    Always,
}

/// What happens to a node whose service cannot be stopped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopFailure {
    /// It is forced out.
    #[default]
    Fence,
    /// Once the service's processes are dead the stop counts as done.
    Ignore,
}

/// One action function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceCommand {
    /// Command line, given to `/bin/sh -c`.
    pub command: String,
    /// Killed and counted as failed after this long.
    pub timeout_ms: u64,
}

/// A client service as the administrator defines it. Parents, `register_on_all` and free transfer are refused by the
/// configuration until they are built.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where it may run.
    pub allowable_nodes: AllowableNodes,
    /// Where it may not, even if allowable.
    pub disallowable_nodes: Vec<NodeId>,
    /// Where it should.
    pub node_preferences: NodePreferences,
    /// When it is registered by itself.
    pub auto_register: AutoRegister,
    /// Wait for this many allowable nodes before the first start.
    pub maturity_count: Option<u16>,
    /// Or for this long.
    pub maturity_time_ms: Option<u64>,
    /// Starts it; what it leaves running is the service.
    pub start_command: Option<ServiceCommand>,
    /// Stops it.
    pub stop_command: Option<ServiceCommand>,
    /// Tells the other allowable nodes where it runs.
    pub notify_command: Option<ServiceCommand>,
    /// Recovers what it left behind when its node was forced out.
    pub recovery_command: Option<ServiceCommand>,
    /// What may remain after its processes.
    pub leaves: Leaves,
    /// How often all nodes are tried again after every one failed to start it.
    pub start_retries: u32,
    /// What if it cannot be stopped.
    pub stop_failure: StopFailure,
    /// Recover also after a start whose result was never learnt (protocol §6.3).
    pub recover_lost_start: bool,
}

impl ServiceDefinition {
    /// A service of which nothing else is said: it may run anywhere, and has no command.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            allowable_nodes: AllowableNodes::Any,
            disallowable_nodes: Vec::new(),
            node_preferences: NodePreferences::None,
            auto_register: AutoRegister::Always,
            maturity_count: None,
            maturity_time_ms: None,
            start_command: None,
            stop_command: None,
            notify_command: None,
            recovery_command: None,
            leaves: Leaves::Processes,
            start_retries: 0,
            stop_failure: StopFailure::Fence,
            recover_lost_start: false,
        }
    }
}
