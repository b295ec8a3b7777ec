//! A subsystem of one level: works on each notice for a while, waits for the others, answers once. Its table is the truth about
//! what the level knows (spec, Table 1).

use std::collections::BTreeMap;

use phalanx_messages::membership::{LevelRegistration, LevelState, TransitionKind};
use phalanx_messages::notification::{SubsystemNotification, TransitionNotice};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Level, NodeIncarnation, NotificationId};
use phalanx_protocol::agent::table::{Arrival, Row, Standing, row};

use crate::invariants::{View, Views};

/// Work on one notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The step.
    pub id: NotificationId,
    /// What the node in transition does.
    pub kind: TransitionKind,
    /// Nothing follows at this level.
    pub last_barrier: bool,
    /// Everybody who works on it.
    pub participants: NodeSet,
    /// How it will end.
    pub outcome: Outcome,
    /// The own part is done.
    pub worked: bool,
    /// Nobody else has to adopt the change before it is answered.
    pub adopted: bool,
    /// The answer is on its way.
    pub answering: bool,
}

/// How work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Processed.
    Done,
    /// Refused.
    Refused,
    /// Never.
    Never,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Subsystem {
    standings: BTreeMap<NodeIncarnation, Standing>,
    last: BTreeMap<NodeIncarnation, NotificationId>,
    /// What it works on.
    pub work: BTreeMap<NodeIncarnation, Work>,
}

impl Subsystem {
    /// The states of the others, from the notification that carries its own join (protocol §5.3, "starting table").
    pub fn start(&mut self, notification: &SubsystemNotification, me: NodeIncarnation) {
        self.standings.clear();
        self.work.clear();
        self.last.clear();
        for (node, (incarnation, state)) in &notification.states {
            let who = NodeIncarnation { node: *node, incarnation: *incarnation };
            let standing = match state {
                LevelState::Joined | LevelState::Leaving => Standing::Joined,
                LevelState::Joining | LevelState::Inactive => Standing::Inactive,
                LevelState::ForcedLeaving => Standing::Lost,
            };
            if who != me && standing != Standing::Inactive {
                self.standings.insert(who, standing);
            }
        }
    }

    /// Begins work on a notice; none = the same one again, because it was refused (protocol T-24).
    ///
    /// # Errors
    /// The notice is none that Table 1 allows here; the text begins with the invariant.
    pub fn begin(
        &mut self,
        notice: &TransitionNotice,
        registration: &LevelRegistration,
        participants: NodeSet,
        outcome: Outcome,
    ) -> Result<Option<(Row, Standing)>, String> {
        let who = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
        let standing = self.standings.get(&who).copied().unwrap_or_default();
        let arrival = match self.last.get(&who).filter(|last| last.transition == notice.id.transition) {
            Some(last) if notice.id.restart > last.restart => Arrival::Restart,
            Some(last) if notice.id == *last => {
                self.work_on(who, notice, registration, participants, outcome);
                return Ok(None);
            }
            Some(_) => Arrival::Next,
            None => Arrival::First,
        };
        let row = row(standing, notice.kind, arrival)
            .ok_or_else(|| format!("Table 1: {notice:?} arrives as {arrival:?} in state {standing:?}"))?;
        self.work_on(who, notice, registration, participants, outcome);
        Ok(Some((row, standing)))
    }

    fn work_on(
        &mut self,
        who: NodeIncarnation,
        notice: &TransitionNotice,
        registration: &LevelRegistration,
        participants: NodeSet,
        outcome: Outcome,
    ) {
        let last_barrier = notice.id.barrier + 1 >= registration.barriers.of(notice.kind);
        let standing = match notice.kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => Standing::Joining,
            TransitionKind::Leaving => Standing::Leaving,
            TransitionKind::ForcedLeaving => Standing::ForcedLeaving,
        };
        self.standings.insert(who, standing);
        self.last.insert(who, notice.id);
        let (id, kind) = (notice.id, notice.kind);
        let adopted = registration.level != Level::EVENT_MANAGER;
        let work = Work { id, kind, last_barrier, participants, outcome, worked: false, adopted, answering: false };
        self.work.insert(who, work);
    }

    /// Ends the work on that step; none if it was replaced.
    pub fn end(&mut self, who: NodeIncarnation, id: &NotificationId) -> Option<Work> {
        let work = self.work.get(&who).filter(|work| work.id == *id).cloned()?;
        self.work.remove(&who);
        let standing = match (work.kind, work.last_barrier) {
            (TransitionKind::Joining | TransitionKind::JoinExtending, false) => Standing::JoiningAcknowledged,
            (TransitionKind::Joining | TransitionKind::JoinExtending, true) => Standing::Joined,
            (TransitionKind::Leaving, false) => Standing::LeavingAcknowledged,
            (TransitionKind::ForcedLeaving, false) => Standing::ForcedLeavingAcknowledged,
            (TransitionKind::Leaving | TransitionKind::ForcedLeaving, true) => Standing::Inactive,
        };
        self.standings.insert(who, standing);
        Some(work)
    }

    /// What it really knows, for the checks.
    pub fn add_views(&self, level: Level, views: &mut Views) {
        for (who, standing) in &self.standings {
            let view = match standing {
                Standing::Inactive => View::Inactive,
                Standing::Joined => View::Joined,
                Standing::Lost => View::Lost,
                Standing::Joining
                | Standing::JoiningAcknowledged
                | Standing::Leaving
                | Standing::LeavingAcknowledged
                | Standing::ForcedLeaving
                | Standing::ForcedLeavingAcknowledged => View::Processing,
            };
            views.insert((level, *who), view);
        }
    }
}
