//! One decision: events are absorbed, then every service is settled against the view (protocol §6.1, `decide`).

use phalanx_messages::Revision;
use phalanx_messages::registration::{Command, RegistrationRecord, ServiceRun, View};

use super::rows::{Issuer, Passed, Rows, StopReason};

/// A state that a service reached in a decision. Those only passed are reported too, in order (protocol RL-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The service.
    pub service: String,
    /// What it became.
    pub run: ServiceRun,
    /// Why it is being stopped, if it is.
    pub reason: Option<StopReason>,
}

/// What came of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The database to commit; the base itself if nothing changed.
    pub record: RegistrationRecord,
    /// To be sent once it is committed, never before (protocol I-R7).
    pub commands: Vec<Command>,
    /// What happened, for people.
    pub changes: Vec<Change>,
}

/// What the disk was formatted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseRoom {
    /// Bytes of the whole database.
    pub bytes: usize,
    /// Services.
    pub services: usize,
}

impl Default for DatabaseRoom {
    /// There is no limit.
    fn default() -> Self {
        Self { bytes: usize::MAX, services: usize::MAX }
    }
}

/// A decision in the making, over a base that is committed and a view that is not older than the base's.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    pub(super) base: &'a RegistrationRecord,
    pub(super) record: RegistrationRecord,
    pub(super) view: &'a View,
    pub(super) issuer: Issuer,
    pub(super) changes: Vec<Change>,
    pub(super) room: DatabaseRoom,
}

impl<'a> Decision<'a> {
    /// Begins a decision.
    #[must_use]
    pub fn new(base: &'a RegistrationRecord, view: &'a View) -> Self {
        let next = Revision { term: base.revision.term, seq: base.revision.seq + 1 };
        Self {
            base,
            record: base.clone(),
            view,
            issuer: Issuer::new(next),
            changes: Vec::new(),
            room: DatabaseRoom::default(),
        }
    }

    /// Refuses definitions that would not fit the disk.
    #[must_use]
    pub const fn within(mut self, room: DatabaseRoom) -> Self {
        self.room = room;
        self
    }

    /// Applies the view and every row until none applies.
    #[must_use]
    pub fn settle(mut self) -> Decided {
        let before = self.base.seen();
        for name in self.record.services.keys().cloned().collect::<Vec<_>>() {
            self.with(&name, |rows| {
                rows.adopt(&before);
                rows.settle();
            });
        }
        self.record.formation = self.view.formation;
        self.record.view = self.view.nodes.clone();
        if self.record != *self.base {
            self.record.revision = self.issuer.revision;
        }
        Decided { record: self.record, commands: self.issuer.commands, changes: self.changes }
    }

    /// Works on one service, if there is one of that name.
    pub(super) fn with(&mut self, service: &str, work: impl FnOnce(&mut Rows<'_>)) {
        let Some(record) = self.record.services.get_mut(service) else { return };
        let mut passed = Vec::new();
        work(&mut Rows {
            definition: &record.definition,
            run: &mut record.run,
            view: self.view,
            standby: &self.record.standby,
            issuer: &mut self.issuer,
            passed: &mut passed,
            stop_reason: None,
        });
        let change = |Passed { run, reason }| Change { service: service.to_owned(), run, reason };
        self.changes.extend(passed.into_iter().map(change));
    }
}

/// The rules: what the database becomes under this view, and what must be done once that is committed.
///
/// Settling the result again changes nothing and commands nothing (protocol I-R15).
#[must_use]
pub fn settle(record: &RegistrationRecord, view: &View) -> (RegistrationRecord, Vec<Command>) {
    let decided = Decision::new(record, view).settle();
    (decided.record, decided.commands)
}
