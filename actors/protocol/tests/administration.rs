//! What an administrator asks of the master: a changed configuration, and a death confirmed by hand.

mod common;

use common::{Cluster, level, n};
use phalanx_messages::Level;
use phalanx_messages::limits::REASON_BYTES_MAX;
use phalanx_messages::membership::{FenceMethod, NodeState};
use phalanx_messages::set::NodeSet;
use phalanx_protocol::coordinator::CoordinatorInput;
use phalanx_protocol::quorum::Quorum;

fn nodes(ids: &[u16]) -> NodeSet {
    ids.iter().map(|id| n(*id)).collect()
}

/// Protocol §2, "MA and CF together": one commit names the new configuration, and all later ones go on naming it.
#[test]
fn a_changed_configuration_is_one_commit_that_every_member_hears_of() {
    let mut cluster = Cluster::joined(2, 3, &[level(Level::DLM, "DLM", 1, 1, 1)]);
    let before = cluster.disk.clone();
    cluster.coordinate(CoordinatorInput::Configured { nodes: nodes(&[0, 1, 2]), quorum: Quorum::default() });
    cluster.run();
    assert_eq!(cluster.disk.revision.seq, before.revision.seq + 1);
    assert_eq!(cluster.disk.configuration, cluster.disk.revision);
    let named = cluster.disk.configuration;
    for node in 0..2 {
        assert_eq!(cluster.nodes[&n(node)].agent.record().configuration, named, "node {node} has heard of it");
    }
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    assert_eq!(cluster.disk.configuration, named);
}

#[test]
fn a_removed_node_that_runs_nowhere_is_forgotten_and_an_active_one_never() {
    let mut cluster = Cluster::joined(3, 3, &[level(Level::DLM, "DLM", 1, 1, 1)]);
    cluster.leave(2);
    cluster.run();
    cluster.coordinate(CoordinatorInput::Configured { nodes: nodes(&[0]), quorum: Quorum::default() });
    cluster.run();
    assert_eq!(cluster.disk.nodes.keys().copied().collect::<NodeSet>(), nodes(&[0, 1]));
}

/// Protocol §4.5, F5: the record keeps whose word it was, once.
#[test]
fn a_death_confirmed_by_hand_starts_the_recovery_and_is_written_down() {
    let mut cluster = Cluster::joined(3, 3, &[level(Level::DLM, "DLM", 1, 1, 1)]);
    cluster.kill(2, false);
    cluster.detect(None);
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::ForcedLeaving);
    let victim = cluster.incarnation(n(2));
    cluster.hung.insert((n(0), Level::DLM));
    let word = |by: &str| CoordinatorInput::Confirmed { victim, by: by.to_owned() };
    let long = "x".repeat(REASON_BYTES_MAX);
    cluster.coordinate(word(&format!("root (uid 0) {long}")));
    cluster.run();
    let entry = cluster.disk.nodes[&n(2)].clone();
    assert_eq!((entry.fence.method, entry.fence.death_certain), (Some(FenceMethod::Operator), true));
    assert!(entry.reason.starts_with("death confirmed by root (uid 0)") && entry.reason.len() <= REASON_BYTES_MAX);
    cluster.coordinate(word("somebody else"));
    cluster.run();
    assert_eq!(cluster.disk.nodes[&n(2)].reason, entry.reason, "what is certain needs no second word");
    cluster.hung.clear();
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
}

#[test]
fn nobody_who_is_not_being_forced_out_is_confirmed_dead() {
    let mut cluster = Cluster::joined(2, 2, &[level(Level::DLM, "DLM", 1, 1, 1)]);
    let victim = cluster.incarnation(n(1));
    cluster.coordinate(CoordinatorInput::Confirmed { victim, by: "root".to_owned() });
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Joined);
    assert!(!cluster.disk.nodes[&n(1)].fence.death_certain);
}
