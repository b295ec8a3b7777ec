//! `phalanx disk ...` as it can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `phalanx disk ...`.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Format the shared disk of a cluster.
    #[command(after_help = "Example:\n  phalanx disk create --config /etc/phalanx/n0.toml\n  \
                            phalanx disk create /srv/phalanx/alpha.disk --config /etc/phalanx/n0.toml --force alpha")]
    Create(CreateArguments),
    /// Show every region, decoded.
    #[command(after_help = "Example:\n  phalanx disk show /srv/phalanx/alpha.disk")]
    Show {
        /// The disk.
        path: PathBuf,
    },
    /// Verify every checksum and invariant. Only reads; a damaged disk gives exit code 74.
    #[command(after_help = "Example:\n  phalanx disk check /srv/phalanx/alpha.disk --output json")]
    Check {
        /// The disk.
        path: PathBuf,
    },
    /// Write anew what can be written from what is left of a damaged disk. Every node must be down.
    #[command(after_help = "Example:\n  phalanx disk repair /srv/phalanx/alpha.disk --dry-run")]
    Repair {
        /// The disk.
        path: PathBuf,
        /// Go on with the newest records that are left where the newest of all may be lost.
        #[arg(long)]
        give_up_lost_records: bool,
        /// Say what would be written, and write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy a whole disk to a new file. Every node must be down.
    #[command(after_help = "Example:\n  phalanx disk backup /srv/phalanx/alpha.disk /backup/alpha.copy")]
    Backup {
        /// The disk.
        path: PathBuf,
        /// The file, which must not be there yet.
        file: PathBuf,
    },
    /// Make a disk what a copy of it was. Nothing of the cluster may run anywhere: the disk does not know what was started since.
    #[command(after_help = "Example:\n  phalanx disk restore /backup/alpha.copy /srv/phalanx/alpha.disk --force alpha")]
    Restore {
        /// The copy.
        file: PathBuf,
        /// The disk.
        path: PathBuf,
        /// Overwrite what is there; the disk of a cluster only if it is named. A disk with a live node is never overwritten.
        #[arg(long, value_name = "CLUSTER-NAME", num_args = 0..=1, default_missing_value = "")]
        force: Option<String>,
    },
}

/// `phalanx disk create`.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// The disk; must be the `path` of the file under [disk] [default: that one].
    pub path: Option<PathBuf>,
    /// File of one of its nodes: names the disk, the nodes, the services and the timing.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Most nodes the cluster can ever have.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub nodes_max: u16,
    /// Most services the cluster can ever have.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub services_max: u32,
    /// Overwrite what is there; the disk of a cluster only if it is named. A disk with a live node is never overwritten.
    #[arg(long, value_name = "CLUSTER-NAME", num_args = 0..=1, default_missing_value = "")]
    pub force: Option<String>,
}
