//! The traces of one transition that several nodes kept, merged into one, and who was late.
//!
//! Clocks of different hosts are not comparable, so nothing here compares them. The merged trace runs on the clock of one node,
//! the *reference*: the one that has seen most acknowledgements, which is the master, or after a change of the master the one
//! that led for longer. Steps are put in the order of the transition (restart, level in the direction of the kind, barrier).
//! How another node's clock lies to the reference's is bounded by what must have happened before what (protocol T-2, T-3):
//!
//! - a subsystem is notified after the reference committed the step, and answers before that answer arrives there;
//! - a step begins after everybody has answered the one before it.
//!
//! Every step narrows the bounds. The middle is used to place a node's own times, half the width says how far off that may be;
//! durations are never affected.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use phalanx_messages::membership::TransitionKind;
use phalanx_messages::set::NodeSet;
use phalanx_messages::trace::{StepTrace, TransitionTrace};
use phalanx_messages::{NodeId, NodeIncarnation, NotificationId, TransitionId};

/// A transition as all nodes together saw it. Times are milliseconds on the reference's clock since it first saw the transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedTrace {
    /// The transition.
    pub id: TransitionId,
    /// The node in transition.
    pub subject: NodeIncarnation,
    /// What it does.
    pub kind: TransitionKind,
    /// Why, where a reason was given.
    pub reason: String,
    /// Whose clock the times are of.
    pub reference: NodeId,
    /// How long it took, once it has ended.
    pub elapsed_ms: Option<u64>,
    /// Time in which no subsystem was awaited: commits, proofs of death, other transitions that go first.
    pub between_ms: u64,
    /// The first steps that nobody keeps any more.
    pub steps_dropped: u64,
    /// Its steps, in order.
    pub steps: Vec<MergedStep>,
    /// How the clock of each other node that answered lies.
    pub offsets: BTreeMap<NodeId, ClockOffset>,
    /// The step and the node that took longest.
    pub blame: Option<Blame>,
}

/// One step of a merged trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedStep {
    /// The step.
    pub id: NotificationId,
    /// When it was committed.
    pub begun_ms: u64,
    /// When the next step or the end was committed.
    pub ended_ms: Option<u64>,
    /// Everybody who had to acknowledge.
    pub nodes: BTreeMap<NodeId, StepTimes>,
}

/// One node's part in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// When its acknowledgement arrived at the reference, if that led then.
    pub acknowledged_ms: Option<u64>,
    /// When its subsystem was notified, as placed on the reference's clock.
    pub notified_ms: Option<u64>,
    /// When its subsystem answered, as placed on the reference's clock.
    pub answered_ms: Option<u64>,
    /// How long its subsystem took on its own clock.
    pub subsystem_ms: Option<u64>,
}

/// To be added to a node's own times to get the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// The middle of what is possible.
    pub offset_ms: i64,
    /// It may be off by so much; none if it is bounded on one side only.
    pub within_ms: Option<u64>,
    /// What bounds it.
    pub from: OffsetSource,
}

/// What an offset is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OffsetSource {
    /// The two nodes have no step in common that tells anything: their traces are laid side by side.
    Nothing,
    /// The order of the steps alone.
    StepOrder,
    /// When the master sent steps and when it got their acknowledgements.
    MasterTimes,
}

/// Who is late, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blame {
    /// The node.
    pub node: NodeId,
    /// The step.
    pub id: NotificationId,
    /// From the commit of the step to the arrival of its acknowledgement, or until now; what its subsystem took, where no master
    /// answered that could say.
    pub took_ms: u64,
    /// How much of it its subsystem took, if the node answered.
    pub subsystem_ms: Option<u64>,
    /// It has not acknowledged yet.
    pub awaited: bool,
}

/// Later steps of a transition of this kind are greater.
fn place(kind: TransitionKind, id: &NotificationId) -> (u32, i32, u8) {
    let level = i32::from(id.level.0);
    let height = match kind {
        TransitionKind::Leaving => -level,
        TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::ForcedLeaving => level,
    };
    (id.restart, height, id.barrier)
}

/// Merges what the nodes keep of one transition; traces of another one than most are of are left out by the caller. None if
/// there is none.
#[must_use]
pub fn merge(traces: &BTreeMap<NodeId, TransitionTrace>) -> Option<MergedTrace> {
    let acknowledgements =
        |trace: &TransitionTrace| trace.steps.iter().map(|step| step.acknowledged_ms.len()).sum::<usize>();
    let rank = |(node, trace): &(&NodeId, &TransitionTrace)| {
        (acknowledgements(trace), trace.steps.len(), Reverse(**node)) // a node of a low id if all else is equal
    };
    let (reference, own) = traces.iter().max_by_key(rank)?;
    let others = || traces.iter().filter(|(node, _)| *node != reference);
    let offsets: BTreeMap<NodeId, ClockOffset> =
        others().map(|(node, trace)| (*node, offset(own, *node, trace))).collect();
    let offset_of = |node: NodeId| offsets.get(&node).map_or(0, |offset| offset.offset_ms);
    let mut steps = steps_in_order(own, traces, &offset_of);
    for (node, trace) in traces {
        steps.iter_mut().for_each(|step| step.place(*node, trace, offset_of(*node)));
    }
    let elapsed_ms = own.elapsed_ms;
    let blame = blame(&steps, elapsed_ms.unwrap_or(own.told_ms));
    Some(MergedTrace {
        id: own.id,
        subject: own.subject,
        kind: own.kind,
        reason: own.reason.clone(),
        reference: *reference,
        elapsed_ms,
        between_ms: between(&steps, elapsed_ms.unwrap_or(own.told_ms)),
        steps_dropped: traces.values().map(|trace| trace.steps_dropped).min().unwrap_or(0),
        steps,
        offsets,
        blame,
    })
}

/// Every step that anybody saw. What the reference saw keeps its times; what it did not see lies between its neighbours.
fn steps_in_order(
    own: &TransitionTrace,
    traces: &BTreeMap<NodeId, TransitionTrace>,
    offset_of: &impl Fn(NodeId) -> i64,
) -> Vec<MergedStep> {
    let mut found: BTreeMap<(u32, i32, u8), MergedStep> = BTreeMap::new();
    for step in &own.steps {
        found.insert(place(own.kind, &step.id), MergedStep::of(step, 0));
    }
    for (node, trace) in traces {
        for step in &trace.steps {
            found.entry(place(own.kind, &step.id)).or_insert_with(|| MergedStep::of(step, offset_of(*node)));
        }
    }
    let mut steps: Vec<MergedStep> = found.into_values().collect();
    let seen: Vec<bool> = steps.iter().map(|step| own.steps.iter().any(|mine| mine.id == step.id)).collect();
    let mut latest_ms = u64::MAX;
    for (step, seen) in steps.iter_mut().zip(&seen).rev() {
        if !seen {
            step.begun_ms = step.begun_ms.min(latest_ms);
        }
        latest_ms = step.begun_ms;
    }
    for index in 1..steps.len() {
        let before_ms = steps[index - 1].begun_ms;
        let step = &mut steps[index];
        step.begun_ms = step.begun_ms.max(before_ms);
        let begun_ms = step.begun_ms;
        steps[index - 1].ended_ms = Some(steps[index - 1].ended_ms.map_or(begun_ms, |ended| ended.min(begun_ms)));
    }
    if let Some(last) = steps.last_mut() {
        last.ended_ms = own.elapsed_ms.map(|elapsed| elapsed.max(last.begun_ms));
    }
    steps
}

impl MergedStep {
    fn of(step: &StepTrace, offset_ms: i64) -> Self {
        let times = |node: NodeId| {
            let acknowledged_ms = step.acknowledged_ms.get(&node).map(|at| shifted(*at, offset_ms));
            (node, StepTimes { acknowledged_ms, ..StepTimes::default() })
        };
        Self {
            id: step.id,
            begun_ms: shifted(step.begun_ms, offset_ms),
            ended_ms: step.ended_ms.map(|at| shifted(at, offset_ms)),
            nodes: step.participants.iter().map(times).collect(),
        }
    }

    /// Adds what `node` itself and, if it was master then, what it knows of the others.
    fn place(&mut self, node: NodeId, trace: &TransitionTrace, offset_ms: i64) {
        let Some(step) = trace.steps.iter().find(|step| step.id == self.id) else { return };
        let (begun_ms, ended_ms) = (self.begun_ms, self.ended_ms.unwrap_or(u64::MAX));
        let inside = |at: u64| shifted(at, offset_ms).clamp(begun_ms, ended_ms);
        for (by, at) in &step.acknowledged_ms {
            self.nodes.entry(*by).or_default().acknowledged_ms.get_or_insert(inside(*at));
        }
        let Some(notified_ms) = step.notified_ms else { return };
        let times = self.nodes.entry(node).or_default();
        times.notified_ms = Some(inside(notified_ms));
        times.answered_ms = step.answered_ms.map(inside);
        times.subsystem_ms = step.answered_ms.map(|answered| answered.saturating_sub(notified_ms));
    }

    /// When the last acknowledgement was there.
    fn answered_by_all_ms(&self) -> Option<u64> {
        let known = |times: &StepTimes| times.acknowledged_ms.or(times.answered_ms);
        self.nodes.values().map(known).try_fold(self.begun_ms, |last, at| Some(last.max(at?)))
    }
}

/// How the clock of `node` lies to the one of the reference.
fn offset(reference: &TransitionTrace, node: NodeId, trace: &TransitionTrace) -> ClockOffset {
    let mut bounds = Bounds { least: None, most: None, from: OffsetSource::Nothing };
    for theirs in &trace.steps {
        let same = reference.steps.iter().find(|ours| ours.id == theirs.id);
        if let (Some(ours), Some(notified)) = (same, theirs.notified_ms)
            && !ours.acknowledged_ms.is_empty()
        {
            bounds.at_least(ours.begun_ms, notified, OffsetSource::MasterTimes);
            if let (Some(acknowledged), Some(answered)) = (ours.acknowledged_ms.get(&node), theirs.answered_ms) {
                bounds.at_most(*acknowledged, answered, OffsetSource::MasterTimes);
            }
        }
        // A step whose restart number is another one was overtaken, and nobody waited for its answers.
        for ours in reference.steps.iter().filter(|ours| ours.id.restart == theirs.id.restart) {
            let (first, second) = (place(reference.kind, &ours.id), place(reference.kind, &theirs.id));
            if let (Some(answered), Some(notified)) = (ours.answered_ms, theirs.notified_ms)
                && first < second
            {
                bounds.at_least(answered, notified, OffsetSource::StepOrder);
            }
            if let Some(answered) = theirs.answered_ms
                && second < first
            {
                bounds.at_most(ours.begun_ms, answered, OffsetSource::StepOrder);
            }
        }
    }
    bounds.middle()
}

/// What an offset can be.
struct Bounds {
    least: Option<i64>,
    most: Option<i64>,
    from: OffsetSource,
}

impl Bounds {
    /// `theirs` came after `ours`. Times are whole milliseconds, so each may be almost one more than it says.
    fn at_least(&mut self, ours: u64, theirs: u64, from: OffsetSource) {
        let bound = signed(ours) - signed(theirs) - 1;
        self.least = Some(self.least.map_or(bound, |least| least.max(bound)));
        self.from = self.from.max(from);
    }

    /// `theirs` came before `ours`.
    fn at_most(&mut self, ours: u64, theirs: u64, from: OffsetSource) {
        let bound = signed(ours) - signed(theirs) + 1;
        self.most = Some(self.most.map_or(bound, |most| most.min(bound)));
        self.from = self.from.max(from);
    }

    fn middle(&self) -> ClockOffset {
        let (offset_ms, within_ms) = match (self.least, self.most) {
            (Some(least), Some(most)) => ((least + most).div_euclid(2), Some(least.abs_diff(most).div_ceil(2))),
            (Some(one), None) | (None, Some(one)) => (one, None),
            (None, None) => (0, None),
        };
        ClockOffset { offset_ms, within_ms, from: self.from }
    }
}

fn signed(at_ms: u64) -> i64 {
    i64::try_from(at_ms).unwrap_or(i64::MAX / 4)
}

fn shifted(at_ms: u64, offset_ms: i64) -> u64 {
    at_ms.saturating_add_signed(offset_ms)
}

fn blame(steps: &[MergedStep], now_ms: u64) -> Option<Blame> {
    let parts = steps.iter().flat_map(|step| step.nodes.iter().map(move |(node, times)| (step, *node, times)));
    let late = parts.filter_map(|(step, node, times)| {
        let (took_ms, awaited) = match (times.acknowledged_ms, times.subsystem_ms) {
            (Some(at), _) => (at.saturating_sub(step.begun_ms), false),
            (None, Some(subsystem_ms)) => (subsystem_ms, false),
            (None, None) if step.ended_ms.is_none() => (now_ms.saturating_sub(step.begun_ms), true),
            (None, None) => return None, // a node that did not answer, in a step that no master told of
        };
        let subsystem_ms = times.subsystem_ms;
        Some(Blame { node, id: step.id, took_ms, subsystem_ms, awaited })
    });
    // Of two that took as long, the one whose subsystem took longer, then the earlier one.
    let late: Vec<Blame> = late.filter(|blame| blame.took_ms > 0).collect();
    late.into_iter().rev().max_by_key(|blame| (blame.took_ms, blame.subsystem_ms))
}

/// Time in which nobody was awaited.
fn between(steps: &[MergedStep], until_ms: u64) -> u64 {
    let awaited = |step: &MergedStep| {
        let last = step.answered_by_all_ms().or(step.ended_ms).unwrap_or(until_ms);
        last.saturating_sub(step.begun_ms)
    };
    until_ms.saturating_sub(steps.iter().map(awaited).sum())
}

/// Everybody who took part in a transition as far as these traces know.
#[must_use]
pub fn participants(traces: &BTreeMap<NodeId, TransitionTrace>) -> NodeSet {
    let steps = traces.values().flat_map(|trace| trace.steps.iter());
    steps.fold(NodeSet::default(), |all, step| all.union(&step.participants))
}

#[cfg(test)]
mod tests;
