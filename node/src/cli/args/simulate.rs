//! `phalanx simulate` as it can be said.

use std::path::PathBuf;

use clap::Args;

/// What is supposed; exactly one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SimulateArguments {
    /// This node leaves gracefully.
    #[arg(long, value_name = "NODE")]
    pub leave: Option<String>,
    /// This node is forced out.
    #[arg(long, value_name = "NODE")]
    pub fail: Option<String>,
    /// This node joins.
    #[arg(long, value_name = "NODE")]
    pub join: Option<String>,
    /// The definitions of this file are applied.
    #[arg(long, value_name = "FILE")]
    pub apply: Option<PathBuf>,
}
