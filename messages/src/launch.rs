//! Commands that a node runs for its client services and command subsystems, and what comes of them (architecture §4, §6).
//!
//! The warden runs them, because it survives the daemon and proves that they are gone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::OperationId;

/// Whose command it is; each owner has a containment of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// A client service.
    Service(String),
    /// A command subsystem.
    Subsystem(String),
    /// An event's action function, or a monitor: nothing of it may stay.
    Event(String),
}

/// What may remain of an owner after its processes were killed (architecture §4, "What outlives a process").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaves {
    /// Nothing: killing its containment ends it.
    Processes,
    /// Addresses, mounts, units: `clean_up` must succeed before the node may be called dead.
    State,
}

/// Which action function runs (spec, "4. Action Functions"), or which transition a command subsystem processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start_Command.
    Start,
    /// Stop_Command.
    Stop,
    /// Notify_Command.
    Notify,
    /// Recovery_Command.
    Recovery,
    /// A command subsystem's command for one notification.
    Transition,
    /// A monitor, or an event's action function: nothing of it may stay when it has ended.
    Watch,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Program {
    /// A program and its arguments. No shell.
    Arguments(Vec<String>),
    /// A command line, given to `/bin/sh -c`.
    Shell(String),
}

impl Program {
    /// A command line for the shell.
    #[must_use]
    pub fn shell(command: impl Into<String>) -> Self {
        Self::Shell(command.into())
    }

    /// What is executed. `title` is where `ps` shows it, if a shell is.
    #[must_use]
    pub fn words(&self, title: &str) -> Vec<String> {
        match self {
            Self::Arguments(words) => words.clone(),
            Self::Shell(command) => ["/bin/sh", "-c", command, title].map(str::to_owned).into(),
        }
    }
}

/// For people: the words one after the other.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(words) => f.write_str(&words.join(" ")),
            Self::Shell(command) => f.write_str(command),
        }
    }
}

/// One command to run.
///
/// A repeated request with the same `owner` and `operation` is not run again: it gets the first one's result
/// (protocol RL-4, RL-5). An operation older than the owner's newest is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Whose command it is.
    pub owner: Owner,
    /// Which committed operation it carries out; subsystem commands have none.
    pub operation: Option<OperationId>,
    /// What it is for.
    pub action: Action,
    /// What is run.
    pub command: Program,
    /// Variables added to the environment.
    pub environment: Vec<(String, String)>,
    /// Killed after this long, in milliseconds.
    pub timeout_ms: u64,
    /// What may remain after the processes.
    pub leaves: Leaves,
    /// Run by the warden if the node dies after this request: `stop_command` of a service, `on_panic` of a subsystem.
    pub clean_up: Option<Program>,
    /// How often it is run again if it fails or takes too long, each time after what the last one left has been killed and with
    /// the whole time-out. All of it is one operation.
    pub retries: u16,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchResult {
    /// Exit status 0.
    Succeeded,
    /// It ran and failed, timed out or was killed; or it was refused. `text` is what the administrator reads.
    Failed {
        /// Exit status, signal or refusal, with the last lines it wrote to stderr.
        text: String,
    },
}

/// What a failure's text begins with when the command ended by itself.
const EXIT_STATUS: &str = "exit status ";
/// What it begins with when the command took too long.
const TIMED_OUT: &str = "timed out after ";

/// How a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It ended by itself with this status.
    Status(i32),
    /// It took too long and was killed.
    TimedOut,
    /// It was killed, refused or never begun.
    Otherwise,
}

impl LaunchResult {
    /// The text of a command that ended with this status.
    #[must_use]
    pub fn exit_status(status: i32) -> String {
        format!("{EXIT_STATUS}{status}")
    }

    /// The text of a command that took too long.
    #[must_use]
    pub fn timed_out(timeout_ms: u64) -> String {
        format!("{TIMED_OUT}{timeout_ms} ms and was killed")
    }

    /// How it failed, as its text says; none = it did not.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let Self::Failed { text } = self else { return None };
        if text.starts_with(TIMED_OUT) {
            return Some(Failure::TimedOut);
        }
        let status = text.strip_prefix(EXIT_STATUS).and_then(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        });
        Some(status.map_or(Failure::Otherwise, Failure::Status))
    }
}

/// What the daemon asks of its warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "actix", derive(actix::Message), rtype(result = "LaunchResult"))]
pub enum WardenRequest {
    /// Run a command to its end. What it leaves running stays in the owner's containment.
    Launch(LaunchRequest),
    /// Kill the owner's containment and verify that it is empty. `Succeeded` = clean. Aborts a running launch of the owner.
    Kill {
        /// Whose processes.
        owner: Owner,
        /// The operation that this kill is, if it is one.
        operation: Option<OperationId>,
        /// Give up after this long, in milliseconds.
        timeout_ms: u64,
    },
    /// Answer `Failed` when everything that the start of this operation left running has ended by itself; at once, if it has.
    /// `Succeeded` = there is nothing to watch: it left nothing, or it is not the owner's newest operation, or no longer.
    Watch {
        /// Whose processes.
        owner: Owner,
        /// The operation of their start.
        operation: OperationId,
    },
    /// Remove what is kept of an owner's output: it is defined no more.
    Forget {
        /// Whose.
        owner: Owner,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_in_its_text_how_it_came() {
        let failed = |text: String| LaunchResult::Failed { text };
        assert_eq!(failed(LaunchResult::exit_status(7) + ": not running").failure(), Some(Failure::Status(7)));
        assert_eq!(failed(LaunchResult::timed_out(20)).failure(), Some(Failure::TimedOut));
        assert_eq!(failed("killed by signal 9".to_owned()).failure(), Some(Failure::Otherwise));
        assert_eq!(LaunchResult::Succeeded.failure(), None);
    }

    #[test]
    fn a_shell_gets_the_title_and_a_program_is_run_as_it_is() {
        let words = Program::Arguments(vec!["/bin/echo".to_owned(), "$HOME; ls".to_owned()]).words("n0: service s");
        assert_eq!(words, ["/bin/echo", "$HOME; ls"]);
        assert_eq!(Program::shell("ls").words("n0: service s"), ["/bin/sh", "-c", "ls", "n0: service s"]);
    }
}
