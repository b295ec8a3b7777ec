//! Happenings in words.

use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::{NodeState, TransitionKind};
use phalanx_protocol::chronicle::Happening;

/// A happening for people.
pub(super) struct Words {
    pub kind: &'static str,
    pub node: Option<String>,
    pub text: String,
}

pub(super) const fn kind_text(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Joining => "joining",
        TransitionKind::JoinExtending => "join-extending",
        TransitionKind::Leaving => "leaving",
        TransitionKind::ForcedLeaving => "forced-leaving",
    }
}

pub(super) const fn state_text(state: NodeState) -> &'static str {
    match state {
        NodeState::Inactive => "inactive",
        NodeState::Joining => "joining",
        NodeState::Joined => "joined",
        NodeState::Leaving => "leaving",
        NodeState::ForcedLeaving => "forced-leaving",
    }
}

pub(super) fn no_such_node(name: &str, configuration: &ConfigurationRecord) -> String {
    let known: Vec<&str> = configuration.nodes.values().map(|node| node.name.as_str()).collect();
    format!("there is no node `{name}`; the cluster has {}", known.join(", "))
}

/// None of what is told by the trace only.
pub(super) fn words(happening: &Happening, configuration: &ConfigurationRecord) -> Option<Words> {
    let name = |node: NodeId| configuration.name_of(node);
    let names = |nodes: phalanx_messages::set::NodeSet| nodes.iter().map(name).collect::<Vec<_>>().join(" ");
    let (kind, node, text) = match happening {
        Happening::MasterElected { term, node } => ("master", *node, format!("{} is master, term {term}", name(*node))),
        Happening::NodeState { node, state, reason } => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            ("node-state", *node, format!("{} is {}{why}", name(*node), state_text(*state)))
        }
        Happening::Proved { node, method, note } => {
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            ("proof", *node, format!("{} is certainly dead ({}){note}", name(*node), method_text(method)))
        }
        Happening::StepStarted { id, node, kind, barriers, participants } => {
            let restart = if id.restart > 0 { format!(", restart {}", id.restart) } else { String::new() };
            let text = format!(
                "{} {:<14} level {:<4} barrier {}/{barriers}{restart}  ({})",
                name(*node),
                kind_text(*kind),
                id.level,
                id.barrier + 1,
                names(*participants)
            );
            ("step", *node, text)
        }
        Happening::StepAcknowledged { .. } => return None,
        Happening::TransitionEnded { id, node, kind, elapsed_ms } => {
            let text = format!("{} {} {id} ended after {elapsed_ms} ms", name(*node), kind_text(*kind));
            ("ended", *node, text)
        }
    };
    Some(Words { kind, node: Some(name(node)), text })
}

fn method_text(method: &str) -> &str {
    match method {
        "OwnWord" => "its warden said so",
        "Local" => "killed and seen dead by a survivor",
        "Operator" => "confirmed by the administrator",
        "NewIncarnation" => "it was started again",
        other => other,
    }
}
