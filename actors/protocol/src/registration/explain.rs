//! Why a service is where it is: the candidates with the reason for each, and the factor that decided (spec, "2. Choosing
//! Parameters").

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRun, View};
use phalanx_messages::service::{NodePreferences, ServiceDefinition, TransferCost};
use phalanx_messages::service_report::{CandidateExplanation, ServiceExplanation};
use phalanx_messages::set::NodeSet;

use super::choose::{NodeLoads, best, rank, unfit};
use super::flaps::Flaps;
use super::index::{Index, Services};
use super::refusal::unfit_text;
use super::status::{Seen, awaits, state_word};

/// What the clock of the node that explains says.
#[derive(Debug, Clone, Copy)]
pub struct Waits<'a> {
    /// What is left of the service's maturity time, in milliseconds.
    pub maturity_ms: Option<u64>,
    /// Nodes that have died of late.
    pub flaps: &'a Flaps,
}

/// Explains one service; none if there is no such one.
#[must_use]
pub fn explain(
    record: &RegistrationRecord,
    service: &str,
    view: &View,
    configuration: &ConfigurationRecord,
    loads: &NodeLoads,
    waits: Waits<'_>,
) -> Option<ServiceExplanation> {
    let Waits { maturity_ms, flaps } = waits;
    let seen = Seen::of(record, service, view, configuration)?;
    let run = seen.summary();
    let placed = (!run.state.is_idle() && !seen.is_on_all()).then_some(run.node.node);
    let index = &Index::of(record);
    let choice = Choice::of(&seen.root.definition, &record.services, index, loads);
    let (factor, because) = match (placed, &seen.definition.parent) {
        (Some(_), Some(parent)) => ("parent", format!("it is placed with its parent {parent}")),
        (Some(_), None) => choice.factor(run, &seen.candidates()),
        (None, _) if seen.is_on_all() && !run.state.is_idle() => {
            ("on-all-nodes", "placement_policy is register_on_all".to_owned())
        }
        (None, _) => idle_factor(&seen, run, maturity_ms),
    };
    Some(ServiceExplanation {
        service: service.to_owned(),
        state: state_word(run).to_owned(),
        node: placed.map(|node| configuration.name_of(node)),
        wanted: run.want,
        held: run.held,
        factor: factor.to_owned(),
        because,
        candidates: nodes(&seen, &choice, run, flaps),
        would_change: would_change(&seen, &choice, run),
    })
}

/// How a node is chosen for a group.
pub(super) struct Choice<'a> {
    /// Of the root.
    pub definition: &'a ServiceDefinition,
    index: &'a Index,
    loads: &'a NodeLoads,
    /// Of the whole group.
    weight: u64,
}

impl<'a> Choice<'a> {
    /// Of the group whose root has that definition.
    pub fn of(definition: &'a ServiceDefinition, services: &Services, index: &'a Index, loads: &'a NodeLoads) -> Self {
        let weight = index.weight_of_group(services, &definition.name);
        Self { definition, index, loads, weight }
    }

    fn key(&self, node: NodeId) -> (usize, (u8, u64), NodeId) {
        (rank(self.definition, node), self.loads.score(self.index, node), node)
    }

    fn best(&self, among: &NodeSet) -> Option<NodeId> {
        best(self.definition, among, |node| self.loads.score(self.index, node))
    }

    /// The factor that put the service on its node, and the same in words.
    pub fn factor(&self, run: &ServiceRun, candidates: &NodeSet) -> (&'static str, String) {
        let here = run.node.node;
        let failed = run.tried.union(&run.exhausted);
        let others = candidates.difference(&[here].into_iter().collect()).difference(&failed);
        if run.target == Some(here) {
            let text =
                if run.transfer_intent { "it is being transferred to this node" } else { "it is restarted in place" };
            return ("transfer-target", text.to_owned());
        }
        let Some(next) = self.best(&others) else {
            return ("only-candidate", "no other node can take it".to_owned());
        };
        let (mine, its) = (rank(self.definition, here), rank(self.definition, next));
        let as_if_absent = (mine, self.loads.score_without(self.index, here, self.weight), here);
        if !candidates.contains(here) || self.key(next) < as_if_absent {
            let text =
                "another node would be chosen today; a running service stays where it is until it is transferred";
            return ("stays", text.to_owned());
        }
        if mine == its {
            let pressed = |node: NodeId| self.loads.pressure.get(&node).copied().unwrap_or(0);
            return if pressed(here) != pressed(next) {
                ("performance", "of equally preferred nodes the least pressed is taken when it starts".to_owned())
            } else {
                (
                    "load",
                    "of equally preferred nodes the one that carries least is taken, then the lowest id".to_owned(),
                )
            };
        }
        match &self.definition.node_preferences {
            NodePreferences::Unordered(_) => ("unordered-preference", "node_preferences.unordered names it".to_owned()),
            NodePreferences::Ordered(_) | NodePreferences::None => {
                ("ordered-preference", "it is the first of node_preferences.ordered that can take it".to_owned())
            }
        }
    }
}

fn idle_factor(seen: &Seen<'_>, run: &ServiceRun, maturity_ms: Option<u64>) -> (&'static str, String) {
    let because = seen.reason(run, maturity_ms);
    let factor = match run.state {
        RunState::Failed | RunState::FailedRecovery => "failed",
        RunState::DeRegistered if !run.want => "not-wanted",
        RunState::DeRegistered | RunState::AwaitMaturity | RunState::AwaitParent | RunState::PendRecovery
            if run.held =>
        {
            "held"
        }
        RunState::DeRegistered | RunState::PendRecovery if seen.candidates().is_empty() => "no-candidate",
        RunState::AwaitMaturity => "maturity",
        RunState::AwaitParent => "parent",
        RunState::PendRecovery => "recovery",
        RunState::DeRegistered if run.resting => "restart",
        RunState::DeRegistered if because.as_ref().is_some_and(|text| text.contains("room")) => "capacity",
        RunState::DeRegistered
        | RunState::Starting
        | RunState::StartCleanup
        | RunState::Registered
        | RunState::Stopping
        | RunState::StopKill
        | RunState::Recovering
        | RunState::RecoveryCleanup
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery => "none",
    };
    (factor, because.unwrap_or_else(|| format!("it waits for {}", awaits(run.state))))
}

fn nodes(seen: &Seen<'_>, choice: &Choice<'_>, run: &ServiceRun, flaps: &Flaps) -> Vec<CandidateExplanation> {
    let mut order: Vec<NodeId> = seen.candidates().iter().collect();
    order.sort_by_key(|node| choice.key(*node));
    let definition = choice.definition;
    let is_here = |node: NodeId| seen.service.runs().any(|(_, run)| !run.state.is_idle() && run.node.node == node);
    let explained = |node: &NodeId| {
        let failed = [&run.tried, &run.tried_recovery, &run.exhausted].iter().any(|nodes| nodes.contains(*node));
        let (verdict, reason) = if is_here(*node) {
            ("here", "the service is here")
        } else if let Some(why) = unfit(definition, seen.view, &seen.standby, *node) {
            (unfit_word(why), unfit_text(why))
        } else if failed {
            ("failed-here", "it has failed here in this attempt")
        } else {
            ("candidate", "it can take the service")
        };
        let place = order.iter().position(|other| other == node).and_then(|place| u16::try_from(place + 1).ok());
        let more = [preference(definition, *node), deaths_text(definition, *node, flaps)].into_iter().flatten();
        let reason = more.fold(reason.to_owned(), |reason, text| format!("{reason}; {text}"));
        let node = seen.configuration.name_of(*node);
        CandidateExplanation { node, verdict: verdict.to_owned(), place, reason }
    };
    seen.configuration.nodes.keys().map(explained).collect()
}

fn preference(definition: &ServiceDefinition, node: NodeId) -> Option<String> {
    match &definition.node_preferences {
        NodePreferences::None => None,
        NodePreferences::Ordered(nodes) => {
            let place = nodes.iter().position(|other| *other == node)?;
            Some(format!("number {} of node_preferences.ordered", place + 1))
        }
        NodePreferences::Unordered(nodes) => nodes.contains(&node).then(|| "in node_preferences.unordered".to_owned()),
    }
}

/// What the deaths of a node mean for the service; none = it has not died of late.
fn deaths_text(definition: &ServiceDefinition, node: NodeId, flaps: &Flaps) -> Option<String> {
    let deaths = flaps.deaths().get(&node).copied()?;
    let times = if deaths == 1 { "once".to_owned() } else { format!("{deaths} times") };
    let text = format!("it has died {times} within an hour");
    Some(match definition.transfer_cost {
        TransferCost::Normal => text,
        TransferCost::Free => {
            let stable_ms = flaps.stable_ms(node, definition.stable_ms);
            format!("{text}, so nothing moves to it freely before it has been up for {} s", stable_ms.div_ceil(1_000))
        }
    })
}

const fn unfit_word(why: phalanx_messages::order::Unfit) -> &'static str {
    match why {
        phalanx_messages::order::Unfit::NotAllowable => "not-allowable",
        phalanx_messages::order::Unfit::Disallowed => "disallowed",
        phalanx_messages::order::Unfit::Down => "down",
        phalanx_messages::order::Unfit::Leaving => "leaving",
        phalanx_messages::order::Unfit::Standby => "standby",
    }
}

fn would_change(seen: &Seen<'_>, choice: &Choice<'_>, run: &ServiceRun) -> Vec<String> {
    let service = &seen.definition.name;
    if run.held {
        return vec![format!("`phalanx service clear {service}` ends the hold")];
    }
    if !run.want {
        return vec![format!("`phalanx service register {service}` has it run")];
    }
    match run.state {
        RunState::Failed | RunState::FailedRecovery => vec![
            format!("`phalanx service clear {service}` has it tried again"),
            format!("`phalanx service apply FILE` with a changed definition of {service}"),
        ],
        RunState::Registered => would_move(seen, choice, run),
        RunState::AwaitMaturity => vec!["more allowable nodes, its preferred nodes, or its maturity_time".to_owned()],
        RunState::DeRegistered | RunState::PendRecovery => vec!["an allowable node that joins".to_owned()],
        RunState::AwaitParent => vec!["the start of its parent".to_owned()],
        RunState::Starting
        | RunState::StartCleanup
        | RunState::Stopping
        | RunState::StopKill
        | RunState::Recovering
        | RunState::RecoveryCleanup
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery => vec!["the end of what is being done".to_owned()],
    }
}

fn would_move(seen: &Seen<'_>, choice: &Choice<'_>, run: &ServiceRun) -> Vec<String> {
    let service = &seen.root.definition.name;
    if seen.is_on_all() {
        return vec!["an allowable node that joins or goes".to_owned()];
    }
    let name = |node| seen.configuration.name_of(node);
    let here = run.node.node;
    let others = seen.candidates().difference(&[here].into_iter().collect());
    let Some(next) = choice.best(&others).map(name) else {
        return vec!["another allowable node that joins could take it if its node goes".to_owned()];
    };
    let mut would = vec![
        format!("if {} leaves, is put on standby or is lost, it goes to {next}", name(here)),
        format!("`phalanx service transfer {service} --to {next}` moves it"),
    ];
    if choice.definition.transfer_cost == TransferCost::Free {
        would.push("transfer_cost is free: a more preferred node that is up and stable takes it".to_owned());
    }
    would
}
