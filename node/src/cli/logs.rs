//! `phalanx logs`.

use std::path::Path;

use phalanx_messages::admin::{AdminAnswer, AdminRequest, LogLine, Status};

use super::args::{Global, LogsArguments, Output};
use super::client::{Client, EXIT_UNREACHABLE, unexpected};
use super::follow::{follow, print_line};
use super::show::EXIT_UNKNOWN;
use super::{Exit, locate};
use crate::log::utc;

/// Exit code "the node named is not running".
const EXIT_NOT_RUNNING: u8 = 3;

pub(super) fn logs(arguments: &LogsArguments, global: &Global) -> Result<(), Exit> {
    let LogsArguments { name, service, follow: follows, for_ms, lines } = arguments;
    let mut client = match name {
        Some(name) => connect_to(name, global)?,
        None => locate::connect(global)?,
    };
    let request = AdminRequest::Logs { service: service.clone(), lines: *lines, follow: *follows };
    if *follows {
        return follow(client, &request, *for_ms, |answer| {
            let AdminAnswer::Logged(line) = answer else { return Err(unexpected(&answer)) };
            print(&line, global.output)
        });
    }
    let AdminAnswer::Logs(lines) = client.ask(&request)? else {
        return Err(Exit::error("the node did not answer with log lines"));
    };
    if let Some(service) = service {
        say_where(&mut client, service, lines.is_empty());
    }
    lines.iter().try_for_each(|line| print(line, global.output))
}

/// An empty log, or an old one, may only mean that the service runs elsewhere.
fn say_where(client: &mut Client, service: &str, is_empty: bool) {
    let Ok(status) = client.status() else { return };
    let found = status.services.iter().find(|known| known.name == service);
    let place = found.and_then(|found| found.node.as_ref()).filter(|node| **node != status.node);
    let there = place.map(|node| format!("; it is on {node}: `phalanx logs {node} --service {service}`"));
    let here = if is_empty { "keeps no output of" } else { "has old output of" };
    if is_empty || there.is_some() {
        anstream::eprintln!("{} {here} service {service}{}", status.node, there.unwrap_or_default());
    }
}

/// The node of that name: beside the socket that was named, or in the directory.
pub(super) fn connect_to(name: &str, global: &Global) -> Result<Client, Exit> {
    let named = locate::socket(global);
    if let Some(socket) = &named {
        let mut client = Client::connect(socket)?;
        if client.status()?.node == name {
            return Ok(client);
        }
    }
    let directory = match named {
        Some(socket) => socket.parent().unwrap_or_else(|| Path::new(".")).to_owned(),
        None => locate::directory(global),
    };
    Client::connect(&locate::node_socket(&directory, name)).map_err(|exit| {
        if exit.code != EXIT_UNREACHABLE {
            return exit;
        }
        match locate::connect(&Global { node: None, ..global.clone() }).and_then(|mut client| client.status()) {
            Ok(status) if !is_known(&status, name) => {
                let known: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
                let text = format!("there is no node `{name}`");
                Exit::code(EXIT_UNKNOWN, text).hint(format!("the cluster has: {}", known.join(", ")))
            }
            Ok(_) | Err(_) => {
                Exit::code(EXIT_NOT_RUNNING, format!("{name} does not answer in {}", directory.display()))
                    .hint("ask on the host where it runs; `phalanx node run --config FILE` starts it")
            }
        }
    })
}

fn is_known(status: &Status, name: &str) -> bool {
    status.nodes.iter().any(|node| node.name == name)
}

fn print(line: &LogLine, output: Output) -> Result<(), Exit> {
    let text = || match (line.at_ms, &line.level) {
        (Some(at_ms), Some(level)) => format!("{} {level:>5} {}: {}", utc(at_ms), line.source, line.text),
        (Some(_) | None, _) => line.text.clone(),
    };
    print_line(line, text, output)
}
