//! Random interleavings with crashes, loss, delay and repetition, and with subsystems that register and die at run time; then the
//! faults end and every transition must end too.
//!
//! `PHALANX_SEEDS=first..last` chooses seeds. A failure prints its seed.

mod common;

use std::collections::BTreeSet;

use common::{Cluster, level, n};
use phalanx_messages::membership::{Certainty, FenceMethod, LevelRegistration, LevelState, NodeState};
use phalanx_messages::{Level, NodeId};
use phalanx_protocol::agent::DeathPolicy;

struct Random {
    bits: u64,
    /// Where subsystems register at run time in this run.
    later: Level,
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.bits ^= self.bits << 13;
        self.bits ^= self.bits >> 7;
        self.bits ^= self.bits << 17;
        let limit = u64::try_from(limit).expect("a small number");
        usize::try_from(self.bits % limit).expect("a small number")
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

fn levels() -> Vec<LevelRegistration> {
    let event_manager = level(Level::EVENT_MANAGER, "event manager", 1, 2, 1);
    vec![
        level(Level::DLM, "DLM", 2, 1, 2),
        level(Level::VDM, "VDM", 1, 2, 1),
        LevelRegistration { needs: Certainty::Death, ..event_manager },
    ]
}

/// An optional level that some nodes come to use at run time.
fn monitor(at: Level) -> LevelRegistration {
    LevelRegistration { optional: true, ..level(at, "monitor", 2, 1, 1) }
}

/// Above the event manager, and between it and the kernel.
const LATER: [Level; 2] = [Level(1_100), Level(500)];

/// One event of many, faults included while the budget lasts.
fn event(cluster: &mut Cluster, random: &mut Random, faults: &mut u32) {
    let nodes = cluster.nodes.len();
    match random.below(20) {
        0..6 if !cluster.wire.is_empty() => {
            let at = random.below(cluster.wire.len().min(6));
            let envelope = cluster.wire.remove(at).expect("an envelope at that place");
            if *faults > 0 && random.one_in(12) {
                return; // lost
            }
            if *faults > 0 && random.one_in(12) {
                cluster.wire.push_back(envelope.clone()); // repeated, late
            }
            cluster.deliver(envelope);
        }
        6..9 => cluster.land_commit(),
        9..13 if !cluster.work.is_empty() => cluster.answer(random.below(cluster.work.len())),
        13 if random.one_in(5) => cluster.tick(700),
        14 => {
            let proof = random.one_in(2).then_some(FenceMethod::OwnWord);
            elect_if_needed(cluster);
            cluster.detect(proof);
        }
        15 => cluster.prove(),
        16.. if *faults > 0 && random.one_in(6) => {
            *faults -= 1;
            fault(cluster, random, nodes);
        }
        _ => {}
    }
}

fn fault(cluster: &mut Cluster, random: &mut Random, nodes: usize) {
    let id = u16::try_from(random.below(nodes)).expect("a small number");
    let alive = cluster.nodes[&n(id)].alive;
    let monitor = monitor(random.later);
    let registered = cluster.nodes[&n(id)].later.contains(&monitor);
    match random.below(9) {
        0 | 1 if alive => cluster.kill(id, random.one_in(2)),
        2 | 3 if !alive => cluster.boot(id),
        4 if alive => cluster.leave(id),
        6 | 7 if alive && !registered => cluster.register(id, monitor),
        8 if alive && cluster.level_state(id, random.later) == LevelState::Joined && random.one_in(4) => {
            cluster.withdraw(id, random.later);
        }
        8 if alive && registered => {
            let policy = if random.one_in(3) { DeathPolicy::ForceNode } else { DeathPolicy::DropLevel };
            cluster.kill_subsystem(id, random.later, policy);
            if random.one_in(2) {
                cluster.register(id, monitor);
            }
        }
        5 if alive && cluster.live_master().is_some_and(|master| master != n(id)) => cluster.suspect(id),
        _ => {}
    }
}

fn elect_if_needed(cluster: &mut Cluster) {
    if cluster.live_master().is_some() {
        return;
    }
    let members = cluster.live_members();
    let anybody: Vec<NodeId> =
        cluster.nodes.iter().filter(|(_, node)| node.alive && node.wants_in).map(|(id, _)| *id).collect();
    if let Some(next) = members.first().or(anybody.first()) {
        cluster.elect(*next);
    }
}

fn is_at_rest(cluster: &Cluster) -> bool {
    if cluster.nodes.values().all(|node| !node.alive) {
        return true; // Whoever boots next goes on from here.
    }
    let record = &cluster.disk;
    let steady = |state| matches!(state, NodeState::Inactive | NodeState::Joined);
    let known = |id: &NodeId| {
        let entry = &record.nodes.get(id);
        entry.is_some_and(|entry| entry.state == NodeState::Joined && !cluster.is_dead(cluster.incarnation(*id)))
    };
    record.nodes.values().all(|entry| steady(entry.state))
        && record.ghosts.is_empty()
        && record.nodes.values().all(|entry| entry.step.is_none())
        && cluster.writing.is_none()
        && cluster.nodes.iter().all(|(id, node)| !node.alive || (known(id) && !node.wants_out))
        && record.nodes.iter().all(|(id, entry)| entry.state != NodeState::Joined || cluster.nodes[id].alive)
}

/// Gives the changes of state that were seen.
fn run(seed: u64, nodes: u16, joined: u16) -> Result<BTreeSet<(NodeState, NodeState)>, String> {
    let later = LATER[usize::try_from(seed / 5 % 2).expect("a small number")];
    let mut random = Random { bits: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, later };
    let mut cluster =
        if joined > 0 { Cluster::joined(joined, nodes, &levels()) } else { Cluster::new(nodes, &levels()) };
    cluster.gather_ms = 300 * (seed % 2);
    (joined..nodes).for_each(|id| cluster.boot(id));
    let mut faults = 16;
    let sound = |cluster: &Cluster| match cluster.violations.first() {
        None => Ok(()),
        Some(first) => Err(format!("seed {seed}: {first}\n{}", cluster.log.join("\n"))),
    };
    for _ in 0..4_000 {
        event(&mut cluster, &mut random, &mut faults);
        sound(&cluster)?;
    }
    faults = 0;
    for _ in 0..300 {
        if is_at_rest(&cluster) {
            let wrong = cluster.wrong_at_rest();
            return if wrong.is_empty() {
                Ok(cluster.moves)
            } else {
                Err(format!("seed {seed}: {wrong:#?}\n{}", cluster.log.join("\n")))
            };
        }
        for _ in 0..50 {
            event(&mut cluster, &mut random, &mut faults);
            sound(&cluster)?;
        }
        cluster.run();
        elect_if_needed(&mut cluster);
        cluster.detect(None);
        cluster.prove();
        cluster.tick(1_000);
        sound(&cluster)?;
    }
    Err(format!(
        "seed {seed}: I-T16, never ends: {:?}\nmaster {:?}\n{}",
        cluster.disk,
        cluster.live_master(),
        cluster.log.join("\n")
    ))
}

fn run_seed(seed: u64) -> Result<BTreeSet<(NodeState, NodeState)>, String> {
    let kinds = [(3, 3), (3, 2), (4, 4), (3, 0), (4, 1)];
    let (nodes, joined) = kinds[usize::try_from(seed % 5).expect("a small number")];
    run(seed, nodes, joined)
}

fn seeds() -> std::ops::Range<u64> {
    let chosen = std::env::var("PHALANX_SEEDS").ok().and_then(|text| {
        let (first, last) = text.split_once("..")?;
        Some(first.parse().ok()?..last.parse().ok()?)
    });
    chosen.unwrap_or(0..800)
}

/// Spec, "A. Membership manager": the ways of a node between its states, as commits show them.
fn moves() -> BTreeSet<(NodeState, NodeState)> {
    use NodeState as S;
    [
        (S::Inactive, S::Joining),
        (S::Joining, S::Joined),
        (S::Joining, S::Leaving),  // T-12
        (S::Joining, S::Inactive), // T-12 and T-7, where no level has heard of it
        (S::Joined, S::Leaving),
        (S::Leaving, S::Inactive),
        (S::Joining, S::ForcedLeaving),
        (S::Joined, S::ForcedLeaving),
        (S::Leaving, S::ForcedLeaving),
        (S::ForcedLeaving, S::Inactive),
        (S::Inactive, S::ForcedLeaving), // its join and its mark were decided while one commit was being written
    ]
    .into()
}

/// Protocol §5.7 over §5.9's kinds of runs: joins, leaves, kills of anybody, false suspicion, cold starts.
#[test]
fn every_interleaving_keeps_the_invariants_and_ends() {
    let mut seen = BTreeSet::new();
    for seed in seeds() {
        seen.extend(run_seed(seed).unwrap_or_else(|text| panic!("{text}")));
    }
    let allowed = moves();
    assert!(seen.is_subset(&allowed), "a state changed in a way that the spec does not have: {seen:?}");
    if std::env::var_os("PHALANX_SEEDS").is_none() {
        assert_eq!(seen, allowed, "every way is gone");
    }
}

#[cfg(feature = "deliberate-bugs")]
mod deliberate {
    use phalanx_protocol::bugs::{Bug, with};

    fn caught(bug: Bug) -> String {
        with(Some(bug), || (0..200).find_map(|seed| super::run(seed, 3, 0).err()).expect("the bug is not caught"))
    }

    /// I-T2: no barrier is passed before every participant has acknowledged it.
    #[test]
    fn a_skipped_barrier_is_caught() {
        let text = caught(Bug::BarrierSkipped);
        assert!(text.contains("I-T2"), "{text}");
    }

    /// I-T6, I-F1: no recovery before the certainty that the level needs.
    #[test]
    fn recovery_before_proof_is_caught() {
        let text = caught(Bug::RecoveryBeforeProof);
        assert!(text.contains("I-T6"), "{text}");
    }

    /// Those that need more than one fault or a message that comes late.
    #[test]
    fn bugs_that_only_an_interleaving_shows_are_caught() {
        let bugs = [
            Bug::GhostsForgotten,
            Bug::RestartNumberReset,
            Bug::HeldJoinWaitsForParked,
            Bug::LeaveBesideRecovery,
            Bug::OldRestartCounts,
            Bug::JoinAboveUnrecovered,
            Bug::OrderByNumberOnly,
            Bug::StatePerTransition,
            Bug::NothingToRecover,
            Bug::OlderTermHeard,
        ];
        for bug in bugs {
            let first = with(Some(bug), || (0..150).find_map(|seed| super::run_seed(seed).err()));
            let text = first.unwrap_or_else(|| panic!("{bug:?} is not caught"));
            println!("{bug:?}: {}", text.lines().next().unwrap_or_default());
        }
    }
}
