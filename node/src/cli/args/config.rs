//! `phalanx config ...` as it can be said.

use std::path::PathBuf;

use clap::Subcommand;

/// `phalanx config ...`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every mistake in a file.
    #[command(after_help = "Example:\n  phalanx config check /etc/phalanx/n0.toml")]
    Check {
        /// A node's file, or one for `dev`.
        file: PathBuf,
    },
}
