//! `phalanx disk show`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{ConfigurationRecord, NodeConfiguration};
use phalanx_messages::event::{EventDefinition, EventGroupDefinition};
use phalanx_messages::membership::{MemberEntry, MembershipRecord, Victim};
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister};
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord, ServiceRecord};
use phalanx_messages::service::ServiceDefinition;
use phalanx_protocol::events::{groups_of, in_words};
use phalanx_storage::{Access, Backend, ClusterDisk, Superblock};

use super::open::{open, unreadable};
use crate::cli::args::Output;
use crate::cli::report::disk::{
    ClaimReport, ConfigurationReport, ConfiguredNodeReport, DiskEventGroupReport, DiskEventReport, DiskReport,
    DiskServiceReport, MemberReport, MembershipReport, NodeIncarnationReport, RegisterContents, RegisterReport,
    RegistrationReport, SuperblockReport,
};
use crate::cli::{Exit, print};
use crate::config::EventDefinitions;

/// Everything on a disk.
struct Contents {
    superblock: Superblock,
    backend: Backend,
    registers: BTreeMap<NodeId, Option<NodeRegister>>,
    decisions: BTreeMap<NodeId, Option<DecisionRegister>>,
    membership: MembershipRecord,
    configuration: ConfigurationRecord,
    registration: RegistrationRecord,
}

/// The configuration that the newest membership record names.
pub(in crate::cli) fn configuration(disk: &ClusterDisk) -> Result<ConfigurationRecord, Exit> {
    let membership = disk.memberships().newest().map_err(unreadable)?.unwrap_or_default();
    match disk.configurations().find(membership.configuration).map_err(unreadable)? {
        Some(configuration) => Ok(configuration),
        None => Ok(disk.configurations().newest().map_err(unreadable)?.unwrap_or_default()),
    }
}

/// Configuration, services and events as they are defined, from the disk alone.
pub(in crate::cli) fn configuration_and_definitions(
    path: &Path,
) -> Result<(ConfigurationRecord, Vec<ServiceDefinition>, EventDefinitions), Exit> {
    let disk = open(path, Access::ReadOnly)?;
    let registration = disk.registrations().newest().map_err(unreadable)?.unwrap_or_default();
    let services = registration.services.values().map(|service| service.definition.clone()).collect();
    let events = registration.events.values().cloned().collect();
    let groups = registration.event_groups.values().cloned().collect();
    Ok((configuration(&disk)?, services, EventDefinitions { events, groups }))
}

fn read(disk: &ClusterDisk) -> Result<Contents, Exit> {
    let membership = disk.memberships().newest().map_err(unreadable)?.unwrap_or_default();
    let configuration = configuration(disk)?;
    Ok(Contents {
        superblock: disk.superblock().clone(),
        backend: disk.backend(),
        registers: disk.registers().read_all().map_err(unreadable)?,
        decisions: disk.decisions().read_all().map_err(unreadable)?,
        membership,
        configuration,
        registration: disk.registrations().newest().map_err(unreadable)?.unwrap_or_default(),
    })
}

pub(super) fn show(path: &Path, output: Output) -> Result<(), Exit> {
    let disk = open(path, Access::ReadOnly)?;
    let contents = read(&disk)?;
    match output {
        Output::Json => anstream::println!("{}", print::json(&report(&contents))?),
        Output::Text => anstream::print!("{}{}", disk.layout(), as_text(&contents)),
    }
    Ok(())
}

pub(super) const fn phase(phase: ClaimPhase) -> &'static str {
    match phase {
        ClaimPhase::None => "none",
        ClaimPhase::Claim => "claim",
        ClaimPhase::Owner => "owner",
        ClaimPhase::Withdrawn => "withdrawn",
        ClaimPhase::Resigned => "resigned",
    }
}

fn as_text(contents: &Contents) -> String {
    let Contents { superblock, backend, registers, decisions, membership, configuration, registration } = contents;
    let mut text = String::new();
    writeln!(
        text,
        "\ncluster {} ({})   {backend} disk for up to {} nodes, {} services\n",
        superblock.name, superblock.cluster, superblock.nodes_max, superblock.services_max
    )
    .ok();
    let heading =
        ["NODE", "INCARNATION", "SAYS", "HEARTBEAT", "CLAIM", "PHASE", "OWNED", "SEEN", "HEARS", "PILLS", "DECISION"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (node, register) in registers.iter().filter(|(node, _)| configuration.nodes.contains_key(node)) {
        let name = configuration.name_of(*node);
        let Some(register) = register else {
            rows.push(vec![name, "unreadable".to_owned()]);
            continue;
        };
        let decision = decisions.get(node).and_then(Option::as_ref).map_or_else(
            || "unreadable".to_owned(),
            |decision| format!("{} {}", decision.claim.term, phase(decision.claim.phase)),
        );
        let hears: Vec<String> = register.hears.iter().map(|node| configuration.name_of(node)).collect();
        let pills: Vec<String> = register
            .pills
            .iter()
            .map(|pill| format!("{}/{}", configuration.name_of(pill.target), pill.incarnation))
            .collect();
        rows.push(vec![
            name,
            register.incarnation.to_string(),
            format!("{:?}", register.own_state),
            register.heartbeat.to_string(),
            register.claim.term.to_string(),
            phase(register.claim.phase).to_owned(),
            register.claim.owned.to_string(),
            register.seen.to_string(),
            hears.join(" "),
            pills.join(" "),
            decision,
        ]);
    }
    text += &print::table(&rows);
    writeln!(
        text,
        "\nmembership {}   formed in term {}   configuration {}",
        membership.revision, membership.formation, membership.configuration
    )
    .ok();
    let mut rows = vec![["NODE", "STATE", "INCARNATION", "ADDRESS", "STEP"].map(str::to_owned).to_vec()];
    for (node, configured) in &configuration.nodes {
        let entry = membership.nodes.get(node);
        let step = entry.and_then(|entry| entry.step.as_ref()).map_or_else(
            || "-".to_owned(),
            |step| {
                format!(
                    "{} {} level {} barrier {} {:?}",
                    step.transition,
                    print::kind(step.kind),
                    step.level,
                    step.barrier,
                    step.phase
                )
            },
        );
        rows.push(vec![
            configured.name.clone(),
            print::state(entry.map(|entry| entry.state).unwrap_or_default()).to_owned(),
            entry.map_or(0, |entry| entry.incarnation.0).to_string(),
            configured.address.clone(),
            step,
        ]);
    }
    text += &print::table(&rows);
    writeln!(text, "\nregistration {}", registration.revision).ok();
    let mut rows = vec![["SERVICE", "STATE", "NODE", "WANTED", "OPERATION"].map(str::to_owned).to_vec()];
    for (name, service) in &registration.services {
        let run = &service.run;
        let node = if run.state.is_idle() { "-".to_owned() } else { configuration.name_of(run.node.node) };
        rows.push(vec![
            name.clone(),
            format!("{:?}", run.state),
            node,
            run.want.to_string(),
            run.operation.to_string(),
        ]);
    }
    text + &print::table(&rows) + &definitions_text(&registration_report(registration, configuration))
}

fn report(contents: &Contents) -> DiskReport {
    let Contents { superblock, backend, registers, decisions, membership, configuration, registration } = contents;
    let name = |node: &NodeId| configuration.name_of(*node);
    let configured = |(node, _): &(&NodeId, &Option<NodeRegister>)| configuration.nodes.contains_key(node);
    let register = |(node, register): (&NodeId, &Option<NodeRegister>)| RegisterReport {
        node: name(node),
        readable: register.is_some(),
        contents: register.as_ref().map(|register| RegisterContents {
            incarnation: register.incarnation.0,
            own_state: format!("{:?}", register.own_state),
            heartbeat: register.heartbeat,
            claim: claim(&register.claim),
            seen: register.seen.to_string(),
            hears: register.hears.iter().map(|node| name(&node)).collect(),
            pills: register
                .pills
                .iter()
                .map(|pill| NodeIncarnationReport { node: name(&pill.target), incarnation: pill.incarnation.0 })
                .collect(),
            decision: decisions.get(node).and_then(Option::as_ref).map(|decision| claim(&decision.claim)),
        }),
    };
    DiskReport {
        superblock: SuperblockReport {
            cluster: superblock.cluster.to_string(),
            name: superblock.name.clone(),
            nodes_max: superblock.nodes_max,
            services_max: superblock.services_max,
            backend: backend.name().to_owned(),
            profile: superblock.profile,
            created_at_ms: superblock.created_at_ms,
        },
        registers: registers.iter().filter(configured).map(register).collect(),
        membership: membership_report(membership, configuration),
        configuration: configuration_report(configuration),
        registration: registration_report(registration, configuration),
    }
}

fn claim(claim: &Claim) -> ClaimReport {
    ClaimReport { term: claim.term.0, phase: phase(claim.phase).to_owned(), owned: claim.owned.0 }
}

fn membership_report(membership: &MembershipRecord, configuration: &ConfigurationRecord) -> MembershipReport {
    let member = |(node, entry): (&NodeId, &MemberEntry)| MemberReport {
        node: configuration.name_of(*node),
        state: entry.state,
        incarnation: entry.incarnation.0,
        level: entry.step.as_ref().map(|step| step.level.0),
        reason: entry.reason.clone(),
    };
    let ghost = |(node, ghost): (&NodeId, &Victim)| NodeIncarnationReport {
        node: configuration.name_of(*node),
        incarnation: ghost.incarnation.0,
    };
    MembershipReport {
        revision: membership.revision.to_string(),
        formation: membership.formation.0,
        nodes: membership.nodes.iter().map(member).collect(),
        ghosts: membership.ghosts.iter().map(ghost).collect(),
    }
}

fn configuration_report(configuration: &ConfigurationRecord) -> ConfigurationReport {
    let node = |(id, node): (&NodeId, &NodeConfiguration)| ConfiguredNodeReport {
        id: id.0,
        name: node.name.clone(),
        address: node.address.clone(),
        has_key: node.public_key.is_some(),
    };
    ConfigurationReport {
        revision: configuration.revision.to_string(),
        nodes: configuration.nodes.iter().map(node).collect(),
    }
}

fn registration_report(registration: &RegistrationRecord, configuration: &ConfigurationRecord) -> RegistrationReport {
    let service = |(name, service): (&String, &ServiceRecord)| DiskServiceReport {
        name: name.clone(),
        state: format!("{:?}", service.run.state),
        wanted: service.run.want,
        node: (!service.run.state.is_idle()).then(|| configuration.name_of(service.run.node.node)),
    };
    let (events, event_groups) = events_report(registration, configuration);
    RegistrationReport {
        revision: registration.revision.to_string(),
        services: registration.services.iter().map(service).collect(),
        events,
        event_groups,
        standby: registration.standby.iter().map(|node| configuration.name_of(node)).collect(),
    }
}

fn events_report(
    registration: &RegistrationRecord,
    configuration: &ConfigurationRecord,
) -> (Vec<DiskEventReport>, Vec<DiskEventGroupReport>) {
    let event = |event: &EventDefinition| DiskEventReport {
        name: event.name.clone(),
        watcher: event.watcher.clone(),
        action: event.action.as_ref().map(|action| in_words(&action.run)),
        groups: groups_of(registration, &event.name),
    };
    let group = |group: &EventGroupDefinition| {
        let names_it = |service: &&ServiceRecord| service.definition.event_group.as_ref() == Some(&group.name);
        let services = registration.services.values().filter(names_it);
        DiskEventGroupReport {
            name: group.name.clone(),
            enabled: group.enabled,
            events: group.events.clone(),
            services: services.map(|service| service.definition.name.clone()).collect(),
            nodes: group.nodes.iter().map(|node| configuration.name_of(*node)).collect(),
        }
    };
    (registration.events.values().map(event).collect(), registration.event_groups.values().map(group).collect())
}

/// Events and event groups, and who is on standby; nothing of what there is not.
fn definitions_text(report: &RegistrationReport) -> String {
    let names = |names: &[String], none: &str| if names.is_empty() { none.to_owned() } else { names.join(" ") };
    let mut text = String::new();
    if !report.standby.is_empty() {
        writeln!(text, "\non standby: {}", report.standby.join(" ")).ok();
    }
    if !report.events.is_empty() {
        let mut rows = vec![["EVENT", "WATCHER", "GROUPS", "ACTION"].map(str::to_owned).to_vec()];
        rows.extend(report.events.iter().map(|event| {
            let DiskEventReport { name, watcher, action, groups } = event;
            let action = action.as_deref().and_then(|action| action.lines().next()).unwrap_or("-");
            vec![name.clone(), watcher.clone(), names(groups, "-"), action.to_owned()]
        }));
        text += &format!("\n{}", print::table(&rows));
    }
    if !report.event_groups.is_empty() {
        let mut rows = vec![["GROUP", "ENABLED", "SERVICES", "NODES", "EVENTS"].map(str::to_owned).to_vec()];
        rows.extend(report.event_groups.iter().map(|group| {
            let DiskEventGroupReport { name, enabled, events, services, nodes } = group;
            let enabled = if *enabled { "yes" } else { "no" }.to_owned();
            let everywhere = if services.is_empty() { "all" } else { "-" };
            vec![name.clone(), enabled, names(services, "-"), names(nodes, everywhere), names(events, "-")]
        }));
        text += &format!("\n{}", print::table(&rows));
    }
    text
}
