//! Whether an authenticated peer is taken in. Pure: the handshake asks, the actor carries out.
//!
//! Knowing the cluster key is proved by then; here node id, incarnation, cluster, version and static key are judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::configuration::{ConfigurationRecord, PublicKey};
use phalanx_messages::{Incarnation, NodeId, NodeIncarnation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::closing::Refusal;

/// Version of what is said over a connection. A release that changes it speaks the previous one too.
pub(super) const VERSION: u16 = 1;

/// What each side says of itself inside the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Oldest protocol version it speaks.
    pub version_min: u16,
    /// Newest protocol version it speaks.
    pub version_max: u16,
    /// Its cluster.
    pub cluster: Uuid,
    /// Which start of which node.
    pub me: NodeIncarnation,
}

/// Which side of the connection this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It dialled, to reach this node.
    Dialled(NodeId),
    /// It was dialled.
    Accepted,
}

/// What this node knows of itself and its peers.
#[derive(Debug)]
pub(super) struct Admission {
    me: NodeIncarnation,
    cluster: Uuid,
    configuration: Arc<ConfigurationRecord>,
    known: BTreeMap<NodeId, Incarnation>,
}

impl Admission {
    pub fn new(me: NodeIncarnation, cluster: Uuid) -> Self {
        Self { me, cluster, configuration: Arc::default(), known: BTreeMap::new() }
    }

    pub fn configure(&mut self, configuration: Arc<ConfigurationRecord>) {
        self.configuration = configuration;
    }

    /// What this node says of itself.
    pub const fn hello(&self) -> Hello {
        Hello { version_min: VERSION, version_max: VERSION, cluster: self.cluster, me: self.me }
    }

    /// An authenticated peer has shown this incarnation; older ones are refused from now on.
    pub fn learn(&mut self, peer: NodeIncarnation) {
        let known = self.known.entry(peer.node).or_default();
        *known = peer.incarnation.max(*known);
    }

    /// Whether the configuration has `node`, with this key or with none yet (first join).
    pub fn fits(&self, node: NodeId, key: &PublicKey) -> Result<(), Refusal> {
        match self.configuration.nodes.get(&node) {
            None => Err(Refusal::NotConfigured),
            Some(configured) if configured.public_key.is_some_and(|other| other != *key) => Err(Refusal::KeyMismatch),
            Some(_) => Ok(()),
        }
    }

    /// Whether this incarnation, with this key, may still be connected.
    pub fn admits(&self, peer: NodeIncarnation, key: &PublicKey) -> Result<(), Refusal> {
        self.fits(peer.node, key)?;
        if self.known.get(&peer.node).is_some_and(|known| *known > peer.incarnation) {
            return Err(Refusal::OldIncarnation);
        }
        Ok(())
    }

    /// Judges a peer that has proved that it knows the cluster key and owns `key`.
    pub fn judge(&self, side: Side, hello: &Hello, key: &PublicKey) -> Result<(), Refusal> {
        let peer = hello.me;
        if hello.cluster != self.cluster {
            return Err(Refusal::OtherCluster);
        }
        if hello.version_min > VERSION || hello.version_max < VERSION {
            return Err(Refusal::Version);
        }
        if peer.node == self.me.node {
            return Err(Refusal::SameNode);
        }
        match side {
            Side::Dialled(expected) if expected != peer.node => return Err(Refusal::WrongNode),
            Side::Dialled(_) | Side::Accepted => {}
        }
        self.admits(peer, key)?;
        // One connection for each pair of nodes: the higher id dials. A lower one that dials only says that it is there.
        match side {
            Side::Accepted if peer.node < self.me.node => Err(Refusal::DialBack),
            Side::Accepted | Side::Dialled(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::configuration::NodeConfiguration;

    use super::*;

    const CLUSTER: Uuid = Uuid::from_u128(7);
    const KEY: PublicKey = [1; 32];

    fn node(node: u16, incarnation: u64) -> NodeIncarnation {
        NodeIncarnation { node: NodeId(node), incarnation: Incarnation(incarnation) }
    }

    fn admission() -> Admission {
        let nodes = [(1, None), (2, Some(KEY)), (3, None)].map(|(id, public_key)| {
            let address = format!("127.0.0.1:{id}");
            let name = format!("n{id}");
            (NodeId(id), NodeConfiguration { public_key, ..NodeConfiguration::new(name, address) })
        });
        let mut admission = Admission::new(node(2, 5), CLUSTER);
        admission.configure(Arc::new(ConfigurationRecord { nodes: nodes.into(), ..Default::default() }));
        admission
    }

    fn hello(me: NodeIncarnation) -> Hello {
        Hello { version_min: 0, version_max: 9, cluster: CLUSTER, me }
    }

    #[test]
    fn the_higher_id_keeps_the_connection() {
        let admission = admission();
        assert_eq!(admission.judge(Side::Accepted, &hello(node(3, 1)), &KEY), Ok(()));
        assert_eq!(admission.judge(Side::Dialled(NodeId(1)), &hello(node(1, 1)), &KEY), Ok(()));
        assert_eq!(admission.judge(Side::Accepted, &hello(node(1, 1)), &KEY), Err(Refusal::DialBack));
    }

    #[test]
    fn every_refusal_has_its_cause() {
        let mut admission = admission();
        let judged = |admission: &Admission, hello: Hello| admission.judge(Side::Accepted, &hello, &KEY);
        let peer = hello(node(3, 8));
        assert_eq!(judged(&admission, Hello { cluster: Uuid::nil(), ..peer }), Err(Refusal::OtherCluster));
        assert_eq!(judged(&admission, Hello { version_max: 0, ..peer }), Err(Refusal::Version));
        assert_eq!(judged(&admission, Hello { version_min: 2, ..peer }), Err(Refusal::Version));
        assert_eq!(judged(&admission, hello(node(2, 4))), Err(Refusal::SameNode));
        assert_eq!(judged(&admission, hello(node(9, 1))), Err(Refusal::NotConfigured));
        assert_eq!(admission.judge(Side::Dialled(NodeId(1)), &peer, &KEY), Err(Refusal::WrongNode));

        admission.learn(node(3, 8));
        admission.learn(node(3, 2));
        assert_eq!(judged(&admission, peer), Ok(()), "the same start may connect again");
        assert_eq!(judged(&admission, hello(node(3, 7))), Err(Refusal::OldIncarnation));
    }

    #[test]
    fn a_configured_key_must_match_and_a_missing_one_trusts_the_cluster_key() {
        let admission = admission();
        assert_eq!(admission.fits(NodeId(1), &[9; 32]), Ok(()));
        assert_eq!(admission.fits(NodeId(2), &KEY), Ok(()));
        assert_eq!(admission.fits(NodeId(2), &[9; 32]), Err(Refusal::KeyMismatch));
    }
}
