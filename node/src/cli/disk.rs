//! `phalanx disk create` and `phalanx disk show`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use phalanx_actors::clock::wall_now_ms;
use phalanx_messages::NodeId;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::register::{ClaimPhase, NodeRegister};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_storage::{ClusterDisk, Layout, MmapDisk, Superblock};
use serde_json::{Value, json};

use super::args::{DiskCommand, Global, Output};
use super::node::load;
use super::{Exit, print};
use crate::config::NodeConfig;

/// Exit code "shared-disk I/O".
const EXIT_DISK: u8 = 74;
/// Exit code "refused without --force".
const EXIT_REFUSED: u8 = 107;

pub(super) fn run(command: DiskCommand, global: &Global) -> Result<(), Exit> {
    match command {
        DiskCommand::Create { config, nodes_max, services_max, force } => {
            let config = load(&config)?;
            if config.disk.exists() && !force {
                let text = format!("{} exists", config.disk.display());
                return Err(Exit::code(EXIT_REFUSED, text)
                    .hint("`phalanx disk show` shows what it is; `--force` overwrites it"));
            }
            let layout = create(&config, nodes_max, services_max)?;
            anstream::print!("{layout}");
            anstream::println!("{} formatted for cluster {}", config.disk.display(), config.cluster);
            Ok(())
        }
        DiskCommand::Show { path } => show(&path, global.output),
    }
}

/// Formats the disk of a configuration.
pub(crate) fn create(config: &NodeConfig, nodes_max: u16, services_max: u32) -> Result<Layout, Exit> {
    let highest = config.cluster_nodes.iter().map(|node| node.id.0).max().unwrap_or(0);
    if highest >= nodes_max {
        let text = format!("node id {highest} does not fit a disk for {nodes_max} nodes");
        return Err(Exit::error(text).hint(format!("`--nodes-max {}` makes it fit", highest + 1)));
    }
    let layout = Layout::new(nodes_max, services_max).map_err(|error| Exit::error(error.to_string()))?;
    let failed = |error: &dyn std::error::Error| {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Exit::code(EXIT_DISK, format!("failed to format {}: {error}{cause}", config.disk.display()))
    };
    let disk = MmapDisk::create(&config.disk, layout.blocks_needed()).map_err(|error| failed(&error))?;
    let superblock = Superblock {
        cluster: uuid::Uuid::now_v7(),
        name: config.cluster.clone(),
        nodes_max,
        services_max,
        profile: config.profile(),
        created_at_ms: wall_now_ms(),
    };
    let services = RegistrationRecord::of_definitions(config.services.iter().cloned());
    phalanx_storage::format(&disk, &superblock, &config.configuration(), &services).map_err(|error| failed(&error))?;
    Ok(layout)
}

fn open(path: &Path) -> Result<ClusterDisk, Exit> {
    let disk = MmapDisk::open_read_only(path)
        .map_err(|error| Exit::code(EXIT_DISK, format!("failed to open {}: {error}", path.display())))?;
    ClusterDisk::open(Arc::new(disk)).map_err(|error| {
        Exit::code(EXIT_DISK, format!("{} is not a Phalanx disk: {error}", path.display()))
            .hint("`phalanx disk create` formats one")
    })
}

fn unreadable(error: impl std::fmt::Display) -> Exit {
    Exit::code(EXIT_DISK, error.to_string())
}

/// Everything on a disk.
struct Contents {
    superblock: Superblock,
    registers: std::collections::BTreeMap<NodeId, Option<NodeRegister>>,
    decisions: std::collections::BTreeMap<NodeId, Option<phalanx_messages::registration::DecisionRegister>>,
    membership: MembershipRecord,
    configuration: ConfigurationRecord,
    registration: RegistrationRecord,
}

fn read(disk: &ClusterDisk) -> Result<Contents, Exit> {
    let membership = disk.memberships().newest().map_err(unreadable)?.unwrap_or_default();
    let named = disk.configurations().find(membership.configuration).map_err(unreadable)?;
    let configuration = match named {
        Some(configuration) => configuration,
        None => disk.configurations().newest().map_err(unreadable)?.unwrap_or_default(),
    };
    Ok(Contents {
        superblock: disk.superblock().clone(),
        registers: disk.registers().read_all().map_err(unreadable)?,
        decisions: disk.decisions().read_all().map_err(unreadable)?,
        membership,
        configuration,
        registration: disk.registrations().newest().map_err(unreadable)?.unwrap_or_default(),
    })
}

fn show(path: &Path, output: Output) -> Result<(), Exit> {
    let disk = open(path)?;
    let contents = read(&disk)?;
    match output {
        Output::Json => anstream::println!("{}", print::json(&as_json(&contents))?),
        Output::Text => anstream::print!("{}{}", disk.layout(), as_text(&contents)),
    }
    Ok(())
}

const fn phase(phase: ClaimPhase) -> &'static str {
    match phase {
        ClaimPhase::None => "none",
        ClaimPhase::Claim => "claim",
        ClaimPhase::Owner => "owner",
        ClaimPhase::Withdrawn => "withdrawn",
        ClaimPhase::Resigned => "resigned",
    }
}

fn as_text(contents: &Contents) -> String {
    let Contents { superblock, registers, decisions, membership, configuration, registration } = contents;
    let mut text = String::new();
    writeln!(
        text,
        "\ncluster {} ({})   up to {} nodes, {} services\n",
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
    text + &print::table(&rows)
}

fn as_json(contents: &Contents) -> Value {
    let Contents { superblock, registers, decisions, membership, configuration, registration } = contents;
    let name = |node: &NodeId| configuration.name_of(*node);
    let claim = |claim: &phalanx_messages::register::Claim| json!({"term": claim.term, "phase": phase(claim.phase), "owned": claim.owned});
    let register = |node: &NodeId, register: &Option<NodeRegister>| {
        let Some(register) = register else { return json!({"node": name(node), "readable": false}) };
        json!({
            "node": name(node),
            "readable": true,
            "incarnation": register.incarnation,
            "own_state": format!("{:?}", register.own_state),
            "heartbeat": register.heartbeat,
            "claim": claim(&register.claim),
            "seen": register.seen.to_string(),
            "hears": register.hears.iter().map(|node| name(&node)).collect::<Vec<_>>(),
            "pills": register.pills.iter().map(|pill| json!({"node": name(&pill.target), "incarnation": pill.incarnation})).collect::<Vec<_>>(),
            "decision": decisions.get(node).and_then(Option::as_ref).map(|decision| claim(&decision.claim)),
        })
    };
    let configured = |node: &&NodeId| configuration.nodes.contains_key(node);
    json!({
        "superblock": {
            "cluster": superblock.cluster, "name": superblock.name, "nodes_max": superblock.nodes_max,
            "services_max": superblock.services_max, "profile": superblock.profile, "created_at_ms": superblock.created_at_ms,
        },
        "registers": registers.iter().filter(|(node, _)| configured(node)).map(|(node, it)| register(node, it)).collect::<Vec<_>>(),
        "membership": {
            "revision": membership.revision.to_string(),
            "formation": membership.formation,
            "nodes": membership.nodes.iter().map(|(node, entry)| json!({
                "node": name(node), "state": entry.state, "incarnation": entry.incarnation,
                "level": entry.step.as_ref().map(|step| step.level), "reason": entry.reason,
            })).collect::<Vec<_>>(),
            "ghosts": membership.ghosts.iter().map(|(node, ghost)| json!({"node": name(node), "incarnation": ghost.incarnation})).collect::<Vec<_>>(),
        },
        "configuration": {
            "revision": configuration.revision.to_string(),
            "nodes": configuration.nodes.iter().map(|(id, node)| json!({"id": id, "name": node.name, "address": node.address, "has_key": node.public_key.is_some()})).collect::<Vec<_>>(),
        },
        "registration": {
            "revision": registration.revision.to_string(),
            "services": registration.services.iter().map(|(service, record)| json!({
                "name": service, "state": format!("{:?}", record.run.state), "wanted": record.run.want,
                "node": (!record.run.state.is_idle()).then(|| name(&record.run.node.node)),
            })).collect::<Vec<_>>(),
        },
    })
}
