//! What happens next, and the commands that it is about.

use std::sync::Arc;

use phalanx_messages::registration::{Command, CommandKind, OperationResult, RegistrationMessage, RegistrationRecord};
use phalanx_messages::{NodeIncarnation, OperationId};
use phalanx_protocol::launcher::{LauncherInput, LauncherOutput, LauncherWrite};

/// One thing that happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// The node carries this out.
    Carry {
        /// Who.
        by: NodeIncarnation,
        /// What.
        output: LauncherOutput,
    },
    /// Its machine takes this.
    Give {
        /// Who.
        to: NodeIncarnation,
        /// What.
        input: LauncherInput,
    },
    /// A command that its warden runs ends.
    Ended {
        /// Who.
        at: NodeIncarnation,
        /// With what.
        result: OperationResult,
    },
}

impl Step {
    /// Whose step it is.
    #[must_use]
    pub const fn of(&self) -> NodeIncarnation {
        match self {
            Self::Carry { by: who, .. } | Self::Give { to: who, .. } | Self::Ended { at: who, .. } => *who,
        }
    }

    /// The database that is written, if one is.
    #[must_use]
    pub fn written(&self) -> Option<&Arc<RegistrationRecord>> {
        match self {
            Self::Carry { output: LauncherOutput::Write(LauncherWrite::Registration { record, .. }), .. } => {
                Some(record)
            }
            Self::Carry { .. } | Self::Give { .. } | Self::Ended { .. } => None,
        }
    }

    /// The commands that are sent, if some are.
    #[must_use]
    pub fn sent(&self) -> Vec<&Command> {
        match self {
            Self::Carry { output, .. } => sent(output),
            Self::Give { .. } | Self::Ended { .. } => Vec::new(),
        }
    }

    /// The results of commands that arrive, if some do.
    #[must_use]
    pub fn results(&self) -> &[OperationResult] {
        match self {
            Self::Give {
                input: LauncherInput::Received { message: RegistrationMessage::Results(results), .. },
                ..
            } => results,
            Self::Carry { .. } | Self::Give { .. } | Self::Ended { .. } => &[],
        }
    }
}

pub(super) fn sent(output: &LauncherOutput) -> Vec<&Command> {
    match output {
        LauncherOutput::Send { message: RegistrationMessage::Orders { orders, .. }, .. } => {
            orders.iter().map(|order| &order.command).collect()
        }
        LauncherOutput::Perform { order, .. } => vec![&order.command],
        LauncherOutput::Read(_)
        | LauncherOutput::Write(_)
        | LauncherOutput::Send { .. }
        | LauncherOutput::DatabaseSeen { .. }
        | LauncherOutput::Registered { .. }
        | LauncherOutput::Force { .. }
        | LauncherOutput::Happened { .. }
        | LauncherOutput::Adopted(_)
        | LauncherOutput::Answer { .. }
        | LauncherOutput::Committed(_)
        | LauncherOutput::Leader(_)
        | LauncherOutput::DiskFailed(_) => Vec::new(),
    }
}

/// A command: one that a warden has run, or should run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    /// Of which instance.
    pub lane: String,
    /// What.
    pub kind: CommandKind,
    /// Which operation.
    pub operation: OperationId,
    /// Where.
    pub at: NodeIncarnation,
}

impl Ran {
    pub(super) fn of(command: &Command) -> Self {
        let (kind, operation, at) = (command.kind, command.operation, command.target);
        Self { lane: command.instance.lane(), kind, operation, at }
    }
}
