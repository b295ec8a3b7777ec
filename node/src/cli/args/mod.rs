//! What can be said on the command line.

mod agent;
mod config;
mod disk;
mod event;
mod fence;
mod init;
mod key;
mod logs;
mod node;
mod service;
mod simulate;
mod subsystem;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use agent::AgentCommand;
pub use config::ConfigCommand;
pub use disk::{CreateArguments, DiskCommand};
pub use event::EventCommand;
pub use fence::{FenceArguments, FenceCommand};
pub use init::InitArguments;
pub use key::KeyCommand;
pub use logs::LogsArguments;
pub use node::{AddArguments, NodeCommand};
pub use service::{Following, ServiceCommand};
pub use simulate::SimulateArguments;
pub use subsystem::{AttachArguments, SubsystemCommand};

use crate::licence_server::LicenceServerCommand;

/// A shared-disk high-availability cluster.
#[derive(Debug, Parser)]
#[command(name = "phalanx", version, propagate_version = true)]
pub struct Cli {
    /// Which node answers, and how.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Local socket of the node that answers [else: --dir, PHALANX_SOCKET, the default dev cluster, /run/phalanx].
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory of a cluster made by `dev` or `init`; any live node in it answers.
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Which node of the directory answers.
    #[arg(long = "node", id = "answering", global = true, value_name = "NODE")]
    pub node: Option<String>,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

impl Default for Global {
    fn default() -> Self {
        Self { socket: None, dir: None, node: None, output: Output::Text }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people.
    Text,
    /// JSON for programs.
    Json,
}

/// How a trace is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// Tables for people, with who is late.
    Text,
    /// JSON for programs.
    Json,
    /// Trace events for ui.perfetto.dev: one track a node.
    Perfetto,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine: the quickest way to see one.
    #[command(after_help = "Examples:\n  phalanx dev\n  phalanx dev --nodes 5 --for 30s --dir /tmp/five")]
    Dev(DevArguments),
    /// Write the files of a new cluster: one config per node and a cluster key.
    #[command(after_help = "Example:\n  phalanx init --name alpha --nodes n0=127.0.0.1:7600,n1=127.0.0.1:7601 \
                            --disk /srv/phalanx/alpha.disk --out alpha")]
    Init(InitArguments),
    /// Run, list, take out and configure nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show master, nodes, levels, transitions and services.
    ///
    /// If no daemon answers, the shared disk alone is read where it can be found, and the result says so.
    #[command(after_help = "Examples:\n  phalanx status\n  phalanx status --watch\n  \
                            phalanx status --output json\n  phalanx status --disk /srv/phalanx/alpha.disk")]
    Status(StatusArguments),
    /// Show, define, start, stop and move client services.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Show, enable, disable and test events and event groups.
    #[command(subcommand)]
    Event(EventCommand),
    /// Tell why a service is where it is, which factor decided, and what would move it.
    #[command(after_help = "Example:\n  phalanx explain web")]
    Explain {
        /// The service.
        service: String,
    },
    /// Tell what would happen if a node left, failed or joined, or if the services of a file were applied, and which factor would
    /// decide. Supposes that every command succeeds, and changes nothing.
    #[command(after_help = "Examples:\n  phalanx simulate --fail n1\n  phalanx simulate --apply services.toml")]
    Simulate(SimulateArguments),
    /// Show one transition: every level, barrier and node, with times.
    #[command(
        after_help = "Examples:\n  phalanx trace last\n  phalanx trace 3.17 --format json\n  phalanx trace --format perfetto > trace.json"
    )]
    Trace {
        /// `last`, or a transition's id such as 3.17.
        #[arg(default_value = "last")]
        which: String,
        /// How it is printed [default: as --output says].
        #[arg(long, value_enum)]
        format: Option<TraceFormat>,
    },
    /// Show the log lines of a node, or the output of a service's commands on it.
    #[command(after_help = "Examples:\n  phalanx logs n1 --follow\n  phalanx logs --service licences --lines 20")]
    Logs(LogsArguments),
    /// Dev clusters only: SIGKILL a node without warning, and follow what happens.
    #[command(after_help = "Examples:\n  phalanx kill n0\n  phalanx kill n1 --what host --for 10s")]
    Kill {
        /// The node.
        node: String,
        /// Only its daemon, or everything of it at once so that nobody speaks for it.
        #[arg(long, value_enum, default_value_t = KillWhat::Daemon)]
        what: KillWhat,
        /// Follow for at most this long.
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = crate::config::parse_duration_ms)]
        for_ms: u64,
    },
    /// Dev clusters only: start a killed or left node again, and wait until it is joined.
    #[command(after_help = "Example:\n  phalanx start n0")]
    Start {
        /// The node.
        node: String,
        /// Wait for at most this long.
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = crate::config::parse_duration_ms)]
        for_ms: u64,
    },
    /// List subsystems, and be one.
    #[command(subcommand)]
    Subsystem(SubsystemCommand),
    /// Make, show and verify shared disks.
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Explain how long the services of a dead node stay down, and why.
    #[command(after_help = "Example:\n  phalanx timing\n  phalanx timing --disk /srv/phalanx/alpha.disk")]
    Timing(TimingArguments),
    /// Check configuration files; show and change the membership database.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Change the cluster key without stopping the cluster.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Force a node out, or confirm by hand that it is dead.
    Fence(FenceArguments),
    /// Print what a shell needs to complete these commands.
    #[command(after_help = "Example:\n  phalanx completions bash > /etc/bash_completion.d/phalanx")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for every command.
    #[command(after_help = "Examples:\n  phalanx man | man -l -\n  phalanx man --out /usr/local/share/man/man1")]
    Man {
        /// Directory for a page of every command.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Write the JSON schema of everything that `--output json` prints.
    #[command(hide = true)]
    Schemas {
        /// Directory for the files.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The demo service of `dev`.
    #[command(subcommand, hide = true)]
    LicenceServer(LicenceServerCommand),
    /// List and describe the agents that can perform the actions of services.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Started by the warden: becomes an agent.
    #[command(hide = true, name = "agent-run")]
    AgentRun {
        /// As in `agent = "..."` of a service.
        agent: String,
        /// `start`, `stop`, `monitor`, ...
        action: String,
    },
    /// Started by the warden.
    #[command(hide = true, name = "warden-keeper")]
    Keeper {
        /// Title and command.
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        arguments: Vec<OsString>,
    },
}

/// `phalanx timing`.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct TimingArguments {
    /// The profile that a disk was formatted with.
    #[arg(long, value_name = "PATH")]
    pub disk: Option<PathBuf>,
    /// A named profile; all of them if nothing is said.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The profile that a node's file asks for.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `phalanx status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArguments {
    /// Read this shared disk alone, without a daemon.
    #[arg(long, value_name = "PATH")]
    pub disk: Option<PathBuf>,
    /// Show it again whenever something changes; Ctrl-C ends it.
    #[arg(long, conflicts_with = "disk")]
    pub watch: bool,
    /// Watch for this long, e.g. 30s.
    #[arg(long = "for", value_name = "DURATION", requires = "watch", value_parser = crate::config::parse_duration_ms)]
    pub for_ms: Option<u64>,
}

/// What `kill` kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KillWhat {
    /// The daemon; its warden cleans up and says so.
    Daemon,
    /// Warden, daemon and services in one instant.
    Host,
}

/// `phalanx dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArguments {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub nodes: u16,
    /// Subsystems and services, instead of the built-in configs/dev.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// End after this long, e.g. 30s.
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::config::parse_duration_ms)]
    pub for_ms: Option<u64>,
    /// Port of the demo service; the next free one is used if it is taken.
    #[arg(long, default_value_t = 7400)]
    pub port: u16,
    /// Do not run the demo service.
    #[arg(long)]
    pub no_demo_service: bool,
    /// Keep processes together without cgroups, as without root.
    #[arg(long, hide = true)]
    pub subreaper: bool,
}

#[cfg(test)]
mod tests;
