//! I-T15: no notification without a transition (spec: never only an Inactive or only a Joined one).

use phalanx_messages::notification::SubsystemNotification;

pub(super) fn check(notification: &SubsystemNotification) -> Vec<String> {
    let empty = notification.batch.is_empty();
    if empty { vec![format!("I-T15: an empty notification at level {}", notification.level)] } else { Vec::new() }
}
