//! A trace as tables for people.

use std::fmt::Write as _;

use phalanx_messages::admin::{Trace, TraceBlame, TraceStep};

use crate::cli::print;

/// One transition: how long, who is late, each step with who acknowledged when, what is not known.
pub(super) fn text(trace: &Trace) -> String {
    let mut text = String::new();
    let took = trace.elapsed_ms.map_or_else(|| "is running".to_owned(), |ms| format!("took {}", duration(ms)));
    writeln!(text, "transition {}   {} {}   {took}", trace.id, trace.node, print::kind(trace.kind)).ok();
    if !trace.reason.is_empty() {
        writeln!(text, "because {}", trace.reason).ok();
    }
    if let Some(blame) = &trace.blame {
        writeln!(text, "{}", blamed(blame)).ok();
    }
    if trace.between_ms > 0 {
        writeln!(text, "between steps, when no subsystem was awaited: {}", duration(trace.between_ms)).ok();
    }
    for (node, why) in &trace.missing {
        writeln!(text, "missing: {node} {why}").ok();
    }
    if trace.steps_dropped > 0 {
        writeln!(text, "the first {} steps are no longer kept", trace.steps_dropped).ok();
    }
    writeln!(text, "\ntimes are milliseconds on the clock of {} since it first saw the transition", trace.clock).ok();
    let mut rows = vec![
        ["LEVEL", "NAME", "BARRIER", "BEGUN", "ENDED", "ACKNOWLEDGED (SUBSYSTEM TOOK)"].map(str::to_owned).to_vec(),
    ];
    rows.extend(trace.steps.iter().map(row));
    text + &print::table(&rows) + &clocks(trace)
}

fn row(step: &TraceStep) -> Vec<String> {
    let restart = if step.restart > 0 { format!(" (restart {})", step.restart) } else { String::new() };
    let acknowledged: Vec<String> = step.acknowledged_ms.iter().map(|(node, at)| part(step, node, *at)).collect();
    vec![
        step.level.to_string(),
        step.name.clone(),
        format!("{}{restart}", step.barrier + 1),
        step.begun_ms.to_string(),
        step.ended_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
        acknowledged.join(", "),
    ]
}

/// One node's part in a step. `~` = the node's own word, placed by the offset of its clock; `-` = not acknowledged, or not known.
fn part(step: &TraceStep, node: &str, acknowledged_ms: Option<u64>) -> String {
    let own = step.nodes.get(node);
    let at = match (acknowledged_ms, own.and_then(|own| own.answered_ms)) {
        (Some(at), _) => at.to_string(),
        (None, Some(at)) => format!("~{at}"),
        (None, None) => "-".to_owned(),
    };
    let took = own.and_then(|own| own.subsystem_ms).map_or_else(String::new, |ms| format!(" ({ms})"));
    format!("{node} {at}{took}")
}

/// "slowest: n3, level 200 (vdm) barrier 1: 4.1 s".
fn blamed(blame: &TraceBlame) -> String {
    let TraceBlame { node, level, name, barrier, took_ms, subsystem_ms, awaited } = blame;
    let head = if *awaited { "waiting for" } else { "slowest" };
    let took = duration(*took_ms);
    let inside = match subsystem_ms {
        Some(inside) if inside < took_ms => format!(", {} of it in the subsystem", duration(*inside)),
        Some(_) | None => String::new(),
    };
    format!("{head}: {node}, {}: {took}{inside}", super::stop(*level, name, *barrier))
}

fn clocks(trace: &Trace) -> String {
    let clocks: Vec<String> = trace
        .offsets
        .iter()
        .map(|(node, offset)| {
            let within = offset.within_ms.map_or_else(|| "one bound".to_owned(), |ms| format!("within {ms} ms"));
            let from = match offset.from.as_str() {
                "master-times" => "by when the master sent and got",
                "step-order" => "by the order of steps alone",
                _ => return format!("{node} not known"),
            };
            format!("{node} {within} {from}")
        })
        .collect();
    if clocks.is_empty() { String::new() } else { format!("own times are placed: {}\n", clocks.join(", ")) }
}

/// For people: milliseconds, or seconds with one digit.
fn duration(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::super::perfetto::tests::slow_n3;
    use super::*;

    #[test]
    fn the_one_who_is_late_is_named_first() {
        let shown = text(&slow_n3());
        assert!(
            shown.contains("slowest: n3, level 200 (vdm) barrier 1: 4.1 s, 4.0 s of it in the subsystem\n"),
            "{shown}"
        );
        assert!(shown.contains("took 4.2 s"), "{shown}");
        assert!(shown.contains("missing: n2 does not answer\n"), "{shown}");
        assert!(shown.contains("n3 4110 (4080)"), "{shown}");
        assert!(shown.contains("n2 -"), "nobody knows: {shown}");
        assert!(shown.contains("n3 within 2 ms by when the master sent and got"), "{shown}");
    }

    #[test]
    fn a_running_transition_says_whom_it_waits_for() {
        let mut trace = slow_n3();
        trace.elapsed_ms = None;
        let blame = trace.blame.as_mut().unwrap();
        (blame.awaited, blame.subsystem_ms) = (true, None);
        let shown = text(&trace);
        assert!(
            shown.contains("waiting for: n3, level 200 (vdm) barrier 1: 4.1 s\n") && shown.contains("is running"),
            "{shown}"
        );
    }
}
