//! `phalanx fence ...` as it can be said.

use clap::{Args, Subcommand};

/// How long a fenced node is followed if nothing else is said.
const FOLLOWED: &str = "60s";

/// `phalanx fence`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  phalanx fence n2 --reason \"disk errors\"\n  phalanx fence confirm n2"
)]
pub struct FenceArguments {
    /// Confirm a death instead.
    #[command(subcommand)]
    pub command: Option<FenceCommand>,
    /// The node.
    pub node: Option<String>,
    /// Why, for the log and `phalanx trace`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Do not ask.
    #[arg(long)]
    pub force: bool,
    /// Follow it for so long.
    #[arg(long = "wait", value_name = "DURATION", default_value = FOLLOWED, value_parser = crate::config::parse_duration_ms)]
    pub limit_ms: u64,
}

/// `phalanx fence ...`.
#[derive(Debug, Subcommand)]
pub enum FenceCommand {
    /// Your word that a node which is being forced out is dead. Refused while it shows any sign of life.
    #[command(after_help = "Example:\n  phalanx fence confirm n2")]
    Confirm {
        /// The node.
        node: String,
        /// Do not ask.
        #[arg(long)]
        force: bool,
        /// Follow it for so long.
        #[arg(long = "wait", value_name = "DURATION", default_value = FOLLOWED, value_parser = crate::config::parse_duration_ms)]
        limit_ms: u64,
    },
}
