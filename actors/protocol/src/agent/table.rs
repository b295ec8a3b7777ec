//! Which notification a subsystem may get in which state (spec, Table 1, "Notification State Transitions"; protocol §5.3).
//!
//! One entry for each node, incarnation and level: the state the subsystem acknowledged last, and the step it was given last.

use phalanx_messages::membership::{LevelState, TransitionKind};
use phalanx_messages::{NotificationId, TransitionId};

/// What a subsystem knows of one incarnation of a node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    /// State as of the last completed acknowledgement.
    pub state: LevelState,
    /// The step it was notified of last, and whether it has acknowledged it.
    pub last: Option<LastStep>,
}

/// The newest step that was notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastStep {
    /// Its kind.
    pub kind: TransitionKind,
    /// Its id.
    pub id: NotificationId,
    /// Acknowledged.
    pub acknowledged: bool,
}

/// Row of the table that a notification falls under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// Inactive -> Joining.
    Join,
    /// Joined -> Leaving.
    Leave,
    /// Joined or Inactive -> Forced-Leaving.
    ForcedLeave,
    /// The next barrier of the same step.
    NextBarrier,
    /// Same transition from barrier 0 again (protocol T-9).
    Restart,
    /// Joining or Leaving -> Forced-Leaving: abort and recover (spec, "Allowed Re-notifications").
    Abort,
}

/// Why a notification is a protocol error; the node that is asked to process it panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Illegal {
    /// Forced-Leaving allows no re-notification by Joining or Leaving.
    AfterForcedLeaving,
    /// Joining must be acknowledged as Joined before Leaving.
    LeavingWhileJoining,
    /// A node joins where it is joined, or leaves where it is not.
    NotItsState,
    /// A barrier that does not follow the last one acknowledged.
    BarrierOutOfOrder,
}

/// Looks a notification up. It is newer than what the subsystem was told last about this node; the agent drops the others.
///
/// # Errors
/// The reason why no master may send it.
pub fn look_up(known: &Known, kind: TransitionKind, id: &NotificationId) -> Result<Row, Illegal> {
    use LevelState::{ForcedLeaving, Inactive, Joined, Joining, Leaving};
    let same = known.last.filter(|last| last.id.transition == id.transition && last.kind == kind);
    if let Some(last) = same {
        return look_up_same(&last, id);
    }
    if id.barrier != 0 {
        return Err(Illegal::BarrierOutOfOrder);
    }
    match (known.processing(), kind) {
        // spec: Table 1, rows "Inactive" and "Joined" (a new notification in a stable state)
        (Inactive, TransitionKind::Joining | TransitionKind::JoinExtending) => Ok(Row::Join),
        (Joined, TransitionKind::Leaving) => Ok(Row::Leave),
        (Inactive | Joined, TransitionKind::ForcedLeaving) => Ok(Row::ForcedLeave),
        // spec: Table 1, rows "Joining" and "Leaving", re-notification Forced-Leaving
        (Joining | Leaving, TransitionKind::ForcedLeaving) => Ok(Row::Abort),
        // spec: Table 1, row "Forced-Leaving", no re-notification
        (ForcedLeaving, TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::Leaving) => {
            Err(Illegal::AfterForcedLeaving)
        }
        (Joining, TransitionKind::Leaving) => Err(Illegal::LeavingWhileJoining),
        // Another transition id for the same forced leave: a cold start renumbers it (protocol T-18).
        (ForcedLeaving, TransitionKind::ForcedLeaving) => Ok(Row::ForcedLeave),
        (Joined | Joining | Leaving, TransitionKind::Joining | TransitionKind::JoinExtending)
        | (Inactive | Leaving, TransitionKind::Leaving) => Err(Illegal::NotItsState),
    }
}

fn look_up_same(last: &LastStep, id: &NotificationId) -> Result<Row, Illegal> {
    if id.restart > last.id.restart {
        return if id.barrier == 0 { Ok(Row::Restart) } else { Err(Illegal::BarrierOutOfOrder) };
    }
    let follows = last.acknowledged && id.restart == last.id.restart && id.barrier == last.id.barrier + 1;
    if follows { Ok(Row::NextBarrier) } else { Err(Illegal::BarrierOutOfOrder) }
}

impl Known {
    /// A subsystem that never heard of the node, or took its state from a starting table (protocol §5.3).
    #[must_use]
    pub const fn starting(state: LevelState) -> Self {
        Self { state, last: None }
    }

    /// The state being processed, or the stable one.
    #[must_use]
    pub fn processing(&self) -> LevelState {
        match self.last {
            Some(last) if self.is_transient(last) => match last.kind {
                TransitionKind::Joining | TransitionKind::JoinExtending => LevelState::Joining,
                TransitionKind::Leaving => LevelState::Leaving,
                TransitionKind::ForcedLeaving => LevelState::ForcedLeaving,
            },
            Some(_) | None => self.state,
        }
    }

    /// The last barrier of a step is not acknowledged yet: the stable state has not been reached.
    fn is_transient(&self, last: LastStep) -> bool {
        !last.acknowledged || self.state != target(last.kind)
    }

    /// Notes that a step was notified.
    pub const fn notified(&mut self, kind: TransitionKind, id: NotificationId) {
        self.last = Some(LastStep { kind, id, acknowledged: false });
    }

    /// Notes that the step was acknowledged; `is_last` = there is no further barrier of this kind at the level.
    pub fn acknowledged(&mut self, transition: TransitionId, is_last: bool) {
        let Some(last) = self.last.as_mut().filter(|last| last.id.transition == transition) else { return };
        last.acknowledged = true;
        if is_last {
            self.state = target(last.kind);
        } else {
            // A restart after the last barrier begins again: the target does not count before its last barrier.
            self.state = origin(last.kind);
        }
    }
}

const fn target(kind: TransitionKind) -> LevelState {
    match kind {
        TransitionKind::Joining | TransitionKind::JoinExtending => LevelState::Joined,
        TransitionKind::Leaving | TransitionKind::ForcedLeaving => LevelState::Inactive,
    }
}

const fn origin(kind: TransitionKind) -> LevelState {
    match kind {
        TransitionKind::Joining | TransitionKind::JoinExtending => LevelState::Inactive,
        TransitionKind::Leaving | TransitionKind::ForcedLeaving => LevelState::Joined,
    }
}
