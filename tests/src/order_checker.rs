//! Reads the logs of command subsystems of all nodes and finds steps out of order (spec, "A. Membership manager").
//!
//! Each command writes one line when it begins and one when it ends, into one file for all nodes of the machine or one file a
//! node. The clock of one machine orders them: every line was written between the notification and the acknowledgement of its
//! step, so if a step begins before another that must precede it has ended everywhere, the lines show it.
//!
//! A line is ten words:
//!
//! ```text
//! 1764063721123456789 n0 100 joining n2 1 3.17 0 0 begin
//! (ns, node, level, kind, subject, its incarnation, transition, barrier, restart, begin or end)
//! ```
//!
//! [`log_command`] gives the shell text that writes it. What is checked: within a transition no barrier or level begins
//! anywhere before the one before it has ended on every node that began it; levels go up (joining, forced-leaving) or down
//! (leaving); barriers count from 0 without a gap; a subsystem begins no graceful step of a node whose forced leave it has begun;
//! nothing begins twice or ends without having begun. A restart begins a level again and makes what it overtook void. A node
//! that was itself forced out may leave steps open.
//!
//! What it cannot see: whether a forced leave began after the proof of death.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::admin::{Trace, TraceStep};
use phalanx_messages::membership::TransitionKind;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Wall-clock nanoseconds of this machine.
    pub at_ns: u128,
    /// Whose subsystem.
    pub node: String,
    /// Its level.
    pub level: u16,
    /// `joining`, `leaving` or `forced-leaving`.
    pub kind: Kind,
    /// The node in transition.
    pub subject: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// The transition: term and counter.
    pub transition: (u64, u64),
    /// The barrier.
    pub barrier: u8,
    /// Restarts so far.
    pub restart: u32,
    /// The command ended; else it began.
    pub ended: bool,
}

/// Kind of transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Levels ascend.
    Joining,
    /// Levels descend.
    Leaving,
    /// Levels ascend.
    ForcedLeaving,
}

/// A shell command that runs `work` and logs its begin and end to `file`; each line is one short append, which is never torn.
#[must_use]
pub fn log_command(file: &str, work: &str) -> String {
    format!(
        "w() {{ echo \"$(date +%s%N) $PHALANX_NODE $PHALANX_LEVEL $PHALANX_ACTION $PHALANX_SUBJECT \
         $PHALANX_SUBJECT_INCARNATION $PHALANX_TRANSITION $PHALANX_BARRIER $PHALANX_RESTART $1\" >> {file}; }}; \
         w begin; {work}; w end"
    )
}

/// Reads one log.
///
/// # Errors
/// The first line that is none, with its number.
pub fn parse(log: &str) -> Result<Vec<Line>, String> {
    let lines = log.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| parse_line(line).ok_or_else(|| format!("line {}: `{line}`", at + 1))).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let words: [&str; 10] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    let [at_ns, node, level, kind, subject, incarnation, transition, barrier, restart, what] = words;
    let (term, counter) = transition.split_once('.')?;
    Some(Line {
        at_ns: at_ns.parse().ok()?,
        node: node.to_owned(),
        level: level.parse().ok()?,
        kind: match kind {
            "joining" => Kind::Joining,
            "leaving" => Kind::Leaving,
            "forced-leaving" => Kind::ForcedLeaving,
            _ => return None,
        },
        subject: subject.to_owned(),
        incarnation: incarnation.parse().ok()?,
        transition: (term.parse().ok()?, counter.parse().ok()?),
        barrier: barrier.parse().ok()?,
        restart: restart.parse().ok()?,
        ended: match what {
            "begin" => false,
            "end" => true,
            _ => return None,
        },
    })
}

/// Place of a step in its transition; later steps are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    restart: u32,
    /// Counted in the direction of the kind.
    height: i32,
    barrier: u8,
}

impl Line {
    pub(crate) fn place(&self) -> Place {
        let level = i32::from(self.level);
        let height = if self.kind == Kind::Leaving { -level } else { level };
        Place { restart: self.restart, height, barrier: self.barrier }
    }

    /// Who did what for whom, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { node, level, kind, subject, transition: (term, counter), barrier, restart, .. } = self;
        format!("{node}: {kind:?} of {subject} ({term}.{counter}) at level {level} barrier {barrier} restart {restart}")
    }
}

/// Everything that is out of order in these lines of all nodes, in order of time; empty = right.
#[must_use]
pub fn check(lines: &[Line]) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.sort();
    let mut found = Vec::new();
    let mut transitions: BTreeMap<(String, u64, (u64, u64)), Progress> = BTreeMap::new();
    let mut forced: BTreeSet<(String, u64)> = BTreeSet::new();
    let mut recovering: BTreeSet<(String, u64, String, u16)> = BTreeSet::new();
    let mut forced_out: BTreeSet<String> = BTreeSet::new();
    for line in &lines {
        let subject = (line.subject.clone(), line.incarnation);
        if line.kind == Kind::ForcedLeaving {
            forced.insert(subject.clone());
            forced_out.insert(line.subject.clone());
            recovering.insert((subject.0.clone(), subject.1, line.node.clone(), line.level));
        } else if !line.ended && recovering.contains(&(subject.0.clone(), subject.1, line.node.clone(), line.level)) {
            found.push(format!("{}, after its forced leave began", line.text()));
        }
        let progress = transitions.entry((subject.0, subject.1, line.transition)).or_default();
        found.extend(progress.take(line, &forced_out));
    }
    for progress in transitions.values() {
        found.extend(progress.unfinished(&forced_out, &forced));
    }
    found
}

/// Everything that is out of order in a node's own trace of one transition; empty = right. Only the master has seen every step
/// and every acknowledgement, so steps may be missing, but none may go back or begin before the one before it has ended.
#[must_use]
pub fn check_trace(trace: &Trace) -> Vec<String> {
    let place = |step: &TraceStep| {
        let level = i32::from(step.level);
        let height = if trace.kind == TransitionKind::Leaving { -level } else { level };
        Place { restart: step.restart, height, barrier: step.barrier }
    };
    let mut found = Vec::new();
    for pair in trace.steps.windows(2) {
        let [before, after] = pair else { continue };
        if place(before) >= place(after) {
            found.push(format!("{} {}: {before:?} came before {after:?}", trace.node, trace.id));
        }
        if before.ended_ms.is_none_or(|ended| ended > after.begun_ms) {
            found.push(format!("{} {}: {after:?} began before {before:?} ended", trace.node, trace.id));
        }
    }
    found
}

/// What has been seen of one transition.
#[derive(Debug, Default)]
struct Progress {
    kind: Option<Kind>,
    subject: (String, u64),
    newest: Option<Place>,
    /// Steps by place: who began, who ended.
    steps: BTreeMap<Place, (BTreeSet<String>, BTreeSet<String>)>,
}

impl Progress {
    fn take(&mut self, line: &Line, forced_out: &BTreeSet<String>) -> Option<String> {
        self.subject = (line.subject.clone(), line.incarnation);
        if *self.kind.get_or_insert(line.kind) != line.kind {
            return Some(format!("{}: another kind than before", line.text()));
        }
        let place = line.place();
        if line.ended {
            let (begun, ended) = self.steps.entry(place).or_default();
            let right = begun.contains(&line.node) && ended.insert(line.node.clone());
            return (!right).then(|| format!("{}: ended without having begun", line.text()));
        }
        let before = self.newest;
        let (begun, _) = self.steps.entry(place).or_default();
        if !begun.insert(line.node.clone()) {
            return Some(format!("{}: begun twice", line.text()));
        }
        if let Some(newest) = before.filter(|newest| place < *newest) {
            // Overtaken by a restart, and slow to begin: void, unless this node had begun something later itself.
            let later =
                |(later, (begun, _)): (&Place, &(BTreeSet<String>, _))| *later > place && begun.contains(&line.node);
            let void = place.restart < newest.restart && !self.steps.iter().any(later);
            return (!void).then(|| format!("{}: begun after a later step", line.text()));
        }
        self.newest = Some(place);
        if before == Some(place) {
            return None;
        }
        self.entered(line, place, before, forced_out)
    }

    /// The first node begins a step: the one before it must be right, and ended everywhere.
    fn entered(
        &self,
        line: &Line,
        place: Place,
        before: Option<Place>,
        forced_out: &BTreeSet<String>,
    ) -> Option<String> {
        let continues = before.is_some_and(|before| {
            (before.restart, before.height) == (place.restart, place.height) && before.barrier + 1 == place.barrier
        });
        if place.barrier > 0 && !continues {
            return Some(format!("{}: the barrier before it is missing", line.text()));
        }
        let before = before?;
        if before.restart < place.restart && before.height == place.height {
            return None; // A restart makes void what it overtook.
        }
        let (begun, ended) = self.steps.get(&before)?;
        let missing: Vec<_> =
            begun.difference(ended).filter(|node| !forced_out.contains(*node)).map(String::as_str).collect();
        (!missing.is_empty())
            .then(|| format!("{}: begun before {} had ended the step before it", line.text(), missing.join(", ")))
    }

    /// At the end of the log every step has ended, unless a forced leave or a restart overtook it.
    fn unfinished(&self, forced_out: &BTreeSet<String>, forced: &BTreeSet<(String, u64)>) -> Option<String> {
        if self.kind != Some(Kind::ForcedLeaving) && forced.contains(&self.subject) {
            return None;
        }
        let (begun, ended) = self.steps.get(&self.newest?)?;
        let missing: Vec<_> =
            begun.difference(ended).filter(|node| !forced_out.contains(*node)).map(String::as_str).collect();
        (!missing.is_empty()).then(|| {
            let (subject, incarnation) = &self.subject;
            format!("{:?} of {subject}/{incarnation} never ended on {}", self.kind, missing.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes, levels 100 (two joining barriers) and 200: n1 joins, leaves again, joins, dies.
    const RIGHT: &str = "
        10 n0 100 joining n1 1 3.1 0 0 begin
        11 n1 100 joining n1 1 3.1 0 0 begin
        12 n1 100 joining n1 1 3.1 0 0 end
        13 n0 100 joining n1 1 3.1 0 0 end
        20 n1 100 joining n1 1 3.1 1 0 begin
        21 n0 100 joining n1 1 3.1 1 0 begin
        22 n1 100 joining n1 1 3.1 1 0 end
        23 n0 100 joining n1 1 3.1 1 0 end
        30 n0 200 joining n1 1 3.1 0 0 begin
        31 n0 200 joining n1 1 3.1 0 0 end
        32 n1 200 joining n1 1 3.1 0 0 begin
        33 n1 200 joining n1 1 3.1 0 0 end
        40 n1 200 leaving n1 1 3.2 0 0 begin
        41 n1 200 leaving n1 1 3.2 0 0 end
        42 n0 200 leaving n1 1 3.2 0 0 begin
        43 n0 200 leaving n1 1 3.2 0 0 end
        50 n0 100 leaving n1 1 3.2 0 0 begin
        51 n0 100 leaving n1 1 3.2 0 0 end
        60 n0 100 joining n1 2 3.3 0 0 begin
        61 n1 100 joining n1 2 3.3 0 0 begin
        70 n0 100 forced-leaving n1 2 3.4 0 0 begin
        71 n0 100 joining n1 2 3.3 0 0 end
        72 n0 100 forced-leaving n1 2 3.4 0 0 end
    ";

    fn faults(log: &str) -> Vec<String> {
        check(&parse(log).unwrap())
    }

    fn changed(from: &str, to: &str) -> Vec<String> {
        assert!(RIGHT.contains(from), "`{from}`");
        faults(&RIGHT.replacen(from, to, 1))
    }

    #[test]
    fn a_right_log_is_right_in_whatever_order_its_files_are_read() {
        assert_eq!(faults(RIGHT), [""; 0]);
        let mut backwards: Vec<_> = RIGHT.lines().collect();
        backwards.reverse();
        assert_eq!(faults(&backwards.join("\n")), [""; 0]);
    }

    #[test]
    fn a_barrier_that_opens_before_everybody_is_there_is_found() {
        let found = changed("13 n0 100 joining n1 1 3.1 0 0 end", "25 n0 100 joining n1 1 3.1 0 0 end");
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("barrier 1") && found[0].contains("before n0 had ended"), "{found:#?}");
    }

    #[test]
    fn a_level_that_opens_before_the_one_below_is_done_is_found() {
        let found = changed("23 n0 100 joining n1 1 3.1 1 0 end", "35 n0 100 joining n1 1 3.1 1 0 end");
        assert!(found[0].contains("level 200") && found[0].contains("before n0 had ended"), "{found:#?}");
    }

    #[test]
    fn levels_in_the_wrong_direction_are_found() {
        let log = RIGHT.replace("leaving n1 1 3.2", "joining n1 1 3.2");
        assert!(faults(&log)[0].contains("begun after a later step"));
        let log = RIGHT.replace("100 leaving n1", "300 leaving n1");
        assert!(faults(&log)[0].contains("begun after a later step"));
    }

    #[test]
    fn a_missing_barrier_a_double_begin_and_an_end_without_begin_are_found() {
        let log: Vec<_> = RIGHT.lines().filter(|line| !line.contains("3.1 0 0") || line.contains(" 200 ")).collect();
        assert!(faults(&log.join("\n"))[0].contains("the barrier before it is missing"));
        let twice = format!("{RIGHT}\n31 n0 200 joining n1 1 3.1 0 0 begin");
        assert!(faults(&twice)[0].contains("begun twice"));
        let found = changed("42 n0 200 leaving n1 1 3.2 0 0 begin", "");
        assert!(found[0].contains("ended without having begun"), "{found:#?}");
    }

    #[test]
    fn a_graceful_step_after_the_forced_leave_began_is_found() {
        let log = format!("{RIGHT}\n80 n0 100 joining n1 2 3.3 1 0 begin\n81 n0 100 joining n1 2 3.3 1 0 end");
        assert!(faults(&log).iter().any(|fault| fault.contains("after its forced leave began")));
    }

    #[test]
    fn a_step_that_never_ends_is_found() {
        let found = changed("72 n0 100 forced-leaving n1 2 3.4 0 0 end", "");
        assert_eq!(found, ["Some(ForcedLeaving) of n1/2 never ended on n0"]);
    }

    /// Protocol T-9: what a restart overtook is void, and the level begins again from barrier 0.
    #[test]
    fn a_restart_is_right_and_one_that_skips_barrier_0_is_not() {
        let restarted = "
            10 n0 100 joining n2 1 3.1 0 0 begin
            11 n1 100 joining n2 1 3.1 0 0 begin
            12 n0 100 joining n2 1 3.1 0 0 end
            20 n0 100 forced-leaving n1 1 3.2 0 0 begin
            21 n0 100 forced-leaving n1 1 3.2 0 0 end
            30 n0 100 joining n2 1 3.1 0 1 begin
            31 n0 100 joining n2 1 3.1 0 1 end
            40 n0 100 joining n2 1 3.1 1 1 begin
            41 n0 100 joining n2 1 3.1 1 1 end
        ";
        assert_eq!(faults(restarted), [""; 0]);
        let log: Vec<_> = restarted.lines().filter(|line| !line.contains("3.1 0 1")).collect();
        assert!(faults(&log.join("\n"))[0].contains("the barrier before it is missing"));
    }

    #[test]
    fn a_trace_that_goes_back_or_overlaps_is_found() {
        let step = |level, barrier, restart, begun_ms, ended_ms| TraceStep {
            level,
            name: String::new(),
            barrier,
            restart,
            begun_ms,
            ended_ms,
            ..TraceStep::default()
        };
        let faults = |kind, steps| {
            check_trace(&Trace {
                id: "3.1".to_owned(),
                node: "n1".to_owned(),
                incarnation: 1,
                kind,
                reason: String::new(),
                elapsed_ms: None,
                between_ms: 0,
                clock: "n0".to_owned(),
                blame: None,
                offsets: BTreeMap::new(),
                missing: BTreeMap::new(),
                steps_dropped: 0,
                steps,
            })
            .len()
        };
        let up = [step(100, 0, 0, 0, Some(1)), step(100, 1, 0, 1, Some(3)), step(200, 0, 0, 3, None)];
        assert_eq!(faults(TransitionKind::Joining, up.to_vec()), 0);
        assert_eq!(faults(TransitionKind::Leaving, up.to_vec()), 1, "a leave goes down");
        assert_eq!(faults(TransitionKind::Joining, vec![up[1].clone(), step(100, 0, 1, 4, None)]), 0, "restarted");
        assert_eq!(faults(TransitionKind::Joining, vec![up[1].clone(), step(100, 0, 0, 4, None)]), 1);
        assert_eq!(faults(TransitionKind::Joining, vec![up[1].clone(), step(200, 0, 0, 2, None)]), 1, "too early");
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        assert_eq!(
            parse("\n1 n0 100 jumping n1 1 3.1 0 0 begin").unwrap_err(),
            "line 2: `1 n0 100 jumping n1 1 3.1 0 0 begin`"
        );
    }

    #[test]
    fn the_shell_text_writes_lines_that_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("order.log");
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", &log_command(&file.display().to_string(), "true")])
            .envs([("PHALANX_NODE", "n0"), ("PHALANX_LEVEL", "100"), ("PHALANX_ACTION", "forced-leaving")])
            .envs([("PHALANX_SUBJECT", "n1"), ("PHALANX_SUBJECT_INCARNATION", "2"), ("PHALANX_TRANSITION", "3.17")])
            .envs([("PHALANX_BARRIER", "0"), ("PHALANX_RESTART", "1")])
            .status()
            .unwrap();
        assert!(status.success());
        let lines = parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(lines.iter().map(|line| line.ended).collect::<Vec<_>>(), [false, true]);
        assert!(lines[0].at_ns > 1_000_000_000_000_000_000 && lines[0].at_ns <= lines[1].at_ns);
        assert_eq!((lines[0].kind, lines[0].transition, lines[0].restart), (Kind::ForcedLeaving, (3, 17), 1));
        assert_eq!(check(&lines), [""; 0], "whoever missed the first attempt begins with the restart");
    }
}
