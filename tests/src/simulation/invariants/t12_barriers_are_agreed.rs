//! I-T12: all participants of a level agree on its barrier counts: nobody is notified of a barrier that it has not registered.

use phalanx_messages::NodeIncarnation;
use phalanx_messages::membership::LevelRegistration;
use phalanx_messages::notification::SubsystemNotification;

/// The subsystem with that registration is notified.
pub fn check(who: NodeIncarnation, own: &LevelRegistration, notification: &SubsystemNotification) -> Vec<String> {
    let beyond = notification.batch.iter().filter(|notice| notice.id.barrier >= own.barriers.of(notice.kind));
    beyond
        .map(|notice| format!("I-T12: {who} has registered {:?} and is notified of {notice:?}", own.barriers))
        .collect()
}
