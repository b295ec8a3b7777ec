//! Definition of a client service: choosing parameters and action functions (spec, "2. Choosing Parameters" and "4. Action
//! Functions"; protocol §6.2).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::launch::{Leaves, Program};

/// How often, and over how long, a service that fails is restarted where it is, if nothing else is said.
const RESTARTS_DEFAULT: RestartPolicy = RestartPolicy { limit: 2, window_ms: 600_000, backoff_ms: 1_000 };
/// A preferred node must be up this long before a service moves to it by itself, if nothing else is said.
pub const STABLE_MS_DEFAULT: u64 = 60_000;
/// What a service counts for where nothing else is said.
pub const WEIGHT_DEFAULT: u32 = 1;

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

/// On how many nodes a service is registered (spec, "Placement_Policy").
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementPolicy {
    /// On exactly one.
    #[default]
    RegisterOnOne,
    /// On every allowable node.
    RegisterOnAll,
}

/// What it costs to move a running service (spec, Table 3: "Transfer_cost is free").
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferCost {
    /// It stays where it is until somebody moves it.
    #[default]
    Normal,
    /// It moves by itself when a preferred node is up and stable.
    Free,
}

/// What a child that cannot be run does to its group (protocol RL-13, RL-14).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildFailure {
    /// Nothing: the rest of the group stays where it is.
    #[default]
    Isolate,
    /// The whole group moves to another node.
    FailGroup,
}

/// What is run for an action function, a monitor or an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Invocation {
    /// A program and its arguments. No shell.
    Arguments(Vec<String>),
    /// A command line, given to `/bin/sh -c`.
    Shell(String),
    /// The agent of the service, with the name of the action.
    Agent,
}

impl Invocation {
    /// What is run; none = the agent of the service knows.
    #[must_use]
    pub fn program(&self) -> Option<Program> {
        match self {
            Self::Arguments(words) => Some(Program::Arguments(words.clone())),
            Self::Shell(command) => Some(Program::Shell(command.clone())),
            Self::Agent => None,
        }
    }
}

impl From<Program> for Invocation {
    fn from(program: Program) -> Self {
        match program {
            Program::Arguments(words) => Self::Arguments(words),
            Program::Shell(command) => Self::Shell(command),
        }
    }
}

/// One action function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceCommand {
    /// What is run.
    pub run: Invocation,
    /// Killed and counted as failed after this long.
    pub timeout_ms: u64,
    /// How often it is run again on the same node before it counts as failed.
    pub retries: u16,
}

impl ServiceCommand {
    /// A command line for the shell that is run once.
    #[must_use]
    pub fn shell(command: impl Into<String>, timeout_ms: u64) -> Self {
        Self { run: Invocation::Shell(command.into()), timeout_ms, retries: 0 }
    }
}

/// Who performs the action functions of a service that has no commands of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AgentClass {
    /// An OCF resource agent: `ocf:PROVIDER:TYPE`.
    Ocf {
        /// Directory under the agents' root.
        provider: String,
        /// File in it.
        agent: String,
    },
    /// A systemd unit: `systemd:UNIT`.
    Systemd {
        /// The unit, with its suffix.
        unit: String,
    },
    /// An actor of the application that the node is part of: `actor:NAME`.
    Actor {
        /// The name that it was registered by.
        name: String,
    },
}

impl FromStr for AgentClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'\\');
            !name.is_empty() && !name.starts_with('.') && name.bytes().all(allowed)
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["ocf", provider, agent] if named(provider) && named(agent) => {
                Ok(Self::Ocf { provider: provider.to_owned(), agent: agent.to_owned() })
            }
            ["systemd", unit] if named(unit) => {
                let suffix = if unit.contains('.') { "" } else { ".service" };
                Ok(Self::Systemd { unit: format!("{unit}{suffix}") })
            }
            ["actor", name] if named(name) => Ok(Self::Actor { name: name.to_owned() }),
            _ => Err(format!("is `{text}`, which names no agent")),
        }
    }
}

impl fmt::Display for AgentClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ocf { provider, agent } => write!(f, "ocf:{provider}:{agent}"),
            Self::Systemd { unit } => write!(f, "systemd:{unit}"),
            Self::Actor { name } => write!(f, "actor:{name}"),
        }
    }
}

/// The agent of a service, and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceAgent {
    /// Which.
    pub class: AgentClass,
    /// Its parameters by name.
    pub parameters: BTreeMap<String, String>,
}

/// How a registered service is looked at again and again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Monitor {
    /// What is run: 0 = it is well.
    pub run: Invocation,
    /// From the end of one to the beginning of the next.
    pub interval_ms: u64,
    /// One that takes longer is slow; it counts as bad.
    pub timeout_ms: u64,
    /// Bad ones in a row that count as a failure of the service.
    pub tolerance: u16,
}

/// What happens to a registered service that has failed: restarted in place up to `limit` times within `window_ms`, then started
/// on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Restarts in place.
    pub limit: u16,
    /// Over how long they are counted.
    pub window_ms: u64,
    /// Pause before the first; doubles with each that is counted.
    pub backoff_ms: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RESTARTS_DEFAULT
    }
}

/// A client service as the administrator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// Its name, unique in the cluster.
    pub name: String,
    /// The service that it is placed with; it has no choosing parameters of its own then (spec, "3. Grouping").
    pub parent: Option<String>,
    /// Where it may run.
    pub allowable_nodes: AllowableNodes,
    /// Where it may not, even if allowable.
    pub disallowable_nodes: Vec<NodeId>,
    /// Where it should.
    pub node_preferences: NodePreferences,
    /// When it is registered by itself.
    pub auto_register: AutoRegister,
    /// On one node, or on all.
    pub placement_policy: PlacementPolicy,
    /// Wait for this many allowable nodes before the first start.
    pub maturity_count: Option<u16>,
    /// Or for this long.
    pub maturity_time_ms: Option<u64>,
    /// Whether it moves to a preferred node by itself.
    pub transfer_cost: TransferCost,
    /// How long that node must have been up.
    pub stable_ms: u64,
    /// Its share of a node's capacity.
    pub weight: u32,
    /// Starts it; what it leaves running is the service.
    pub start_command: Option<ServiceCommand>,
    /// Stops it.
    pub stop_command: Option<ServiceCommand>,
    /// Tells the other allowable nodes where it runs.
    pub notify_command: Option<ServiceCommand>,
    /// Recovers what it left behind when its node was forced out.
    pub recovery_command: Option<ServiceCommand>,
    /// Who performs those that are [`Invocation::Agent`].
    pub agent: Option<ServiceAgent>,
    /// Children that have none of these use this service's (spec, claims 14, 29).
    pub inherit_actions: bool,
    /// What a failure of this child does to its group.
    pub child_failure: ChildFailure,
    /// How it is looked at while it is registered.
    pub monitor: Option<Monitor>,
    /// What happens when it has failed.
    pub restart: RestartPolicy,
    /// Events that are watched where it is registered.
    pub event_group: Option<String>,
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
            parent: None,
            allowable_nodes: AllowableNodes::Any,
            disallowable_nodes: Vec::new(),
            node_preferences: NodePreferences::None,
            auto_register: AutoRegister::Always,
            placement_policy: PlacementPolicy::RegisterOnOne,
            maturity_count: None,
            maturity_time_ms: None,
            transfer_cost: TransferCost::Normal,
            stable_ms: STABLE_MS_DEFAULT,
            weight: WEIGHT_DEFAULT,
            start_command: None,
            stop_command: None,
            notify_command: None,
            recovery_command: None,
            agent: None,
            inherit_actions: false,
            child_failure: ChildFailure::Isolate,
            monitor: None,
            restart: RESTARTS_DEFAULT,
            event_group: None,
            leaves: Leaves::Processes,
            start_retries: 0,
            stop_failure: StopFailure::Fence,
            recover_lost_start: false,
        }
    }
}
