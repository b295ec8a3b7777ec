//! `phalanx node ...` and `phalanx config check`.

use std::ffi::OsString;
use std::path::Path;

use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminRequest, Status};
use phalanx_messages::configuration::NodeConfiguration;
use phalanx_messages::membership::NodeState;
use phalanx_messages::profile::{TimingInput, TimingProfile};
use phalanx_storage::opening::{self, OpenError};
use phalanx_storage::{Access, ClusterDisk};

use super::args::{Global, NodeCommand, Output};
use super::client::EXIT_UNREACHABLE;
use super::configuration::panic_text;
use super::disk::EXIT_DISK;
use super::disk::open::cannot_open;
use super::{Exit, disk as disk_command, locate, membership, print, service};
use crate::config::{Checked, ClusterNode, ConfigErrors, NodeConfig, check_file};
use crate::containment::{ContainmentChoice, containment_key, pause};
use crate::daemon;
use crate::warden::{self, RegisterNotice, WardenSettings, id_lock};

/// Exit code "configuration".
pub(crate) const EXIT_CONFIGURATION: u8 = 78;

pub(super) fn run(command: NodeCommand, global: &Global) -> Result<u8, Exit> {
    match command {
        NodeCommand::Run { config, no_wait, subreaper } => run_node(&config, no_wait, subreaper),
        NodeCommand::Daemon { config, .. } => {
            start_log();
            let config = load(&config)?;
            daemon::run(&config).map_err(Exit::from)
        }
        NodeCommand::List => list(global).map(|()| 0),
        NodeCommand::Standby { name, following } => service::standby(&name, true, following, global).map(|()| 0),
        NodeCommand::Unstandby { name, following } => service::standby(&name, false, following, global).map(|()| 0),
        NodeCommand::Leave { name } => leave(name, global).map(|()| 0),
        NodeCommand::Add(arguments) => membership::add(arguments, global).map(|()| 0),
        NodeCommand::Remove { name } => membership::remove(name, global).map(|()| 0),
        NodeCommand::Set { name, pairs } => membership::set(&name, &pairs, global).map(|()| 0),
    }
}

/// Log lines of the daemon, on stderr; `RUST_LOG` chooses them.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    log.try_init().ok(); // somebody may have one already
}

pub(crate) fn load(file: &Path) -> Result<NodeConfig, Exit> {
    NodeConfig::load(file).map_err(|errors| configuration_errors(&errors))
}

pub(crate) fn configuration_errors(errors: &ConfigErrors) -> Exit {
    for error in &errors.0 {
        anstream::eprintln!("{:?}", miette::Report::new(error.clone()));
    }
    let count = errors.0.len();
    Exit::code(EXIT_CONFIGURATION, format!("{count} mistake{} in the configuration", if count == 1 { "" } else { "s" }))
}

pub(super) fn check(file: &Path) -> Result<(), Exit> {
    match check_file(file).map_err(|errors| configuration_errors(&errors))? {
        Checked::Cluster(config) => {
            warn_of_agents(&config.nodes);
            anstream::println!(
                "{}: for cluster {}, {} nodes, {} services: no mistake",
                file.display(),
                config.cluster,
                config.nodes.len(),
                config.services.len()
            );
        }
        Checked::Node(config) => {
            warn_of_agents(&config.cluster_nodes);
            let services = config.services.len();
            anstream::println!(
                "{}: node {} of cluster {}, {} subsystems, {services} services: no mistake",
                file.display(),
                config.node,
                config.cluster,
                config.subsystems.len()
            );
        }
        Checked::Template(template) => anstream::println!(
            "{}: for `phalanx dev`, {} subsystems, {} services: no mistake",
            file.display(),
            template.subsystems.len(),
            template.services.len()
        ),
    }
    Ok(())
}

/// Fence methods are kept and not used: nobody may learn that only when a node is to be fenced.
fn warn_of_agents(nodes: &[ClusterNode]) {
    let with: Vec<&str> = nodes
        .iter()
        .filter(|node| node.settings.fence.as_ref().is_some_and(|fence| !fence.is_empty()))
        .map(|node| node.name.as_str())
        .collect();
    if !with.is_empty() {
        anstream::eprintln!(
            "warning: [fencing] names agents for {}; this version keeps them in the database and runs no fence agent: a \
             death without another proof waits for `phalanx fence confirm NODE`",
            with.join(", ")
        );
    }
}

/// What the membership database on the disk says of the node: its file is used by `disk create` only.
fn as_configured(disk: &ClusterDisk, config: &NodeConfig) -> Result<(NodeId, NodeConfiguration), Exit> {
    let record = disk_command::configuration(disk)?;
    let found = record.id_of(&config.node).and_then(|id| Some((id, record.nodes.get(&id)?.clone())));
    let Some((id, node)) = found else {
        let known: Vec<&str> = record.nodes.values().map(|node| node.name.as_str()).collect();
        let text = format!("node `{}` is not in the membership database, which has {}", config.node, known.join(", "));
        return Err(Exit::code(EXIT_CONFIGURATION, text)
            .hint(format!("`phalanx node add {} --address HOST:PORT` adds it while the cluster runs", config.node)));
    };
    if id != config.id {
        anstream::eprintln!(
            "warning: `id` of {} is {} in its file and {id} on the disk, which counts",
            node.name,
            config.id
        );
    }
    if let Some(panic) = config.panic.filter(|panic| *panic != node.panic) {
        anstream::eprintln!(
            "warning: `panic` of {} is {} in its file and {} on the disk, which counts; `phalanx node set {} panic=..` \
             changes it",
            node.name,
            panic_text(panic),
            panic_text(node.panic),
            node.name
        );
    }
    Ok((id, node))
}

/// Becomes the warden of the node.
fn run_node(file: &Path, no_wait: bool, subreaper: bool) -> Result<u8, Exit> {
    let config = load(file)?;
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|error| Exit::error(format!("failed to make `state_dir` {}: {error}", config.state_dir.display())))?;
    let what = format!("the shared disk {}", config.disk.display());
    // A disk that is not there, or is being formatted, may come; one that is wrong never waits.
    let mut wrong = None;
    let disk = id_lock::wait_for(&what, no_wait, || match opening::open(&config.disk, Access::ReadWrite) {
        Ok(disk) => Ok(Ok(disk)),
        Err(OpenError::Missing { .. }) => Ok(Err("it is not there (`phalanx disk create` makes it)".to_owned())),
        Err(OpenError::Busy { .. }) => Ok(Err("it is being formatted".to_owned())),
        Err(error) => {
            wrong = Some(cannot_open(&error));
            Err(error.to_string())
        }
    });
    let waited_for = |text| Exit::code(EXIT_DISK, text).hint("without --no-wait the node waits for it");
    let disk = disk.map_err(|text| wrong.unwrap_or_else(|| waited_for(text)))?;
    let superblock = disk.superblock().clone();
    if superblock.name != config.cluster {
        let text = format!(
            "disk {} belongs to cluster `{}`, not `{}`",
            config.disk.display(),
            superblock.name,
            config.cluster
        );
        return Err(
            Exit::code(EXIT_CONFIGURATION, text).hint("`path` under [disk], or `name` under [cluster], is wrong")
        );
    }
    if let Some(text) = other_timing(&config.profile, &superblock.profile) {
        eprintln!("the timing of the disk is used, and {} says otherwise: {text}", config.file.display());
    }
    let (id, configured) = as_configured(&disk, &config)?;
    let program =
        std::env::current_exe().map_err(|error| Exit::error(format!("failed to find this program: {error}")))?;
    let words = |words: &[&OsString]| words.iter().map(|word| (*word).clone()).collect::<Vec<_>>();
    let (program, node) = (program.into_os_string(), OsString::from(&config.node));
    let word = OsString::from;
    let settings = WardenSettings {
        node_name: config.node.clone(),
        containment_key: containment_key(superblock.cluster, &config.disk, id),
        containment: if subreaper { ContainmentChoice::Subreaper } else { ContainmentChoice::Best },
        id_lock: config.state_dir.join(format!("{}.lock", config.node)),
        no_wait,
        log_dir: config.state_dir.join("commands"),
        daemon_command: words(&[
            &program,
            &word("node"),
            &word("daemon"),
            &node,
            &word("--config"),
            &config.file.clone().into_os_string(),
        ]),
        keeper_command: words(&[&program, &word("warden-keeper")]),
        watchdog_ms: superblock.profile.watchdog_ms,
        stop_ms: superblock.profile.stop_ms,
        shutdown_ms: configured.shutdown_ms,
        panic: configured.panic,
        notice: Box::new(RegisterNotice::new(disk, id)),
    };
    warden::run(settings).map_err(Exit::error)
}

/// Where the timing of a file differs from that of the disk, which counts.
fn other_timing(file: &TimingProfile, disk: &TimingProfile) -> Option<String> {
    let differs = TimingInput::ALL.into_iter().filter(|input| input.of(file) != input.of(disk));
    let told = differs.map(|input| {
        let (disk, file, unit) = (input.of(disk), input.of(file), input.unit());
        format!("{input} is {disk} {unit}, not {file} {unit}")
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn list(global: &Global) -> Result<(), Exit> {
    let nodes = locate::connect(global)?.status()?.nodes;
    match global.output {
        Output::Json => anstream::println!("{}", print::json(&nodes)?),
        Output::Text => anstream::print!("{}", print::nodes(&nodes)),
    }
    Ok(())
}

fn leave(name: Option<String>, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let status = client.status()?;
    let name = name.unwrap_or_else(|| status.node.clone());
    client.ask(&AdminRequest::Leave { node: Some(name.clone()) })?;
    loop {
        let state =
            locate::connect(global).and_then(|mut client| client.status()).map(|status| state_of(&status, &name));
        match state {
            Ok(Some(NodeState::Inactive)) => break,
            // The last node to leave takes its daemon with it.
            Err(exit) if exit.code == EXIT_UNREACHABLE => break,
            Ok(_) => {}
            Err(exit) => return Err(exit),
        }
        pause(20);
    }
    anstream::println!("{name} has left");
    Ok(())
}

pub(super) fn state_of(status: &Status, name: &str) -> Option<NodeState> {
    status.nodes.iter().find(|node| node.name == name).map(|node| node.state)
}
