//! `phalanx event ...`: events and event groups, and what occurred.

use std::time::Duration;

use phalanx_messages::admin::{AdminAnswer, AdminRequest};
use phalanx_messages::event_report::{EventGroupStatus, EventStatus, EventsReport, OccurrenceReport};
use phalanx_messages::order::{DefinitionChanges, EventChange, EventGroupChange, RegistrationOrder};

use super::args::{EventCommand, Global, Output};
use super::client::{Client, unexpected};
use super::follow::{follow, print_line};
use super::order::{OrderReport, carry_out, planned};
use super::service::name_of;
use super::show::EXIT_UNKNOWN;
use super::{Exit, locate, print};
use crate::config::{EventDefinitions, duration_text, events_text};
use crate::log::utc;

/// An action function that is tested may take this long.
const TESTED_WITHIN: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn run(command: EventCommand, global: &Global) -> Result<(), Exit> {
    match command {
        EventCommand::List => list(global),
        EventCommand::Show { name } => show(&name, global),
        EventCommand::Enable { group } => enable(&group, true, global),
        EventCommand::Disable { group } => enable(&group, false, global),
        EventCommand::Remove { names, dry_run } => remove(&names, dry_run, global),
        EventCommand::Tail { follow: true, for_ms, lines } => follow_occurrences(lines, for_ms, global),
        EventCommand::Tail { follow: false, lines, .. } => {
            let request = AdminRequest::Occurrences { count: lines, follow: false };
            print_all(occurrences(&mut locate::connect(global)?, &request)?, global.output)
        }
        EventCommand::Test { name, out, dry_run } => {
            let mut client = locate::connect(global)?;
            client.set_patience(TESTED_WITHIN);
            let request = AdminRequest::TestEvent { name, out: out.into_iter().collect(), dry_run };
            tested(occurrences(&mut client, &request)?, global.output)
        }
    }
}

/// Every event and event group as it is defined.
pub(super) fn definitions(client: &mut Client) -> Result<EventDefinitions, Exit> {
    let answer = client.ask(&AdminRequest::EventDefinitions)?;
    let AdminAnswer::EventDefinitions { events, groups } = answer else { return Err(unexpected(&answer)) };
    Ok(EventDefinitions { events, groups })
}

fn report(client: &mut Client) -> Result<EventsReport, Exit> {
    let answer = client.ask(&AdminRequest::Events)?;
    let AdminAnswer::Events(report) = answer else { return Err(unexpected(&answer)) };
    Ok(*report)
}

fn occurrences(client: &mut Client, request: &AdminRequest) -> Result<Vec<OccurrenceReport>, Exit> {
    let answer = client.ask(request)?;
    let AdminAnswer::Occurrences(occurrences) = answer else { return Err(unexpected(&answer)) };
    Ok(occurrences)
}

fn list(global: &Global) -> Result<(), Exit> {
    let report = report(&mut locate::connect(global)?)?;
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&report)?),
        Output::Text => anstream::print!("{}\n{}", groups_text(&report.groups), events_table(&report)),
    }
    Ok(())
}

fn show(name: &str, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let EventsReport { node, mut groups, mut events } = report(&mut client)?;
    let known: Vec<String> =
        events.iter().map(|it| &it.name).chain(groups.iter().map(|it| &it.name)).cloned().collect();
    groups.retain(|group| group.name == name);
    events.retain(|event| event.name == name);
    if groups.is_empty() && events.is_empty() {
        return Err(unknown(name, &known));
    }
    let found = EventsReport { node, groups, events };
    if global.output == Output::Json {
        anstream::println!("{}", print::json(&found)?);
        return Ok(());
    }
    let status = client.status()?;
    let mut defined = definitions(&mut client)?;
    defined.events.retain(|event| event.name == name);
    defined.groups.retain(|group| group.name == name);
    if !found.groups.is_empty() {
        anstream::print!("{}", groups_text(&found.groups));
    }
    if !found.events.is_empty() {
        anstream::print!("{}", events_table(&found));
    }
    anstream::print!("{}", events_text(&defined, &|node| name_of(&status, node)));
    Ok(())
}

fn unknown(name: &str, known: &[String]) -> Exit {
    let text = format!("there is no event and no event group `{name}`");
    let known = if known.is_empty() { "neither".to_owned() } else { known.join(", ") };
    Exit::code(EXIT_UNKNOWN, text).hint(format!("the cluster has: {known}"))
}

/// Forgets all of them in one transaction, or none: nothing that is left may name one.
fn remove(names: &[String], dry_run: bool, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let order = RegistrationOrder::Apply(removals(&definitions(&mut client)?, names)?);
    let plan = planned(&mut client, &order)?;
    if !dry_run {
        carry_out(&mut client, &order)?;
    }
    match global.output {
        Output::Json => {
            let (order, subject) = ("remove".to_owned(), names.join(" "));
            let report = OrderReport { order, subject, plan, applied: !dry_run, service: None };
            anstream::println!("{}", print::json(&report)?);
        }
        Output::Text => {
            let done = if dry_run { "would be removed" } else { "removed" };
            names.iter().for_each(|name| anstream::println!("{name}: {done}"));
        }
    }
    Ok(())
}

fn removals(known: &EventDefinitions, names: &[String]) -> Result<DefinitionChanges, Exit> {
    let EventDefinitions { events, groups } = known;
    let is_known = |name: &&String| {
        events.iter().any(|event| event.name == **name) || groups.iter().any(|group| group.name == **name)
    };
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<String> =
            events.iter().map(|it| &it.name).chain(groups.iter().map(|it| &it.name)).cloned().collect();
        return Err(unknown(name, &known));
    }
    let events = events.iter().filter(|event| names.contains(&event.name)).cloned();
    let groups = groups.iter().filter(|group| names.contains(&group.name)).cloned();
    Ok(DefinitionChanges {
        services: Vec::new(),
        events: events.map(|event| EventChange { before: Some(event), after: None }).collect(),
        event_groups: groups.map(|group| EventGroupChange { before: Some(group), after: None }).collect(),
    })
}

fn enable(group: &str, enabled: bool, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    carry_out(&mut client, &RegistrationOrder::EnableGroup { group: group.to_owned(), enabled })?;
    let status = report(&mut client)?.groups.into_iter().find(|known| known.name == group);
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&status.unwrap_or_default())?),
        Output::Text => anstream::println!("{group}: {}", if enabled { "enabled" } else { "disabled" }),
    }
    Ok(())
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

fn groups_text(groups: &[EventGroupStatus]) -> String {
    let mut rows = vec![["GROUP", "ENABLED", "ON", "SERVICES", "NODES", "EVENTS"].map(str::to_owned).to_vec()];
    rows.extend(groups.iter().map(|group| {
        let EventGroupStatus { name, enabled, events, services, nodes, enabled_on } = group;
        let enabled = if *enabled { "yes" } else { "no" }.to_owned();
        let nodes = if services.is_empty() && nodes.is_empty() { "all".to_owned() } else { names(nodes) };
        vec![name.clone(), enabled, names(enabled_on), names(services), nodes, names(events)]
    }));
    print::table(&rows)
}

fn events_table(report: &EventsReport) -> String {
    let heading = ["EVENT", "WATCHER", "HERE", "OCCURRED", "ACTED", "QUIET", "ACTION", "NOTE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(report.events.iter().map(|event| {
        let EventStatus { name, watcher, action, quiet_ms, state, reason, occurrences, acted, .. } = event;
        vec![
            name.clone(),
            watcher.clone(),
            state.clone(),
            occurrences.to_string(),
            acted.to_string(),
            if *quiet_ms == 0 { "-".to_owned() } else { duration_text(*quiet_ms) },
            action.as_deref().map_or("-", |action| action.lines().next().unwrap_or("-")).to_owned(),
            reason.clone().unwrap_or_default(),
        ]
    }));
    format!("on {}:\n{}", report.node, print::table(&rows))
}

/// Prints what became of a test; a failed action function is an error.
fn tested(occurrences: Vec<OccurrenceReport>, output: Output) -> Result<(), Exit> {
    let failed =
        occurrences.iter().find(|occurrence| matches!(occurrence.done.as_str(), "failed" | "busy" | "dropped"));
    let failed = failed.map(|it| Exit::error(format!("the action of event `{}`: {}: {}", it.event, it.done, it.text)));
    print_all(occurrences, output)?;
    failed.map_or(Ok(()), Err)
}

fn print_all(occurrences: Vec<OccurrenceReport>, output: Output) -> Result<(), Exit> {
    match output {
        Output::Json => anstream::println!("{}", print::json(&occurrences)?),
        Output::Text => occurrences.iter().for_each(|occurrence| anstream::println!("{}", line(occurrence))),
    }
    Ok(())
}

fn line(occurrence: &OccurrenceReport) -> String {
    let OccurrenceReport { at_ms, node, event, service, out, done, text, repeats, test, .. } = occurrence;
    let service = service.as_deref().map_or_else(String::new, |service| format!(" of {service}"));
    let out: Vec<String> = out.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = if text.is_empty() { String::new() } else { format!(": {text}") };
    let again = if *repeats == 0 { String::new() } else { format!(" (again {repeats} times)") };
    let test = if *test { " (test)" } else { "" };
    let out = if out.is_empty() { String::new() } else { format!(" [{}]", out.join(" ")) };
    format!("{} {node} {event}{service}{test}{out} {done}{text}{again}", utc(*at_ms))
}

fn follow_occurrences(lines: u32, for_ms: Option<u64>, global: &Global) -> Result<(), Exit> {
    let request = AdminRequest::Occurrences { count: lines, follow: true };
    follow(locate::connect(global)?, &request, for_ms, |answer| {
        let AdminAnswer::Occurred(occurrence) = answer else { return Err(unexpected(&answer)) };
        print_line(&occurrence, || line(&occurrence), global.output)
    })
}
