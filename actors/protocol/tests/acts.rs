//! What the master does about steps that do not end (protocol T-20, T-24): each act, and each time it must not act.

mod common;

use common::{Cluster, level, n};
use phalanx_messages::Level;
use phalanx_messages::membership::{FenceMethod, LevelRegistration, NodeState, StepPhase};
use phalanx_protocol::coordinator::CoordinatorInput;
use phalanx_protocol::quorum::Quorum;

/// Two levels; the lower one has two barriers to join.
fn levels() -> Vec<LevelRegistration> {
    vec![level(Level::DLM, "DLM", 2, 1, 1), level(Level::VDM, "VDM", 2, 1, 1)]
}

/// Time passes until it is acted on, and a little more.
fn until_acted(cluster: &mut Cluster) {
    for _ in 0..130 {
        cluster.tick(1_000);
        cluster.run();
    }
}

fn reason(cluster: &Cluster, node: u16) -> &str {
    &cluster.disk.nodes[&n(node)].reason
}

#[test]
fn t20_a_member_that_hangs_is_forced_out_and_the_join_goes_on() {
    let mut cluster = Cluster::joined(2, 3, &levels());
    cluster.hung.insert((n(1), Level::VDM));
    cluster.boot(2);
    cluster.run();
    for _ in 0..118 {
        cluster.tick(1_000);
        cluster.run();
    }
    assert_eq!(cluster.state(1), NodeState::Joined, "not before its time");
    until_acted(&mut cluster);
    assert_eq!(cluster.state(1), NodeState::ForcedLeaving);
    assert!(reason(&cluster, 1).contains("level 200 cannot end Joining: no answer in time"), "{}", reason(&cluster, 1));
    cluster.kill(1, false);
    cluster.prove();
    cluster.run_until(|cluster| cluster.state(2) == NodeState::Joined);
    assert_eq!(cluster.state(1), NodeState::Inactive);
}

#[test]
fn t20_if_all_hang_it_is_only_reported() {
    let mut cluster = Cluster::joined(2, 3, &levels());
    (0..3).for_each(|id| _ = cluster.hung.insert((n(id), Level::VDM)));
    cluster.boot(2);
    cluster.run();
    until_acted(&mut cluster);
    let states = [0, 1, 2].map(|id| cluster.state(id));
    assert_eq!(states, [NodeState::Joined, NodeState::Joined, NodeState::Joining]);
    assert!(cluster.panics.is_empty() && !cluster.warnings.is_empty());
}

#[test]
fn t20_a_master_whose_own_subsystem_hangs_panics() {
    let mut cluster = Cluster::joined(2, 3, &levels());
    cluster.hung.insert((n(0), Level::VDM));
    cluster.boot(2);
    cluster.run();
    until_acted(&mut cluster);
    assert!(cluster.panics[0].contains("its own subsystem at level 200"), "{:?}", cluster.panics);
    assert_eq!(cluster.state(0), NodeState::Joined, "it never marks itself");
}

/// A newcomer never costs a member: its join is reversed, through every barrier that is left.
#[test]
fn t24_a_join_that_a_member_refuses_is_reversed() {
    let mut cluster = Cluster::joined(2, 3, &levels());
    cluster.failing.insert((n(1), Level::VDM), u32::MAX);
    cluster.boot(2);
    cluster.run();
    until_acted(&mut cluster);
    cluster.failing.clear(); // it can let go of what it never took
    cluster.run_until(|cluster| cluster.state(2) == NodeState::Inactive);
    assert_eq!([0, 1].map(|id| cluster.state(id)), [NodeState::Joined, NodeState::Joined]);
    assert!(reason(&cluster, 2).contains("a member could not take it at level 200: no"), "{}", reason(&cluster, 2));
    assert!(cluster.nodes[&n(2)].left && cluster.wrong_at_rest().is_empty());
}

#[test]
fn t24_a_node_that_cannot_let_go_is_forced_out() {
    let mut cluster = Cluster::joined(3, 3, &levels());
    cluster.failing.insert((n(2), Level::DLM), u32::MAX);
    cluster.leave(2);
    cluster.run();
    until_acted(&mut cluster);
    assert_eq!(cluster.state(2), NodeState::ForcedLeaving);
    assert!(reason(&cluster, 2).contains("level 100 cannot end Leaving: no"), "{}", reason(&cluster, 2));
}

#[test]
fn t24_a_node_that_cannot_recover_is_forced_out_but_never_the_last_one() {
    let mut cluster = Cluster::joined(3, 3, &levels());
    cluster.failing.insert((n(1), Level::DLM), u32::MAX);
    cluster.kill(2, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    until_acted(&mut cluster);
    assert_eq!(cluster.state(1), NodeState::ForcedLeaving);
    assert!(reason(&cluster, 1).contains("cannot end ForcedLeaving"), "{}", reason(&cluster, 1));
    cluster.failing = [((n(0), Level::DLM), 100)].into();
    cluster.kill(1, false);
    cluster.prove();
    cluster.run();
    until_acted(&mut cluster);
    assert!(cluster.panics.is_empty(), "the last one keeps trying: {:?}", cluster.panics);
    cluster.failing.clear();
    cluster.run_until(|cluster| cluster.state(1) == NodeState::Inactive && cluster.state(2) == NodeState::Inactive);
}

/// Whoever waits outside can recover what the last one cannot: it forms the cluster anew.
#[test]
fn t24_the_last_one_gives_way_if_somebody_waits_to_be_let_in() {
    let mut cluster = Cluster::joined(2, 3, &levels());
    cluster.hung.insert((n(0), Level::VDM));
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    let present = |cluster: &mut Cluster, nodes: &[u16]| {
        let present = nodes.iter().copied().map(n).collect();
        cluster.coordinate(CoordinatorInput::Present { quorum: Quorum::default(), present });
    };
    present(&mut cluster, &[0]);
    until_acted(&mut cluster);
    assert!(cluster.panics.is_empty(), "nobody could take over: {:?}", cluster.panics);
    present(&mut cluster, &[0, 2]);
    until_acted(&mut cluster);
    assert!(cluster.panics[0].contains("others wait to be let in"), "{:?}", cluster.panics);
}

/// What a service does not let go of is registration's business (RL-8).
#[test]
fn t20_a_leave_at_the_event_manager_is_not_acted_on() {
    let levels = vec![level(Level::DLM, "DLM", 1, 1, 1), level(Level::EVENT_MANAGER, "em", 1, 2, 1)];
    let mut cluster = Cluster::joined(2, 2, &levels);
    cluster.hung.insert((n(1), Level::EVENT_MANAGER));
    cluster.leave(1);
    cluster.run();
    until_acted(&mut cluster);
    assert_eq!(cluster.state(1), NodeState::Leaving);
    cluster.hung.clear();
    cluster.run_until(|cluster| cluster.state(1) == NodeState::Inactive);
}

/// Protocol T-23, T-24: a recovery puts the refused join on hold; what is on hold is not notified, whatever was refused before.
#[test]
fn t24_what_is_refused_is_not_notified_again_while_it_is_on_hold() {
    let mut cluster = Cluster::joined(3, 4, &levels());
    cluster.failing.insert((n(1), Level::VDM), 1);
    cluster.boot(3);
    cluster.run();
    cluster.tick(0);
    cluster.kill(2, false);
    cluster.detect(None);
    cluster.run();
    let phase = cluster.disk.nodes[&n(3)].step.as_ref().map(|step| step.phase);
    assert_eq!(phase, Some(StepPhase::Held), "the recovery waits for a proof, and the join for the recovery");
    let asked = |cluster: &Cluster| cluster.log.iter().filter(|line| line.contains("N1 VDM: N3 joining")).count();
    assert_eq!(asked(&cluster), 1);
    for _ in 0..5 {
        cluster.tick(1_000);
        cluster.run();
    }
    assert_eq!(asked(&cluster), 1, "{:#?}", cluster.log);
    cluster.prove();
    cluster.run_until(|cluster| cluster.state(3) == NodeState::Joined);
    assert!(asked(&cluster) > 1);
}
