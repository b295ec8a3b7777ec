//! The configuration area (`CF`): what the membership database knows of each node beside its state (protocol §2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, NodeId, NodeIncarnation, Revision};
use crate::limits::SHUTDOWN_MS_DEFAULT;
use crate::membership::{Certainty, NodeState};

/// Public half of a node's static interconnect key (X25519).
pub type PublicKey = [u8; 32];

/// What a node does after it has panicked and its processes are dead (architecture §4).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PanicPolicy {
    /// The node's processes end; the host stays up.
    #[default]
    Exit,
    /// The host reboots.
    Reboot,
    /// The host's kernel crashes, for a dump.
    Crash,
    /// The hardware watchdog is left to fire.
    Watchdog,
}

/// One configured node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeConfiguration {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where its interconnect listens, `host:port`.
    pub address: String,
    /// Its static key, known from its first join on.
    pub public_key: Option<PublicKey>,
    /// Votes in the survivor rule and for quorum (protocol §4.3, §4.4).
    pub votes: u8,
    /// What it does after a panic.
    pub panic: PanicPolicy,
    /// A graceful leave that takes longer ends as if the administrator had asked a second time, in milliseconds.
    pub shutdown_ms: u64,
    /// The administrator states that a hardware watchdog resets this node although its processes are frozen (protocol §4.5, F4).
    pub watchdog_attested: bool,
    /// Fence agents, tried in this order when the node is to be proved dead from another host (protocol §4.5, F2).
    pub fence: Vec<FenceAgent>,
    /// Weight of the services that it takes at most; 0 = any.
    pub capacity: u32,
}

impl NodeConfiguration {
    /// A node of which nothing else is said.
    #[must_use]
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            public_key: None,
            votes: 1,
            panic: PanicPolicy::Exit,
            shutdown_ms: SHUTDOWN_MS_DEFAULT,
            watchdog_attested: false,
            fence: Vec::new(),
            capacity: 0,
        }
    }
}

/// One fence method: an agent of the administrator's, and what it is told. Secrets are never among the parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FenceAgent {
    /// Its name, as in `fence_ipmilan`.
    pub agent: String,
    /// Its parameters by name.
    pub parameters: BTreeMap<String, String>,
    /// Its level of the topology: all agents of a level must succeed, and the levels are tried in ascending order.
    pub level: u8,
    /// What its success proves: the death of the node, or only that no write of it takes effect any more (protocol §4.5, F1).
    pub proves: Certainty,
}

impl FenceAgent {
    /// An agent of the first level that switches a host off, and is told nothing else.
    #[must_use]
    pub fn new(agent: impl Into<String>) -> Self {
        Self { agent: agent.into(), parameters: BTreeMap::new(), level: 0, proves: Certainty::Death }
    }
}

/// True if a parameter of that name is a secret by its name. Secrets stay off the shared disk.
#[must_use]
pub fn is_secret(parameter: &str) -> bool {
    let name = parameter.to_ascii_lowercase();
    let parts = ["passw", "passphrase", "secret", "token", "community", "credential"];
    name == "key" || name.ends_with("_key") || name.ends_with("-key") || parts.iter().any(|part| name.contains(part))
}

/// The whole configuration, written as one record by the master.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConfigurationRecord {
    /// Place in the chain of configurations.
    pub revision: Revision,
    /// Name of the cluster.
    pub cluster: String,
    /// The nodes by id.
    pub nodes: BTreeMap<NodeId, NodeConfiguration>,
    /// The last change that was made for each node: a repeated request is answered from here and never made twice.
    pub consumed: BTreeMap<NodeId, Consumed>,
    /// Votes of the shared disk for quorum (protocol §4.4): 0 makes a majority cluster. None = the disk decides alone, which is
    /// what one vote less than all nodes together amounts to.
    pub disk_votes: Option<u16>,
}

/// A change that is part of the configuration.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consumed {
    /// Which start of the node asked for it.
    pub incarnation: Incarnation,
    /// Counts the requests of that start.
    pub counter: u64,
    /// The configuration that has it first.
    pub revision: Revision,
}

impl ConfigurationRecord {
    /// Id of the node with that name.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|(_, node)| node.name == name).map(|(id, _)| *id)
    }

    /// What the change `counter` of `source` came to, if it is the last one of that source and part of this configuration.
    #[must_use]
    pub fn outcome(&self, source: NodeIncarnation, counter: u64) -> Option<Revision> {
        let consumed = self.consumed.get(&source.node);
        let same = |it: &&Consumed| it.incarnation == source.incarnation && it.counter == counter;
        consumed.filter(same).map(|consumed| consumed.revision)
    }

    /// Name of a node; its number if it is not configured.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| format!("#{id}"), |node| node.name.clone())
    }
}

/// What an administrator says of a node beside name, id and address; what is not said stays as it is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeSettings {
    /// [`NodeConfiguration::votes`].
    pub votes: Option<u8>,
    /// [`NodeConfiguration::panic`].
    pub panic: Option<PanicPolicy>,
    /// [`NodeConfiguration::shutdown_ms`].
    pub shutdown_ms: Option<u64>,
    /// [`NodeConfiguration::watchdog_attested`].
    pub watchdog_attested: Option<bool>,
    /// [`NodeConfiguration::fence`].
    pub fence: Option<Vec<FenceAgent>>,
    /// [`NodeConfiguration::capacity`].
    pub capacity: Option<u32>,
}

/// One change of the membership configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeChange {
    /// A new node.
    Add {
        /// Its name.
        name: String,
        /// Its id; the lowest free one if none.
        id: Option<NodeId>,
        /// Where its interconnect listens.
        address: String,
        /// The rest; `panic` is the one of the other nodes if none.
        settings: NodeSettings,
    },
    /// A node that is inactive goes.
    Remove {
        /// Its name.
        name: String,
    },
    /// A node is changed.
    Set {
        /// Its name.
        name: String,
        /// Its new address.
        address: Option<String>,
        /// The rest.
        settings: NodeSettings,
    },
    /// [`ConfigurationRecord::disk_votes`] is changed; none = the disk decides alone again.
    DiskVotes {
        /// The new votes of the disk.
        votes: Option<u16>,
    },
}

impl NodeChange {
    /// The node it is about; none if it is about the cluster.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Add { name, .. } | Self::Remove { name } | Self::Set { name, .. } => Some(name),
            Self::DiskVotes { .. } => None,
        }
    }
}

/// Why a change of the membership configuration is not made. The text names the key or the command to use next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeRefusal {
    /// Another change came between.
    #[error("the configuration is {now}, and the change was made for {base}; look at it again (`phalanx config show`)")]
    Stale {
        /// What the client saw.
        base: Revision,
        /// What is.
        now: Revision,
    },
    /// No such node.
    #[error("there is no node `{name}`; the cluster has {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Two nodes would have one name.
    #[error("node `{name}` exists, with id {id}; choose another name, or use `phalanx node set {name}`")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: NodeId,
    },
    /// Two nodes would have one id.
    #[error("id {id} of node `{name}` belongs to node `{other}`; leave `--id` out for the lowest free one")]
    IdTaken {
        /// The node.
        name: String,
        /// The id.
        id: NodeId,
        /// Who has it.
        other: String,
    },
    /// Two nodes would have one address.
    #[error("address {address} of node `{name}` belongs to node `{other}`; give each node its own `address`")]
    AddressTaken {
        /// The node.
        name: String,
        /// The address.
        address: String,
        /// Who has it.
        other: String,
    },
    /// The disk has no place for that id.
    #[error("id {id} of node `{name}` must be below {nodes_max}, the --nodes-max that the disk was created with")]
    IdTooHigh {
        /// The node.
        name: String,
        /// The id.
        id: NodeId,
        /// The limit.
        nodes_max: u16,
    },
    /// The disk has no place for another node.
    #[error("the disk was created for {nodes_max} nodes, and there are as many; remove one with `phalanx node remove`")]
    Full {
        /// The limit.
        nodes_max: u16,
    },
    /// An active node cannot be removed.
    #[error("node `{name}` is {}; take it out first with `phalanx node leave {name}`", state.text())]
    Active {
        /// The node.
        name: String,
        /// Its state.
        state: NodeState,
    },
    /// An earlier start of the node is still being recovered.
    #[error("an earlier start of node `{name}` is not recovered yet; `phalanx status` shows what is awaited")]
    Haunted {
        /// The node.
        name: String,
    },
    /// A cluster has one node at least.
    #[error("node `{name}` is the last one; a cluster without nodes cannot be changed any more")]
    LastNode {
        /// The node.
        name: String,
    },
    /// The other nodes give no example.
    #[error(
        "the nodes have different panic policies, so node `{name}` must choose: `--panic exit`, `reboot`, `crash` or `watchdog`"
    )]
    PanicNotChosen {
        /// The node.
        name: String,
    },
    /// A value is not allowed.
    #[error("{key} of node `{name}` {text}")]
    Value {
        /// The node.
        name: String,
        /// The key.
        key: String,
        /// What is wrong, and what is right.
        text: String,
    },
}

impl ChangeRefusal {
    /// Exit code of the contract (architecture §5).
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Stale { .. } => 75,
            Self::Unknown { .. } => 105,
            Self::Active { .. } | Self::Haunted { .. } | Self::LastNode { .. } => 1,
            Self::NameTaken { .. }
            | Self::IdTaken { .. }
            | Self::AddressTaken { .. }
            | Self::IdTooHigh { .. }
            | Self::Full { .. }
            | Self::PanicNotChosen { .. }
            | Self::Value { .. } => 78,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    /// A change here is a change of the disk format.
    #[test]
    fn golden_bytes_of_a_configuration() {
        let fence = vec![FenceAgent { parameters: [("i".to_owned(), "1".to_owned())].into(), ..FenceAgent::new("f") }];
        let node = NodeConfiguration { panic: PanicPolicy::Watchdog, fence, ..NodeConfiguration::new("n", "h:1") };
        let consumed = Consumed { incarnation: Incarnation(7), counter: 8, revision: Revision::default() };
        let record = ConfigurationRecord {
            revision: Revision { term: crate::ids::Term(2), seq: 3 },
            cluster: "c".to_owned(),
            nodes: [(NodeId(4), node)].into(),
            consumed: [(NodeId(4), consumed)].into(),
            disk_votes: Some(2),
        };
        let number = |value: u64| value.to_le_bytes().to_vec();
        let text = |text: &str| [number(text.len() as u64), text.as_bytes().to_vec()].concat();
        let golden = [
            [number(2), number(3), text("c"), number(1), vec![4, 0]].concat(),
            [text("n"), text("h:1"), vec![0], vec![1], vec![3, 0, 0, 0], number(300_000), vec![0]].concat(),
            [number(1), text("f"), number(1), text("i"), text("1"), vec![0, 1, 0, 0, 0], vec![0; 4]].concat(),
            [number(1), vec![4, 0], number(7), number(8), number(0), number(0)].concat(),
            vec![1, 2, 0],
        ]
        .concat();
        assert_eq!(codec::encode(&record, 1_024).unwrap(), golden);
        assert_eq!(codec::decode::<ConfigurationRecord>(&golden, 1_024).unwrap(), record);
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for secret in ["passwd", "PASSWORD", "passwd_script", "key", "ssh_key", "secret", "token", "snmp_community"] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in ["ip", "port", "login", "lanplus", "keyboard", "plug", "method"] {
            assert!(!is_secret(plain), "{plain}");
        }
    }
}
