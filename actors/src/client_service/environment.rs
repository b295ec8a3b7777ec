//! What a command of a client service finds in its environment (architecture §6).

use phalanx_messages::launch::Action;
use phalanx_messages::registration::Order;
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
    let mut variables = vec![
        ("PHALANX_SOCKET", surroundings.socket.clone()),
        ("PHALANX_CLUSTER", surroundings.cluster.clone()),
        ("PHALANX_NODE", surroundings.node.clone()),
        ("PHALANX_SERVICE", command.instance.service.clone()),
        ("PHALANX_ACTION", action_word(action).to_owned()),
        ("PHALANX_GENERATION", fencing_token(command.generation).to_string()),
        ("PHALANX_OPERATION", command.operation.to_string()),
        ("PHALANX_PARENT", definition.parent.clone().unwrap_or_default()),
    ];
    variables.extend(victim.map(|victim| ("PHALANX_VICTIM", victim.to_owned())));
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const fn action_word(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Notify => "notify",
        Action::Recovery => "recovery",
        Action::Transition => "transition",
        Action::Event => "event",
    }
}
