//! A trace in the Chrome trace event format, as ui.perfetto.dev opens it: one track a node, one slice a level and barrier.
//!
//! Only "complete" slices (`X`) and names (`M`); times are microseconds. A node's slice is its subsystem's time where the node
//! tells it, else from the commit of the step to the acknowledgement at the master. Slices of one track never overlap, because
//! a step begins after the one before it has ended everywhere.

use std::collections::BTreeMap;

use phalanx_messages::admin::{Trace, TraceStep};
use serde::Serialize;

use crate::cli::print;

/// What the viewer reads.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
    #[serde(rename = "displayTimeUnit")]
    unit: &'static str,
    /// Shown on the viewer's information page.
    #[serde(rename = "otherData")]
    other: BTreeMap<&'static str, String>,
}

/// One event; what `ph` does not use is left out.
#[derive(Debug, Serialize)]
struct Event {
    name: String,
    ph: char,
    pid: u32,
    tid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    args: BTreeMap<&'static str, String>,
}

/// The one process of the document.
const PROCESS: u32 = 1;

pub(super) fn events(trace: &Trace) -> Document {
    let mut nodes: Vec<&String> = trace.steps.iter().flat_map(|step| step.acknowledged_ms.keys()).collect();
    nodes.sort();
    nodes.dedup();
    let title = format!("{} {} ({})", trace.node, print::kind(trace.kind), trace.id);
    let mut events = vec![named("process_name", 0, title)];
    for (index, node) in nodes.iter().enumerate() {
        let tid = index + 1; // 0 is the process
        let missing = trace.missing.get(*node).map_or_else(String::new, |why| format!(" ({why})"));
        events.push(named("thread_name", tid, format!("{node}{missing}")));
        events.extend(trace.steps.iter().filter_map(|step| slice(trace, step, node, tid)));
    }
    let mut other = BTreeMap::from([("clock", trace.clock.clone()), ("transition", trace.id.clone())]);
    if let Some(blame) = &trace.blame {
        let stop = super::stop(blame.level, &blame.name, blame.barrier);
        other.insert("slowest", format!("{}, {stop}: {} ms", blame.node, blame.took_ms));
    }
    Document { events, unit: "ms", other }
}

fn named(what: &str, tid: usize, name: String) -> Event {
    let args = BTreeMap::from([("name", name)]);
    Event { name: what.to_owned(), ph: 'M', pid: PROCESS, tid, cat: None, ts: None, dur: None, args }
}

/// One node's part in a step; none if nobody can tell when it ended.
fn slice(trace: &Trace, step: &TraceStep, node: &str, tid: usize) -> Option<Event> {
    let own = step.nodes.get(node);
    let acknowledged_ms = step.acknowledged_ms.get(node).copied().flatten();
    let begun_ms = own.map_or(step.begun_ms, |own| own.notified_ms);
    let ended_ms = own.and_then(|own| own.answered_ms).or(acknowledged_ms)?;
    let mut args = BTreeMap::from([("level", step.level.to_string()), ("restart", step.restart.to_string())]);
    args.insert("committed_ms", step.begun_ms.to_string());
    acknowledged_ms.map(|at| args.insert("acknowledged_ms", at.to_string()));
    own.and_then(|own| own.subsystem_ms).map(|took| args.insert("subsystem_ms", took.to_string()));
    Some(Event {
        name: super::stop(step.level, &step.name, step.barrier),
        ph: 'X',
        pid: PROCESS,
        tid,
        cat: Some(print::kind(trace.kind)),
        ts: Some(begun_ms * 1_000),
        dur: Some(ended_ms.saturating_sub(begun_ms) * 1_000),
        args,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use phalanx_messages::admin::{TraceBlame, TraceOffset, TraceTimes};
    use phalanx_messages::membership::TransitionKind;
    use serde_json::Value;

    fn step(level: u16, name: &str, barrier: u8, begun_ms: u64, ended_ms: u64, slow_ms: u64) -> TraceStep {
        let times = |notified_ms, took| TraceTimes {
            notified_ms,
            answered_ms: Some(notified_ms + took),
            subsystem_ms: Some(took),
        };
        TraceStep {
            level,
            name: name.to_owned(),
            barrier,
            restart: 0,
            begun_ms,
            ended_ms: Some(ended_ms),
            acknowledged_ms: [("n1", Some(begun_ms + 2)), ("n2", None), ("n3", Some(begun_ms + slow_ms + 10))]
                .map(|(node, at)| (node.to_owned(), at))
                .into(),
            nodes: [("n1", times(begun_ms, 1)), ("n3", times(begun_ms + 5, slow_ms))]
                .map(|(node, times)| (node.to_owned(), times))
                .into(),
        }
    }

    /// n3 needs 4.1 s at the first barrier of level 200; n2, which led, is gone.
    pub(crate) fn slow_n3() -> Trace {
        Trace {
            id: "3.17".to_owned(),
            node: "n3".to_owned(),
            incarnation: 1,
            kind: TransitionKind::Joining,
            reason: String::new(),
            elapsed_ms: Some(4_200),
            between_ms: 30,
            clock: "n1".to_owned(),
            blame: Some(TraceBlame {
                node: "n3".to_owned(),
                level: 200,
                name: "vdm".to_owned(),
                barrier: 0,
                took_ms: 4_100,
                subsystem_ms: Some(4_080),
                awaited: false,
            }),
            offsets: [(
                "n3".to_owned(),
                TraceOffset { offset_ms: 12, within_ms: Some(2), from: "master-times".to_owned() },
            )]
            .into(),
            missing: [("n2".to_owned(), "does not answer".to_owned())].into(),
            steps_dropped: 0,
            steps: vec![
                step(100, "dlm", 0, 0, 20, 5),
                step(200, "vdm", 0, 20, 4_120, 4_080),
                step(200, "vdm", 1, 4_120, 4_200, 5),
            ],
        }
    }

    fn document() -> Value {
        serde_json::to_value(events(&slow_n3())).unwrap()
    }

    fn with_phase(document: &Value, phase: &str) -> Vec<Value> {
        let events = document["traceEvents"].as_array().unwrap();
        events.iter().filter(|event| event["ph"] == phase).cloned().collect()
    }

    #[test]
    fn each_node_has_one_named_track_and_each_slice_lies_on_one() {
        let document = document();
        let names = with_phase(&document, "M");
        let track = |name: &str| {
            let found: Vec<_> =
                names.iter().filter(|it| it["name"] == "thread_name" && it["args"]["name"] == name).collect();
            assert_eq!(found.len(), 1, "{name}: {names:#?}");
            found[0]["tid"].as_u64().unwrap()
        };
        let tracks = ["n1", "n2 (does not answer)", "n3"].map(track);
        assert_eq!(names.len(), 1 + tracks.len(), "the process and its tracks");
        let slices = with_phase(&document, "X");
        assert_eq!(slices.len(), 6, "three steps of the two nodes that can be told of");
        for slice in &slices {
            assert!(tracks.contains(&slice["tid"].as_u64().unwrap()) && slice["pid"] == names[0]["pid"], "{slice}");
            assert!(slice["ts"].is_u64() && slice["dur"].is_u64() && slice["cat"] == "joining", "{slice}");
        }
        assert_eq!(with_phase(&document, "X").len() + names.len(), document["traceEvents"].as_array().unwrap().len());
        assert_eq!(document["displayTimeUnit"], "ms");
    }

    #[test]
    fn slices_are_in_microseconds_and_do_not_overlap_on_a_track() {
        let mut by_track: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for slice in with_phase(&document(), "X") {
            let number = |key: &str| slice[key].as_u64().unwrap();
            by_track.entry(number("tid")).or_default().push((number("ts"), number("ts") + number("dur")));
        }
        assert_eq!(by_track[&3][1], (25_000, 4_105_000), "n3 at level 200");
        for slices in by_track.values() {
            assert!(slices.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{slices:?}");
        }
    }
}
