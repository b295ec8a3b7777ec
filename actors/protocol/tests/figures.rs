//! The figures of the spec as scenarios, with the level names of the spec.

mod common;

use common::{Cluster, level, n, spec_levels};
use phalanx_messages::Level;
use phalanx_messages::membership::{FenceMethod, LevelRegistration, NodeState, TransitionKind};
use phalanx_protocol::agent::table::{Arrival, Standing, acknowledged, processing, row};

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Spec, Figs. 3 to 6: N0 forms the cluster and joins level by level, alone.
#[test]
fn figs_3_to_6_the_first_node_joins_bottom_up() {
    let mut cluster = Cluster::new(2, &spec_levels());
    assert_eq!(cluster.state(0), NodeState::Inactive, "Fig. 3");
    cluster.hung.insert((n(0), Level::VDM));
    cluster.boot(0);
    cluster.run();
    assert_eq!(cluster.log, lines("N0 DLM: N0 joining\nN0 VDM: N0 joining"), "Fig. 5: SFS waits for VDM");
    assert_eq!(cluster.state(0), NodeState::Joining);
    cluster.hung.clear();
    cluster.run();
    let expected = "N0 DLM: N0 joining\nN0 VDM: N0 joining\nN0 SFS: N0 joining\nN0 event manager: N0 joining";
    assert_eq!(cluster.log, lines(expected), "Fig. 6");
    assert_eq!(cluster.state(0), NodeState::Joined);
    assert!(cluster.nodes[&n(0)].joined);
}

/// Spec, Figs. 8 and 9: VDM hears of N1's join only after DLM on *both* nodes.
#[test]
fn figs_8_and_9_a_level_waits_for_every_node_below_it() {
    let mut cluster = Cluster::joined(1, 2, &spec_levels());
    cluster.hung.insert((n(0), Level::DLM));
    cluster.boot(1);
    cluster.run();
    assert_eq!(cluster.log, lines("N0 DLM: N1 joining\nN1 DLM: N1 joining"), "Fig. 8");
    cluster.hung.clear();
    cluster.run();
    let expected = "N0 DLM: N1 joining
        N1 DLM: N1 joining
        N0 VDM: N1 joining
        N1 VDM: N1 joining
        N0 SFS: N1 joining
        N1 SFS: N1 joining
        N0 event manager: N1 joining
        N1 event manager: N1 joining";
    assert_eq!(cluster.log, lines(expected), "Fig. 9");
    assert_eq!(cluster.state(1), NodeState::Joined, "Fig. 10");
}

/// Spec, Figs. 11 and 12: N0 leaves from the event manager down; it is the master and stays so until it is out.
#[test]
fn figs_11_and_12_a_graceful_leave_runs_top_down() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    assert_eq!(cluster.live_master(), Some(n(0)));
    cluster.hung.insert((n(1), Level::EVENT_MANAGER));
    cluster.leave(0);
    cluster.run();
    assert_eq!(cluster.log, lines("N0 event manager: N0 leaving\nN1 event manager: N0 leaving"), "Fig. 11");
    assert_eq!(cluster.state(0), NodeState::Leaving);
    cluster.hung.clear();
    cluster.run();
    let expected = "N0 event manager: N0 leaving
        N1 event manager: N0 leaving
        N0 SFS: N0 leaving
        N1 SFS: N0 leaving
        N0 VDM: N0 leaving
        N1 VDM: N0 leaving
        N0 DLM: N0 leaving
        N1 DLM: N0 leaving";
    assert_eq!(cluster.log, lines(expected), "Fig. 12");
    assert_eq!(cluster.state(0), NodeState::Inactive);
    assert!(cluster.nodes[&n(0)].left && cluster.live_master().is_none(), "it handed over");
}

/// Spec, Figs. 13 to 15: N0 hangs in SFS, is forced out from DLM up through SFS; the event manager never hears of it.
#[test]
fn figs_13_to_15_a_forced_leave_runs_bottom_up_through_the_level_that_was_notified() {
    let mut cluster = Cluster::new(2, &spec_levels());
    cluster.boot(1);
    cluster.run();
    cluster.log.clear();
    cluster.hung.extend([(n(0), Level::SFS), (n(1), Level::SFS)]);
    cluster.boot(0);
    cluster.run();
    let hung_in = lines("N0 SFS: N0 joining\nN1 SFS: N0 joining");
    assert_eq!(cluster.log[cluster.log.len() - 2..], hung_in, "Fig. 13: hung in SFS");
    cluster.log.clear();

    cluster.suspect(0);
    cluster.run();
    assert!(!cluster.nodes[&n(0)].alive, "Fig. 14: N0 panics");
    assert_eq!(cluster.state(0), NodeState::ForcedLeaving);
    assert!(cluster.log.is_empty(), "recovery waits for the proof of death");

    cluster.hung.clear();
    cluster.prove();
    cluster.run();
    let expected = "N1 DLM: N0 forced-leaving
        N1 VDM: N0 forced-leaving
        N1 SFS: N0 forced-leaving, re-notified";
    assert_eq!(cluster.log, lines(expected), "Fig. 14: SFS aborts the join it was processing");
    assert_eq!(cluster.state(0), NodeState::Inactive, "Fig. 15");
    cluster.boot(0);
    cluster.run();
    assert_eq!(cluster.state(0), NodeState::Joined, "it may join again only now");
}

/// Spec, Figs. 13 to 15: a hung leave is aborted in the same way. The event manager has ended it and is not told.
#[test]
fn figs_13_to_15_a_leave_that_hangs_is_aborted_by_the_forced_leave() {
    let mut cluster = Cluster::joined(2, 2, &spec_levels());
    cluster.hung.extend([(n(0), Level::SFS), (n(1), Level::SFS)]);
    cluster.leave(1);
    cluster.run();
    cluster.log.clear();
    cluster.suspect(1);
    cluster.run();
    cluster.hung.clear();
    cluster.prove();
    cluster.run();
    let expected = "N0 DLM: N1 forced-leaving
        N0 VDM: N1 forced-leaving
        N0 SFS: N1 forced-leaving, re-notified";
    assert_eq!(cluster.log, lines(expected));
    assert_eq!(cluster.state(1), NodeState::Inactive);
}

/// Spec, Figs. 13 to 15, where the survivor's SFS had ended its part of the join and only N0's hangs: it aborts all the same,
/// because the level was not complete.
#[test]
fn figs_13_to_15_a_join_acknowledged_on_one_node_is_aborted_there_too() {
    let mut cluster = Cluster::joined(1, 2, &two_barriers_at_sfs());
    cluster.hung.insert((n(1), Level::SFS));
    cluster.boot(1);
    cluster.run();
    cluster.log.clear();
    cluster.kill(1, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    let expected = "N0 DLM: N1 forced-leaving
        N0 VDM: N1 forced-leaving
        N0 SFS: N1 forced-leaving, re-notified";
    assert_eq!(cluster.log, lines(expected));
}

/// Spec, Figs. 13 to 15: "the highest subsystem to be notified", at each level where the join may hang.
#[test]
fn figs_13_to_15_recovery_ends_at_the_highest_level_that_was_notified() {
    for (at, hung) in spec_levels().iter().enumerate() {
        let mut cluster = Cluster::joined(1, 2, &spec_levels());
        cluster.hung.insert((n(1), hung.level));
        cluster.boot(1);
        cluster.run();
        cluster.log.clear();
        cluster.kill(1, false);
        cluster.detect(Some(FenceMethod::OwnWord));
        cluster.run();
        let told: Vec<String> =
            spec_levels()[..=at].iter().map(|level| format!("N0 {}: N1 forced-leaving", level.name)).collect();
        assert_eq!(cluster.log, told, "hung in {}", hung.name);
        assert_eq!(cluster.state(1), NodeState::Inactive);
    }
}

fn two_barriers_at_sfs() -> Vec<LevelRegistration> {
    let mut levels = spec_levels();
    levels[2].barriers.joining = 2;
    levels
}

/// Spec, Fig. 2: every dashed arrow (a notification) and every solid one (the acknowledgement of the last barrier, or of one
/// before) of one subsystem level. The two arrows that the figure has not are the protocol's: §5.3, "Inactive, Forced-Leaving" and
/// the victim of which the subsystem's own join told it.
#[test]
fn fig_2_the_states_of_a_subsystem_and_every_way_between_them() {
    use Standing as S;
    let all = [
        S::Inactive,
        S::Joining,
        S::JoiningAcknowledged,
        S::Joined,
        S::Leaving,
        S::LeavingAcknowledged,
        S::Lost,
        S::ForcedLeaving,
        S::ForcedLeavingAcknowledged,
    ];
    let kinds = [TransitionKind::Joining, TransitionKind::Leaving, TransitionKind::ForcedLeaving];
    let mut dashed = Vec::new();
    for from in all {
        for kind in kinds {
            for arrival in [Arrival::First, Arrival::Next] {
                if row(from, kind, arrival).is_some() {
                    dashed.push((from, processing(kind)));
                }
            }
        }
    }
    let expected = [
        (S::Inactive, S::Joining),
        (S::Inactive, S::ForcedLeaving), // the protocol's
        (S::Joining, S::ForcedLeaving),
        (S::JoiningAcknowledged, S::Joining),
        (S::JoiningAcknowledged, S::ForcedLeaving),
        (S::Joined, S::Leaving),
        (S::Joined, S::ForcedLeaving),
        (S::Leaving, S::ForcedLeaving),
        (S::LeavingAcknowledged, S::Leaving),
        (S::LeavingAcknowledged, S::ForcedLeaving),
        (S::Lost, S::ForcedLeaving), // the protocol's
        (S::ForcedLeavingAcknowledged, S::ForcedLeaving),
    ];
    assert_eq!(dashed, expected);
    let solid = kinds.map(|kind| (acknowledged(kind, false), acknowledged(kind, true)));
    let expected = [
        (S::JoiningAcknowledged, S::Joined),
        (S::LeavingAcknowledged, S::Inactive),
        (S::ForcedLeavingAcknowledged, S::Inactive),
    ];
    assert_eq!(solid, expected);
}

/// Spec, "barrier synchronization": "if the DLM subsystem asks for two joining barriers ...".
#[test]
fn barriers_of_a_level_are_acknowledged_one_after_the_other() {
    let levels = [level(Level::DLM, "DLM", 2, 1, 1), level(Level::VDM, "VDM", 1, 1, 1)];
    let mut cluster = Cluster::joined(1, 2, &levels);
    cluster.hung.insert((n(1), Level::DLM));
    cluster.boot(1);
    cluster.run();
    assert_eq!(cluster.log, lines("N0 DLM: N1 joining barrier 0\nN1 DLM: N1 joining barrier 0"));
    cluster.hung.clear();
    cluster.run();
    let expected = "N0 DLM: N1 joining barrier 0
        N1 DLM: N1 joining barrier 0
        N0 DLM: N1 joining barrier 1
        N1 DLM: N1 joining barrier 1
        N0 VDM: N1 joining
        N1 VDM: N1 joining";
    assert_eq!(cluster.log, lines(expected));
}

/// Spec, Fig. 2 and Figs. 13 to 15 for a joined node: every level through the highest hears of the loss.
#[test]
fn a_joined_node_is_recovered_at_every_level() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    cluster.kill(2, false);
    cluster.detect(Some(FenceMethod::OwnWord));
    cluster.run();
    assert_eq!(cluster.state(2), NodeState::Inactive);
    let told: Vec<_> = cluster.log.iter().filter(|line| line.starts_with("N1")).collect();
    assert_eq!(told.len(), 4, "{told:?}");
}
