//! Carries an order about services to the cluster, and follows it until it has had its effect.
//!
//! The cluster goes on by itself: whoever stops waiting has stopped nothing.

use phalanx_messages::admin::{AdminAnswer, AdminRequest, ServiceStatus, Status};
use phalanx_messages::order::RegistrationOrder;
use phalanx_messages::service_report::PlannedStep;
use serde::{Deserialize, Serialize};

use super::args::{Following, Global, Output};
use super::client::{Client, unexpected};
use super::{Exit, locate, print};
use crate::containment::{now, pause};

/// Exit code "timed out".
const EXIT_TIMED_OUT: u8 = 124;
/// A daemon may look for somebody who decides for so long.
const DECIDED_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);
/// Between two looks at the status.
const LOOK_MS: u64 = 25;

/// What an order has come to.
pub(super) enum Progress {
    /// It has had its effect.
    Done,
    /// Not yet; what is being waited for.
    Waits(String),
    /// It will not.
    Failed(String),
}

/// Printed by every order with `--output json`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OrderReport {
    /// The order: `register`, `deregister`, `transfer`, `hold`, `clear`, `remove`, `failed`, `standby`, `unstandby`.
    pub order: String,
    /// The service or node it is about, or the events and event groups, with blanks between them.
    pub subject: String,
    /// What it does at once.
    pub plan: Vec<PlannedStep>,
    /// False for `--dry-run`.
    pub applied: bool,
    /// The service after it, if it is about one that is still there.
    pub service: Option<ServiceStatus>,
}

/// An order with what is said of it.
pub(super) struct Said<'a> {
    /// Its name.
    pub name: &'a str,
    /// The service or node it is about.
    pub subject: &'a str,
    pub order: RegistrationOrder,
}

/// Plans, carries out, follows and prints one order.
pub(super) fn give(
    said: &Said<'_>,
    following: Following,
    global: &Global,
    progress: impl Fn(&Status) -> Progress,
) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let plan = planned(&mut client, &said.order)?;
    if !following.dry_run {
        carry_out(&mut client, &said.order)?;
        if !following.no_wait {
            follow(&mut client, said.subject, following.within, global, progress)?;
        }
    }
    report(&mut client, said, plan, !following.dry_run, global)
}

fn report(
    client: &mut Client,
    said: &Said<'_>,
    plan: Vec<PlannedStep>,
    applied: bool,
    global: &Global,
) -> Result<(), Exit> {
    let services = client.status().map(|status| status.services);
    let service = services.unwrap_or_default().into_iter().find(|service| service.name == said.subject);
    match global.output {
        Output::Json => {
            let (order, subject) = (said.name.to_owned(), said.subject.to_owned());
            anstream::println!("{}", print::json(&OrderReport { order, subject, plan, applied, service })?);
        }
        Output::Text if !applied => anstream::print!("{}", plan_text(&plan)),
        Output::Text => match service {
            Some(service) => anstream::println!("{}: {}", said.subject, state_text(&service)),
            None => anstream::println!("{}: done", said.subject),
        },
    }
    Ok(())
}

/// What an order would do at once.
pub(super) fn planned(client: &mut Client, order: &RegistrationOrder) -> Result<Vec<PlannedStep>, Exit> {
    let answer = client.ask(&AdminRequest::Plan(order.clone()))?;
    let AdminAnswer::Plan(plan) = answer else { return Err(unexpected(&answer)) };
    Ok(plan)
}

/// Returns when the order is committed.
pub(super) fn carry_out(client: &mut Client, order: &RegistrationOrder) -> Result<(), Exit> {
    client.set_patience(DECIDED_WITHIN);
    let answer = client.ask(&AdminRequest::Order(order.clone()))?;
    let AdminAnswer::Done = answer else { return Err(unexpected(&answer)) };
    Ok(())
}

/// A plan as lines; one line if it is empty.
pub(super) fn plan_text(plan: &[PlannedStep]) -> String {
    if plan.is_empty() {
        return "nothing is started or stopped\n".to_owned();
    }
    let line = |step: &PlannedStep| {
        let node = step.node.as_deref().map_or_else(String::new, |node| format!(" on {node}"));
        format!("{}: {}{node}: {}\n", step.service, step.action, step.reason)
    };
    plan.iter().map(line).collect()
}

/// Shows on stderr what is being waited for, each time it changes.
pub(super) fn follow(
    client: &mut Client,
    subject: &str,
    within_ms: u64,
    global: &Global,
    progress: impl Fn(&Status) -> Progress,
) -> Result<(), Exit> {
    let begun = now();
    let mut told = String::new();
    loop {
        let state = client.status().map(|status| progress(&status));
        if state.is_err()
            && let Ok(other) = locate::connect(global)
        {
            *client = other; // a node that ends meanwhile is no reason to give up
        }
        let waits = match state {
            Ok(Progress::Done) => return Ok(()),
            Ok(Progress::Failed(text)) => {
                return Err(
                    Exit::error(format!("{subject}: {text}")).hint(format!("`phalanx explain {subject}` tells more"))
                );
            }
            Ok(Progress::Waits(text)) => text,
            Err(exit) => exit.text,
        };
        // Numbers that count down are no news.
        let news: String = waits.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        if news != told {
            anstream::eprintln!("{subject}: {waits}");
            told = news;
        }
        if now().since(begun) >= within_ms {
            let text = format!("{subject}: {waits}, still after {}", crate::config::duration_text(within_ms));
            return Err(Exit::code(EXIT_TIMED_OUT, text).hint(
                "the order is taken and the cluster goes on; `phalanx status` shows it, `--within` waits longer",
            ));
        }
        pause(LOOK_MS);
    }
}

/// State, place and reason of a service in a few words.
pub(super) fn state_text(service: &ServiceStatus) -> String {
    let node = service.node.as_deref().map_or_else(String::new, |node| format!(" on {node}"));
    let reason = service.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{}{node}{reason}", service.state)
}
