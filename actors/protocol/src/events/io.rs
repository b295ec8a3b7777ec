//! What goes into the desk and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::event::{EventDefinition, Parameters};
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_messages::service::ServiceCommand;
use phalanx_messages::watcher::WatcherSchema;

use super::places::Purpose;

/// One watching of one event, from its start to its end. What an earlier one says is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// One occurrence, and the run of its action function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What happens to the desk.
#[derive(Debug, Clone)]
pub enum DeskInput {
    /// A committed database.
    Database(Arc<RegistrationRecord>),
    /// A program outside the node provides a watcher, or (none) does so no more.
    External {
        /// Name of the watcher, with its prefix.
        watcher: String,
        /// What it takes and tells.
        schema: Option<WatcherSchema>,
    },
    /// A watcher has detected the event.
    Occurred {
        /// The event.
        event: String,
        /// In which watching.
        watch: WatchId,
        /// OUT parameters.
        out: Parameters,
    },
    /// A watcher cannot go on.
    WatchFailed {
        /// The event.
        event: String,
        /// In which watching.
        watch: WatchId,
        /// Why.
        text: String,
    },
    /// An action function has ended.
    ActionEnded {
        /// Which run.
        run: RunId,
        /// How.
        result: LaunchResult,
    },
    /// An administrator lets an event, or every event of a group, occur. Answered by [`DeskOutput::Tested`].
    Test {
        /// Names the answer.
        ticket: u64,
        /// The event or event group.
        name: String,
        /// OUT parameters as texts.
        out: BTreeMap<String, String>,
        /// Run nothing.
        dry_run: bool,
    },
    /// Time passes: the lease may be valid again.
    Tick,
}

/// What must be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskOutput {
    /// Watch for this.
    Watch {
        /// Names the watching.
        watch: WatchId,
        /// The event, with the defaults of its IN parameters filled in.
        definition: Box<EventDefinition>,
    },
    /// Watch for it no more.
    Unwatch {
        /// The event.
        event: String,
        /// Which watching.
        watch: WatchId,
    },
    /// Run an action function. Answered by [`DeskInput::ActionEnded`].
    Run(Box<Run>),
    /// Remove what is kept of the output of an event that is defined no more; nothing of it runs.
    Forget {
        /// The event.
        event: String,
    },
    /// For whoever shows what occurs. A later one with the same number replaces it.
    Tell(Box<Occurrence>),
    /// Answer to [`DeskInput::Test`]: the numbers of its occurrences, or why there is none.
    Tested {
        /// Which.
        ticket: u64,
        /// What became of it.
        answer: Result<Vec<RunId>, String>,
    },
}

/// An action function with the values of its occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Names it.
    pub id: RunId,
    /// The event.
    pub event: String,
    /// What it is watched for; none in a test of an event that no group has.
    pub purpose: Option<Purpose>,
    /// What is run.
    pub command: ServiceCommand,
    /// IN and OUT parameters as variables.
    pub variables: Vec<(String, String)>,
}

/// What was done about an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Done {
    /// There is no action function: it is told.
    Told,
    /// It waits until the node has its lease, or until an action function of an earlier watching has ended.
    Waiting,
    /// The action function runs.
    Running,
    /// It has ended well.
    Succeeded,
    /// It has not.
    Failed,
    /// Not acted on: within the quiet time of one before.
    Quiet,
    /// Not acted on: the action function ran.
    Busy,
    /// Not acted on: its group was disabled while it waited.
    Dropped,
    /// A test that runs nothing.
    WouldRun,
}

impl Done {
    /// As it is written everywhere.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Quiet => "quiet",
            Self::Busy => "busy",
            Self::Dropped => "dropped",
            Self::WouldRun => "would-run",
        }
    }

    /// Nothing more comes of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Waiting | Self::Running => false,
            Self::Told | Self::Succeeded | Self::Failed | Self::Quiet | Self::Busy | Self::Dropped | Self::WouldRun => {
                true
            }
        }
    }
}

/// One occurrence for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Grows with each.
    pub id: RunId,
    /// The event.
    pub event: String,
    /// What it is watched for.
    pub purpose: Option<Purpose>,
    /// OUT parameters.
    pub out: Parameters,
    /// What was done about it.
    pub done: Done,
    /// What was run, or what went wrong.
    pub text: String,
    /// How often the same occurred again within the quiet time.
    pub repeats: u64,
    /// An administrator's test.
    pub test: bool,
}

/// What this node does about an event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Watched {
    /// It is watched.
    pub watching: bool,
    /// Why it is not, although it should be.
    pub problem: Option<String>,
    /// Occurrences so far.
    pub occurrences: u64,
    /// Action functions run so far.
    pub acted: u64,
}
