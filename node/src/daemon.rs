//! The body of `phalanx node daemon`: one node on one executor, below its warden.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::prelude::*;
use anyhow::Context as _;
use phalanx_actors::command_subsystem::SubsystemCommands;
use phalanx_actors::interconnect::ClusterKeys;
use phalanx_actors::local_api::{LogRing, LogSources};
use phalanx_actors::membership_manager::MembershipEnded;
use phalanx_actors::ports::WardenLine;
use phalanx_messages::NodeId;
use phalanx_messages::launch::Owner;
use phalanx_messages::membership::{Certainty, LevelRegistration};
use phalanx_messages::registration::Instance;
use phalanx_storage::{Access, ClusterDisk, opening};
use tokio::sync::mpsc;

use crate::builder::{CommandLevel, HostIdentity, Node, NodeBuilder, NodeHandle, WardenPort, hosts};
use crate::cli::Exit;
use crate::cli::node::{EXIT_CONFIGURATION, EXIT_TRY_AGAIN};
use crate::config::{NodeConfig, SubsystemConfig};
use crate::fence_agents::FenceAgents;
use crate::test_host;
use crate::waiting::{self, Patience, Unmet};
use crate::warden::EXIT_FORCED_OUT;
use crate::warden::client::{LeaveRequested, WardenLink, Words};
use crate::warden::frames::Word;
use crate::watchdog;

/// Name of a node's file with its static key, in its state directory.
pub(crate) const KEY_FILE: &str = "static.key";

/// Opens a cluster's disk.
///
/// # Errors
/// What keeps it from being used.
pub fn open_disk(path: &Path) -> anyhow::Result<ClusterDisk> {
    Ok(opening::open(path, Access::ReadWrite)?)
}

/// Opens the disk of a node's file.
///
/// # Errors
/// What keeps it from being used as the file says.
pub(crate) fn open_disk_of(config: &NodeConfig) -> anyhow::Result<ClusterDisk> {
    let disk = test_host::open_disk(&config.disk)?;
    if let Some(text) = other_backend(config, &disk) {
        anyhow::bail!(text);
    }
    Ok(disk)
}

/// Says so if the disk was formatted to be reached in another way than the file says.
pub(crate) fn other_backend(config: &NodeConfig, disk: &ClusterDisk) -> Option<String> {
    let (file, formatted) = (config.backend, disk.backend());
    (file != formatted).then(|| {
        let disk = config.disk.display();
        format!("`backend` under [disk] is \"{file}\", and {disk} was formatted for \"{formatted}\"")
    })
}

/// Waits for whatever this host must wait for before the node may start (protocol §3.7). Under the lock of the node id.
///
/// # Errors
/// A host on which the node must not run, or the administrator's wish to end.
pub(crate) fn admit(config: &NodeConfig, ended: &dyn Fn() -> bool) -> Result<(), Unmet> {
    let never = |error: anyhow::Error| Unmet::Never(format!("{error:#}"));
    let disk = open_disk_of(config).map_err(never)?;
    let host = HostIdentity::read().map_err(|error| never(error.into()))?;
    // A node that the disk does not name is refused where its register is looked for.
    let id = disk.configurations().newest().ok().flatten().and_then(|record| record.id_of(&config.node));
    id.map_or(Ok(()), |id| hosts::admit(&disk, id, host, ended))
}

/// Gives this node back what a storage fence has taken away (F1).
fn let_back_in(config: &NodeConfig) -> Result<(), Exit> {
    let record = open_disk_of(config)?.configurations().newest().map_err(anyhow::Error::from)?;
    let fence = record.and_then(|record| record.nodes.into_values().find(|node| node.name == config.node));
    let fence = fence.map(|node| node.fence).unwrap_or_default();
    FenceAgents::beside(&config.file).let_back_in(&config.node, &fence).map_err(|text| {
        Exit::error(format!("this node is shut out of the shared storage: {text}"))
            .hint("its storage agent must succeed with `on` here before the node may start; see [fencing]")
    })
}

/// Reads the cluster keys.
///
/// # Errors
/// Configuration (78): there is none, others can read it, or it is no key.
pub fn load_keys(config: &NodeConfig) -> Result<ClusterKeys, Exit> {
    ClusterKeys::load(&config.key_file).map_err(|error| {
        let text = Exit::from(anyhow::Error::from(error)).text;
        let hint = format!(
            "`key_file` in {} names the cluster's key: 64 hexadecimal digits, mode 0600, the same on every node",
            config.file.display()
        );
        Exit::code(EXIT_CONFIGURATION, text).hint(hint)
    })
}

/// Directory with the output of this node's commands, a file for each service and subsystem.
#[must_use]
pub fn command_logs(config: &NodeConfig) -> PathBuf {
    config.state_dir.join("commands")
}

/// Runs the node of `config` until it has left or must end. Gives the exit code. `kept` are the log lines that the local
/// socket serves.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: &NodeConfig, no_wait: bool, kept: LogRing) -> Result<u8, Exit> {
    let link = WardenLink::inherited().context("`node daemon` is started by `node run`")?;
    let patience = Patience { no_wait, ended: &|| link.speaks() };
    match admit(config, patience.ended) {
        Ok(()) => let_back_in(config)?,
        Err(Unmet::Ended(text)) => {
            eprintln!("{text}");
            link.words().say(Word::LeftCleanly); // it never began
            return Ok(0);
        }
        Err(unmet) => {
            let hint = "an mmap disk serves one kernel, and a node id one host; `phalanx disk show` names them";
            return Err(Exit::error(unmet.text()).hint(hint));
        }
    }
    let listener = match listen(&config.bind, patience) {
        Ok(listener) => listener,
        Err(Unmet::Never(text)) => {
            return Err(Exit::error(text).hint(format!("`bind` under [interconnect] in {}", config.file.display())));
        }
        Err(Unmet::NotNow(text)) => {
            return Err(Exit::code(EXIT_TRY_AGAIN, text).hint("without `--no-wait` it would be waited for"));
        }
        Err(Unmet::Ended(text)) => {
            eprintln!("{text}");
            link.words().say(Word::LeftCleanly); // it never began
            return Ok(0);
        }
    };
    actix_rt::System::new().block_on(daemon(config, link, listener, kept)).map_err(Exit::from)
}

/// Binds the interconnect's address. One that is taken, or not on this host yet, is waited for.
fn listen(address: &str, patience: Patience<'_>) -> Result<std::net::TcpListener, Unmet> {
    let what = format!("the address {address}");
    waiting::wait_for(&what, patience, || match std::net::TcpListener::bind(address) {
        Ok(listener) => Ok(Ok(listener)),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {
            Err(format!("failed to listen on {address}: {error}"))
        }
        Err(error) => Ok(Err(error.to_string())),
    })
}

async fn daemon(
    config: &NodeConfig,
    link: WardenLink,
    listener: std::net::TcpListener,
    kept: LogRing,
) -> anyhow::Result<u8> {
    let words = link.words();
    let (leave_sender, mut leave) = mpsc::unbounded_channel();
    let node = start(config, link, leave_sender, listener, kept).await?;
    tracing::info!(me = %node.me(), "started");
    let ended = {
        let (ended, leaving) = (node.ended(), node.leaving());
        tokio::pin!(ended, leaving);
        let mut told = false;
        loop {
            tokio::select! {
                end = &mut ended => break end,
                () = &mut leaving, if !told => {
                    told = true;
                    words.say(Word::Leaving); // from now on the warden counts the time
                }
                Some(LeaveRequested) = leave.recv() => node.leave().await,
            }
        }
    };
    let code = match ended {
        MembershipEnded::Left => 0,
        MembershipEnded::Refused(text) => {
            tracing::error!(node = config.node, "cannot join: {text}");
            1
        }
    };
    words.say(Word::LeftCleanly);
    crate::log::flush();
    Ok(code)
}

async fn start(
    config: &NodeConfig,
    link: WardenLink,
    leave: mpsc::UnboundedSender<LeaveRequested>,
    listener: std::net::TcpListener,
    kept: LogRing,
) -> anyhow::Result<NodeHandle> {
    let commands = command_logs(config);
    let builder = Node::of_config(config, listener)?;
    let own = own_id(config, builder.disk())?;
    let logs = LogSources {
        own: Some(kept),
        service: Some(Arc::new(move |service| {
            let file = |of| {
                let owner = Owner::Service(Instance { service: service.to_owned(), of }.lane());
                commands.join(crate::warden::command_log(&owner))
            };
            // One that is registered on all nodes has an instance of this node's own.
            Some(file(None)).filter(|file| file.exists()).unwrap_or_else(|| file(own))
        })),
    };
    let builder = builder
        .logs(logs)
        .agent_runner(agent_runner()?)
        .on_panic(Box::new(halt))
        .refuse_connections(std::env::var_os("PHALANX_TEST_REFUSE_CONNECTIONS").is_some());
    let builder = config.subsystems.iter().cloned().map(command_level).fold(builder, NodeBuilder::command_level);
    let words = link.words();
    let (guard, profile) = (config.guard.clone(), builder.disk().superblock().profile);
    let attested = is_attested(config, builder.disk())?;
    let node = builder.start(move |supervisor| {
        let fence = link.fence_handle();
        let leave = LeaveListener(leave).start().recipient();
        let watchdog = watchdog::arm_for_node(&guard, &profile, attested)?;
        let client = link.start(supervisor.clone().recipient(), leave)?;
        Ok(WardenPort { requests: client.recipient(), fence, line: Some(Box::new(words)), watchdog })
    })?;
    Ok(node)
}

/// Number of this node, if it is configured.
fn own_id(config: &NodeConfig, disk: &ClusterDisk) -> anyhow::Result<Option<NodeId>> {
    let record = disk.configurations().newest()?;
    Ok(record.and_then(|record| record.id_of(&config.node)))
}

/// This program, which becomes an agent.
fn agent_runner() -> anyhow::Result<Vec<String>> {
    let program = std::env::current_exe()?;
    let program = program.into_os_string().into_string().map_err(|path| {
        anyhow::anyhow!("the path of this program, {}, is no text, so that no agent can be run", path.display())
    })?;
    Ok(vec![program, "agent-run".to_owned()])
}

/// Whether the administrator vouches for this host's watchdog, and others may take its deadline for a proof (protocol §4.5).
fn is_attested(config: &NodeConfig, disk: &ClusterDisk) -> anyhow::Result<bool> {
    let record = disk.configurations().newest()?;
    let node = record.and_then(|record| record.nodes.into_values().find(|node| node.name == config.node));
    Ok(disk.geometry().capabilities.several_hosts && node.is_some_and(|node| node.watchdog_attested))
}

impl WardenLine for Words {
    fn alive(&mut self) {
        self.say(Word::Alive);
    }

    fn lease(&mut self, valid: bool) {
        self.say(if valid { Word::LeaseValid } else { Word::LeaseLost });
    }
}

/// The process ends at once; the warden kills the rest, cleans, and says `DeadDrained`.
fn halt(reason: &str) {
    tracing::error!("node panic: {reason}");
    crate::log::flush();
    std::process::exit(i32::from(EXIT_FORCED_OUT));
}

fn command_level(subsystem: SubsystemConfig) -> CommandLevel {
    let SubsystemConfig { name, level, barriers, on_joining, on_leaving, on_forced_leaving, on_panic, timeout_ms } =
        subsystem;
    // Commands touch whatever the administrator wrote, so their recovery needs the victim to be dead, not only silent.
    let registration = LevelRegistration { level, name, barriers, needs: Certainty::Death, optional: false };
    let commands = SubsystemCommands { on_joining, on_leaving, on_forced_leaving, on_panic, timeout_ms };
    CommandLevel { registration, commands }
}

/// SIGTERM at the warden.
struct LeaveListener(mpsc::UnboundedSender<LeaveRequested>);

impl Actor for LeaveListener {
    type Context = Context<Self>;
}

impl Handler<LeaveRequested> for LeaveListener {
    type Result = ();

    fn handle(&mut self, message: LeaveRequested, _: &mut Self::Context) {
        self.0.send(message).ok(); // the node is ending already
    }
}
