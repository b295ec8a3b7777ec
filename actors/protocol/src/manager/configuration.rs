//! Names, addresses, settings and static keys: the configuration record that the membership record names.
//!
//! Always holds: only the master changes it; a changed configuration is written before the membership record that names it,
//! and is believed - by this node too - only when that record is committed (protocol §2, "MA and CF together"). A new master
//! has read the configuration that its base names before it decides anything.

use crate::coordinator::CoordinatorInput;
use phalanx_messages::Revision;
use phalanx_messages::configuration::PublicKey;
use phalanx_messages::membership::{LevelRegistration, MembershipRecord};
use phalanx_messages::set::NodeSet;

use super::*;
use crate::quorum::Quorum;

/// What the master has decided about the configuration and not committed yet.
#[derive(Debug, Default)]
pub(super) struct ConfigurationDraft {
    /// A change that waits for its commit.
    pub drafted: Option<ConfigurationRecord>,
    /// What the commit under way writes.
    pub committing: Option<Arc<ConfigurationRecord>>,
    /// Keys of nodes that have asked to join for the first time; the commit that admits a node fixes its key.
    pub offered: BTreeMap<NodeIncarnation, PublicKey>,
}

impl Manager {
    /// The configuration with everything decided.
    fn decided(&self) -> &ConfigurationRecord {
        let committing = self.draft.committing.as_deref();
        self.draft.drafted.as_ref().or(committing).unwrap_or(&self.configuration)
    }

    /// The votes that decide now.
    pub(super) fn quorum(&self) -> Quorum {
        Quorum::of(&self.configuration).changing_to(self.decided())
    }

    /// A node asks the master to let it in.
    pub(super) fn join_requested(
        &mut self,
        from: NodeIncarnation,
        levels: Vec<LevelRegistration>,
        boot: Uuid,
        hears: NodeSet,
        public_key: PublicKey,
    ) {
        if self.coordinator.is_none() {
            return; // It asks again, whoever leads by then.
        }
        let known = self.decided().nodes.get(&from.node);
        let configured = known.is_some();
        let known_key = known.and_then(|node| node.public_key);
        let (key_matches, key_learnt) = (known_key.is_none_or(|known| known == public_key), known_key.is_none());
        if configured && key_learnt {
            self.draft.offered.insert(from, public_key);
        }
        let (same_boot, heard) = (!self.settings.one_host || boot == self.settings.boot, self.heard());
        let request = CoordinatorInput::JoinRequest {
            from,
            levels,
            same_boot,
            hears,
            heard,
            configured,
            key_matches,
            key_learnt,
        };
        self.coordinate(request);
    }

    /// The next commit carries `record`.
    pub(super) fn draft_configuration(&mut self, record: ConfigurationRecord) {
        let nodes = record.nodes.keys().copied().collect();
        self.draft.drafted = Some(record);
        let quorum = self.quorum();
        self.coordinate(CoordinatorInput::Configured { nodes, quorum });
    }

    /// The commit of `record` begins: fixes what is written as its configuration, if it names a new one.
    pub(super) fn fix_configuration(&mut self, record: &MembershipRecord) {
        let revision = record.revision;
        if record.configuration != revision {
            return;
        }
        let mut configuration = self.draft.drafted.take().unwrap_or_else(|| (*self.configuration).clone());
        configuration.revision = revision;
        for (who, key) in std::mem::take(&mut self.draft.offered) {
            let admitted = record.nodes.get(&who.node).is_some_and(|entry| entry.incarnation == who.incarnation);
            if let Some(node) = configuration.nodes.get_mut(&who.node).filter(|_| admitted) {
                node.public_key.get_or_insert(key);
            }
        }
        for consumed in configuration.consumed.values_mut().filter(|consumed| consumed.revision == Revision::default())
        {
            consumed.revision = revision;
        }
        self.draft.committing = Some(Arc::new(configuration));
    }

    /// The membership record that names the new configuration is committed.
    pub(super) fn configuration_committed(&mut self) {
        let Some(configuration) = self.draft.committing.take() else { return };
        let before = std::mem::replace(&mut self.configuration, configuration);
        self.tell_configuration();
        self.answer_consumed(&before);
    }

    /// The configuration that the base of a new term names; the register machine waits for it.
    pub(super) fn adopt_loaded_configuration(&mut self, configuration: Option<ConfigurationRecord>) {
        let Some(configuration) = configuration else { return };
        self.configuration = Arc::new(configuration);
        self.tell_configuration();
    }

    /// Reads the configuration that a newer record names, if it is another one. Asked again with each tick until it is read.
    pub(super) fn follow_configuration(&mut self) {
        let revision = self.newest.configuration;
        let known = revision <= self.configuration.revision;
        if known || self.following || self.coordinator.is_some() {
            return;
        }
        self.following = true;
        self.emit(ManagerOutput::Disk(DiskRequest::ReadConfiguration(RecordReader::Follower, revision)));
    }

    pub(super) fn configuration_read(&mut self, result: DiskResult<Option<ConfigurationRecord>>) {
        self.following = false;
        match result {
            Ok(Some(configuration)) if configuration.revision > self.configuration.revision => {
                self.configuration = Arc::new(configuration);
                self.tell_configuration();
                self.tick_requests();
            }
            Ok(_) => {}
            Err(failure) => self.remark(Remark::ConfigurationUnreadable(failure)),
        }
    }

    fn tell_configuration(&mut self) {
        self.emit(ManagerOutput::ConfigurationChanged(self.configuration.clone()));
    }
}
