//! `phalanx node ...` as it can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use phalanx_messages::configuration::PanicPolicy;

use super::Following;

/// `phalanx node ...`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run this node in the foreground until it leaves or is forced out.
    ///
    /// Waits for the shared disk, its address and the node-id lock. Ctrl-C lets it leave the cluster; a second one kills it.
    #[command(after_help = "Example:\n  phalanx node run --config alpha/n0.toml")]
    Run {
        /// The node's file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Fail instead of waiting for disk, address or lock.
        #[arg(long)]
        no_wait: bool,
        /// Keep processes together without cgroups, as without root.
        #[arg(long, hide = true)]
        subreaper: bool,
    },
    /// Started by `node run`.
    #[command(hide = true)]
    Daemon {
        /// Shown by `ps`.
        name: String,
        /// The node's file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Fail instead of waiting for the address.
        #[arg(long)]
        no_wait: bool,
    },
    /// List the nodes.
    #[command(after_help = "Example:\n  phalanx node list --output json")]
    List,
    /// Have a node give up its services and take none, until `unstandby`. It stays a member.
    #[command(after_help = "Example:\n  phalanx node standby n1")]
    Standby {
        /// The node.
        name: String,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Have a node take services again, and forget how often it has died.
    #[command(after_help = "Example:\n  phalanx node unstandby n1")]
    Unstandby {
        /// The node.
        name: String,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Add a node to the membership database.
    Add(AddArguments),
    /// Remove a node that is inactive from the membership database.
    #[command(after_help = "Example:\n  phalanx node remove n3")]
    Remove {
        /// The node.
        name: String,
    },
    /// Change a node in the membership database: address, votes, panic, shutdown_timeout, capacity, watchdog_attested.
    #[command(after_help = "Example:\n  phalanx node set n1 shutdown_timeout=10m panic=reboot")]
    Set {
        /// The node.
        name: String,
        /// What becomes what.
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Take a node out gracefully, and wait until it has left.
    #[command(after_help = "Example:\n  phalanx node leave n1")]
    Leave {
        /// The node; the one that answers if not given.
        name: Option<String>,
        /// Wait for at most this long; the leave goes on.
        #[arg(long = "for", value_name = "DURATION", value_parser = crate::config::parse_duration_ms)]
        for_ms: Option<u64>,
    },
}

/// `phalanx node add`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  phalanx node add n3 --address 10.0.0.4:7600")]
pub struct AddArguments {
    /// Its name.
    pub name: String,
    /// Where its interconnect is reached.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: String,
    /// Its id [default: the lowest free one].
    #[arg(long)]
    pub id: Option<u16>,
    /// Its votes [default: 1].
    #[arg(long)]
    pub votes: Option<u8>,
    /// What it does after a panic: exit, reboot, crash or watchdog [default: as the other nodes].
    #[arg(long, value_name = "POLICY", value_parser = crate::cli::parse_panic)]
    pub panic: Option<PanicPolicy>,
    /// How long its graceful leave may take [default: 5m].
    #[arg(long = "shutdown-timeout", value_name = "DURATION", value_parser = crate::config::parse_duration_ms)]
    pub shutdown_ms: Option<u64>,
}
