//! The search for a proof of one death: the local fence, the storage fence and the agents that switch hosts off, beside each other.

use std::collections::BTreeMap;

use phalanx_messages::configuration::FenceAgent;
use phalanx_messages::membership::{Certainty, FenceMethod};
use phalanx_messages::register::FenceHandle;
use phalanx_protocol::manager::FenceTarget;

/// A line of methods that is tried again and again until one of them proves what it can prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Line {
    /// F3.
    Local,
    /// F1: levels whose agents only shut the node out of the storage.
    Storage,
    /// F2: levels with an agent that switches the host off.
    Agents,
}

impl Line {
    const ALL: [Self; 3] = [Self::Local, Self::Storage, Self::Agents];

    /// What the success of the line is, for the record.
    pub(super) const fn method(self) -> FenceMethod {
        match self {
            Self::Local => FenceMethod::Local,
            Self::Storage => FenceMethod::Storage,
            Self::Agents => FenceMethod::Agent,
        }
    }
}

#[derive(Debug, Default)]
enum Attempt {
    #[default]
    Idle,
    Running(String),
    /// Failed; the next attempt is due later.
    Pausing,
    /// It has proved what it can prove.
    Done,
}

/// What to try now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    Local(FenceHandle),
    Agent(FenceAgent),
}

/// What follows from a success.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Success {
    /// Another agent of the same level must succeed too.
    GoesOn,
    /// The line has proved what it can.
    Proved,
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The next level is tried at once; else all of the line have failed, and are tried again after a pause.
    pub goes_on: bool,
    /// The method has not failed with the same words before.
    pub is_news: bool,
}

/// One way through the agents of a line. What was configured when it began counts until it ends.
#[derive(Debug, Default)]
struct Pass {
    agents: Vec<FenceAgent>,
    next: usize,
}

/// One victim.
#[derive(Debug, Default)]
pub(super) struct Search {
    target: FenceTarget,
    attempts: BTreeMap<Line, Attempt>,
    passes: BTreeMap<Line, Pass>,
    /// What every method that has failed said last, and how often it has failed.
    failures: BTreeMap<String, (u32, String)>,
}

impl Search {
    /// What is known of the victim now. Returns the lines that have something to try and do not run.
    pub(super) fn learn(&mut self, target: FenceTarget) -> Vec<Line> {
        self.target = target;
        Line::ALL.into_iter().filter(|line| self.is_idle(*line)).collect()
    }

    fn is_idle(&self, line: Line) -> bool {
        matches!(self.attempts.get(&line), None | Some(Attempt::Idle))
    }

    /// The method that is next in a line, which runs from now on; none if the line has none, runs already or is done.
    pub(super) fn begin(&mut self, line: Line) -> Option<Method> {
        if matches!(self.attempts.get(&line), Some(Attempt::Running(_) | Attempt::Done)) {
            return None;
        }
        let method = match line {
            Line::Local => self.target.local.clone().map(Method::Local),
            Line::Storage | Line::Agents => self.next_agent(line).map(Method::Agent),
        };
        let attempt = method.as_ref().map_or(Attempt::Idle, |method| Attempt::Running(method.name()));
        self.attempts.insert(line, attempt);
        method
    }

    fn next_agent(&mut self, line: Line) -> Option<FenceAgent> {
        let pass = self.passes.entry(line).or_default();
        if pass.next == 0 {
            pass.agents = agents_of(&self.target, line);
        }
        pass.agents.get(pass.next).cloned()
    }

    /// The method that runs in a line has succeeded.
    pub(super) fn succeeded(&mut self, line: Line) -> Success {
        let level_goes_on = self.passes.get_mut(&line).is_some_and(Pass::goes_on_in_its_level);
        let (attempt, success) = match (level_goes_on, line) {
            (true, Line::Storage | Line::Agents) => (Attempt::Idle, Success::GoesOn),
            (_, _) => (Attempt::Done, Success::Proved),
        };
        self.attempts.insert(line, attempt);
        success
    }

    /// The method that runs in a line has failed.
    pub(super) fn failed(&mut self, line: Line, text: String) -> Failure {
        let mut is_news = false;
        if let Some(Attempt::Running(name)) = self.attempts.insert(line, Attempt::Pausing) {
            let (times, last) = self.failures.entry(name).or_default();
            is_news = *last != text;
            (*times, *last) = (times.saturating_add(1), text);
        }
        let goes_on = self.passes.get_mut(&line).is_some_and(Pass::goes_on_in_the_next_level);
        Failure { goes_on, is_news }
    }

    /// Name of the node.
    pub(super) fn node(&self) -> &str {
        &self.target.name
    }

    /// A write of the victim may take effect until so long after its host was switched off, in milliseconds.
    pub(super) const fn late_ms(&self) -> u64 {
        self.target.late_ms
    }

    /// What is waited for, for the administrator.
    pub(super) fn text(&self) -> String {
        if self.target.local.is_none() && self.target.agents.is_empty() && self.target.deadline_ms.is_none() {
            return "it is on another host and has no fence agent under [fencing] that may be used now; confirm by hand that it is dead"
                .to_owned();
        }
        let deadline =
            self.target.deadline_ms.map(|left_ms| format!("its watchdog has certainly fired in {left_ms} ms"));
        let running = self.attempts.values().filter_map(|attempt| match attempt {
            Attempt::Running(name) => Some(format!("{name} running")),
            Attempt::Idle | Attempt::Pausing | Attempt::Done => None,
        });
        let failed = self.failures.iter().map(|(name, (times, text))| match times {
            1 => format!("{name} failed: {text}"),
            _ => format!("{name} failed {times} times, last: {text}"),
        });
        deadline.into_iter().chain(running).chain(failed).collect::<Vec<_>>().join("; ")
    }
}

impl Method {
    /// As the administrator knows it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Local(_) => "local fence".to_owned(),
            Self::Agent(agent) => agent.agent.clone(),
        }
    }
}

impl Pass {
    fn level_at(&self, place: usize) -> Option<u8> {
        self.agents.get(place).map(|agent| agent.level)
    }

    /// The next agent is of the same level, and is the next one to run.
    fn goes_on_in_its_level(&mut self) -> bool {
        let goes_on = self.level_at(self.next).is_some() && self.level_at(self.next) == self.level_at(self.next + 1);
        self.next = if goes_on { self.next + 1 } else { 0 };
        goes_on
    }

    /// There is a level after the one that has failed. If not, the next pass begins anew.
    fn goes_on_in_the_next_level(&mut self) -> bool {
        let failed = self.level_at(self.next);
        let later = (self.next..self.agents.len()).find(|place| self.level_at(*place) != failed);
        self.next = later.unwrap_or(0);
        later.is_some()
    }
}

/// The agents of a line in the order in which they run. All agents of a level belong to one line.
fn agents_of(target: &FenceTarget, line: Line) -> Vec<FenceAgent> {
    let kills = |level: u8| target.agents.iter().any(|it| it.level == level && it.proves == Certainty::Death);
    let mut agents: Vec<FenceAgent> =
        target.agents.iter().filter(|agent| kills(agent.level) == (line == Line::Agents)).cloned().collect();
    agents.sort_by_key(|agent| agent.level); // stable: as they are written
    agents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(agents: &[&str]) -> FenceTarget {
        let agent = |(level, name): (u8, &&str)| FenceAgent { level, ..FenceAgent::new(*name) };
        FenceTarget { name: "n1".to_owned(), agents: (0..).zip(agents).map(agent).collect(), ..FenceTarget::default() }
    }

    fn begun(search: &mut Search) -> Option<String> {
        search.begin(Line::Agents).map(|method| method.name())
    }

    #[test]
    fn agents_are_tried_in_their_order_and_then_again_from_the_first() {
        let mut search = Search::default();
        assert_eq!(search.learn(target(&["first", "second"])), Line::ALL);
        assert_eq!(search.begin(Line::Local), None, "it is on another host");
        assert_eq!(begun(&mut search).as_deref(), Some("first"));
        assert_eq!(begun(&mut search), None, "one at a time");
        assert_eq!(search.failed(Line::Agents, "no route".to_owned()), Failure { goes_on: true, is_news: true });
        assert_eq!(begun(&mut search).as_deref(), Some("second"));
        assert_eq!(search.failed(Line::Agents, "timed out".to_owned()), Failure { goes_on: false, is_news: true });
        assert_eq!(begun(&mut search).as_deref(), Some("first"));
        assert_eq!(search.text(), "first running; first failed: no route; second failed: timed out");
        assert!(!search.failed(Line::Agents, "no route".to_owned()).is_news);
        assert!(search.text().contains("first failed 2 times, last: no route"), "{}", search.text());
    }

    #[test]
    fn agents_that_may_be_used_later_are_tried_then() {
        let mut search = Search::default();
        search.learn(target(&[]));
        assert_eq!(begun(&mut search), None);
        assert!(search.text().contains("[fencing]"));
        assert!(search.learn(target(&["late"])).contains(&Line::Agents));
        assert_eq!(begun(&mut search).as_deref(), Some("late"));
        assert!(!search.learn(target(&["late"])).contains(&Line::Agents), "it runs");
    }

    #[test]
    fn both_lines_run_beside_each_other() {
        let mut search = Search::default();
        search.learn(FenceTarget { local: Some(FenceHandle::default()), ..target(&["agent"]) });
        assert_eq!(search.begin(Line::Local), Some(Method::Local(FenceHandle::default())));
        assert_eq!(begun(&mut search).as_deref(), Some("agent"));
        assert!(!search.failed(Line::Local, "scattered".to_owned()).goes_on);
        assert_eq!(search.text(), "agent running; local fence failed: scattered");
    }

    /// Two power supplies, then the fabric: a level proves something only if every agent of it has succeeded.
    #[test]
    fn all_agents_of_a_level_must_succeed_and_a_failure_goes_to_the_next_level() {
        let agent = |level, name: &str| FenceAgent { level, ..FenceAgent::new(name) };
        let agents = vec![agent(1, "psu_a"), agent(1, "psu_b"), agent(2, "blade")];
        let mut search = Search::default();
        search.learn(FenceTarget { agents, ..FenceTarget::default() });
        assert_eq!(begun(&mut search).as_deref(), Some("psu_a"));
        assert_eq!(search.succeeded(Line::Agents), Success::GoesOn, "half of the host may still have power");
        assert_eq!(begun(&mut search).as_deref(), Some("psu_b"));
        assert!(search.failed(Line::Agents, "timed out".to_owned()).goes_on);
        assert_eq!(begun(&mut search).as_deref(), Some("blade"));
        assert!(!search.failed(Line::Agents, "timed out".to_owned()).goes_on);
        assert_eq!(begun(&mut search).as_deref(), Some("psu_a"), "both again");
        assert!(search.failed(Line::Agents, "timed out".to_owned()).goes_on);
        assert_eq!(begun(&mut search).as_deref(), Some("blade"), "psu_b alone would prove nothing");
        assert_eq!(search.succeeded(Line::Agents), Success::Proved);
        assert_eq!(begun(&mut search), None);
    }

    /// Protocol §4.5: F1 gives certainty of I/O at once, and the search for the death goes on.
    #[test]
    fn a_storage_fence_is_a_line_of_its_own() {
        let storage = FenceAgent { level: 1, proves: Certainty::Io, ..FenceAgent::new("fence_scsi") };
        let power = FenceAgent { level: 2, ..FenceAgent::new("fence_ipmilan") };
        let both = FenceAgent { level: 2, proves: Certainty::Io, ..FenceAgent::new("fence_mpath") };
        let mut search = Search::default();
        search.learn(FenceTarget { agents: vec![storage, power, both], ..FenceTarget::default() });
        assert_eq!(search.begin(Line::Storage).map(|method| method.name()).as_deref(), Some("fence_scsi"));
        assert_eq!(begun(&mut search).as_deref(), Some("fence_ipmilan"), "beside it");
        assert_eq!(
            (search.succeeded(Line::Storage), Line::Storage.method().proves()),
            (Success::Proved, Certainty::Io)
        );
        assert_eq!(search.begin(Line::Storage), None, "once is enough");
        assert_eq!(search.succeeded(Line::Agents), Success::GoesOn);
        assert_eq!(begun(&mut search).as_deref(), Some("fence_mpath"), "a level proves what its best agent does");
        assert_eq!(
            (search.succeeded(Line::Agents), Line::Agents.method().proves()),
            (Success::Proved, Certainty::Death)
        );
    }

    /// What was changed meanwhile counts from the next pass on: half of an old level and half of a new one prove nothing.
    #[test]
    fn a_pass_ends_with_the_agents_it_began_with() {
        let agent = |name: &str| FenceAgent { level: 1, ..FenceAgent::new(name) };
        let mut search = Search::default();
        search.learn(FenceTarget { agents: vec![agent("psu_a"), agent("psu_b")], ..FenceTarget::default() });
        assert_eq!(begun(&mut search).as_deref(), Some("psu_a"));
        search.learn(FenceTarget { agents: vec![agent("blade")], ..FenceTarget::default() });
        assert_eq!(search.succeeded(Line::Agents), Success::GoesOn);
        assert_eq!(begun(&mut search).as_deref(), Some("psu_b"));
        assert!(!search.failed(Line::Agents, "timed out".to_owned()).goes_on);
        assert_eq!(begun(&mut search).as_deref(), Some("blade"));
    }
}
