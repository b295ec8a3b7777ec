//! The invariants of the transition engine (protocol §5.7), judged from outside: from committed records, from what subsystems
//! were told, and from what really happened, never from what a machine believes. One invariant a file, named as in the protocol.
//!
//! Each function gives what is wrong, as text that begins with the invariant's name; nothing = it holds.

mod t02_no_step_without_its_acknowledgements;
mod t03_levels_go_one_way;
mod t05_nothing_above_the_top;
mod t06_no_recovery_without_proof;
mod t07_no_join_over_an_old_one;
mod t09_members_see_what_is_so;
mod t15_no_empty_notification;
mod t18_only_users_of_a_level_are_awaited;
mod t19_the_inactive_are_forgotten;
mod t20_no_step_beside_a_victim;
mod t22_batches_complete_together;
mod t23_no_join_above_unrecovered;

use phalanx_messages::membership::{LevelState, MembershipRecord, Step, StepPhase, TransitionKind};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::{NodeIncarnation, NotificationId};

pub use phalanx_protocol::coordinator::level_states::subjects;
use phalanx_protocol::coordinator::level_states::{Subject, is_notified};

pub use t02_no_step_without_its_acknowledgements::gives_up;
pub use t07_no_join_over_an_old_one::t07_no_join_over_an_old_one;
pub use t09_members_see_what_is_so::{Views, at_rest};
pub use t19_the_inactive_are_forgotten::t19_the_inactive_are_forgotten;
pub use t23_no_join_above_unrecovered::{Unrecovered, t23_no_join_above_unrecovered};

/// What a subsystem really knows of one incarnation of a node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// Nothing, or that it is gone.
    #[default]
    Inactive,
    /// It is working on a step about it.
    Processing,
    /// It is there.
    Joined,
    /// It is lost and not recovered.
    Lost,
}

impl View {
    /// How the state vector of its own join tells a subsystem of another node (protocol §5.3).
    #[must_use]
    pub const fn told(state: LevelState) -> Self {
        match state {
            LevelState::Joined | LevelState::Leaving => Self::Joined,
            LevelState::Joining | LevelState::Inactive => Self::Inactive,
            LevelState::ForcedLeaving => Self::Lost,
        }
    }
}

/// True if a subsystem of that incarnation really acknowledged that step.
pub type Acknowledged<'a> = &'a dyn Fn(NodeIncarnation, NotificationId) -> bool;

/// Steps of which participants are notified.
pub fn running(record: &MembershipRecord) -> impl Iterator<Item = (Subject, &Step)> {
    subjects(record).filter(|(_, step)| is_notified(record, step))
}

/// Everything that one commit can break.
#[must_use]
pub fn of_commit(before: &MembershipRecord, after: &MembershipRecord, acknowledged: Acknowledged<'_>) -> Vec<String> {
    if before.formation != after.formation {
        return Vec::new(); // T-18: nobody of the old cluster is left to wait for
    }
    let mut found = t02_no_step_without_its_acknowledgements::check(before, after, acknowledged);
    found.extend(t03_levels_go_one_way::check(before, after));
    found.extend(t18_only_users_of_a_level_are_awaited::check(after));
    found.extend(t20_no_step_beside_a_victim::check(after));
    found.extend(t22_batches_complete_together::check(before, after));
    found
}

/// Everything that one notification can break. `record` is the committed record that it was made from; `is_dead` = no process of
/// that incarnation runs.
#[must_use]
pub fn of_notification(
    record: &MembershipRecord,
    notification: &SubsystemNotification,
    is_dead: &dyn Fn(NodeIncarnation) -> bool,
) -> Vec<String> {
    let mut found = t15_no_empty_notification::check(notification);
    found.extend(t05_nothing_above_the_top::check(record, notification));
    found.extend(t06_no_recovery_without_proof::check(record, notification, is_dead));
    found
}

/// Neither unchanged, nor held, nor restarted, nor overtaken by a forced leave.
fn has_advanced(step: &Step, now: Option<&Step>) -> bool {
    now.is_none_or(|now| {
        let same = now.notification() == step.notification() && now.phase == StepPhase::Notifying;
        let held = now.transition == step.transition && now.phase == StepPhase::Held && now.level == step.level;
        let restarted = now.transition == step.transition && now.restart > step.restart && now.level == step.level;
        let marked = now.kind == TransitionKind::ForcedLeaving && now.transition != step.transition;
        !(same || held || restarted || marked)
    })
}
