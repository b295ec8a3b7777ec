//! Tables for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use phalanx_messages::admin::{MonitorStatus, NodeStatus, QuorumStatus, ServiceStatus, Status};
use phalanx_messages::membership::{NodeState, TransitionKind};

/// Rows of cells as aligned columns; the first row is the heading.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        writeln!(text, "{}", line.join("  ").trim_end()).ok();
    }
    text
}

/// A state of a node as it is written everywhere.
#[must_use]
pub const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Inactive => "inactive",
        NodeState::Joining => "joining",
        NodeState::Joined => "joined",
        NodeState::Leaving => "leaving",
        NodeState::ForcedLeaving => "forced-leaving",
    }
}

/// A kind of transition as it is written everywhere.
#[must_use]
pub const fn kind(kind: TransitionKind) -> &'static str {
    match kind {
        TransitionKind::Joining => "joining",
        TransitionKind::JoinExtending => "join-extending",
        TransitionKind::Leaving => "leaving",
        TransitionKind::ForcedLeaving => "forced-leaving",
    }
}

/// Colour of one line of what happens, by its kind.
#[must_use]
pub fn style(kind: &str, text: &str) -> Style {
    let colour = match kind {
        "master" => AnsiColor::Magenta,
        "proof" => AnsiColor::Yellow,
        "service" => AnsiColor::Cyan,
        "step" => AnsiColor::BrightBlack,
        "node-state" if text.contains("forced-leaving") => AnsiColor::Red,
        "node-state" => AnsiColor::Green,
        _ => return Style::new(),
    };
    colour.on_default()
}

/// The nodes as a table.
#[must_use]
pub fn nodes(nodes: &[NodeStatus]) -> String {
    let heading = ["NODE", "STATE", "LEVEL", "INCARNATION", "CONTAINMENT", "FENCE"].map(str::to_owned).to_vec();
    let mut rows = vec![heading];
    rows.extend(nodes.iter().map(|node| {
        let level = node.level.map_or_else(|| "-".to_owned(), |level| level.to_string());
        let fence = node.fence.awaiting.clone().unwrap_or_else(|| node.fence.state.clone());
        let fence = if fence == "none" { "-".to_owned() } else { fence };
        vec![
            node.name.clone(),
            node_state(node),
            level,
            node.incarnation.to_string(),
            if node.identity == "test" { format!("{} (test)", node.containment) } else { node.containment.clone() },
            fence,
        ]
    }));
    table(&rows)
}

/// The state of a node with what keeps services from it.
fn node_state(node: &NodeStatus) -> String {
    let mut text = state(node.state).to_owned();
    if node.standby {
        text += ", standby";
    }
    if node.deaths > 1 {
        text += &format!(", died {} times", node.deaths);
    }
    text
}

/// The services as a table.
#[must_use]
pub fn services(services: &[ServiceStatus]) -> String {
    let mut rows = vec![["SERVICE", "STATE", "NODE", "GENERATION", "WANTED", "NOTE"].map(str::to_owned).to_vec()];
    rows.extend(services.iter().map(|service| {
        let dash = || "-".to_owned();
        vec![
            service.name.clone(),
            service.state.clone(),
            service.node.clone().unwrap_or_else(dash),
            service.generation.clone().unwrap_or_else(dash),
            if service.wanted { "yes" } else { "no" }.to_owned(),
            service.reason.clone().unwrap_or_default(),
        ]
    }));
    table(&rows)
}

fn heading(status: &Status) -> String {
    let Status { cluster, term, disk, .. } = status;
    if let Some(reason) = &status.source_reason {
        return format!(
            "read from the disk alone, as it was last written: {reason}\n\ncluster {cluster}   term {term}   master not known\n\n"
        );
    }
    let master = status.master.as_deref().unwrap_or("none");
    format!(
        "cluster {cluster}   term {term}   master {master}   answered by {}\ndisk {} (renewed {} ms ago)\n{}\n",
        status.node,
        disk.state,
        disk.heartbeat_age_ms,
        status.quorum.map(quorum).unwrap_or_default()
    )
}

/// What a majority cluster may decide now.
fn quorum(QuorumStatus { reached, votes, needed }: QuorumStatus) -> String {
    let waits = if reached { "" } else { ": nobody is forced out or let in until more nodes are there" };
    format!("quorum: {votes} votes, {needed} needed{waits}\n")
}

/// Everything `status` shows.
#[must_use]
pub fn status(status: &Status) -> String {
    let mut text = heading(status);
    text += &nodes(&status.nodes);
    text.push('\n');
    let mut rows = vec![["LEVEL", "NAME", "BARRIERS joining/leaving/forced-leaving"].map(str::to_owned).to_vec()];
    rows.extend(status.levels.iter().map(|level| {
        let barrier = |kind| level.barriers.get(kind).copied().unwrap_or(0);
        let barriers = format!("{}/{}/{}", barrier("joining"), barrier("leaving"), barrier("forced_leaving"));
        vec![level.order.to_string(), level.name.clone(), barriers]
    }));
    text += &table(&rows);
    if !status.transitions.is_empty() {
        let mut rows =
            vec![["TRANSITION", "NODE", "KIND", "LEVEL", "BARRIER", "AWAITING", "FOR"].map(str::to_owned).to_vec()];
        rows.extend(status.transitions.iter().map(|transition| {
            vec![
                transition.id.clone(),
                transition.node.clone(),
                kind(transition.kind).to_owned(),
                transition.level.to_string(),
                transition.barrier.to_string(),
                transition.awaiting.join(" "),
                format!("{} ms", transition.elapsed_ms),
            ]
        }));
        text.push('\n');
        text += &table(&rows);
    }
    if !status.services.is_empty() {
        text.push('\n');
        text += &services(&status.services);
    }
    text
}

/// One service with its state on every node.
#[must_use]
pub fn service(service: &ServiceStatus) -> String {
    let mut text = services(std::slice::from_ref(service));
    let mut rows = vec![["NODE", "STATE", "AVAILABLE", "NOTIFIED"].map(str::to_owned).to_vec()];
    let yes = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
    rows.extend(
        service
            .nodes
            .iter()
            .map(|(name, node)| vec![name.clone(), node.state.clone(), yes(node.available), yes(node.notified)]),
    );
    text.push('\n');
    text += &table(&rows);
    text + &service.monitor.as_ref().map(monitor).unwrap_or_default()
}

/// What its monitor has found.
fn monitor(monitor: &MonitorStatus) -> String {
    let MonitorStatus { bad_in_row, tolerance, bad, begun } = monitor;
    format!("\nmonitor: {bad_in_row} bad in a row of {tolerance} that are a failure; {bad} bad of {begun} so far\n")
}

/// JSON for programs.
///
/// # Errors
/// If the value cannot be written as JSON, which is a mistake in this program.
pub fn json<T: serde::Serialize>(value: &T) -> Result<String, super::Exit> {
    serde_json::to_string_pretty(value).map_err(|error| super::Exit::error(format!("failed to write JSON: {error}")))
}
