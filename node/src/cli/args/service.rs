//! `phalanx service ...` as it can be said.

use clap::Subcommand;

/// `phalanx service ...`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List the services.
    #[command(after_help = "Example:\n  phalanx service list")]
    List,
    /// Show one service.
    #[command(after_help = "Example:\n  phalanx service show licences")]
    Show {
        /// Its name.
        service: String,
    },
}
