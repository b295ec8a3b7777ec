//! What a command of a client service finds in its environment (architecture §6).

use phalanx_messages::launch::Action;
use phalanx_messages::registration::{Instance, Order};
use phalanx_messages::service::{AgentClass, ServiceAgent, ServiceDefinition};
use phalanx_messages::{OperationId, Revision};

/// What all commands of a node share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSurroundings {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this node.
    pub node: String,
    /// Path of this node's local socket.
    pub socket: String,
    /// Command line that becomes an agent, given its name and an action; none where nothing runs commands.
    pub agent_runner: Vec<String>,
}

/// The fencing token as one number that only grows: the depoch in the upper half.
#[must_use]
pub fn fencing_token(generation: OperationId) -> u128 {
    let Revision { term, seq } = generation.revision;
    (u128::from(term.0) << 32) + u128::from(seq)
}

/// The variables of one command.
pub(super) fn environment(
    surroundings: &CommandSurroundings,
    order: &Order,
    action: Action,
    victim: Option<&str>,
) -> Vec<(String, String)> {
    let Order { command, definition } = order;
    let mut variables = common(surroundings, &command.instance, action, command.generation);
    variables.extend([
        ("PHALANX_OPERATION", command.operation.to_string()),
        ("PHALANX_PARENT", definition.parent.clone().unwrap_or_default()),
    ]);
    variables.extend(victim.map(|victim| ("PHALANX_VICTIM", victim.to_owned())));
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The variables of a monitor, which is no operation.
pub(super) fn of_monitor(
    surroundings: &CommandSurroundings,
    instance: &Instance,
    generation: OperationId,
) -> Vec<(String, String)> {
    let variables = common(surroundings, instance, Action::Watch, generation);
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn common(
    surroundings: &CommandSurroundings,
    instance: &Instance,
    action: Action,
    generation: OperationId,
) -> Vec<(&'static str, String)> {
    vec![
        ("PHALANX_SOCKET", surroundings.socket.clone()),
        ("PHALANX_CLUSTER", surroundings.cluster.clone()),
        ("PHALANX_NODE", surroundings.node.clone()),
        ("PHALANX_SERVICE", instance.service.clone()),
        ("PHALANX_ACTION", action_word(action).to_owned()),
        ("PHALANX_GENERATION", fencing_token(generation).to_string()),
    ]
}

/// What an OCF agent is told of its service (resource agent API 1.1), but for what is its host's own; nothing for other services.
pub(super) fn agent_variables(
    definition: &ServiceDefinition,
    instance: &Instance,
    timeout_ms: u64,
    interval_ms: Option<u64>,
) -> Vec<(String, String)> {
    let Some(ServiceAgent { class: AgentClass::Ocf { .. }, parameters }) = &definition.agent else { return Vec::new() };
    let own = parameters.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone()));
    let named = [
        ("OCF_RESOURCE_INSTANCE", instance.lane().replace('@', ":")),
        ("OCF_RESKEY_CRM_meta_timeout", timeout_ms.to_string()),
        ("OCF_RESKEY_CRM_meta_interval", interval_ms.unwrap_or(0).to_string()),
    ];
    own.chain(named.map(|(name, value)| (name.to_owned(), value))).collect()
}

const fn action_word(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Notify => "notify",
        Action::Recovery => "recovery",
        Action::Transition => "transition",
        Action::Watch => "monitor",
    }
}
