//! `phalanx agent ...` as it can be said.

use clap::Subcommand;

/// `phalanx agent ...`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List the OCF agents of this host.
    #[command(after_help = "Example:\n  phalanx agent list")]
    List,
    /// Show what an OCF agent of this host says of itself: its parameters and its times.
    #[command(after_help = "Example:\n  phalanx agent describe ocf:heartbeat:IPaddr2")]
    Describe {
        /// As in `agent = "..."` of a service.
        agent: String,
    },
}
