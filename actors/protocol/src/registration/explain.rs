//! Why a service is where it is: the candidates with the reason for each, and the factor that decided (spec, "2. Choosing
//! Parameters").

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun, View};
use phalanx_messages::service::{NodePreferences, ServiceDefinition};
use phalanx_messages::service_report::{CandidateExplanation, ServiceExplanation};
use phalanx_messages::set::NodeSet;

use super::choose::{best, candidates, rank, unfit};
use super::refusal::unfit_text;
use super::status::{service_status, state_word};

/// Explains one service; none if there is no such one. `maturity_ms` = what is left of its maturity time.
#[must_use]
pub fn explain(
    record: &RegistrationRecord,
    service: &str,
    view: &View,
    configuration: &ConfigurationRecord,
    maturity_ms: Option<u64>,
) -> Option<ServiceExplanation> {
    let ServiceRecord { definition, run, .. } = record.services.get(service)?;
    let standby = &record.standby;
    let placed = (!run.state.is_idle()).then_some(run.node.node);
    let (factor, because) = match placed {
        Some(_) => factor_of(definition, run, view, standby),
        None => idle_factor(&record.services[service], view, standby, configuration, maturity_ms),
    };
    Some(ServiceExplanation {
        service: service.to_owned(),
        state: state_word(run).to_owned(),
        node: placed.map(|node| configuration.name_of(node)),
        wanted: run.want,
        held: run.held,
        factor: factor.to_owned(),
        because,
        candidates: nodes(definition, run, view, standby, configuration),
        would_change: would_change(definition, run, view, standby, configuration),
    })
}

/// The factor that put the service on its node, and the same in words.
pub(super) fn factor_of(
    definition: &ServiceDefinition,
    run: &ServiceRun,
    view: &View,
    standby: &NodeSet,
) -> (&'static str, String) {
    let here = run.node.node;
    let all = candidates(definition, view, standby);
    let others = all.difference(&[here].into_iter().collect()).difference(&run.tried);
    if run.target == Some(here) {
        return ("transfer-target", "an administrator has asked for this node".to_owned());
    }
    let Some(next) = best(definition, &others) else {
        return ("only-candidate", "no other node can take it".to_owned());
    };
    if !all.contains(here) || (rank(definition, next), next) < (rank(definition, here), here) {
        let text = "another node would be chosen today; a running service stays where it is until it is transferred";
        return ("stays", text.to_owned());
    }
    if rank(definition, here) == rank(definition, next) {
        return ("node-id", "nothing prefers another candidate; the lowest id is taken".to_owned());
    }
    match &definition.node_preferences {
        NodePreferences::Unordered(_) => ("unordered-preference", "node_preferences.unordered names it".to_owned()),
        NodePreferences::Ordered(_) | NodePreferences::None => {
            ("ordered-preference", "it is the first of node_preferences.ordered that can take it".to_owned())
        }
    }
}

fn idle_factor(
    service: &ServiceRecord,
    view: &View,
    standby: &NodeSet,
    configuration: &ConfigurationRecord,
    maturity_ms: Option<u64>,
) -> (&'static str, String) {
    let run = &service.run;
    let factor = match run.state {
        RunState::Failed | RunState::FailedRecovery => "failed",
        RunState::DeRegistered if !run.want => "not-wanted",
        RunState::DeRegistered | RunState::AwaitMaturity | RunState::PendRecovery if run.held => "held",
        RunState::DeRegistered | RunState::PendRecovery
            if candidates(&service.definition, view, standby).is_empty() =>
        {
            "no-candidate"
        }
        RunState::AwaitMaturity => "maturity",
        RunState::PendRecovery => "recovery",
        RunState::DeRegistered
        | RunState::AwaitParent
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
    let because = service_status(service, view, standby, configuration, maturity_ms).reason;
    (factor, because.unwrap_or_else(|| "the next decision is about it".to_owned()))
}

fn nodes(
    definition: &ServiceDefinition,
    run: &ServiceRun,
    view: &View,
    standby: &NodeSet,
    configuration: &ConfigurationRecord,
) -> Vec<CandidateExplanation> {
    let mut order: Vec<NodeId> = candidates(definition, view, standby).iter().collect();
    order.sort_by_key(|node| (rank(definition, *node), *node));
    let explained = |node: &NodeId| {
        let here = !run.state.is_idle() && run.node.node == *node;
        let (verdict, reason) = if here {
            ("here", "the service is here")
        } else if let Some(why) = unfit(definition, view, standby, *node) {
            (unfit_word(why), unfit_text(why))
        } else if run.tried.contains(*node) || run.tried_recovery.contains(*node) {
            ("failed-here", "it has failed here in this attempt")
        } else {
            ("candidate", "it can take the service")
        };
        let place = order.iter().position(|other| other == node).and_then(|place| u16::try_from(place + 1).ok());
        let reason =
            preference(definition, *node).map_or_else(|| reason.to_owned(), |text| format!("{reason}; {text}"));
        CandidateExplanation { node: configuration.name_of(*node), verdict: verdict.to_owned(), place, reason }
    };
    configuration.nodes.keys().map(explained).collect()
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

const fn unfit_word(why: phalanx_messages::order::Unfit) -> &'static str {
    match why {
        phalanx_messages::order::Unfit::NotAllowable => "not-allowable",
        phalanx_messages::order::Unfit::Disallowed => "disallowed",
        phalanx_messages::order::Unfit::Down => "down",
        phalanx_messages::order::Unfit::Leaving => "leaving",
        phalanx_messages::order::Unfit::Standby => "standby",
    }
}

fn would_change(
    definition: &ServiceDefinition,
    run: &ServiceRun,
    view: &View,
    standby: &NodeSet,
    configuration: &ConfigurationRecord,
) -> Vec<String> {
    let service = &definition.name;
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
        RunState::Registered => {
            let others = candidates(definition, view, standby).difference(&[run.node.node].into_iter().collect());
            let Some(next) = best(definition, &others).map(|node| configuration.name_of(node)) else {
                return vec!["another allowable node that joins could take it if its node goes".to_owned()];
            };
            vec![
                format!(
                    "if {} leaves, is put on standby or is lost, it goes to {next}",
                    configuration.name_of(run.node.node)
                ),
                format!("`phalanx service transfer {service} --to {next}` moves it"),
            ]
        }
        RunState::AwaitMaturity => vec!["more allowable nodes, its preferred nodes, or its maturity_time".to_owned()],
        RunState::DeRegistered | RunState::PendRecovery => vec!["an allowable node that joins".to_owned()],
        RunState::AwaitParent
        | RunState::Starting
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
