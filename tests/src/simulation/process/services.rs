//! Registration and launch in one process: its machine, the executor of each service, what the warden remembers of their commands
//! (protocol RL-5), and the event manager beside it.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::registration::{CommandKind, OperationResult};
use phalanx_messages::{NodeIncarnation, NotificationId, OperationId, Revision};
use phalanx_protocol::events::{EventDesk, WatchId};
use phalanx_protocol::launcher::Launcher;
use phalanx_protocol::registration::Executor;

/// The newest command of one service, as the warden knows it.
#[derive(Debug, Default, Clone)]
pub struct Commands {
    /// Its operation.
    pub last: OperationId,
    /// It runs.
    pub running: Option<CommandKind>,
    /// How it ended.
    pub result: Option<OperationResult>,
}

/// See the module.
#[derive(Debug)]
pub struct Services {
    /// The machine.
    pub launcher: Launcher,
    /// One for each service.
    pub executors: BTreeMap<String, Executor>,
    /// What the warden remembers.
    pub commands: BTreeMap<String, Commands>,
    /// The event manager's machine.
    pub desk: EventDesk,
    /// Watchers that run, by event.
    pub watchers: BTreeMap<String, WatchId>,
    /// Notices that are answered when the machine has adopted the change of that number.
    pub adopting: BTreeMap<u64, Vec<(NodeIncarnation, NotificationId)>>,
    /// Number of the newest change.
    pub changes: u64,
    /// Number of the newest order of an administrator or an action function.
    pub orders: u64,
    /// How many of them are answered.
    pub answered: u64,
    /// Action functions that run.
    pub actions: u64,
    /// The newest database that this node, as owner of the decisions, holds for committed.
    pub committed: Revision,
    /// The database that was loaded while claiming a term.
    pub base: Revision,
}

impl Services {
    /// Nothing has been decided or run.
    #[must_use]
    pub fn new(launcher: Launcher, desk: EventDesk) -> Self {
        Self {
            launcher,
            executors: BTreeMap::new(),
            commands: BTreeMap::new(),
            desk,
            watchers: BTreeMap::new(),
            adopting: BTreeMap::new(),
            changes: 0,
            orders: 0,
            answered: 0,
            actions: 0,
            committed: Revision::default(),
            base: Revision::default(),
        }
    }

    /// Events that are watched for.
    #[must_use]
    pub fn watches(&self) -> BTreeSet<String> {
        self.watchers.keys().cloned().collect()
    }
}
