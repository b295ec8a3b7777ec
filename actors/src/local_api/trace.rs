//! One transition as all nodes together saw it, with names.

use std::collections::BTreeMap;

use phalanx_messages::admin::{AdminAnswer, Trace, TraceBlame, TraceOffset, TraceStep, TraceTimes};
use phalanx_messages::trace::TransitionTrace;
use phalanx_messages::{Level, NodeId, TransitionId};
use phalanx_protocol::trace::{
    Blame, ClockOffset, MergedStep, MergedTrace, OffsetSource, StepTimes, merge, participants,
};

use super::answer::{Asked, EXIT_UNKNOWN, Refusal};
use crate::ports::{AskTraces, GetMembership, MembershipStatus, TracesKept};

impl Asked {
    /// The newest transition is the newest that this node keeps; a node that keeps none asks the others.
    pub async fn trace(self, which: Option<TransitionId>) -> Result<AdminAnswer, Refusal> {
        let membership = self.edges.membership.send(GetMembership).await.map_err(Refusal::ending)?;
        let mut answered = self.edges.traces.send(AskTraces(which)).await.map_err(Refusal::ending)?;
        let newest = answered.kept.values().flatten().map(|trace| trace.id).max();
        if which.is_none() && answered.kept.get(&self.own).is_some_and(Option::is_none) && newest.is_some() {
            answered = self.edges.traces.send(AskTraces(newest)).await.map_err(Refusal::ending)?;
        }
        let TracesKept { kept, .. } = &answered;
        let traces = kept.iter().filter_map(|(node, trace)| Some((*node, trace.clone()?))).collect();
        let Some(merged) = merge(&traces) else {
            let text = which.map_or_else(
                || "no node keeps any transition".to_owned(),
                |id| format!("no node that answers keeps a transition `{id}`"),
            );
            return Err(Refusal(EXIT_UNKNOWN, text));
        };
        let names = Names(&membership);
        let trace = Trace { missing: names.missing(&answered, &traces), ..names.trace(&merged) };
        Ok(AdminAnswer::Trace(Box::new(trace)))
    }
}

/// Turns ids into names.
struct Names<'a>(&'a MembershipStatus);

impl Names<'_> {
    fn node(&self, node: NodeId) -> String {
        self.0.configuration.name_of(node)
    }

    fn level(&self, level: Level) -> String {
        let registered = self.0.record.levels.get(&level);
        registered.map_or_else(String::new, |registration| registration.name.clone())
    }

    /// Who took part and cannot tell of it.
    fn missing(&self, answered: &TracesKept, traces: &BTreeMap<NodeId, TransitionTrace>) -> BTreeMap<String, String> {
        let without = participants(traces).iter().filter(|node| !traces.contains_key(node)).collect::<Vec<_>>();
        let why = |node: NodeId| match answered.kept.get(&node) {
            Some(_) => "keeps nothing of it: it was started later",
            None if answered.silent.contains(node) => "does not answer",
            None => "is not a member now",
        };
        without.into_iter().map(|node| (self.node(node), why(node).to_owned())).collect()
    }

    fn trace(&self, merged: &MergedTrace) -> Trace {
        Trace {
            id: merged.id.to_string(),
            node: self.node(merged.subject.node),
            incarnation: merged.subject.incarnation.0,
            kind: merged.kind,
            reason: merged.reason.clone(),
            elapsed_ms: merged.elapsed_ms,
            between_ms: merged.between_ms,
            clock: self.node(merged.reference),
            blame: merged.blame.map(|blame| self.blame(blame)),
            offsets: merged.offsets.iter().map(|(node, it)| (self.node(*node), offset(*it))).collect(),
            missing: BTreeMap::new(),
            steps_dropped: merged.steps_dropped,
            steps: merged.steps.iter().map(|step| self.step(step)).collect(),
        }
    }

    fn blame(&self, Blame { node, id, took_ms, subsystem_ms, awaited }: Blame) -> TraceBlame {
        let (node, name) = (self.node(node), self.level(id.level));
        TraceBlame { node, level: id.level.0, name, barrier: id.barrier, took_ms, subsystem_ms, awaited }
    }

    fn step(&self, step: &MergedStep) -> TraceStep {
        let own = |times: &StepTimes| {
            let StepTimes { notified_ms, answered_ms, subsystem_ms, .. } = *times;
            notified_ms.map(|notified_ms| TraceTimes { notified_ms, answered_ms, subsystem_ms })
        };
        TraceStep {
            level: step.id.level.0,
            name: self.level(step.id.level),
            barrier: step.id.barrier,
            restart: step.id.restart,
            begun_ms: step.begun_ms,
            ended_ms: step.ended_ms,
            acknowledged_ms: step.nodes.iter().map(|(node, it)| (self.node(*node), it.acknowledged_ms)).collect(),
            nodes: step.nodes.iter().filter_map(|(node, times)| Some((self.node(*node), own(times)?))).collect(),
        }
    }
}

fn offset(ClockOffset { offset_ms, within_ms, from }: ClockOffset) -> TraceOffset {
    let from = match from {
        OffsetSource::MasterTimes => "master-times",
        OffsetSource::StepOrder => "step-order",
        OffsetSource::Nothing => "nothing",
    };
    TraceOffset { offset_ms, within_ms, from: from.to_owned() }
}
