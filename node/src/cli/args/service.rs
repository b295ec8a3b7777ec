//! `phalanx service ...` as it can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::parse_duration_ms;

/// `phalanx service ...`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List the services.
    #[command(after_help = "Example:\n  phalanx service list --output json")]
    List,
    /// Show one service: its state on every node, and its definition.
    #[command(after_help = "Example:\n  phalanx service show web")]
    Show {
        /// Its name.
        service: String,
    },
    /// Take over the [[service]] tables of a file: new services, and changes of known ones. The difference is printed first.
    /// Services that the file does not name are left alone. What runs goes on: a changed command is used from its next run on.
    #[command(
        after_help = "Example:\n  phalanx service apply services.toml --dry-run\n  phalanx service apply services.toml"
    )]
    Apply {
        /// The file.
        file: PathBuf,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Have a service run, and wait until it does.
    #[command(after_help = "Example:\n  phalanx service register web")]
    Register {
        /// Its name.
        service: String,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Stop a service, and have it stay stopped.
    #[command(after_help = "Example:\n  phalanx service deregister web")]
    Deregister {
        /// Its name.
        service: String,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Move a service to another node.
    #[command(after_help = "Example:\n  phalanx service transfer web --to n2")]
    Transfer {
        /// Its name.
        service: String,
        /// Where to; by default wherever it would be chosen to run without the node that it is on.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Begin nothing for a service: what runs goes on, what does not run stays so, until `clear`.
    #[command(after_help = "Example:\n  phalanx service hold web")]
    Hold {
        /// Its name.
        service: String,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Forget the failures and the hold of a service, and try again.
    #[command(after_help = "Example:\n  phalanx service clear web")]
    Clear {
        /// Its name.
        service: String,
        /// Give up the recovery of what its last instance left behind.
        #[arg(long)]
        force: bool,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Forget a service that does not run.
    #[command(after_help = "Example:\n  phalanx service remove web")]
    Remove {
        /// Its name.
        service: String,
        /// Even if what its last instance left behind is not recovered.
        #[arg(long)]
        force: bool,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
}

/// How an order is followed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Following {
    /// Show what it would do at once, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Return as soon as the cluster has taken the order.
    #[arg(long, conflicts_with = "dry_run")]
    pub no_wait: bool,
    /// Wait so long for its effect; the cluster goes on by itself after that.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration_ms)]
    pub within: u64,
}
