//! `phalanx service ...` as it can be said.

use clap::Subcommand;

/// `phalanx service ...`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List the services.
    List,
    /// Show one service.
    Show {
        /// Its name.
        service: String,
    },
}
