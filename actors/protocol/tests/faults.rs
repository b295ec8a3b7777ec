//! Rows of the fault table (protocol §8.5, docs/faults.md) that are the coordinator's and the agents'.

mod common;

use common::{Cluster, Packet, level, n, spec_levels};
use phalanx_messages::Level;
use phalanx_messages::membership::{FenceMethod, LevelRegistration, NodeState};
use phalanx_messages::peer::JoinRefusal;
use phalanx_protocol::agent::{AgentInput, AgentOutput};
use phalanx_protocol::coordinator::Warning;

fn two_levels() -> Vec<LevelRegistration> {
    vec![level(Level::DLM, "DLM", 2, 1, 1), level(Level::VDM, "VDM", 1, 1, 1)]
}

fn told(cluster: &Cluster, part: &str) -> usize {
    cluster.log.iter().filter(|line| line.contains(part)).count()
}

/// Runs until the next commit is being written.
fn until_writing(cluster: &mut Cluster) {
    while cluster.writing.is_none() {
        assert!(cluster.run_one(), "nothing is committed");
    }
}

fn proved() -> Option<FenceMethod> {
    Some(FenceMethod::OwnWord)
}

/// Row 3: "master killed: ... in-flight steps continue", at every single event of a join, a leave and a forced leave that run
/// together, with the commit in flight landed and not.
#[test]
fn fault_03_a_master_may_be_killed_at_every_event_of_every_transition() {
    let begin = || {
        let mut cluster = Cluster::joined(4, 5, &two_levels());
        cluster.boot(4);
        cluster.leave(3);
        cluster.kill(2, false);
        cluster.detect(proved());
        cluster
    };
    let mut whole = begin();
    let events = (0..).take_while(|_| whole.run_one()).count();
    assert!(events > 60, "{events}");
    for event in 0..events {
        for landed in [false, true] {
            let mut cluster = begin();
            (0..event).for_each(|_| _ = cluster.run_one());
            cluster.kill(0, landed);
            cluster.take_over(proved());
            let out = |cluster: &Cluster, id| cluster.state(id) == NodeState::Inactive;
            cluster.run_until(|cluster| {
                cluster.state(4) == NodeState::Joined && [0, 2, 3].into_iter().all(|id| out(cluster, id))
            });
            assert!(cluster.wrong_at_rest().is_empty(), "event {event}");
        }
    }
}

/// Row 4: "master killed between MA write and commit check: next master adopts or not; nothing had been sent".
#[test]
fn fault_04_what_was_written_and_not_checked_is_adopted_or_not_and_was_never_told() {
    for landed in [false, true] {
        let mut cluster = Cluster::joined(3, 4, &two_levels());
        cluster.boot(3);
        until_writing(&mut cluster);
        let written = cluster.writing.clone().unwrap();
        assert_eq!(written.nodes[&n(3)].state, NodeState::Joining);
        let is_told = |packet: &Packet| matches!(packet, Packet::Record(told) if told.revision >= written.revision);
        assert!(!cluster.wire.iter().any(|envelope| is_told(&envelope.packet)), "nothing had been sent");
        cluster.kill(0, landed);
        cluster.elect(n(1));
        let adopted = cluster.disk.nodes.get(&n(3)).map(|entry| entry.state);
        assert_eq!(adopted, landed.then_some(NodeState::Joining));
        cluster.detect(proved());
        cluster.run_until(|cluster| cluster.state(3) == NodeState::Joined);
        assert_eq!(told(&cluster, "VDM: N3 joining"), 3, "one join, whoever began it: {:#?}", cluster.log);
    }
}

/// Row 5: "master killed after commit, before any notify: step is notified by the next master", under its own number.
#[test]
fn fault_05_a_step_that_was_committed_and_told_to_nobody_is_told_by_the_next_master() {
    let mut cluster = Cluster::joined(3, 4, &two_levels());
    cluster.boot(3);
    until_writing(&mut cluster);
    cluster.land_commit();
    let step = cluster.disk.nodes[&n(3)].step.clone().unwrap();
    assert!(cluster.log.is_empty());
    cluster.wire.clear();
    cluster.kill(0, false);
    cluster.elect(n(1));
    cluster.run();
    assert_eq!(told(&cluster, "DLM: N3 joining barrier 0"), 3, "N1, N2 and N3: {:#?}", cluster.log);
    assert_eq!(cluster.disk.nodes[&n(3)].step.as_ref().unwrap().notification(), step.notification(), "the same number");
    cluster.detect(proved());
    cluster.run_until(|cluster| cluster.state(3) == NodeState::Joined);
}

/// Row 6: "master killed with half the acks: same nid re-sent, acks repeated".
#[test]
fn fault_06_half_of_the_acknowledgements_are_collected_again() {
    let mut cluster = Cluster::joined(3, 4, &two_levels());
    cluster.hung.insert((n(2), Level::VDM));
    cluster.boot(3);
    cluster.run();
    let step = cluster.disk.nodes[&n(3)].step.clone().unwrap();
    assert_eq!((step.level, told(&cluster, "VDM: N3 joining")), (Level::VDM, 4));
    cluster.kill(0, false);
    cluster.elect(n(1));
    let mut repeated = Vec::new();
    loop {
        for envelope in &cluster.wire {
            if let Packet::Report(_, steps) = &envelope.packet {
                repeated.push((envelope.from.node, steps.clone()));
            }
        }
        if !cluster.run_one() {
            break;
        }
    }
    let has = |node, acknowledged: bool| {
        repeated.iter().any(|(from, steps)| {
            let of_step =
                |(id, answer): &(_, Option<_>)| *id == step.notification() && answer.is_some() == acknowledged;
            *from == n(node) && steps.iter().any(of_step)
        })
    };
    assert!(has(1, true) && has(3, true) && has(2, false), "{repeated:?}");
    assert_eq!(told(&cluster, "VDM: N3 joining"), 4, "no subsystem is notified twice");
    assert_eq!(cluster.disk.nodes[&n(3)].step.as_ref().unwrap().notification(), step.notification());
    cluster.hung.clear();
    cluster.detect(proved());
    cluster.run_until(|cluster| cluster.state(3) == NodeState::Joined);
}

/// Row 8: "master frozen between check and send: message has old term; refused; `Stale` returned".
#[test]
fn fault_08_what_a_frozen_master_sends_under_its_old_term_is_refused() {
    let mut cluster = Cluster::joined(3, 4, &two_levels());
    cluster.boot(3);
    until_writing(&mut cluster);
    cluster.land_commit();
    // The commit has passed its check. The master freezes before its messages go out, and is replaced meanwhile.
    let held: Vec<_> = std::mem::take(&mut cluster.wire).into_iter().collect();
    assert!(held.iter().any(|envelope| matches!(envelope.packet, Packet::Record(_))));
    cluster.kill(0, false);
    cluster.take_over(proved());
    cluster.run();
    let before = cluster.log.len();
    for envelope in held {
        let Packet::Record(record) = envelope.packet.clone() else { continue };
        if cluster.nodes[&envelope.to].alive {
            let seen = cluster.nodes[&envelope.to].agent.seen();
            let outputs = cluster.nodes[&envelope.to].agent.clone().step(AgentInput::Record(record));
            assert_eq!(outputs, [AgentOutput::Stale { seen }]);
        }
        cluster.deliver(envelope);
    }
    cluster.run();
    assert_eq!(cluster.log.len(), before, "nobody was notified");
    cluster.run_until(|cluster| cluster.state(3) == NodeState::Joined);
}

/// Row 39: "victim dies during its join at SFS: forced through SFS only (spec Figs. 13-15), EM not notified".
#[test]
fn fault_39_a_joiner_that_dies_at_sfs_is_recovered_through_sfs() {
    let mut cluster = Cluster::joined(2, 3, &spec_levels());
    cluster.hung.extend([(n(2), Level::SFS), (n(1), Level::SFS)]);
    cluster.boot(2);
    cluster.run();
    cluster.log.clear();
    cluster.kill(2, false);
    cluster.hung.clear();
    cluster.detect(proved());
    cluster.run();
    let expected = [
        "N0 DLM: N2 forced-leaving",
        "N1 DLM: N2 forced-leaving",
        "N0 VDM: N2 forced-leaving",
        "N1 VDM: N2 forced-leaving",
        "N0 SFS: N2 forced-leaving",
        "N1 SFS: N2 forced-leaving, re-notified",
    ];
    assert_eq!(cluster.log, expected, "N0 had acknowledged the join there, N1 was processing it");
    assert_eq!(cluster.state(2), NodeState::Inactive);
}

/// Row 40: "second node dies during recovery of the first: held, caught up, merged batch, rgen+1", at each level.
#[test]
fn fault_40_a_second_victim_catches_up_with_the_first_and_both_are_recovered_as_one() {
    for at in spec_levels() {
        let mut cluster = Cluster::joined(4, 4, &spec_levels());
        cluster.hung.insert((n(0), at.level));
        cluster.kill(2, false);
        cluster.detect(proved());
        cluster.run();
        let first = cluster.disk.nodes[&n(2)].step.clone().unwrap();
        assert_eq!((first.level, first.restart), (at.level, 0));
        cluster.log.clear();
        cluster.kill(3, false);
        cluster.detect(proved());
        cluster.run();
        let steps = [2, 3].map(|id| cluster.disk.nodes[&n(id)].step.clone().unwrap());
        let restarts = steps.each_ref().map(|step| (step.level, step.restart));
        assert_eq!(restarts, [(at.level, 1), (at.level, 0)], "the first begins again beside the second");
        assert_eq!(steps[0].participants, [n(0), n(1)].into_iter().collect());
        for below in spec_levels().iter().filter(|below| below.level < at.level) {
            assert_eq!(told(&cluster, &format!("{}: N3", below.name)), 2);
            assert_eq!(told(&cluster, &format!("{}: N2", below.name)), 0, "the first has that behind it");
        }
        cluster.hung.clear();
        cluster.run();
        assert_eq!([2, 3].map(|id| cluster.state(id)), [NodeState::Inactive; 2]);
    }
}

/// Row 41: "recoverer of a journal dies: another replays". Whoever recovers may die over it: the level begins again at the others,
/// with both victims, and what the dead one had acknowledged counts for nothing. (The journal itself, I-S3, is the file system's.)
#[test]
fn fault_41_a_recovery_whose_recoverer_dies_is_done_by_another() {
    for acknowledged in [false, true] {
        let mut cluster = Cluster::joined(4, 4, &spec_levels());
        // N1 recovers N3's journal, or has done so; N2 waits for it.
        let waits = if acknowledged { n(2) } else { n(1) };
        cluster.hung.extend([(waits, Level::SFS), (n(2), Level::SFS)]);
        cluster.kill(3, false);
        cluster.detect(proved());
        cluster.run();
        assert_eq!(cluster.disk.nodes[&n(3)].step.as_ref().unwrap().level, Level::SFS);
        cluster.log.clear();
        cluster.kill(1, false);
        cluster.hung.clear();
        cluster.detect(proved());
        cluster.run();
        for node in ["N0", "N2"] {
            assert_eq!(told(&cluster, &format!("{node} SFS: N3 forced-leaving")), 1, "{:#?}", cluster.log);
            assert_eq!(told(&cluster, &format!("{node} SFS: N1 forced-leaving")), 1);
        }
        assert_eq!([1, 3].map(|id| cluster.state(id)), [NodeState::Inactive; 2]);
    }
}

/// Row 42: "leave requested while joining: reversal between levels", at each level.
#[test]
fn fault_42_a_leave_that_is_asked_for_while_joining_waits_for_the_level() {
    for (reached, at) in spec_levels().iter().enumerate() {
        let mut cluster = Cluster::joined(1, 2, &spec_levels());
        cluster.hung.insert((n(0), at.level));
        cluster.boot(1);
        cluster.run();
        cluster.leave(1);
        cluster.run();
        assert_eq!(told(&cluster, "leaving"), 0, "a subsystem never sees Joining and then Leaving");
        cluster.log.clear();
        cluster.hung.clear();
        cluster.run();
        let down: Vec<String> = spec_levels()[..=reached]
            .iter()
            .rev()
            .flat_map(|level| [0, 1].map(|node| format!("N{node} {}: N1 leaving", level.name)))
            .collect();
        assert_eq!(cluster.log, down, "from {} down", at.name);
        assert!(cluster.nodes[&n(1)].left && cluster.state(1) == NodeState::Inactive);
    }
}

/// Row 43: "subsystem never acks: warn, hung, ForceNode".
#[test]
fn fault_43_a_subsystem_that_never_answers_is_named_twice_and_then_costs_its_node() {
    let mut cluster = Cluster::joined(3, 4, &two_levels());
    cluster.hung.insert((n(1), Level::VDM));
    cluster.boot(3);
    cluster.run();
    let mut told = Vec::new();
    for second in 1..=130 {
        cluster.tick(1_000);
        cluster.run();
        for warning in std::mem::take(&mut cluster.warnings) {
            let Warning::Slow { missing, hung, .. } = warning else { panic!("{warning:?}") };
            assert_eq!(missing, [n(1)].into_iter().collect());
            told.push((second, if hung { "hung" } else { "warn" }));
        }
        if cluster.state(1) == NodeState::ForcedLeaving {
            told.push((second, "ForceNode"));
            break;
        }
    }
    let whats: Vec<_> = told.iter().map(|(_, what)| *what).collect();
    assert_eq!(whats, ["warn", "hung", "ForceNode"]);
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
    cluster.kill(1, false);
    cluster.prove();
    cluster.run_until(|cluster| cluster.state(3) == NodeState::Joined);
}

/// Row 45: "barrier counts differ: join refused, named error". The cluster does not notice otherwise.
#[test]
fn fault_45_a_node_with_other_barrier_counts_is_refused_by_name() {
    let mut cluster = Cluster::joined(2, 3, &two_levels());
    cluster.nodes.get_mut(&n(2)).unwrap().levels[1].barriers.forced_leaving = 4;
    cluster.boot(2);
    cluster.run();
    let [(to, JoinRefusal::BarrierMismatch { have, want })] = &cluster.refusals[..] else {
        panic!("{:?}", cluster.refusals)
    };
    assert_eq!((*to, have.barriers.forced_leaving, want.barriers.forced_leaving), (n(2), 1, 4));
    assert!(cluster.log.is_empty() && cluster.state(2) == NodeState::Inactive);
}

/// Row 54: "whole cluster power loss: cold start, parked Forced recovered level by level". All are ghosts, each level is formed
/// first and recovers all of them before anybody enters the next.
#[test]
fn fault_54_a_cold_start_recovers_every_ghost_level_by_level() {
    let mut cluster = Cluster::joined(3, 3, &spec_levels());
    (0..3).for_each(|id| cluster.kill(id, false));
    cluster.boot(2);
    cluster.run();
    let expected: Vec<String> = spec_levels()
        .iter()
        .flat_map(|level| {
            let recovered = (0..3).map(|ghost| format!("N2 {}: N{ghost} forced-leaving", level.name));
            [format!("N2 {}: N2 joining", level.name)].into_iter().chain(recovered).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(cluster.log, expected);
    assert!(cluster.disk.ghosts.is_empty());
    (0..2).for_each(|id| cluster.boot(id));
    cluster.run_until(|cluster| (0..3).all(|id| cluster.state(id) == NodeState::Joined));
}

/// Row 59: "message duplicated/reordered anywhere: nid/op_id idempotence". Every message arrives twice, and in whatever order; each
/// subsystem is notified of each step once all the same. (Operations of services: `registration_random`.)
#[test]
fn fault_59_messages_that_come_twice_and_in_any_order_change_nothing() {
    let mut whole = Cluster::joined(3, 4, &two_levels());
    let script = |cluster: &mut Cluster| {
        cluster.boot(3);
        cluster.leave(1);
    };
    script(&mut whole);
    whole.run();
    let sorted = |cluster: &Cluster| {
        let mut log = cluster.log.clone();
        log.sort();
        log
    };
    for seed in 1..200_usize {
        let mut cluster = Cluster::joined(3, 4, &two_levels());
        script(&mut cluster);
        let mut draw = seed;
        loop {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chosen = draw >> 33;
            if !cluster.wire.is_empty() {
                let envelope = cluster.wire.remove(chosen % cluster.wire.len()).unwrap();
                // The second copy is put back once, to come at any later time.
                if chosen % 3 != 0 && cluster.wire.len() < 40 {
                    cluster.wire.push_back(envelope.clone());
                }
                cluster.deliver(envelope);
            } else if !cluster.run_one() {
                break;
            }
        }
        cluster.run_until(|cluster| (cluster.state(1), cluster.state(3)) == (NodeState::Inactive, NodeState::Joined));
        assert_eq!(told(&cluster, "re-notified"), 0);
        let mut once = sorted(&cluster);
        once.dedup();
        assert_eq!(once, sorted(&cluster), "seed {seed}: nothing is notified twice");
        assert_eq!(once.len(), sorted(&whole).len(), "seed {seed}: nor missed: {once:#?}");
    }
}
