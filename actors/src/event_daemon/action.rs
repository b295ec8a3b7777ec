//! Action functions for the warden: the one place that turns a run into its requests.

use phalanx_messages::launch::{Action, LaunchRequest, Leaves, Owner, Program, WardenRequest};
use phalanx_messages::service::Invocation;
use phalanx_protocol::events::{Purpose, Run};

use super::DaemonSettings;
use crate::client_service::{CommandSurroundings, fencing_token};

/// The command, and the kill of whatever it leaves.
pub(super) fn requests(run: &Run, settings: &DaemonSettings) -> (WardenRequest, WardenRequest) {
    let lane = run.purpose.as_ref().map(|purpose| purpose.lane.as_str()).filter(|lane| !lane.is_empty());
    let owner = Owner::Event(lane.map_or_else(|| run.event.clone(), |lane| format!("{}@{lane}", run.event)));
    let mut environment = environment(run, &settings.surroundings);
    environment.extend(run.variables.iter().cloned());
    let kill = WardenRequest::Kill { owner: owner.clone(), operation: None, timeout_ms: settings.kill_ms };
    (launch(owner, &run.command.run, environment, run.command.timeout_ms), kill)
}

/// A command of an event: an action function, or what its watcher runs.
pub(crate) fn launch(
    owner: Owner,
    run: &Invocation,
    environment: Vec<(String, String)>,
    timeout_ms: u64,
) -> WardenRequest {
    WardenRequest::Launch(LaunchRequest {
        owner,
        operation: None,
        action: Action::Watch,
        command: program(run),
        environment,
        timeout_ms,
        leaves: Leaves::Processes,
        clean_up: None,
        retries: 0,
    })
}

fn program(run: &Invocation) -> Program {
    match run {
        Invocation::Shell(text) => Program::Shell(text.clone()),
        Invocation::Arguments(words) => Program::Arguments(words.clone()),
        Invocation::Agent => Program::Arguments(vec!["false".to_owned()]), // refused when it was defined
    }
}

/// What every command of an event finds in its environment.
pub(super) fn surroundings(surroundings: &CommandSurroundings) -> Vec<(String, String)> {
    let CommandSurroundings { cluster, node, socket, .. } = surroundings.clone();
    [("PHALANX_SOCKET", socket), ("PHALANX_CLUSTER", cluster), ("PHALANX_NODE", node)]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}

fn environment(run: &Run, around: &CommandSurroundings) -> Vec<(String, String)> {
    let mut variables = surroundings(around);
    let mut add = |name: &str, value: String| variables.push((name.to_owned(), value));
    add("PHALANX_ACTION", "event".to_owned());
    add("PHALANX_EVENT", run.event.clone());
    let Some(Purpose { service, generation, group, .. }) = &run.purpose else { return variables };
    add("PHALANX_EVENT_GROUP", group.clone());
    if let Some(service) = service {
        add("PHALANX_SERVICE", service.clone());
        add("PHALANX_GENERATION", fencing_token(*generation).to_string());
    }
    variables
}
