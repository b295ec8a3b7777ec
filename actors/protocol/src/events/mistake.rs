//! What is wrong with the definition of an event.

use super::schema::WATCHERS;

/// See the module. The text names what is wrong; [`Self::key`] the key that has to be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventMistake {
    /// There is no watcher of that name.
    #[error("watcher `{watcher}` is unknown")]
    UnknownWatcher {
        /// The name.
        watcher: String,
    },
    /// The watcher has no such IN parameter.
    #[error("watcher `{watcher}` has no IN parameter `{name}`")]
    UnknownParameter {
        /// The watcher.
        watcher: String,
        /// The name.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// An IN parameter that the watcher needs is not given.
    #[error("watcher `{watcher}` needs IN parameter `{name}`")]
    MissingParameter {
        /// The watcher.
        watcher: String,
        /// The parameter.
        name: String,
    },
    /// A value that the parameter does not take.
    #[error("IN parameter `{name}` is `{value}`; it takes {takes}")]
    WrongValue {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// What it takes, in words.
        takes: String,
    },
    /// IN parameters that make no sense together.
    #[error("{text}")]
    Together {
        /// Which, and why.
        text: String,
        /// What to do.
        hint: String,
    },
    /// The action function refers to a parameter that is not there.
    #[error("the action refers to `{reference}`, and {why}")]
    UnknownReference {
        /// As it is written.
        reference: String,
        /// Why it means nothing.
        why: String,
    },
    /// A reference in a text that a shell would interpret.
    #[error("the action is given to a shell and refers to `{reference}`, whose value a shell would interpret")]
    ReferenceInShell {
        /// As it is written.
        reference: String,
        /// The variable that has the value.
        variable: String,
    },
    /// Events have no agent.
    #[error("an event has no agent to perform its action")]
    Agent,
    /// There is nothing to run.
    #[error("the action is empty")]
    NoProgram,
}

impl EventMistake {
    /// The key of `[[event]]` that has to be changed.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::UnknownWatcher { .. } => "watcher",
            Self::UnknownParameter { .. }
            | Self::MissingParameter { .. }
            | Self::WrongValue { .. }
            | Self::Together { .. } => "in",
            Self::UnknownReference { .. } | Self::ReferenceInShell { .. } | Self::Agent | Self::NoProgram => "action",
        }
    }

    /// The parameter below that key, if the mistake is in one.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::UnknownParameter { name, .. } | Self::WrongValue { name, .. } => Some(name),
            Self::UnknownWatcher { .. }
            | Self::MissingParameter { .. }
            | Self::Together { .. }
            | Self::UnknownReference { .. }
            | Self::ReferenceInShell { .. }
            | Self::Agent
            | Self::NoProgram => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::UnknownWatcher { .. } => {
                format!("use one of {}, or `external:NAME` for a program outside the node", WATCHERS.join(", "))
            }
            Self::UnknownParameter { known, .. } => format!("it has {}", known.join(", ")),
            Self::MissingParameter { name, .. } => format!("add `{name} = ...` to `in`"),
            Self::WrongValue { .. } => "see docs/events.md for what each watcher takes".to_owned(),
            Self::Together { hint, .. } => hint.clone(),
            Self::UnknownReference { .. } => "use ${in.NAME} or ${out.NAME} with a parameter of the watcher".to_owned(),
            Self::ReferenceInShell { variable, .. } => {
                format!("use \"${variable}\" in the shell's text, or an argument list without a shell")
            }
            Self::Agent => "give a program and its arguments".to_owned(),
            Self::NoProgram => "name a program, or leave `action` out if the event is only told".to_owned(),
        }
    }
}
