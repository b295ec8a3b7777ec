//! `phalanx node ...` as it can be said.

use std::path::PathBuf;

use clap::Subcommand;

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
