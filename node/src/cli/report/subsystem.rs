//! What `subsystem list` prints.

use std::collections::BTreeMap;

use phalanx_messages::admin::Status;
use serde::Serialize;

/// One level of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct SubsystemReport {
    /// Its place in the order.
    pub level: u16,
    /// Name of the subsystem.
    pub name: String,
    /// Barriers by kind: `joining`, `leaving`, `forced_leaving`.
    pub barriers: BTreeMap<String, u8>,
    /// State at the level of each node that has it: `inactive`, `joining`, `joined`, `leaving` or `forced-leaving`.
    pub nodes: BTreeMap<String, String>,
}

/// The levels, ascending.
#[must_use]
pub fn subsystems(status: &Status) -> Vec<SubsystemReport> {
    let at = |order: u16| {
        let of_node = |node: &phalanx_messages::admin::NodeStatus| {
            Some((node.name.clone(), node.levels.get(&order.to_string())?.clone()))
        };
        status.nodes.iter().filter_map(of_node).collect()
    };
    let report = |level: &phalanx_messages::admin::LevelStatus| SubsystemReport {
        level: level.order,
        name: level.name.clone(),
        barriers: level.barriers.clone(),
        nodes: at(level.order),
    };
    status.levels.iter().map(report).collect()
}
