//! `phalanx config ...` as it can be said.

use std::path::PathBuf;

use clap::Subcommand;

/// `phalanx config ...`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every mistake in a file.
    #[command(after_help = "Example:\n  phalanx config check /etc/phalanx/n0.toml")]
    Check {
        /// A node's file, one for `dev`, or one for the whole cluster.
        file: PathBuf,
    },
    /// Show the membership database as a file that `config apply` takes.
    #[command(after_help = "Example:\n  phalanx config show > cluster.toml")]
    Show {
        /// Read the shared disk alone, without a daemon.
        #[arg(long, value_name = "PATH")]
        disk: Option<PathBuf>,
    },
    /// Change the membership database to what a file says, in one commit; the difference is printed first.
    #[command(after_help = "Example:\n  phalanx config apply cluster.toml --dry-run")]
    Apply {
        /// A file for the whole cluster, or a node's.
        file: PathBuf,
        /// Print the difference and whether it would be accepted; commit nothing.
        #[arg(long)]
        dry_run: bool,
        /// Remove nodes that the file does not name.
        #[arg(long)]
        prune: bool,
    },
}
