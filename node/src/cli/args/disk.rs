//! `phalanx disk ...` as it can be said.

use std::path::PathBuf;

use clap::Subcommand;

/// `phalanx disk ...`.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Format the shared disk of a cluster.
    #[command(after_help = "Example:\n  phalanx disk create --config alpha/n0.toml")]
    Create {
        /// File of one of its nodes: names the disk, the nodes and the services.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Most nodes the cluster can ever have.
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
        nodes_max: u16,
        /// Most services the cluster can ever have.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        services_max: u32,
        /// Overwrite whatever is there.
        #[arg(long)]
        force: bool,
    },
    /// Show every region, decoded.
    #[command(after_help = "Example:\n  phalanx disk show /srv/phalanx/alpha.disk")]
    Show {
        /// The disk.
        path: PathBuf,
    },
}
