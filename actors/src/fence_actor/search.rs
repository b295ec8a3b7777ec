//! The search for a proof of one death: the local fence, and the fence agents one after the other, beside each other.

use std::collections::BTreeMap;

use phalanx_messages::configuration::FenceAgent;
use phalanx_messages::register::FenceHandle;
use phalanx_protocol::manager::FenceTarget;

/// A line of methods that is tried again and again until one of them proves the death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Line {
    /// F3.
    Local,
    /// F2, in the order in which they are configured.
    Agents,
}

#[derive(Debug, Default)]
enum Attempt {
    #[default]
    Idle,
    Running(String),
    /// Failed; the next attempt is due later.
    Pausing,
}

/// What to try now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method {
    Local(FenceHandle),
    Agent(FenceAgent),
}

/// What follows from a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The next agent is tried at once; else all of the line have failed, and are tried again after a pause.
    pub goes_on: bool,
    /// The method has not failed with the same words before.
    pub is_news: bool,
}

/// One victim.
#[derive(Debug, Default)]
pub(super) struct Search {
    target: FenceTarget,
    attempts: BTreeMap<Line, Attempt>,
    /// The agent that is tried next.
    agent: usize,
    /// What every method that has failed said last, and how often it has failed.
    failures: BTreeMap<String, (u32, String)>,
}

impl Search {
    /// What is known of the victim now. Returns the lines that have something to try and do not run.
    pub(super) fn learn(&mut self, target: FenceTarget) -> Vec<Line> {
        self.target = target;
        [Line::Local, Line::Agents].into_iter().filter(|line| self.is_idle(*line)).collect()
    }

    fn is_idle(&self, line: Line) -> bool {
        matches!(self.attempts.get(&line), None | Some(Attempt::Idle))
    }

    /// The method that is next in a line, which runs from now on; none if the line has none or runs already.
    pub(super) fn begin(&mut self, line: Line) -> Option<Method> {
        if matches!(self.attempts.get(&line), Some(Attempt::Running(_))) {
            return None;
        }
        let method = match line {
            Line::Local => self.target.local.clone().map(Method::Local),
            Line::Agents => {
                self.agent = if self.agent < self.target.agents.len() { self.agent } else { 0 };
                self.target.agents.get(self.agent).cloned().map(Method::Agent)
            }
        };
        let attempt = method.as_ref().map_or(Attempt::Idle, |method| Attempt::Running(method.name()));
        self.attempts.insert(line, attempt);
        method
    }

    /// The method that runs in a line has failed.
    pub(super) fn failed(&mut self, line: Line, text: String) -> Failure {
        let mut is_news = false;
        if let Some(Attempt::Running(name)) = self.attempts.insert(line, Attempt::Pausing) {
            let (times, last) = self.failures.entry(name).or_default();
            is_news = *last != text;
            (*times, *last) = (times.saturating_add(1), text);
        }
        if line == Line::Agents {
            self.agent += 1;
        }
        Failure { goes_on: line == Line::Agents && self.agent < self.target.agents.len(), is_news }
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
        if self.target.local.is_none() && self.target.agents.is_empty() {
            return "it is on another host and has no fence agent under [fencing] that may be used now; confirm by hand that it is dead"
                .to_owned();
        }
        let running = self.attempts.values().filter_map(|attempt| match attempt {
            Attempt::Running(name) => Some(format!("{name} running")),
            Attempt::Idle | Attempt::Pausing => None,
        });
        let failed = self.failures.iter().map(|(name, (times, text))| match times {
            1 => format!("{name} failed: {text}"),
            _ => format!("{name} failed {times} times, last: {text}"),
        });
        running.chain(failed).collect::<Vec<_>>().join("; ")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(agents: &[&str]) -> FenceTarget {
        let agent = |name: &&str| FenceAgent { agent: (*name).to_owned(), parameters: BTreeMap::new() };
        FenceTarget { name: "n1".to_owned(), agents: agents.iter().map(agent).collect(), ..FenceTarget::default() }
    }

    fn begun(search: &mut Search) -> Option<String> {
        search.begin(Line::Agents).map(|method| method.name())
    }

    #[test]
    fn agents_are_tried_in_their_order_and_then_again_from_the_first() {
        let mut search = Search::default();
        assert_eq!(search.learn(target(&["first", "second"])), [Line::Local, Line::Agents]);
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
}
