//! What `status` shows, from what the membership manager and registration-and-launch know.

use std::collections::BTreeMap;

use phalanx_messages::admin::{
    DiskStatus, FenceStatus, LevelStatus, NodeStatus, ServiceStatus, Status, TransitionStatus,
};
use phalanx_messages::membership::{FenceMethod, FenceState, LevelState, MemberEntry, NodeState, Step, TransitionKind};
use phalanx_messages::{Level, NodeId};
use phalanx_protocol::coordinator::level_states::entry_state;

use crate::ports::{MembershipStatus, ServicesKnown};

/// The whole status, as a daemon knows it or, with what the disk holds, without one.
#[must_use]
pub fn status(membership: &MembershipStatus, known: ServicesKnown) -> Status {
    let name = |node: NodeId| membership.configuration.name_of(node);
    let nodes = membership.configuration.nodes.keys().map(|node| node_status(membership, &known, *node)).collect();
    Status {
        cluster: membership.configuration.cluster.clone(),
        term: membership.term.0,
        master: membership.master.map(name),
        node: name(membership.me.node),
        disk: DiskStatus {
            state: if membership.lease_valid { "healthy" } else { "lost" }.to_owned(),
            heartbeat_age_ms: membership.heartbeat_age_ms,
        },
        nodes,
        levels: membership.record.levels.values().map(level_status).collect(),
        transitions: transitions(membership),
        services: known.services.into_iter().map(|service| as_it_is_now(service, membership)).collect(),
        source: "daemon".to_owned(),
        quorum: membership.quorum,
        source_reason: None,
    }
}

/// Nobody tells an event manager that a leave which it has acknowledged has ended: it knows the node as leaving until its level is
/// notified again. The record knows.
fn as_it_is_now(mut service: ServiceStatus, membership: &MembershipStatus) -> ServiceStatus {
    for (node, configured) in &membership.configuration.nodes {
        let entry = membership.record.nodes.get(node);
        let level = entry.map_or(LevelState::Inactive, |entry| entry_state(entry, Level::EVENT_MANAGER));
        if let Some(shown) = service.nodes.get_mut(&configured.name)
            && (shown.state.as_str(), level) == ("-", LevelState::Inactive)
        {
            shown.state = "down".to_owned();
        }
    }
    service
}

fn node_status(membership: &MembershipStatus, known: &ServicesKnown, node: NodeId) -> NodeStatus {
    let default = MemberEntry::default();
    let entry = membership.record.nodes.get(&node).unwrap_or(&default);
    let state_at = |level: &Level| (level.to_string(), level_text(entry_state(entry, *level)).to_owned());
    let host = membership.hosts.get(&node);
    let joined = |level: &&Level| entry_state(entry, **level) == LevelState::Joined;
    NodeStatus {
        name: membership.configuration.name_of(node),
        id: node.0,
        incarnation: entry.incarnation.0,
        state: entry.state,
        level: entry.levels.iter().rev().find(joined).map(|level| level.0),
        levels: entry.levels.iter().map(state_at).collect::<BTreeMap<_, _>>(),
        watchdog: host.map_or("none", |host| host.watchdog).to_owned(),
        containment: host.map_or("none", |host| host.containment).to_owned(),
        identity: host.map_or("host", |host| host.identity).to_owned(),
        standby: known.standby.contains(node),
        deaths: known.deaths.get(&node).copied().unwrap_or(0),
        fence: fence_status(membership, node, entry),
    }
}

fn fence_status(membership: &MembershipStatus, node: NodeId, entry: &MemberEntry) -> FenceStatus {
    let ghost = membership.record.ghosts.get(&node).map(|ghost| ghost.fence);
    let fence = if entry.state == NodeState::ForcedLeaving { Some(entry.fence) } else { ghost };
    let state = match fence {
        None => "none",
        Some(FenceState { death_certain: true, .. }) => "certain",
        Some(FenceState { io_certain: true, .. }) => "io-certain",
        Some(FenceState { .. }) => "marked",
    };
    let method = fence.and_then(|fence| fence.method).map(|method| method_text(method).to_owned());
    // Only the master seeks proofs, so only it knows what keeps them; what helps is the same everywhere.
    let name = membership.configuration.name_of(node);
    let found = membership.proofs_awaited.get(&node).map_or_else(String::new, |text| format!(": {text}"));
    let awaiting =
        format!("proof of death of {name}{found}; once it is certainly dead, `phalanx fence confirm {name}`");
    FenceStatus {
        state: state.to_owned(),
        method,
        awaiting: matches!(state, "marked" | "io-certain").then_some(awaiting),
    }
}

const fn method_text(method: FenceMethod) -> &'static str {
    match method {
        FenceMethod::OwnWord => "own-word",
        FenceMethod::Local => "local",
        FenceMethod::Operator => "operator",
        FenceMethod::NewIncarnation => "new-incarnation",
        FenceMethod::Agent => "agent",
        FenceMethod::Storage => "storage",
        FenceMethod::Deadline => "deadline",
    }
}

const fn level_text(state: LevelState) -> &'static str {
    match state {
        LevelState::Inactive => "inactive",
        LevelState::Joining => "joining",
        LevelState::Joined => "joined",
        LevelState::Leaving => "leaving",
        LevelState::ForcedLeaving => "forced-leaving",
    }
}

fn level_status(registration: &phalanx_messages::membership::LevelRegistration) -> LevelStatus {
    let barriers = registration.barriers;
    LevelStatus {
        order: registration.level.0,
        name: registration.name.clone(),
        barriers: [
            ("joining".to_owned(), barriers.joining),
            ("leaving".to_owned(), barriers.leaving),
            ("forced_leaving".to_owned(), barriers.forced_leaving),
        ]
        .into(),
    }
}

fn transitions(membership: &MembershipStatus) -> Vec<TransitionStatus> {
    let entries = membership.record.nodes.iter().filter_map(|(node, entry)| Some((*node, entry.step.as_ref()?)));
    let ghosts = membership.record.ghosts.iter().map(|(node, ghost)| (*node, &ghost.step));
    entries.chain(ghosts).map(|(node, step)| transition(membership, node, step)).collect()
}

fn transition(membership: &MembershipStatus, node: NodeId, step: &Step) -> TransitionStatus {
    let awaiting = membership.awaiting.get(&step.transition).copied().unwrap_or(step.participants);
    let kind: TransitionKind = step.kind;
    TransitionStatus {
        id: step.transition.to_string(),
        node: membership.configuration.name_of(node),
        kind,
        level: step.level.0,
        barrier: step.barrier,
        awaiting: awaiting.iter().map(|node| membership.configuration.name_of(node)).collect(),
        elapsed_ms: membership.running_ms.get(&step.transition).copied().unwrap_or(0),
    }
}
