//! `phalanx init` as it can be said.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `phalanx init`.
#[derive(Debug, Clone, Args)]
pub struct InitArguments {
    /// Name of the cluster.
    #[arg(long)]
    pub name: String,
    /// The nodes: a name and the address of its interconnect each.
    #[arg(long, value_name = "NAME=HOST:PORT,...", required = true, value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// The shared disk: a file that `phalanx disk create` makes.
    #[arg(long, value_name = "PATH")]
    pub disk: PathBuf,
    /// Where the files go.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Overwrite files that are there; a cluster key that is there is kept.
    #[arg(long)]
    pub force: bool,
    /// Timing profile of the disk.
    #[arg(long, value_name = "NAME", default_value = "local-mmap")]
    pub timing: String,
    /// What a node does if it must stop at once and cannot clean up.
    #[arg(long, value_enum, default_value_t = PanicChoice::Exit)]
    pub panic: PanicChoice,
}

/// What a node does if it must stop at once and cannot clean up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PanicChoice {
    /// The host stays up; recovery waits until somebody confirms the node's death.
    Exit,
    /// The host is restarted.
    Reboot,
    /// The host is crashed, for a kernel dump.
    Crash,
    /// The hardware watchdog is left to fire.
    Watchdog,
}

impl PanicChoice {
    /// As it is written in a file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Reboot => "reboot",
            Self::Crash => "crash",
            Self::Watchdog => "watchdog",
        }
    }
}
