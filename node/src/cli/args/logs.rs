//! `phalanx logs` as it can be said.

use clap::Args;

/// `phalanx logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArguments {
    /// The node; the one that answers if not given.
    #[arg(value_name = "NODE")]
    pub name: Option<String>,
    /// The output of this service's commands on that node, instead of the node's own lines.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Go on with every line from then on; Ctrl-C ends it.
    #[arg(long)]
    pub follow: bool,
    /// Follow for this long, e.g. 30s.
    #[arg(long = "for", value_name = "DURATION", requires = "follow", value_parser = crate::config::parse_duration_ms)]
    pub for_ms: Option<u64>,
    /// How many of the last lines.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub lines: u32,
}
