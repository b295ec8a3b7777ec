//! One line for people about each state that a service reaches.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::{Instance, RunState};

use super::decision::Change;
use super::plan::stop_text;

/// `web`, or `web (n1)` if it is registered on all nodes.
fn name_of(instance: &Instance, configuration: &ConfigurationRecord) -> String {
    let Instance { service, of } = instance;
    of.map_or_else(|| service.clone(), |node| format!("{service} ({})", configuration.name_of(node)))
}

/// What happened, without the time: `service licence: starting on n1 (generation 3.12)`.
#[must_use]
pub fn tell(change: &Change, configuration: &ConfigurationRecord) -> String {
    let run = &change.run;
    let name = |who: NodeIncarnation| configuration.name_of(who.node);
    let node = name(run.node);
    let failure = run.failure.as_deref().unwrap_or("no reason is known");
    let victim = || run.victim.map_or_else(|| "a lost node".to_owned(), name);
    let text = match run.state {
        RunState::DeRegistered => "not running".to_owned(),
        RunState::AwaitMaturity => "waits for more nodes before its first start".to_owned(),
        RunState::AwaitParent => "waits for its parent".to_owned(),
        RunState::Starting => format!("starting on {node} (generation {})", run.generation.revision),
        RunState::StartCleanup => format!("start on {node} failed, cleaning up: {failure}"),
        RunState::Registered => format!("registered on {node} (generation {})", run.generation.revision),
        RunState::Stopping => {
            let why = change.reason.map_or_else(String::new, |reason| format!(": {}", stop_text(reason)));
            format!("stopping on {node}{why}")
        }
        RunState::StopKill => format!("killing what is left on {node}"),
        RunState::PendRecovery => format!("lost with {}, recovery pending", victim()),
        RunState::Recovering => format!("recovering on {node} what {} left", victim()),
        RunState::RecoveryCleanup => format!("recovery on {node} failed, cleaning up: {failure}"),
        RunState::FenceStart | RunState::FenceStop | RunState::FenceRecovery => {
            format!("{node} cannot let go of it and must be forced out: {failure}")
        }
        RunState::Failed => format!("failed; the last: {failure}"),
        RunState::FailedRecovery => format!("could not be recovered on any allowable node; the last: {failure}"),
    };
    format!("service {}: {text}", name_of(&change.instance, configuration))
}
