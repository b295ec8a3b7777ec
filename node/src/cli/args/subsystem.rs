//! `phalanx subsystem ...` as it can be said.

use clap::{Args, Subcommand, ValueEnum};
use phalanx_messages::membership::{BarrierCounts, Certainty};
use phalanx_messages::subsystem::DeathPolicy;

/// `phalanx subsystem ...`.
#[derive(Debug, Subcommand)]
pub enum SubsystemCommand {
    /// List the levels of the cluster, and where each node stands at them.
    #[command(after_help = "Examples:\n  phalanx subsystem list\n  phalanx subsystem list --output json")]
    List,
    /// Be a subsystem of the node that answers, until Ctrl-C: run a command for every step of every transition at a level.
    ///
    /// The command runs once for each node of a notification, with PHALANX_ACTION (joining, leaving, forced-leaving),
    /// PHALANX_SUBJECT (the node in transition) and the other variables of command subsystems. Exit code 0 acknowledges; any other
    /// is a failure, and the step comes again. One that is overtaken by a forced leave is told so by SIGTERM. Ctrl-C lets the level
    /// leave first.
    Attach(AttachArguments),
}

/// `phalanx subsystem attach`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  phalanx subsystem attach --name audit --level 500 -- /usr/local/bin/audit-step\n  \
                  phalanx --node n1 subsystem attach --name audit --level 500 --barriers joining=2,leaving=1 --on-death \
                  drop-level -- logger step"
)]
pub struct AttachArguments {
    /// Its name, the same on every node.
    #[arg(long)]
    pub name: String,
    /// Its place in the order; not 100, 200, 300 or 1000.
    #[arg(long)]
    pub level: u16,
    /// Rounds of each kind of transition, the same on every node; 1 if not said.
    #[arg(long, value_name = "KIND=N,..", value_parser = parse_barriers, default_value = "joining=1,leaving=1,forced_leaving=1")]
    pub barriers: BarrierCounts,
    /// When this command dies and is not back within the restart time: the node is forced out, or only the level leaves.
    #[arg(long, value_enum, default_value_t = OnDeath::ForceNode)]
    pub on_death: OnDeath,
    /// What recovery waits for: that the lost node is dead, or only that it can write nothing any more.
    #[arg(long, value_enum, default_value_t = Needs::Death)]
    pub needs: Needs,
    /// A step that takes longer counts as death.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::config::parse_duration_ms)]
    pub answer_within: u64,
    /// What to run.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// [`DeathPolicy`] as it can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnDeath {
    /// It may have held something.
    ForceNode,
    /// It only watches.
    DropLevel,
}

impl From<OnDeath> for DeathPolicy {
    fn from(said: OnDeath) -> Self {
        match said {
            OnDeath::ForceNode => Self::ForceNode,
            OnDeath::DropLevel => Self::DropLevel,
        }
    }
}

/// [`Certainty`] as it can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Needs {
    /// No process of it runs.
    Death,
    /// It writes nothing to the shared disk.
    Io,
}

impl From<Needs> for Certainty {
    fn from(said: Needs) -> Self {
        match said {
            Needs::Death => Self::Death,
            Needs::Io => Self::Io,
        }
    }
}

fn parse_barriers(text: &str) -> Result<BarrierCounts, String> {
    let mut barriers = BarrierCounts { joining: 1, leaving: 1, forced_leaving: 1 };
    for pair in text.split(',') {
        let (kind, count) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not KIND=N"))?;
        let count = count.parse().map_err(|_| format!("`{count}` is no number of barriers"))?;
        match kind {
            "joining" => barriers.joining = count,
            "leaving" => barriers.leaving = count,
            "forced_leaving" => barriers.forced_leaving = count,
            other => return Err(format!("`{other}` must be joining, leaving or forced_leaving")),
        }
    }
    Ok(barriers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_are_named_and_one_if_not_said() {
        assert_eq!(
            parse_barriers("joining=2,forced_leaving=3"),
            Ok(BarrierCounts { joining: 2, leaving: 1, forced_leaving: 3 })
        );
        for wrong in ["joining", "joining=x", "sleeping=1", ""] {
            assert!(parse_barriers(wrong).is_err(), "{wrong}");
        }
    }
}
