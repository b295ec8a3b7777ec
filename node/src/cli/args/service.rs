//! `phalanx service ...` as it can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use phalanx_messages::{Revision, Term};

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
    /// Begin nothing for a service: what runs goes on, what does not run stays so, until `clear`. Meanwhile it may be stopped and
    /// started by hand on its node.
    #[command(after_help = "Example:\n  phalanx service hold web")]
    Hold {
        /// Its name.
        service: String,
        /// How to go about it.
        #[command(flatten)]
        following: Following,
    },
    /// Forget the failures and the hold of a service, and try again. What runs is adopted as it is.
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
    /// Say that a registered service has failed: it is restarted where it is, or started elsewhere, as its `restart` says. A
    /// monitor that finds it bad asks for the same.
    #[command(after_help = "Example:\n  phalanx service failed web --generation 3.12 --reason slow")]
    Failed {
        /// Its name.
        service: String,
        /// Which registration has failed: `generation` of its status, or the number in PHALANX_GENERATION. Any other than the
        /// present one is refused, so that nobody speaks of an instance that is not there any more.
        #[arg(long, value_name = "GENERATION", value_parser = generation)]
        generation: Revision,
        /// The node whose instance has failed, of a service that is registered on all nodes.
        #[arg(long = "on", value_name = "NODE")]
        on: Option<String>,
        /// What was seen.
        #[arg(long, value_name = "TEXT", default_value = "said by an administrator")]
        reason: String,
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

/// `3.12`, or the fencing token of the same registration.
///
/// # Errors
/// One sentence that names the text.
fn generation(text: &str) -> Result<Revision, String> {
    let revision = match text.split_once('.') {
        Some((term, seq)) => term.parse().ok().zip(seq.parse().ok()),
        None => text.parse::<u128>().ok().and_then(|token| {
            Some((u64::try_from(token >> 32).ok()?, u32::try_from(token & u128::from(u32::MAX)).ok()?))
        }),
    };
    let (term, seq) =
        revision.ok_or_else(|| format!("`{text}` is no generation; it looks like 3.12 or 12884901900"))?;
    Ok(Revision { term: Term(term), seq: seq.into() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_a_revision_or_the_number_that_commands_get() {
        let twelfth = Revision { term: Term(3), seq: 12 };
        assert_eq!(generation("3.12"), Ok(twelfth));
        assert_eq!(generation("12884901900"), Ok(twelfth), "3 * 2^32 + 12");
        for wrong in ["", "3.", "x", "-1", "3.12.0"] {
            assert!(generation(wrong).is_err(), "{wrong}");
        }
    }
}
