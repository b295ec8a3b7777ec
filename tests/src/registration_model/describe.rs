//! A step and the state after it, on one line.

use std::fmt::Write;

use phalanx_messages::order::RegistrationOrder;

use super::Action;
use super::decisions::{Books, Happened};
use super::state::State;

impl Books<'_> {
    pub fn describe(&self, action: &Action, after: &State) -> String {
        let facts = self.facts(after.database);
        let mut line = format!("  {:<44} |", self.action(action));
        for (lane, run) in self.lanes.iter().zip(&facts.runs) {
            let at = if run.state.is_idle() { String::new() } else { format!("@{}", run.node) };
            let flags: String = [(run.transfer_intent, "+T"), (run.moving, "+moving"), (run.held, "+H")]
                .into_iter()
                .filter_map(|(set, flag)| set.then_some(flag))
                .collect();
            // Writing to a string cannot fail.
            let _ = write!(line, " {} {:?}{at}{flags}", lane.instance.lane(), run.state);
            let runs = (0..self.model.nodes).filter(|node| after.slots[usize::from(*node)][self.place(lane)].may_run());
            let runs: Vec<String> = runs.map(|node| node.to_string()).collect();
            if !runs.is_empty() {
                let _ = write!(line, " (runs on {})", runs.join(", "));
            }
        }
        line
    }

    fn place(&self, lane: &super::initial::Lane) -> usize {
        self.lane_of(&lane.instance).unwrap_or(0)
    }

    fn action(&self, action: &Action) -> String {
        let name = |lane: u8| self.lanes[usize::from(lane)].instance.lane();
        match action {
            Action::Boots(node) => format!("{node} boots"),
            Action::Leaves(node) => format!("{node} begins to leave"),
            Action::HasLeft(node) => format!("{node} has left"),
            Action::Marked(node) => format!("{node} is marked"),
            Action::Forced(node) => format!("{node} is marked for a service"),
            Action::Dead(node) => format!("{node} is certainly dead"),
            Action::Sees(node) => format!("{node} sees what is true"),
            Action::Arrives { node, lane, kind, late } => {
                let late = if *late { ", late" } else { "" };
                format!("{kind:?} of {} arrives at {node}{late}", name(*lane))
            }
            Action::Ends { node, lane, kind, ok } => {
                format!("{kind:?} of {} on {node} {}", name(*lane), if *ok { "ends" } else { "fails" })
            }
            Action::Restarts(node) => format!("executors of {node} forget"),
            Action::Decides { node, event, late } => {
                let older = if *late { " with an older view" } else { "" };
                format!("{node} decides{older}: {}", self.event_text(*event))
            }
        }
    }

    fn event_text(&self, event: Happened) -> String {
        let name = |lane: u8| self.lanes[usize::from(lane)].instance.lane();
        match event {
            Happened::Nothing => "view".to_owned(),
            Happened::Result { lane, ok, current, .. } => {
                let which = if current { "" } else { "older " };
                format!("{which}result of {}, {}", name(lane), if ok { "good" } else { "bad" })
            }
            Happened::Results { lanes, .. } => format!("{} results", lanes.count_ones()),
            Happened::TimedOut(lane) => format!("{} timed out", name(lane)),
            Happened::Notified(lane, node) => format!("{} notified on {node}", name(lane)),
            Happened::Matured(lane) => format!("{} matured", name(lane)),
            Happened::BackoffOver(lane) => format!("backoff of {} over", name(lane)),
            Happened::CleanAgain(lane) => format!("{} cleaned again", name(lane)),
            Happened::RestOver(lane) => format!("{} has rested", name(lane)),
            Happened::FailureAged(lane, _) => format!("a failure of {} is forgotten", name(lane)),
            Happened::FailuresForgotten(lane) => format!("failures of {} are forgotten", name(lane)),
            Happened::Stable(lane, node) => format!("{} stable for {}", node.node, name(lane)),
            Happened::Order(order) => match &self.model.orders[usize::from(order)] {
                RegistrationOrder::Service { service, order } => format!("{service} {order:?}"),
                order @ (RegistrationOrder::Apply(_)
                | RegistrationOrder::EnableGroup { .. }
                | RegistrationOrder::Standby { .. }) => format!("{order:?}"),
            },
            Happened::Failed(lane) => format!("{} has failed", name(lane)),
        }
    }
}
