//! Protocol T-14: every reason for which a join is refused, by its code.
//!
//! Two codes are the interconnect's, since such a node gets no connection to ask over: `E_PROTO` is `Refusal::Version` and
//! `E_CLUSTER_UUID` is `Refusal::OtherCluster` (`every_refusal_has_its_cause`, `another_cluster_with_the_same_key_stays_out`).
//! `KeyMismatch` and `OtherHost` are ours: a stolen key, and an mmap disk that serves one host.

mod common;

use common::{Cluster, level, n};
use phalanx_messages::limits::{BARRIERS_MAX, LEVELS_MAX, NAME_BYTES_MAX};
use phalanx_messages::membership::{FenceMethod, LevelRegistration, NodeState};
use phalanx_messages::peer::JoinRefusal;
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Level, NodeIncarnation};
use phalanx_protocol::agent::DeathPolicy;
use phalanx_protocol::coordinator::CoordinatorInput;

fn levels() -> Vec<LevelRegistration> {
    vec![level(Level::DLM, "DLM", 2, 1, 1), level(Level::VDM, "VDM", 1, 1, 1)]
}

/// What a node asks with; as it stands it is taken.
struct Request {
    from: NodeIncarnation,
    levels: Vec<LevelRegistration>,
    same_boot: bool,
    hears: NodeSet,
    heard: NodeSet,
    configured: bool,
    key_matches: bool,
}

impl Request {
    fn input(&self) -> CoordinatorInput {
        let Self { from, ref levels, same_boot, hears, heard, configured, key_matches } = *self;
        let (levels, key_learnt) = (levels.clone(), false);
        CoordinatorInput::JoinRequest { from, levels, same_boot, hears, heard, configured, key_matches, key_learnt }
    }
}

/// N2's first start asks a cluster of N0 and N1, of which N0 is the master.
fn right() -> Request {
    Request {
        from: NodeIncarnation { node: n(2), incarnation: Incarnation(1) },
        levels: levels(),
        same_boot: true,
        hears: [n(0), n(1)].into_iter().collect(),
        heard: [n(2)].into_iter().collect(),
        configured: true,
        key_matches: true,
    }
}

/// N0 and N1 are joined; N2 asks.
fn asked(request: Request) -> Option<JoinRefusal> {
    ask(&mut Cluster::joined(2, 3, &levels()), request)
}

fn ask(cluster: &mut Cluster, request: Request) -> Option<JoinRefusal> {
    let before = cluster.refusals.len();
    cluster.coordinate(request.input());
    let fresh = &cluster.refusals[before..];
    assert!(fresh.len() <= 1 && fresh.iter().all(|(to, _)| *to == request.from.node), "{fresh:?}");
    assert_eq!(
        fresh.is_empty(),
        cluster.writing.is_some(),
        "what is refused changes nothing, what is not is committed"
    );
    fresh.first().map(|(_, refusal)| refusal.clone())
}

#[test]
fn t14_a_right_request_is_taken_and_repeated_without_harm() {
    assert_eq!(asked(right()), None);
    let mut cluster = Cluster::joined(2, 2, &levels());
    let from = cluster.incarnation(n(1));
    let (notices, revision) = (cluster.log.len(), cluster.disk.revision);
    cluster.coordinate(Request { from, ..right() }.input());
    cluster.run();
    assert!(cluster.refusals.is_empty() && cluster.disk.revision == revision && cluster.log.len() == notices);
}

#[test]
fn t14_e_not_configured() {
    assert_eq!(asked(Request { configured: false, ..right() }), Some(JoinRefusal::NotConfigured));
}

#[test]
fn t14_a_key_that_is_not_the_configured_one() {
    assert_eq!(asked(Request { key_matches: false, ..right() }), Some(JoinRefusal::KeyMismatch));
}

#[test]
fn t14_another_boot_on_a_disk_that_serves_one_host() {
    assert_eq!(asked(Request { same_boot: false, ..right() }), Some(JoinRefusal::OtherHost));
}

/// T-13: the node's former start has not left yet, gracefully or not; this one is the proof that it is dead.
#[test]
fn t14_e_busy_leaving() {
    for leaves in [false, true] {
        let mut cluster = Cluster::joined(3, 3, &levels());
        if leaves {
            cluster.hung.insert((n(0), Level::VDM));
            cluster.leave(2);
            cluster.run();
            assert_eq!(cluster.state(2), NodeState::Leaving);
        }
        cluster.kill(2, false);
        let from = NodeIncarnation { node: n(2), incarnation: Incarnation(2) };
        let request = Request { from, ..right() };
        cluster.coordinate(request.input());
        assert_eq!(cluster.refusals.last(), Some(&(n(2), JoinRefusal::BusyLeaving)));
        cluster.land_commit();
        assert_eq!(cluster.state(2), NodeState::ForcedLeaving, "and its forced leave has begun");
        cluster.coordinate(request.input());
        assert_eq!(cluster.refusals.len(), 2, "still busy");
    }
}

/// T-18: so is a node whose ghost is not recovered yet.
#[test]
fn t14_e_busy_leaving_while_a_ghost_is_recovered() {
    let mut cluster = Cluster::joined(3, 3, &levels());
    (0..3).for_each(|id| cluster.kill(id, false));
    cluster.hung.insert((n(0), Level::DLM));
    cluster.boot(0);
    cluster.run();
    assert!(cluster.disk.ghosts.contains_key(&n(2)));
    let from = NodeIncarnation { node: n(2), incarnation: Incarnation(2) };
    let mut request = Request { from, hears: [n(0)].into_iter().collect(), ..right() };
    request.heard.insert(n(0));
    assert_eq!(ask(&mut cluster, request), Some(JoinRefusal::BusyLeaving));
}

#[test]
fn t14_e_not_fully_connected_names_who_is_missing() {
    let missing = |nodes: &[u16]| {
        let missing = nodes.iter().map(|id| n(*id)).collect();
        Some(JoinRefusal::NotFullyConnected { missing })
    };
    let hears = |nodes: &[u16]| Request { hears: nodes.iter().map(|id| n(*id)).collect(), ..right() };
    assert_eq!(asked(hears(&[0])), missing(&[1]), "it does not hear N1");
    assert_eq!(asked(hears(&[])), missing(&[0, 1]));
    assert_eq!(asked(Request { heard: NodeSet::EMPTY, ..right() }), missing(&[0]), "the master does not hear it");
}

#[test]
fn t14_e_level_order() {
    let with = |levels: Vec<LevelRegistration>| asked(Request { levels, ..right() });
    let refused = Some(JoinRefusal::LevelOrder);
    let mut descending = levels();
    descending.reverse();
    assert_eq!(with(descending), refused);
    assert_eq!(with(vec![levels()[0].clone(), levels()[0].clone()]), refused, "one level twice");
    assert_eq!(with(Vec::new()), refused, "none at all");
    let count = u16::try_from(LEVELS_MAX).unwrap();
    let many = |count: u16| (1..=count).map(|at| level(Level(at), "many", 1, 1, 1)).collect();
    let there = u16::try_from(levels().len()).unwrap();
    assert_eq!(with(many(count - there)), None);
    assert_eq!(with(many(count - there + 1)), refused, "too many beside those that the cluster has");
    assert_eq!(with(many(count + 1)), refused, "too many");
    let barriers = |count| vec![level(Level(150), "user", count, 1, 1)];
    assert_eq!(with(barriers(BARRIERS_MAX)), None);
    assert_eq!(with(barriers(BARRIERS_MAX + 1)), refused, "too many barriers");
    let named = |bytes: usize| vec![level(Level(150), &"x".repeat(bytes), 1, 1, 1)];
    assert_eq!(with(named(NAME_BYTES_MAX)), None);
    assert_eq!(with(named(NAME_BYTES_MAX + 1)), refused, "a name that is too long");
}

/// The spec: "all subsystems at a particular level must register with the same number of barriers for each type of transition".
#[test]
fn t14_e_barrier_mismatch_says_what_is_there_and_what_was_wanted() {
    let have = level(Level::DLM, "DLM", 2, 1, 1);
    for want in [
        level(Level::DLM, "DLM", 3, 1, 1),
        level(Level::DLM, "DLM", 2, 2, 1),
        level(Level::DLM, "DLM", 2, 1, 2),
        level(Level::DLM, "locks", 2, 1, 1),
    ] {
        let request = Request { levels: vec![want.clone(), levels()[1].clone()], ..right() };
        assert_eq!(asked(request), Some(JoinRefusal::BarrierMismatch { have: have.clone(), want }));
    }
    let alone = Request { levels: vec![level(Level(150), "user", 9, 9, 9)], ..right() };
    assert_eq!(asked(alone), None, "the first node of a level fixes its counts");
}

/// "The entry goes away with the last node of that level": then other counts are right.
#[test]
fn t14_the_last_node_of_a_level_takes_its_counts_along() {
    let mut cluster = Cluster::new(2, &levels());
    cluster.nodes.get_mut(&n(1)).unwrap().levels.push(level(Level::SFS, "SFS", 1, 1, 1));
    (0..2).for_each(|id| cluster.boot(id));
    cluster.run();
    cluster.leave(1);
    cluster.run();
    assert_eq!(cluster.state(1), NodeState::Inactive);
    cluster.nodes.get_mut(&n(1)).unwrap().levels[2].barriers.joining = 3;
    cluster.boot(1);
    cluster.run();
    assert_eq!((cluster.state(1), &cluster.refusals[..]), (NodeState::Joined, &[][..]));
}

#[test]
fn t14_e_duplicate_id() {
    let mut cluster = Cluster::joined(3, 3, &levels());
    let older = NodeIncarnation { node: n(2), incarnation: Incarnation(0) };
    assert_eq!(ask(&mut cluster, Request { from: older, ..right() }), Some(JoinRefusal::DuplicateId));
    assert_eq!(cluster.state(2), NodeState::Joined, "the newer start is not harmed");
}

/// Protocol T-13: whatever an old incarnation was doing, its node waits until that is recovered, and joins then.
#[test]
fn t13_no_state_of_an_old_incarnation_lets_its_node_in_early() {
    type Case = (&'static str, fn(&mut Cluster));
    let cases: [Case; 5] = [
        ("joined", |_| {}),
        ("leaving", |cluster| {
            cluster.hung.insert((n(0), Level::VDM));
            cluster.leave(1);
        }),
        ("leave asked for in a registration", |cluster| {
            cluster.hung.insert((n(1), Level(400)));
            cluster.register(1, level(Level(400), "user", 1, 1, 1));
            cluster.run();
            cluster.leave(1);
        }),
        ("one level leaving", |cluster| {
            for id in 0..2 {
                cluster.register(id, level(Level(400), "user", 1, 1, 1));
                cluster.run();
            }
            cluster.hung.insert((n(0), Level(400)));
            cluster.kill_subsystem(1, Level(400), DeathPolicy::DropLevel);
            for _ in 0..12 {
                cluster.tick(1_000);
                cluster.run();
            }
        }),
        ("forced out, and not recovered", |cluster| {
            cluster.hung.insert((n(0), Level::VDM));
            cluster.kill(1, false);
            cluster.detect(Some(FenceMethod::OwnWord));
        }),
    ];
    for (case, prepare) in cases {
        let mut cluster = Cluster::joined(2, 2, &levels());
        prepare(&mut cluster);
        cluster.run();
        let old = cluster.incarnation(n(1)).incarnation;
        cluster.kill(1, false);
        cluster.hung = [(n(0), Level::VDM)].into();
        cluster.boot(1);
        cluster.run();
        assert_eq!(cluster.refusals.last(), Some(&(n(1), JoinRefusal::BusyLeaving)), "{case}");
        let entry = &cluster.disk.nodes[&n(1)];
        assert_eq!((entry.state, entry.incarnation), (NodeState::ForcedLeaving, old), "{case}");
        assert!(entry.fence.death_certain && !entry.leave_requested && !entry.withdrawing, "{case}: {entry:?}");
        cluster.hung.clear();
        // A mandatory level whose only user died is formed and recovered by whoever registers it (T-18).
        if entry_uses(&cluster, 1, Level(400)) {
            cluster.register(0, level(Level(400), "user", 1, 1, 1));
        }
        cluster.run_until(|cluster| cluster.state(1) == NodeState::Joined);
    }
}

fn entry_uses(cluster: &Cluster, id: u16, at: Level) -> bool {
    cluster.disk.nodes[&n(id)].levels.contains(&at) && !cluster.disk.nodes[&n(0)].levels.contains(&at)
}
