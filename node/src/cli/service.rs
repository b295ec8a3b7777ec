//! `phalanx service ...`, `phalanx explain` and standby: orders to registration and launch.

use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminAnswer, AdminRequest, ServiceStatus, Status};
use phalanx_messages::limits::OUTPUT_LINES_MAX;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::service::ServiceDefinition;
use phalanx_messages::service_report::ServiceExplanation;
use schemars::JsonSchema;
use serde::Serialize;

use super::args::{Following, Global, Output, ServiceCommand};
use super::client::{Client, unexpected};
use super::order::{Progress, Said, give, state_text};
use super::show::EXIT_UNKNOWN;
use super::{Exit, apply, locate, print};
use crate::config::service_text;

/// Printed by `service show` with `--output json`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ServiceShown {
    /// The service.
    #[serde(flatten)]
    pub service: ServiceStatus,
    /// Whose lines `output` are; none = no node could be asked.
    pub output_of: Option<String>,
    /// The last lines that its commands have written on that node, oldest first.
    pub output: Vec<String>,
}

pub(super) fn run(command: ServiceCommand, global: &Global) -> Result<(), Exit> {
    match command {
        ServiceCommand::List => list(global),
        ServiceCommand::Show { service } => show(&service, global),
        ServiceCommand::Apply { file, following } => apply::services(&file, following, global),
        ServiceCommand::Register { service, following } => {
            one("register", &service, ServiceOrder::Register, following, global, |service| runs(service, None))
        }
        ServiceCommand::Deregister { service, following } => {
            one("deregister", &service, ServiceOrder::Deregister, following, global, rests)
        }
        ServiceCommand::Transfer { service, to, following } => transfer(&service, to, following, global),
        ServiceCommand::Hold { service, following } => {
            one("hold", &service, ServiceOrder::Hold, following, global, |_| Progress::Done)
        }
        ServiceCommand::Clear { service, force, following } => {
            let order = ServiceOrder::Clear { skip_recovery: force };
            let progress = |service: &ServiceStatus| if service.wanted { runs(service, None) } else { rests(service) };
            one("clear", &service, order, following, global, progress)
        }
        ServiceCommand::Failed { service, generation, on, reason, following } => {
            let node = match &on {
                None => None,
                Some(name) => Some(node_id(&locate::connect(global)?.status()?, name)?),
            };
            let order = ServiceOrder::Failed { generation, node, text: reason };
            let failed = generation.to_string();
            let progress = move |service: &ServiceStatus| {
                if service.generation.as_deref() == Some(failed.as_str()) && service.state == "registered" {
                    return Progress::Waits("has not been stopped yet".to_owned());
                }
                if service.wanted { runs(service, None) } else { rests(service) }
            };
            one("failed", &service, order, following, global, progress)
        }
        ServiceCommand::Remove { service, force, following } => {
            let order = ServiceOrder::Remove { skip_recovery: force };
            one("remove", &service, order, following, global, |_| Progress::Waits("is being removed".to_owned()))
        }
    }
}

fn one(
    name: &str,
    service: &str,
    order: ServiceOrder,
    following: Following,
    global: &Global,
    progress: impl Fn(&ServiceStatus) -> Progress,
) -> Result<(), Exit> {
    let order = RegistrationOrder::Service { service: service.to_owned(), order };
    give(&Said { name, subject: service, order }, following, global, |status| {
        // Gone is what `remove` waits for; whoever else waits has nothing to wait for either.
        find(status, service).map_or(Progress::Done, &progress)
    })
}

fn find<'a>(status: &'a Status, service: &str) -> Option<&'a ServiceStatus> {
    status.services.iter().find(|known| known.name == service)
}

/// It runs, on that node if one is named.
pub(super) fn runs(service: &ServiceStatus, on: Option<&str>) -> Progress {
    let moving = service.flags.get("transfer_intent").copied().unwrap_or(false);
    match service.state.as_str() {
        "registered" if moving => Progress::Waits(state_text(service)),
        "registered" => match on {
            Some(target) if service.node.as_deref() != Some(target) => {
                Progress::Failed(format!("it is {}, not on {target}", state_text(service)))
            }
            Some(_) | None => Progress::Done,
        },
        "failed" => Progress::Failed(state_text(service)),
        "held" => Progress::Failed("it is held; `phalanx service clear` ends that".to_owned()),
        _ => Progress::Waits(state_text(service)),
    }
}

fn rests(service: &ServiceStatus) -> Progress {
    match service.state.as_str() {
        "de-registered" | "failed" | "held" => Progress::Done,
        _ => Progress::Waits(state_text(service)),
    }
}

fn transfer(service: &str, to: Option<String>, following: Following, global: &Global) -> Result<(), Exit> {
    let status = locate::connect(global)?.status()?;
    let target = to.as_deref().map(|to| node_id(&status, to)).transpose()?;
    let order = ServiceOrder::Transfer { to: target };
    one("transfer", service, order, following, global, |service| runs(service, to.as_deref()))
}

/// Puts a node on standby, or ends that.
pub(super) fn standby(name: &str, standby: bool, following: Following, global: &Global) -> Result<(), Exit> {
    let status = locate::connect(global)?.status()?;
    let order = RegistrationOrder::Standby { node: node_id(&status, name)?, standby };
    let said = Said { name: if standby { "standby" } else { "unstandby" }, subject: name, order };
    give(&said, following, global, |status| {
        let moves = |service: &ServiceStatus| service.flags.get("transfer_intent").copied().unwrap_or(false);
        let there = |service: &&ServiceStatus| service.node.as_deref() == Some(name) || moves(service);
        match status.services.iter().filter(|_| standby).find(there) {
            Some(service) => Progress::Waits(format!("service {} is {}", service.name, state_text(service))),
            None => Progress::Done,
        }
    })
}

pub(super) fn node_id(status: &Status, name: &str) -> Result<NodeId, Exit> {
    let known = status.nodes.iter().find(|node| node.name == name).map(|node| NodeId(node.id));
    known.ok_or_else(|| {
        let names: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
        Exit::code(EXIT_UNKNOWN, format!("there is no node `{name}`"))
            .hint(format!("the cluster has: {}", names.join(", ")))
    })
}

fn list(global: &Global) -> Result<(), Exit> {
    let services = locate::connect(global)?.status()?.services;
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&services)?),
        Output::Text => anstream::print!("{}", print::services(&services)),
    }
    Ok(())
}

fn show(service: &str, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let status = client.status()?;
    let Some(found) = find(&status, service) else { return Err(unknown(&status, service)) };
    let mut found = found.clone();
    let (output_of, output) = last_lines(&mut client, &status, &mut found, global);
    match global.output {
        Output::Json => {
            let shown = ServiceShown { service: found, output_of, output };
            anstream::println!("{}", print::json(&shown)?);
        }
        Output::Text => {
            anstream::print!("{}", print::service(&found));
            if let Some(node) = output_of.filter(|_| !output.is_empty()) {
                anstream::println!("\nlast output on {node} (`phalanx logs {node} --service {service}` shows more):");
                output.iter().for_each(|line| anstream::println!("  {line}"));
            }
            let definition = definitions(&mut client)?.into_iter().find(|definition| definition.name == service);
            let name_of = |node| name_of(&status, node);
            let text = definition.map(|definition| service_text(&definition, &name_of));
            anstream::print!("\n{}", text.unwrap_or_default());
        }
    }
    Ok(())
}

/// The last lines of its commands on the node that has it, or else on the node that answers; and what its monitor has found there.
fn last_lines(
    client: &mut Client,
    status: &Status,
    service: &mut ServiceStatus,
    global: &Global,
) -> (Option<String>, Vec<String>) {
    let elsewhere = service.node.clone().filter(|node| *node != status.node);
    let mut other = elsewhere.and_then(|node| super::logs::connect_to(&node, global).ok());
    if let Some(Ok(there)) = other.as_mut().map(Client::status) {
        service.monitor = find(&there, &service.name).and_then(|known| known.monitor);
    }
    let node = if other.is_some() { service.node.clone() } else { Some(status.node.clone()) };
    let lines = u32::try_from(OUTPUT_LINES_MAX).unwrap_or(u32::MAX);
    let request = AdminRequest::Logs { service: Some(service.name.clone()), lines, follow: false };
    match other.as_mut().unwrap_or(client).ask(&request) {
        Ok(AdminAnswer::Logs(lines)) => (node, lines.into_iter().map(|line| line.text).collect()),
        Ok(_) | Err(_) => (None, Vec::new()), // what it said is not what was asked for
    }
}

fn unknown(status: &Status, service: &str) -> Exit {
    let known: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    let known = if known.is_empty() { "no services".to_owned() } else { known.join(", ") };
    Exit::code(EXIT_UNKNOWN, format!("there is no service `{service}`")).hint(format!("the cluster has: {known}"))
}

/// Every service as it is defined.
pub(super) fn definitions(client: &mut Client) -> Result<Vec<ServiceDefinition>, Exit> {
    let answer = client.ask(&AdminRequest::Definitions)?;
    let AdminAnswer::Definitions(definitions) = answer else { return Err(unexpected(&answer)) };
    Ok(definitions)
}

/// Name of a node by the status; its number if it has none.
pub(super) fn name_of(status: &Status, node: NodeId) -> String {
    let known = status.nodes.iter().find(|known| known.id == node.0);
    known.map_or_else(|| format!("#{node}"), |node| node.name.clone())
}

/// `phalanx explain S`.
pub(super) fn explain(service: &str, global: &Global) -> Result<(), Exit> {
    let answer = locate::connect(global)?.ask(&AdminRequest::Explain { service: service.to_owned() })?;
    let AdminAnswer::Explanation(explanation) = answer else { return Err(unexpected(&answer)) };
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&explanation)?),
        Output::Text => anstream::print!("{}", explanation_text(&explanation)),
    }
    Ok(())
}

fn explanation_text(explanation: &ServiceExplanation) -> String {
    let ServiceExplanation { service, state, node, factor, because, candidates, would_change, .. } = explanation;
    let place = node.as_deref().map_or_else(String::new, |node| format!(" on {node}"));
    let mut text = format!("service {service} is {state}{place}: {because} [{factor}]\n\n");
    let mut rows = vec![["NODE", "PLACE", "VERDICT", "REASON"].map(str::to_owned).to_vec()];
    rows.extend(candidates.iter().map(|candidate| {
        let place = candidate.place.map_or_else(|| "-".to_owned(), |place| place.to_string());
        vec![candidate.node.clone(), place, candidate.verdict.clone(), candidate.reason.clone()]
    }));
    text += &print::table(&rows);
    if !would_change.is_empty() {
        text += "\nwhat would change that:\n";
        text.extend(would_change.iter().map(|line| format!("- {line}\n")));
    }
    text
}
