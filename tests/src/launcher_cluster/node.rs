//! One node: its machine, the executor of each service, and what its warden remembers of their commands (protocol RL-5).

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::registration::{DecisionRegister, OperationResult, RegistrationRecord};
use phalanx_messages::{NodeIncarnation, OperationId, Revision};
use phalanx_protocol::launcher::{Launcher, LauncherSettings};
use phalanx_protocol::registration::{DatabaseRoom, Executor};
use phalanx_storage::{AreaWriter, ClusterDisk};

use super::PROFILE;

/// The newest command of one lane, as the warden knows it.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory {
    pub last: OperationId,
    /// How it ended; none while it runs.
    pub result: Option<OperationResult>,
}

/// See the module.
pub(super) struct Node {
    pub me: NodeIncarnation,
    pub launcher: Launcher,
    pub executors: BTreeMap<String, Executor>,
    /// By lane; notifications have lanes of their own.
    pub warden: BTreeMap<(String, bool), Memory>,
    pub decisions: AreaWriter<DecisionRegister>,
    pub registrations: AreaWriter<RegistrationRecord>,
    /// Changes of the level that are not adopted yet.
    pub adopting: BTreeSet<u64>,
    /// The database that was loaded while claiming a depoch.
    pub base: Revision,
    /// The newest database that it holds for committed as the one who decides.
    pub committed: Revision,
}

impl Node {
    /// A start that has joined nothing.
    pub fn new(me: NodeIncarnation, disk: &ClusterDisk) -> Self {
        let settings = LauncherSettings { me, profile: PROFILE, room: DatabaseRoom::default() };
        Self {
            me,
            launcher: Launcher::new(settings),
            executors: BTreeMap::new(),
            warden: BTreeMap::new(),
            decisions: disk.decisions().writer(me.node, me.incarnation).expect("memory is readable"),
            registrations: disk.registrations().writer(me.node, me.incarnation).expect("memory is readable"),
            adopting: BTreeSet::new(),
            base: Revision::default(),
            committed: Revision::default(),
        }
    }
}
