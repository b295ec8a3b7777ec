//! `phalanx event ...` as it can be said.

use clap::Subcommand;

use crate::config::parse_duration_ms;

/// `phalanx event ...`.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// List the events and event groups, and what the node that answers watches.
    #[command(after_help = "Example:\n  phalanx event list --output json")]
    List,
    /// Show one event or event group, with its definition.
    #[command(after_help = "Example:\n  phalanx event show disk-full")]
    Show {
        /// Its name.
        name: String,
    },
    /// Enable an event group again.
    #[command(after_help = "Example:\n  phalanx event enable disks")]
    Enable {
        /// The event group.
        group: String,
    },
    /// Disable an event group everywhere, until it is enabled again.
    #[command(after_help = "Example:\n  phalanx event disable disks")]
    Disable {
        /// The event group.
        group: String,
    },
    /// Forget events and event groups, all that are named or none. One that something else names is kept, and said by whom.
    #[command(
        after_help = "Examples:\n  phalanx event remove disk-full\n  phalanx event remove disks disk-full --dry-run"
    )]
    Remove {
        /// Events and event groups. A name that both have means both.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Remove nothing; say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what occurred on the node that answers, and what was done about it.
    #[command(
        after_help = "Examples:\n  phalanx event tail --lines 20\n  phalanx --node n1 event tail --follow --for 30s"
    )]
    Tail {
        /// Go on with every occurrence from then on; Ctrl-C ends it.
        #[arg(long)]
        follow: bool,
        /// Follow for this long, e.g. 30s.
        #[arg(long = "for", value_name = "DURATION", requires = "follow", value_parser = parse_duration_ms)]
        for_ms: Option<u64>,
        /// How many of the last ones.
        #[arg(long, value_name = "N", default_value_t = 100)]
        lines: u32,
    },
    /// Let an event, or every event of a group, occur on the node that answers, without waiting for its condition: its action
    /// function runs.
    #[command(
        after_help = "Examples:\n  phalanx event test disk-full --out percent=97 --dry-run\n  phalanx --node n1 event test disks"
    )]
    Test {
        /// The event or event group.
        name: String,
        /// An OUT parameter of the occurrence.
        #[arg(long = "out", value_name = "NAME=VALUE", value_parser = parse_pair)]
        out: Vec<(String, String)>,
        /// Run nothing; say what would be run.
        #[arg(long)]
        dry_run: bool,
    },
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE, as in percent=97")?;
    Ok((name.to_owned(), value.to_owned()))
}
