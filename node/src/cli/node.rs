//! `phalanx node ...` and `phalanx config check`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use phalanx_messages::NodeId;
use phalanx_messages::admin::{AdminRequest, Status};
use phalanx_messages::configuration::{NodeConfiguration, PanicPolicy};
use phalanx_messages::membership::NodeState;
use phalanx_messages::profile::{TimingInput, TimingProfile};
use phalanx_storage::opening::OpenError;
use phalanx_storage::{Backend, ClusterDisk};

use super::args::{Global, NodeCommand, Output};
use super::configuration::panic_text;
use super::disk::EXIT_DISK;
use super::disk::open::cannot_open;
use super::interrupt::{self, EXIT_INTERRUPTED};
use super::{Exit, disk as disk_command, locate, membership, print, service};
use crate::config::{Checked, ClusterNode, ConfigErrors, NodeConfig, check_file};
use crate::containment::{ContainmentChoice, containment_key, now, pause};
use crate::daemon;
use crate::fence_agents;
use crate::test_host;
use crate::waiting::{self, Patience, Unmet};
use crate::warden::{self, RegisterNotice, WardenSettings};
use crate::watchdog::{DevicePath, Disarm};

/// Exit code "configuration".
pub(crate) const EXIT_CONFIGURATION: u8 = 78;
/// Exit code "try again".
pub(crate) const EXIT_TRY_AGAIN: u8 = 75;
/// Exit code "timed out".
const EXIT_TIMED_OUT: u8 = 124;

/// Nobody says for this long how a leave goes: then it is not waited for any longer, in milliseconds.
const SILENCE_MS: u64 = 10_000;

pub(super) fn run(command: NodeCommand, global: &Global) -> Result<u8, Exit> {
    match command {
        NodeCommand::Run { config, no_wait, subreaper } => run_node(&config, no_wait, subreaper),
        NodeCommand::Daemon { config, no_wait, .. } => {
            let kept = crate::log::start();
            daemon::run(&load(&config)?, no_wait, kept)
        }
        NodeCommand::List => list(global).map(|()| 0),
        NodeCommand::Standby { name, following } => service::standby(&name, true, following, global).map(|()| 0),
        NodeCommand::Unstandby { name, following } => service::standby(&name, false, following, global).map(|()| 0),
        NodeCommand::Add(arguments) => membership::add(arguments, global).map(|()| 0),
        NodeCommand::Remove { name } => membership::remove(name, global).map(|()| 0),
        NodeCommand::Set { name, pairs } => membership::set(&name, &pairs, global).map(|()| 0),
        NodeCommand::Leave { name, for_ms } => leave(name, for_ms, global).map(|()| 0),
    }
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
            warn_of_agents(&config.nodes, None);
            anstream::println!(
                "{}: for cluster {}, {} nodes, {} services: no mistake",
                file.display(),
                config.cluster,
                config.nodes.len(),
                config.services.len()
            );
        }
        Checked::Node(config) => {
            warn_of_agents(&config.cluster_nodes, Some(config.backend));
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

/// Agents that will not run: nobody may learn that only when a node is to be fenced. A file of a whole cluster names no disk.
fn warn_of_agents(nodes: &[ClusterNode], backend: Option<Backend>) {
    let has_agents = |node: &&ClusterNode| node.settings.fence.as_ref().is_some_and(|fence| !fence.is_empty());
    let with: Vec<&ClusterNode> = nodes.iter().filter(has_agents).collect();
    if with.is_empty() {
        return;
    }
    if backend == Some(Backend::Mmap) {
        let names: Vec<&str> = with.iter().map(|node| node.name.as_str()).collect();
        anstream::eprintln!(
            "warning: [fencing] names agents for {}; over an mmap disk all nodes share one host, so none is run: a death \
             without another proof waits for `phalanx fence confirm NODE`",
            names.join(", ")
        );
    }
    let agents = with.iter().flat_map(|node| node.settings.fence.iter().flatten());
    let missing: BTreeSet<&str> =
        agents.map(|agent| agent.agent.as_str()).filter(|agent| !fence_agents::is_installed(agent)).collect();
    for agent in missing {
        anstream::eprintln!(
            "warning: the fence agent {agent} is not installed on this host; every node may have to run it"
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

/// What keeps a node from starting, or its end while it waited.
fn unmet(unmet: Unmet, never: u8, not_now: u8) -> Result<u8, Exit> {
    match unmet {
        Unmet::Never(text) => Err(Exit::code(never, text)),
        Unmet::NotNow(text) => Err(Exit::code(not_now, text).hint("without `--no-wait` it would be waited for")),
        Unmet::Ended(text) => {
            anstream::eprintln!("{text}");
            Ok(0)
        }
    }
}

/// Makes the directories of the node's own files.
fn make_state_dir(config: &NodeConfig) -> Result<PathBuf, Exit> {
    let commands = daemon::command_logs(config);
    std::fs::create_dir_all(&commands).map_err(|error| {
        Exit::error(format!("failed to make {}: {error}", commands.display()))
            .hint(format!("`state_dir` in {} must name a directory that this user may write", config.file.display()))
    })?;
    Ok(commands)
}

/// Becomes the warden of the node.
fn run_node(file: &Path, no_wait: bool, subreaper: bool) -> Result<u8, Exit> {
    let config = load(file)?;
    // Heard from here on, so that a wish to end is not lost while something is waited for.
    let signals =
        warden::Signals::install().map_err(|error| Exit::error(format!("failed to watch signals: {error}")))?;
    daemon::load_keys(&config)?; // a wrong key never waits
    let log_dir = make_state_dir(&config)?;
    let what = format!("the shared disk {}", config.disk.display());
    let patience = Patience { no_wait, ended: &|| signals.leave_is_asked() };
    // A disk that is not there, or is being formatted, may come; one that is wrong never waits.
    let mut wrong = None;
    let disk = waiting::wait_for(&what, patience, || match test_host::open_disk(&config.disk) {
        Ok(disk) => Ok(Ok(disk)),
        Err(OpenError::Missing { .. }) => {
            Ok(Err(format!("it is not there (`phalanx disk create --config {}` makes it)", config.file.display())))
        }
        Err(OpenError::Busy { .. }) => Ok(Err("it is being formatted".to_owned())),
        Err(error) => {
            wrong = Some(cannot_open(&error));
            Err(error.to_string())
        }
    });
    let disk = match (disk, wrong) {
        (Ok(disk), _) => disk,
        (Err(_), Some(wrong)) => return Err(wrong),
        (Err(why), None) => return unmet(why, EXIT_DISK, EXIT_DISK),
    };
    if let Some(text) = daemon::other_backend(&config, &disk) {
        return Err(Exit::code(EXIT_CONFIGURATION, text).hint("all nodes must reach one disk in one way"));
    }
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
    if configured.panic == PanicPolicy::Watchdog && config.guard.watchdog.is_none() {
        let text = format!(
            "`panic` of {} is \"watchdog\" on the disk, and {} names none",
            configured.name,
            config.file.display()
        );
        let hint =
            "add `watchdog = \"/dev/watchdog\"` under [node], or choose another with `phalanx node set NAME panic=..`";
        return Err(Exit::code(EXIT_CONFIGURATION, text).hint(hint));
    }
    let program =
        std::env::current_exe().map_err(|error| Exit::error(format!("failed to find this program: {error}")))?;
    let words = |words: &[&OsString]| words.iter().map(|word| (*word).clone()).collect::<Vec<_>>();
    let (program, node) = (program.into_os_string(), OsString::from(&config.node));
    let word = OsString::from;
    let file = config.file.clone().into_os_string();
    let mut daemon_command = words(&[&program, &word("node"), &word("daemon"), &node, &word("--config"), &file]);
    if no_wait {
        daemon_command.push(word("--no-wait"));
    }
    let settings = WardenSettings {
        node_name: config.node.clone(),
        containment_key: containment_key(superblock.cluster, &config.disk, id),
        containment: if subreaper { ContainmentChoice::Subreaper } else { ContainmentChoice::Best },
        id_lock: config.state_dir.join(format!("{}.lock", config.node)),
        no_wait,
        log_dir,
        daemon_command,
        keeper_command: words(&[&program, &word("warden-keeper")]),
        watchdog_ms: superblock.profile.watchdog_ms,
        stop_ms: superblock.profile.stop_ms,
        shutdown_ms: configured.shutdown_ms,
        panic: configured.panic,
        sysrq: warden::SYSRQ.into(),
        watchdog: config.guard.watchdog.clone().map(|path| Box::new(DevicePath(path)) as Box<dyn Disarm>),
        notice: Box::new(RegisterNotice::new(disk, id)),
    };
    warden::run(settings, signals).or_else(|why| unmet(why, 1, EXIT_TRY_AGAIN))
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

fn leave(name: Option<String>, for_ms: Option<u64>, global: &Global) -> Result<(), Exit> {
    let mut client = locate::connect(global)?;
    let status = client.status()?;
    let name = name.unwrap_or_else(|| status.node.clone());
    client.ask(&AdminRequest::Leave { node: Some(name.clone()) })?;
    let goes_on = format!("the leave of {name} goes on; `phalanx status --watch` follows it");
    interrupt::ends_with(EXIT_INTERRUPTED, goes_on.clone())?;
    let until = for_ms.map(|ms| now().plus(ms));
    let mut answered = now();
    loop {
        match has_left(&name, &status, global) {
            Ok(true) => break,
            Ok(false) => answered = now(),
            Err(exit) if now().since(answered) >= SILENCE_MS => return Err(exit),
            Err(_) => {} // whoever answered may have ended; another one may answer
        }
        if until.is_some_and(|until| now() >= until) {
            let text = format!("{name} has not left after {} ms", for_ms.unwrap_or_default());
            return Err(Exit::code(EXIT_TIMED_OUT, text).hint(goes_on));
        }
        pause(20);
    }
    anstream::println!("{name} has left");
    Ok(())
}

/// Whether the node is out, by the word of whoever answers; the last node to leave takes its daemon with it, and then the
/// disk tells.
fn has_left(name: &str, before: &Status, global: &Global) -> Result<bool, Exit> {
    let left = |status: &Status| state_of(status, name) == Some(NodeState::Inactive);
    let why = match locate::connect(global).and_then(|mut client| client.status()) {
        Ok(status) => return Ok(left(&status)),
        Err(exit) => exit,
    };
    let disk = locate::known_disk(global).and_then(|disk| super::disk_status::read(&disk, &why.text).ok());
    match disk {
        Some(status) if left(&status) => Ok(true),
        None if before.node == name => Ok(true), // its end is all that can be seen
        Some(_) | None => Err(why),
    }
}

pub(super) fn state_of(status: &Status, name: &str) -> Option<NodeState> {
    status.nodes.iter().find(|node| node.name == name).map(|node| node.state)
}
