//! Who beats to whom (protocol §4.1). Pure.
//!
//! Small clusters beat every link. Larger ones beat to the master and to both neighbours in the ring of connected ids, and only
//! probe the rest.

use std::time::Duration;

use phalanx_messages::NodeId;
use phalanx_messages::set::NodeSet;

/// Clusters of at most this many nodes beat every link.
const FULL_MESH_NODES_MAX: usize = 8;
/// Least time between two probes of a link that is not beaten regularly.
const PROBE_MS_MIN: u64 = 10_000;
/// Each node adds this much to it.
const PROBE_MS_PER_NODE: u64 = 100;

/// Time between two probes of such a link in a cluster of that many nodes.
pub(super) fn probe_period(nodes: usize) -> Duration {
    let grown_ms = PROBE_MS_PER_NODE.saturating_mul(u64::try_from(nodes).unwrap_or(u64::MAX));
    Duration::from_millis(grown_ms.max(PROBE_MS_MIN))
}

/// The peers that `me` beats regularly.
pub(super) fn targets(me: NodeId, nodes: usize, connected: &NodeSet, master: Option<NodeId>) -> NodeSet {
    if nodes <= FULL_MESH_NODES_MAX {
        return *connected;
    }
    let below = connected.iter().filter(|peer| *peer < me).last().or_else(|| connected.iter().last());
    let above = connected.iter().find(|peer| *peer > me).or_else(|| connected.iter().next());
    let master = master.filter(|master| connected.contains(*master));
    [below, above, master].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u16]) -> NodeSet {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    #[test]
    fn small_clusters_beat_every_link() {
        assert_eq!(targets(NodeId(0), 8, &set(&[1, 2, 7]), None), set(&[1, 2, 7]));
    }

    #[test]
    fn larger_ones_beat_the_ring_and_the_master() {
        let peers = set(&[0, 2, 3, 5, 9]);
        assert_eq!(targets(NodeId(4), 9, &peers, None), set(&[3, 5]));
        assert_eq!(targets(NodeId(4), 9, &peers, Some(NodeId(0))), set(&[0, 3, 5]));
        assert_eq!(targets(NodeId(4), 9, &peers, Some(NodeId(8))), set(&[3, 5]), "not connected");
        assert_eq!(targets(NodeId(10), 9, &peers, None), set(&[0, 9]), "the ring closes");
        assert_eq!(targets(NodeId(10), 9, &set(&[]), None), set(&[]));
    }

    #[test]
    fn probes_become_rarer_with_size() {
        assert_eq!(probe_period(9), Duration::from_secs(10));
        assert_eq!(probe_period(256), Duration::from_millis(25_600));
    }
}
