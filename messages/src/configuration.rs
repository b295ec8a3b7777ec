//! The configuration area (`CF`): what the membership database knows of each node beside its state (protocol §2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, Revision};

/// Public half of a node's static interconnect key (X25519).
pub type PublicKey = [u8; 32];

/// What a node does after it has panicked and its processes are dead (architecture §4).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// Votes in the survivor rule and for quorum (protocol §4.4).
    pub votes: u8,
    /// What it does after a panic.
    pub panic: PanicPolicy,
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
}

impl ConfigurationRecord {
    /// Id of the node with that name.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|(_, node)| node.name == name).map(|(id, _)| *id)
    }

    /// Name of a node; its number if it is not configured.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| format!("#{id}"), |node| node.name.clone())
    }
}
