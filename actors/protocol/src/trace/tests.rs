//! Merging on a stage where the truth is known: every node has its own clock, and the test knows how they lie.

use super::*;
use phalanx_messages::{Incarnation, Level, Term};

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const ID: TransitionId = TransitionId { term: Term(3), counter: 17 };

fn step_id(level: u16, barrier: u8) -> NotificationId {
    NotificationId { transition: ID, level: Level(level), barrier, restart: 0 }
}

/// One step as it truly went: commit, then for each node: notified, answered, and when the master had the acknowledgement.
struct True {
    id: NotificationId,
    begun: u64,
    nodes: Vec<(NodeId, u64, u64, u64)>,
}

/// What `node` keeps of `steps` if its clock shows `zero` less than the true time.
fn kept(steps: &[True], node: NodeId, zero: u64, leads: impl Fn(usize) -> bool, ended: u64) -> TransitionTrace {
    let one = |(index, step): (usize, &True)| {
        let own = step.nodes.iter().find(|(who, ..)| *who == node);
        let acknowledged = step.nodes.iter().filter(|_| leads(index)).map(|(who, _, _, at)| (*who, at - zero));
        let begun = if leads(index) { step.begun } else { own.map_or(step.begun, |(_, notified, ..)| *notified) };
        StepTrace {
            id: step.id,
            participants: step.nodes.iter().map(|(who, ..)| *who).collect(),
            begun_ms: begun - zero,
            acknowledged_ms: acknowledged.collect(),
            ended_ms: Some(steps.get(index + 1).map_or(ended, |next| next.begun) - zero),
            notified_ms: own.map(|(_, notified, ..)| notified - zero),
            answered_ms: own.map(|(_, _, answered, _)| answered - zero),
        }
    };
    TransitionTrace {
        id: ID,
        subject: NodeIncarnation { node: N2, incarnation: Incarnation(1) },
        kind: TransitionKind::Joining,
        reason: String::new(),
        started_ms: 0,
        told_ms: ended - zero,
        steps: steps.iter().enumerate().map(one).collect(),
        steps_dropped: 0,
        elapsed_ms: Some(ended - zero),
    }
}

/// N1 is slow at level 200; messages take 1 to 3 ms.
fn story() -> Vec<True> {
    vec![
        True { id: step_id(100, 0), begun: 1_000, nodes: vec![(N0, 1_000, 1_005, 1_005), (N1, 1_002, 1_009, 1_010)] },
        True { id: step_id(200, 0), begun: 1_020, nodes: vec![(N0, 1_020, 1_021, 1_021), (N1, 1_023, 5_100, 5_102)] },
        True { id: step_id(200, 1), begun: 5_110, nodes: vec![(N0, 5_110, 5_112, 5_112), (N1, 5_111, 5_113, 5_115)] },
    ]
}

#[test]
fn the_slow_node_is_blamed_with_its_level_and_its_subsystems_share() {
    let steps = story();
    let traces =
        BTreeMap::from([(N0, kept(&steps, N0, 1_000, |_| true, 5_120)), (N1, kept(&steps, N1, 900, |_| false, 5_120))]);
    let merged = merge(&traces).unwrap();
    assert_eq!(merged.reference, N0, "the master");
    let blame = merged.blame.unwrap();
    assert_eq!((blame.node, blame.id, blame.took_ms), (N1, step_id(200, 0), 4_082));
    assert_eq!((blame.subsystem_ms, blame.awaited), (Some(4_077), false));
    // Between: 1,010 to 1,020, 5,102 to 5,110 and 5,115 to the end.
    assert_eq!((merged.between_ms, merged.elapsed_ms), (23, Some(4_120)));
}

#[test]
fn another_clock_is_bounded_by_the_masters_times_and_the_bounds_hold_the_truth() {
    let steps = story();
    for zero in [0, 1, 500, 999] {
        let traces = BTreeMap::from([
            (N0, kept(&steps, N0, 1_000, |_| true, 5_120)),
            (N1, kept(&steps, N1, zero, |_| false, 5_120)),
        ]);
        let merged = merge(&traces).unwrap();
        let offset = merged.offsets[&N1];
        let truth = i64::try_from(zero).unwrap() - 1_000;
        assert_eq!(offset.from, OffsetSource::MasterTimes);
        let within = i64::try_from(offset.within_ms.unwrap()).unwrap();
        assert!((offset.offset_ms - truth).abs() <= within, "{offset:?}, in truth {truth}");
        assert!(within <= 3, "a round trip takes 3 ms at most: {offset:?}");
        let times = merged.steps[1].nodes[&N1];
        assert_eq!(times.subsystem_ms, Some(4_077), "a duration does not depend on the offset");
        assert!(times.notified_ms >= Some(merged.steps[1].begun_ms) && times.answered_ms <= merged.steps[1].ended_ms);
    }
}

#[test]
fn steps_under_a_dead_master_are_told_by_those_who_were_there() {
    // N0 led the first two steps and is gone; N1 leads the last one; N2 took part in all.
    let mut steps = story();
    for (step, at) in steps.iter_mut().zip([1_004, 1_030, 5_112]) {
        step.nodes.push((N2, at, at + 2, at + 3));
    }
    let traces = BTreeMap::from([
        (N1, kept(&steps, N1, 1_000, |index| index == 2, 5_120)),
        (N2, kept(&steps, N2, 400, |_| false, 5_120)),
    ]);
    let merged = merge(&traces).unwrap();
    assert_eq!(merged.reference, N1);
    assert_eq!(
        merged.steps.iter().map(|step| step.id).collect::<Vec<_>>(),
        [step_id(100, 0), step_id(200, 0), step_id(200, 1)]
    );
    let blame = merged.blame.unwrap();
    assert_eq!((blame.node, blame.id, blame.took_ms), (N1, step_id(200, 0), 4_077), "what its subsystem took");
    assert_eq!(merged.steps[1].nodes[&N0], StepTimes::default(), "nobody who is there can tell");
    assert_eq!(participants(&traces), [N0, N1, N2].into_iter().collect());
}

#[test]
fn without_a_masters_times_the_order_of_the_steps_bounds_a_clock() {
    let steps = story();
    let traces = BTreeMap::from([
        (N0, kept(&steps, N0, 1_000, |_| false, 5_120)),
        (N1, kept(&steps, N1, 700, |_| false, 5_120)),
    ]);
    let merged = merge(&traces).unwrap();
    let offset = merged.offsets[&N1];
    assert_eq!(offset.from, OffsetSource::StepOrder);
    let within = i64::try_from(offset.within_ms.unwrap()).unwrap();
    assert!((offset.offset_ms + 300).abs() <= within, "{offset:?}");
    assert!(within < 4_000, "{offset:?}");
}

#[test]
fn a_step_that_the_reference_did_not_see_lies_between_its_neighbours() {
    let steps = story();
    let mut master = kept(&steps, N0, 1_000, |_| true, 5_120);
    master.steps.remove(1);
    let traces = BTreeMap::from([(N0, master), (N1, kept(&steps, N1, 100, |_| false, 5_120))]);
    let merged = merge(&traces).unwrap();
    let begun: Vec<u64> = merged.steps.iter().map(|step| step.begun_ms).collect();
    assert!(begun.is_sorted() && begun.len() == 3, "{begun:?}");
    for pair in merged.steps.windows(2) {
        assert!(pair[0].ended_ms.unwrap() <= pair[1].begun_ms, "{merged:#?}");
    }
}

#[test]
fn whoever_is_awaited_now_is_blamed_while_the_transition_runs() {
    let mut steps = story();
    steps.truncate(2);
    let mut master = kept(&steps, N0, 1_000, |_| true, 5_120);
    (master.elapsed_ms, master.told_ms) = (None, 2_020);
    let running = master.steps.last_mut().unwrap();
    running.acknowledged_ms.remove(&N1);
    running.ended_ms = None;
    let merged = merge(&BTreeMap::from([(N0, master)])).unwrap();
    let blame = merged.blame.unwrap();
    assert_eq!((blame.node, blame.took_ms, blame.awaited), (N1, 2_000, true));
}

#[test]
fn levels_of_a_leave_go_down_and_a_restart_comes_after_what_it_overtook() {
    let order = |kind, ids: &[(u16, u8, u32)]| {
        let mut places: Vec<_> = ids
            .iter()
            .map(|(level, barrier, restart)| {
                place(kind, &NotificationId { restart: *restart, ..step_id(*level, *barrier) })
            })
            .collect();
        let given = places.clone();
        places.sort_unstable();
        assert_eq!(places, given, "{kind:?}");
    };
    order(TransitionKind::Leaving, &[(1000, 0, 0), (200, 0, 0), (200, 1, 0), (200, 0, 1), (100, 0, 1)]);
    order(TransitionKind::ForcedLeaving, &[(100, 0, 0), (200, 0, 0), (200, 1, 0), (1000, 0, 0)]);
}

#[test]
fn nothing_kept_is_no_trace_and_nothing_late_blames_nobody() {
    assert_eq!(merge(&BTreeMap::new()), None);
    let steps = [True { id: step_id(100, 0), begun: 1_000, nodes: vec![(N0, 1_000, 1_000, 1_000)] }];
    let merged = merge(&BTreeMap::from([(N0, kept(&steps, N0, 1_000, |_| true, 1_000))])).unwrap();
    assert_eq!(merged.blame, None);
}
