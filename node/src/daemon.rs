//! The body of `phalanx node daemon`: one node on one executor, below its warden.

use std::path::Path;

use actix::prelude::*;
use anyhow::Context as _;
use phalanx_actors::command_subsystem::SubsystemCommands;
use phalanx_actors::interconnect::{ClusterKey, Network, StaticKeyPair};
use phalanx_actors::membership_manager::MembershipEnded;
use phalanx_messages::membership::{Certainty, LevelRegistration};
use phalanx_storage::{Access, ClusterDisk, opening};
use tokio::sync::mpsc;

use crate::builder::{CommandLevel, HostIdentity, Node, NodeBuilder, NodeHandle, WardenPort};
use crate::config::{NodeConfig, SubsystemConfig};
use crate::local_fence::LocalFence;
use crate::warden::EXIT_FORCED_OUT;
use crate::warden::client::{LeaveRequested, WardenLink, Words};
use crate::warden::frames::Word;

/// Name of a node's file with its static key, in its state directory.
const KEY_FILE: &str = "static.key";

/// Opens the cluster's disk.
///
/// # Errors
/// What keeps it from being used.
pub fn open_disk(path: &Path) -> anyhow::Result<ClusterDisk> {
    Ok(opening::open(path, Access::ReadWrite)?)
}

/// Runs the node of `config` until it has left or must end. Gives the exit code.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: &NodeConfig) -> anyhow::Result<u8> {
    actix_rt::System::new().block_on(daemon(config))
}

async fn daemon(config: &NodeConfig) -> anyhow::Result<u8> {
    let link = WardenLink::inherited().context("`node daemon` is started by `node run`")?;
    let words = link.words();
    let (leave_sender, mut leave) = mpsc::unbounded_channel();
    let node = start(config, link, leave_sender).await?;
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
    words.say(Word::LeftCleanly);
    Ok(match ended {
        MembershipEnded::Left => 0,
        MembershipEnded::Refused(text) => {
            eprintln!("error: node {} cannot join\n  caused by: {text}", config.node);
            1
        }
    })
}

async fn start(
    config: &NodeConfig,
    link: WardenLink,
    leave: mpsc::UnboundedSender<LeaveRequested>,
) -> anyhow::Result<NodeHandle> {
    let disk = open_disk(&config.disk)?;
    let key = ClusterKey::load(&config.key_file).context("failed to read the cluster key (`key_file`)")?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("failed to make `state_dir` {}", config.state_dir.display()))?;
    let key_pair = StaticKeyPair::load_or_create(&config.state_dir.join(KEY_FILE))?;
    let listener = tokio::net::TcpListener::bind(&config.bind)
        .await
        .with_context(|| format!("failed to listen on {} (`bind`)", config.bind))?;
    let host = HostIdentity::read()?;
    let builder = Node::builder(disk, &config.node, key, key_pair, Network::tcp(listener), host)
        .socket(config.socket.clone())
        .local_fence(LocalFence.start().recipient())
        .on_panic(Box::new(halt))
        .refuse_connections(std::env::var_os("PHALANX_TEST_REFUSE_CONNECTIONS").is_some());
    let builder = config.subsystems.iter().cloned().map(command_level).fold(builder, NodeBuilder::command_level);
    let words = link.words();
    let node = builder.start(move |supervisor| {
        let fence = link.fence_handle();
        let leave = LeaveListener(leave).start().recipient();
        let client = link.start(supervisor.clone().recipient(), leave)?;
        Ok(WardenPort { requests: client.recipient(), fence, feed: Some(feeder(words)) })
    })?;
    Ok(node)
}

fn feeder(words: Words) -> Box<dyn FnMut() + Send> {
    Box::new(move || words.say(Word::Alive))
}

/// The process ends at once; the warden kills the rest, cleans, and says `DeadDrained`.
fn halt(reason: &str) {
    eprintln!("node panic: {reason}");
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
