//! Spec, Tables 2 and 3 (protocol §6.4) as they are printed: what happens, and what `status` shows of the service then. Used by the
//! tests of the rules alone and by those of real processes.
//!
//! The print errors named in protocol §6.4 are corrected.

use std::collections::BTreeSet;

use phalanx_messages::admin::ServiceStatus;

/// One row: what has happened, and `summary|flags|N0|N1|N2` after it.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What has happened since the row before.
    pub event: &'static str,
    /// What is shown.
    pub cells: &'static str,
    /// A state that a decision only passes (RL-1): no database has it.
    pub passed: bool,
}

const fn row(event: &'static str, cells: &'static str) -> Row {
    Row { event, cells, passed: false }
}

const fn passed(event: &'static str, cells: &'static str) -> Row {
    Row { event, cells, passed: true }
}

/// Two nodes are allowable, maturity_count 2, maturity_time 5 minutes.
pub const TABLE_2: [Row; 14] = [
    row("all down", "-||down I|down I|down"),
    row("N2 boots", "-||down I|down I|up"),
    row("N0 boots", "-|M|up I|down I|up"),
    row("5 min elapse", "Starting||Starting I|down I|up"),
    row("start completes", "Registered||Registered I|down I|up"),
    row("N1 boots", "Registered||Registered I|up I|up"),
    row("N2 leaves", "Registered||Registered I|up I|down"),
    row("N0 begins leave", "Stopping|T|Stopping I|up I|down"),
    passed("stop completes", "-|T|- I|up I|down"),
    row("at once", "Starting|T|- I|Starting I|down"),
    row("start completes on N1", "Registered||- I|Registered I|down"),
    row("N0 left", "Registered||down I|Registered I|down"),
    row("N1 begins leave", "Stopping|T|down I|Stopping I|down"),
    row("stop completes on N1", "-||down I|- I|down"),
];

/// N0 is preferred, all nodes are allowable, maturity_count 2, free transfer, a notify command.
pub const TABLE_3: [Row; 11] = [
    row("all down", "-|N|down|down|down"),
    row("N0 boots", "Starting|N|Starting|down|down"),
    row("start completes", "Registered|N|Registered|down|down"),
    row("N1 boots", "Registered|N|Registered|-(notified)|down"),
    row("N0 leaves", "Registered|N|down|Registered|down"),
    row("N2 boots", "Registered|N|down|Registered|-(notified)"),
    row("N0 boots again", "Registered|N|-(notified)|Registered|-"),
    row("takeover", "Stopping|N,T|-|Stopping|-"),
    passed("stop completes", "-|N,T|-|-|-"),
    row("at once", "Starting|N,T|Starting|-|-"),
    row("start completes on N0", "Registered|N,T|Registered|-(notified)|-(notified)"),
];

/// One row as it is printed. `notified` = nodes on which the notify command has been begun for this row. Table 3 prints `-` for a node
/// that is up, and no I, since its allowable list is not explicit.
pub fn cells(status: &ServiceStatus, notified: &BTreeSet<String>, like_table_3: bool) -> String {
    let shown = |state: &str| match state {
        "starting" => "Starting".to_owned(),
        "registered" => "Registered".to_owned(),
        "stopping" => "Stopping".to_owned(),
        "recovering" => "Recovering".to_owned(),
        "up" if like_table_3 => "-".to_owned(),
        "up" | "down" | "-" => state.to_owned(),
        _ => "-".to_owned(),
    };
    let letters = [("has_notify", "N"), ("transfer_intent", "T"), ("awaiting_maturity", "M")];
    let flags: Vec<&str> = letters.iter().filter(|(flag, _)| status.flags[*flag]).map(|(_, letter)| *letter).collect();
    let mut line = format!("{}|{}", shown(&status.state), flags.join(","));
    for node in ["n0", "n1", "n2"] {
        let entry = &status.nodes[node];
        let told = if notified.contains(node) { "(notified)" } else { "" };
        let available = if entry.available && !like_table_3 { " I" } else { "" };
        line += &format!("|{}{told}{available}", shown(&entry.state));
    }
    line
}
