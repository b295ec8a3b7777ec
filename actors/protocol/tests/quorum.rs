//! Quorum in the coordinator (protocol §4.4, I-F6, T-14 E_NO_QUORUM): without it nobody is marked or let in.

mod common;

use common::{Cluster, level, n, spec_levels};
use phalanx_messages::Level;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::membership::{FenceMethod, NodeState};
use phalanx_messages::peer::JoinRefusal;
use phalanx_protocol::coordinator::CoordinatorInput;
use phalanx_protocol::detector::Verdict;
use phalanx_protocol::quorum::Quorum;

/// Nodes with a vote each.
fn quorum(nodes: u16, disk_votes: Option<u16>) -> Quorum {
    let node = |id: u16| (n(id), NodeConfiguration::new(format!("n{id}"), format!("h:{id}")));
    let nodes = (0..nodes).map(node).collect();
    Quorum::of(&ConfigurationRecord { disk_votes, nodes, ..ConfigurationRecord::default() })
}

/// Nodes with these votes, and none for the disk.
fn votes(votes: &[u8]) -> ConfigurationRecord {
    let node = |(id, votes): (u16, &u8)| {
        (n(id), NodeConfiguration { votes: *votes, ..NodeConfiguration::new(format!("n{id}"), format!("h:{id}")) })
    };
    let nodes = (0..).zip(votes).map(node).collect();
    ConfigurationRecord { disk_votes: Some(0), nodes, ..ConfigurationRecord::default() }
}

fn present(cluster: &mut Cluster, quorum: &Quorum, nodes: &[u16]) {
    let present = nodes.iter().copied().map(n).collect();
    cluster.coordinate(CoordinatorInput::Present { quorum: quorum.clone(), present });
}

#[test]
fn a_minority_marks_nobody_and_says_that_it_waits() {
    let majority = quorum(3, Some(0));
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    present(&mut cluster, &majority, &[0, 1, 2]);
    cluster.kill(2, false);
    present(&mut cluster, &majority, &[0, 1]);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!((cluster.state(2), cluster.quorum_changes.len()), (NodeState::Inactive, 0), "two of three go on");

    cluster.kill(1, false);
    present(&mut cluster, &majority, &[0]);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!((cluster.state(1), &cluster.quorum_changes[..]), (NodeState::Joined, &[false][..]), "one does not");

    cluster.boot(2);
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Joining, "with its own vote there are two of three");
    present(&mut cluster, &majority, &[0, 2]);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!([1, 2].map(|id| cluster.state(id)), [NodeState::Inactive, NodeState::Joined]);
    assert_eq!(cluster.quorum_changes, [false, true]);
}

#[test]
fn a_majority_cluster_does_not_form_with_a_minority() {
    let majority = quorum(3, Some(0));
    let mut cluster = Cluster::new(3, &spec_levels());
    cluster.boot(0);
    present(&mut cluster, &majority, &[0]);
    cluster.run();
    assert_eq!(cluster.refusals, [(n(0), JoinRefusal::NoQuorum { votes: 1, needed: 2 })]);
    cluster.boot(1);
    present(&mut cluster, &majority, &[0, 1]);
    cluster.run_until(|cluster| [0, 1].map(|id| cluster.state(id)) == [NodeState::Joined; 2]);
}

/// The default: whoever has the disk decides alone, whatever the votes.
#[test]
fn with_the_votes_of_the_disk_one_node_goes_on() {
    for disk_votes in [None, Some(2)] {
        let disk = quorum(3, disk_votes);
        let mut cluster = Cluster::joined(3, 3, &spec_levels());
        (1..3).for_each(|id| cluster.kill(id, false));
        present(&mut cluster, &disk, &[0]);
        cluster.detect(Some(FenceMethod::OwnWord));
        cluster.run();
        assert_eq!([1, 2].map(|id| cluster.state(id)), [NodeState::Inactive; 2]);
        assert!(cluster.quorum_changes.is_empty());
    }
}

/// One commit marks all or nobody: it must not mark as many as it may and strand the rest.
#[test]
fn marks_that_would_cost_quorum_are_not_made() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    present(&mut cluster, &quorum(3, Some(0)), &[0, 1, 2]);
    (1..3).for_each(|id| cluster.kill(id, false));
    cluster.detect(None);
    cluster.run();
    assert_eq!([1, 2].map(|id| cluster.state(id)), [NodeState::Joined; 2]);
}

/// What runs goes on without quorum: the recovery of who was marked with it, proofs, and graceful leaves.
#[test]
fn what_runs_goes_on_without_quorum() {
    let majority = quorum(3, Some(0));
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    present(&mut cluster, &majority, &[0, 1, 2]);
    cluster.kill(2, false);
    cluster.detect(None);
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::ForcedLeaving);
    present(&mut cluster, &majority, &[0]);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive, "the proof of a marked one counts");
    cluster.leave(1);
    cluster.run_until(|cluster| cluster.state(1) == NodeState::Inactive);
}

/// T-20 beside §4.4: a hung subsystem costs its node only if those who are left have quorum.
#[test]
fn a_hung_member_is_only_reported_if_the_others_are_too_few() {
    for (votes, expected) in [(Some(0), NodeState::Joined), (None, NodeState::ForcedLeaving)] {
        let mut cluster =
            Cluster::joined(2, 2, &[level(Level::DLM, "DLM", 1, 1, 1), level(Level::VDM, "VDM", 1, 1, 1)]);
        present(&mut cluster, &quorum(2, votes), &[0, 1]);
        cluster.register(0, level(Level(1_100), "monitor", 1, 1, 1));
        cluster.run();
        cluster.hung.insert((n(1), Level(1_100)));
        cluster.register(1, level(Level(1_100), "monitor", 1, 1, 1));
        for _ in 0..125 {
            cluster.tick(1_000);
            cluster.run();
        }
        assert_eq!(cluster.state(1), expected);
        assert!(!cluster.warnings.is_empty());
    }
}

/// I-F6: the vote of whoever is marked is gone at once, not when the detector looks again, and it does not come back while the mark
/// is on its way to the disk.
#[test]
fn a_second_mark_is_judged_by_what_the_first_one_leaves() {
    let majority = quorum(3, Some(0));
    let mark = |cluster: &mut Cluster, id: u16| {
        let victim = cluster.incarnation(n(id));
        let victims = vec![Verdict { victim, reason: "fenced by hand".to_owned(), proof: None }];
        cluster.coordinate(CoordinatorInput::Force { victims });
    };
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    present(&mut cluster, &majority, &[0, 1, 2]);
    mark(&mut cluster, 1);
    assert_eq!(cluster.state(1), NodeState::Joined, "it is not committed yet");
    mark(&mut cluster, 2);
    present(&mut cluster, &majority, &[0, 1, 2]);
    mark(&mut cluster, 2);
    cluster.run();
    assert_eq!([1, 2].map(|id| cluster.state(id)), [NodeState::ForcedLeaving, NodeState::Joined]);
    assert!(cluster.quorum_changes.is_empty(), "two of three are left all the time");
}

/// A change of the votes and a mark can be committed in either order, or together.
#[test]
fn while_the_votes_change_a_decision_must_be_right_by_the_old_and_by_the_new_ones() {
    let heavy = votes(&[3, 1]);
    let light = votes(&[1, 1]);
    for changing in [Quorum::of(&heavy).changing_to(&light), Quorum::of(&light).changing_to(&heavy)] {
        let mut cluster = Cluster::joined(2, 2, &spec_levels());
        present(&mut cluster, &changing, &[0, 1]);
        cluster.kill(1, false);
        cluster.detect(Some(FenceMethod::OwnWord));
        cluster.run();
        assert_eq!(cluster.state(1), NodeState::Joined, "1 of 2 votes is too little, 3 of 4 is not");
        present(&mut cluster, &Quorum::of(&heavy), &[0]);
        cluster.detect(Some(FenceMethod::OwnWord));
        cluster.run();
        assert_eq!(cluster.state(1), NodeState::Inactive);
    }
}

/// The master takes no change of the votes beside a decision that is not committed.
#[test]
fn a_decision_that_is_not_committed_is_told_of() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    let decides = |cluster: &Cluster| cluster.master.as_ref().is_some_and(|(_, coordinator)| coordinator.decides());
    assert!(!decides(&cluster));
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    assert!(decides(&cluster));
    cluster.land_commit();
    assert!(!decides(&cluster));
}

/// A node that has left by a record that is still being written lends its vote to nobody.
#[test]
fn the_vote_of_a_leaver_is_gone_before_its_leave_is_committed() {
    let majority = Quorum::of(&votes(&[2, 1, 1, 1, 1]));
    let mut cluster = Cluster::joined(2, 3, &[level(Level::DLM, "DLM", 1, 1, 1)]);
    present(&mut cluster, &majority, &[0, 1]);
    cluster.leave(1);
    while cluster.writing.as_ref().is_none_or(|record| record.nodes[&n(1)].state != NodeState::Inactive) {
        assert!(cluster.run_one());
    }
    cluster.boot(2);
    let asks = cluster.wire.pop_back();
    cluster.deliver(asks.unwrap_or_else(|| panic!("nobody asks")));
    assert_eq!(cluster.refusals, [(n(2), JoinRefusal::NoQuorum { votes: 3, needed: 4 })]);
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
}
