//! What one subsystem is processing: which notification overtakes which, and whose answer counts.
//!
//! A notification is a batch and is answered as one unit (protocol T-5). What overtakes it (spec, Table 1, "Allowed
//! Re-notifications"; protocol T-8, T-9): a newer notice of one of its nodes, and any forced leave if it is a join or a leave,
//! because every graceful step of the level is held while a victim is recovered there and comes again as a whole. An answer to
//! what was overtaken counts for nobody.
//!
//! Pure. Used by whoever stands between the membership manager and a subsystem.

use std::collections::BTreeMap;

use phalanx_messages::membership::TransitionKind;
use phalanx_messages::notification::{SubsystemNotification, TransitionNotice};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processing {
    last: u64,
    open: BTreeMap<u64, Vec<TransitionNotice>>,
}

/// A notification has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its number; ascending from 1.
    pub number: u64,
    /// Numbers of those that it overtakes: abort them.
    pub overtaken: Vec<u64>,
}

impl Processing {
    /// Takes a notification.
    pub fn begin(&mut self, notification: &SubsystemNotification) -> Begun {
        let overtaken: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, batch)| overtakes(&notification.batch, batch))
            .map(|(number, _)| *number)
            .collect();
        for number in &overtaken {
            self.open.remove(number);
        }
        self.last += 1;
        self.open.insert(self.last, notification.batch.clone());
        Begun { number: self.last, overtaken }
    }

    /// The subsystem has answered; gives the notices that its answer is for, none if it was overtaken or has answered before.
    pub fn end(&mut self, number: u64) -> Vec<TransitionNotice> {
        self.open.remove(&number).unwrap_or_default()
    }

    /// Notifications that have no answer.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.open.keys().copied()
    }
}

fn overtakes(new: &[TransitionNotice], old: &[TransitionNotice]) -> bool {
    let forced = |notice: &TransitionNotice| notice.kind == TransitionKind::ForcedLeaving;
    let same = |a: &TransitionNotice, b: &TransitionNotice| (a.node, a.incarnation) == (b.node, b.incarnation);
    let newer = new.iter().any(|notice| old.iter().any(|known| same(notice, known)));
    newer || (new.iter().any(forced) && !old.iter().any(forced))
}

#[cfg(test)]
mod tests {
    use phalanx_messages::set::NodeSet;
    use phalanx_messages::{Incarnation, Level, NodeId, NotificationId, Term, TransitionId};

    use super::TransitionKind::{ForcedLeaving, Joining, Leaving};
    use super::*;

    fn told(batch: &[(u16, TransitionKind, u32)]) -> SubsystemNotification {
        let notice = |(node, kind, restart): &(u16, TransitionKind, u32)| TransitionNotice {
            id: NotificationId {
                transition: TransitionId { term: Term(1), counter: u64::from(*node) },
                level: Level(500),
                barrier: 0,
                restart: *restart,
            },
            node: NodeId(*node),
            incarnation: Incarnation(1),
            kind: *kind,
            renotification: false,
        };
        SubsystemNotification {
            level: Level(500),
            batch: batch.iter().map(notice).collect(),
            states: Default::default(),
            participants: NodeSet::EMPTY,
            formation: Term(1),
        }
    }

    #[test]
    fn an_answer_is_for_the_whole_batch_and_counts_once() {
        let mut processing = Processing::default();
        let batch = told(&[(1, Joining, 0), (2, Leaving, 0)]);
        assert_eq!(processing.begin(&batch), Begun { number: 1, overtaken: vec![] });
        assert_eq!(processing.end(1), batch.batch);
        assert_eq!(processing.end(1), [], "a second answer");
        assert_eq!(processing.end(7), [], "an answer to nothing");
    }

    /// Spec, Table 1: Joining may be replaced by Forced-Leaving of the same node.
    #[test]
    fn a_forced_leave_overtakes_the_join_of_its_node() {
        let mut processing = Processing::default();
        processing.begin(&told(&[(1, Joining, 0)]));
        let forced = told(&[(1, ForcedLeaving, 0)]);
        assert_eq!(processing.begin(&forced), Begun { number: 2, overtaken: vec![1] });
        assert_eq!((processing.end(1), processing.end(2)), (vec![], forced.batch));
    }

    /// Protocol T-9: what waits for a participant that died is told only by its restart, which comes after the recovery.
    #[test]
    fn a_forced_leave_overtakes_the_joins_and_leaves_of_others_and_their_restart_comes_later() {
        let mut processing = Processing::default();
        processing.begin(&told(&[(1, Joining, 0)]));
        assert_eq!(processing.begin(&told(&[(2, ForcedLeaving, 0)])).overtaken, [1]);
        assert_eq!(processing.begin(&told(&[(1, Joining, 1)])).overtaken, [] as [u64; 0], "the recovery is not void");
        assert_eq!(processing.open().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_restart_overtakes_the_whole_batch() {
        let mut processing = Processing::default();
        processing.begin(&told(&[(1, Leaving, 0), (2, Leaving, 0)]));
        assert_eq!(processing.begin(&told(&[(2, Leaving, 1), (1, Leaving, 1)])).overtaken, [1]);
    }

    /// Protocol T-24: what failed comes again node by node.
    #[test]
    fn a_repetition_for_one_victim_leaves_the_recovery_of_another_alone() {
        let mut processing = Processing::default();
        processing.begin(&told(&[(1, ForcedLeaving, 0)]));
        assert_eq!(processing.begin(&told(&[(2, ForcedLeaving, 0)])).overtaken, [] as [u64; 0]);
    }
}
