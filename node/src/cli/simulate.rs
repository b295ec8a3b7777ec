//! `phalanx simulate`: what would happen, without doing it.

use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminAnswer, AdminRequest, Status};
use phalanx_messages::order::Supposition;
use phalanx_messages::service_report::PlannedStep;
use schemars::JsonSchema;
use serde::Serialize;

use super::args::{Global, Output, SimulateArguments};
use super::client::unexpected;
use super::order::plan_text;
use super::{Exit, apply, locate, print};

/// Exit code "no such node".
const EXIT_UNKNOWN: u8 = 105;

/// Printed with `--output json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SimulationReport {
    /// What is supposed: `leave`, `fail`, `join` or `apply`.
    pub supposed: String,
    /// The node or the file.
    pub subject: String,
    /// What would follow, in order, if every command succeeded.
    pub steps: Vec<PlannedStep>,
}

pub(super) fn simulate(arguments: &SimulateArguments, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let status = client.status()?;
    let SimulateArguments { leave, fail, join, apply } = arguments;
    let (supposed, subject, supposition) = match (leave, fail, join, apply) {
        (Some(node), ..) => ("leave", node.clone(), Supposition::Leaves(id_of(&status, node)?)),
        (_, Some(node), ..) => ("fail", node.clone(), Supposition::Fails(id_of(&status, node)?)),
        (_, _, Some(node), _) => ("join", node.clone(), Supposition::Joins(id_of(&status, node)?)),
        (_, _, _, Some(file)) => {
            let order = apply::order_of_file(&mut client, &status, file)?;
            ("apply", file.display().to_string(), Supposition::Ordered(order))
        }
        (None, None, None, None) => {
            return Err(Exit::code(2, "say what is supposed: --leave, --fail, --join or --apply"));
        }
    };
    let answer = client.ask(&AdminRequest::Simulate(supposition))?;
    let AdminAnswer::Plan(steps) = answer else { return Err(unexpected(&answer)) };
    match global.output {
        Output::Json => {
            let report = SimulationReport { supposed: supposed.to_owned(), subject, steps };
            anstream::println!("{}", print::json(&report)?);
        }
        Output::Text => anstream::print!("{}", plan_text(&steps)),
    }
    Ok(())
}

fn id_of(status: &Status, name: &str) -> Result<NodeId, Exit> {
    let found = status.nodes.iter().find(|node| node.name == name).map(|node| NodeId(node.id));
    found.ok_or_else(|| {
        let known: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        Exit::code(EXIT_UNKNOWN, format!("there is no node `{name}`"))
            .hint(format!("the nodes are {}", known.join(", ")))
    })
}
