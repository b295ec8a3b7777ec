//! The event-manager level as this node has adopted it, from the notifications of that level (protocol §6.1, RL-3, RL-6).
//!
//! Never guesses a loss: a node counts as gone only when its forced step at this level is running, which needs its certain
//! death, or when the level says that it is out.

use phalanx_messages::membership::{LevelState, TransitionKind};
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::registration::{Presence, RegistrationRecord, Sight, View};
use phalanx_messages::{NodeIncarnation, Term};

use crate::bugs::{self, Bug};

/// What a notification says of one node incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes services from now on.
    Joined,
    /// It takes no more.
    Leaving,
    /// It is certainly dead, and this level recovers.
    Forced,
    /// It is being forced out, but its step has not reached this level: not lost, and at a cold start not up either.
    Doomed,
    /// Its join is under way and is not notified now: it has been adopted as joined, or never was, and stays so.
    Arriving,
    /// It has not come to this level, or has gone from it.
    Absent,
}

/// One notification of the event-manager level, as a change of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightChange {
    /// This node itself joins: the starting table. The database must be read before it is adopted.
    pub joining: bool,
    /// This node leaves, and everybody knows: answer when the database shows nothing placed here (protocol RL-6).
    pub draining: bool,
    /// Formation of the cluster.
    pub formation: Term,
    /// Everybody.
    pub standings: Vec<(NodeIncarnation, Standing)>,
}

impl SightChange {
    /// Reads a notification as the node `me`.
    #[must_use]
    pub fn of(notification: &SubsystemNotification, me: NodeIncarnation) -> Self {
        let own = |kind| {
            let mut batch = notification.batch.iter();
            batch.find(|notice| notice.node == me.node && notice.incarnation == me.incarnation && notice.kind == kind)
        };
        let context = notification.states.iter().map(|(node, (incarnation, state))| {
            let who = NodeIncarnation { node: *node, incarnation: *incarnation };
            (who, standing_of(*state))
        });
        let batch = notification.batch.iter().map(|notice| {
            let who = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            (who, standing_in(notice.kind))
        });
        Self {
            joining: own(TransitionKind::Joining).is_some(),
            draining: own(TransitionKind::Leaving).is_some_and(|notice| notice.id.barrier >= 1),
            formation: notification.formation,
            standings: context.chain(batch).collect(),
        }
    }
}

/// Of a node that is not in the batch.
const fn standing_of(state: LevelState) -> Standing {
    match state {
        LevelState::Inactive => Standing::Absent,
        LevelState::Joining => Standing::Arriving,
        LevelState::Joined => Standing::Joined,
        LevelState::Leaving => Standing::Leaving,
        LevelState::ForcedLeaving => Standing::Doomed,
    }
}

/// Of a node in the batch.
const fn standing_in(kind: TransitionKind) -> Standing {
    match kind {
        TransitionKind::Joining | TransitionKind::JoinExtending => Standing::Joined,
        TransitionKind::Leaving => Standing::Leaving,
        TransitionKind::ForcedLeaving => Standing::Forced,
    }
}

/// What a decision over this database is made with: never an older view than the newest decision had [RL-2].
#[must_use]
pub fn view_of_decision(record: &RegistrationRecord, mine: &View) -> View {
    let mut view = mine.clone();
    if !bugs::active(Bug::OlderViewDecides) && !bugs::active(Bug::AbsentIsLost) {
        view.merge(&record.seen());
    }
    view
}

/// What this node has adopted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LevelView {
    view: View,
}

impl LevelView {
    /// The view.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Adopts a change. `database` is the view of the newest committed decision, read after the change was announced; only
    /// a starting table needs it: who was at the level when it was committed, and no longer is, is gone.
    pub fn adopt(&mut self, change: &SightChange, database: &View) {
        if change.joining {
            self.view.merge(database);
        }
        self.view.formation = self.view.formation.max(change.formation);
        for (who, standing) in &change.standings {
            self.raise(*who, *standing, change.joining);
        }
    }

    /// Takes over that these have gone from the level, as the membership record has it; true if that is news. A notification tells
    /// it only to whoever is notified of something afterwards and had seen them there.
    pub fn gone(&mut self, gone: &[NodeIncarnation]) -> bool {
        let before = self.view.clone();
        for who in gone {
            let sight = Sight { incarnation: who.incarnation, presence: Presence::Left };
            let known = self.view.nodes.entry(who.node).or_insert(sight);
            *known = sight.max(*known);
        }
        self.view != before
    }

    fn raise(&mut self, who: NodeIncarnation, standing: Standing, starting: bool) {
        let known = self.view.nodes.get(&who.node).copied();
        let present = known.is_some_and(|sight| {
            sight.incarnation == who.incarnation && matches!(sight.presence, Presence::Joined | Presence::Leaving)
        });
        let at = |presence| Sight { incarnation: who.incarnation, presence };
        let sight = match standing {
            Standing::Joined => at(Presence::Joined),
            Standing::Leaving => at(Presence::Leaving),
            Standing::Forced => at(Presence::Forced),
            Standing::Doomed if bugs::active(Bug::DoomedIsLost) => at(Presence::Forced),
            Standing::Doomed if starting => at(Presence::Leaving),
            Standing::Absent if present => at(Presence::Left),
            Standing::Doomed | Standing::Arriving if present => return,
            Standing::Doomed | Standing::Arriving | Standing::Absent => Sight::before(who.incarnation),
        };
        self.view.nodes.insert(who.node, known.map_or(sight, |known| known.max(sight)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::{Incarnation, NodeId};

    fn who(node: u16, incarnation: u64) -> NodeIncarnation {
        NodeIncarnation { node: NodeId(node), incarnation: Incarnation(incarnation) }
    }

    fn change(joining: bool, standings: &[(NodeIncarnation, Standing)]) -> SightChange {
        SightChange { joining, draining: false, formation: Term(1), standings: standings.to_vec() }
    }

    fn database(sights: &[(u16, u64, Presence)]) -> View {
        let sight = |(node, incarnation, presence): &(u16, u64, Presence)| {
            (NodeId(*node), Sight { incarnation: Incarnation(*incarnation), presence: *presence })
        };
        View { formation: Term(0), nodes: sights.iter().map(sight).collect() }
    }

    #[test]
    fn who_was_there_and_is_absent_now_is_gone_and_who_never_came_is_not() {
        let mut level = LevelView::default();
        let start = [(who(0, 2), Standing::Joined), (who(1, 3), Standing::Absent), (who(2, 5), Standing::Absent)];
        level.adopt(&change(true, &start), &database(&[(1, 3, Presence::Joined), (2, 4, Presence::Joined)]));
        assert!(level.view().is_lost(who(1, 3)), "it was at the level when the last decision was made");
        assert!(level.view().is_lost(who(2, 4)) && !level.view().is_lost(who(2, 5)));
        level.adopt(&change(false, &[(who(2, 5), Standing::Joined)]), &View::default());
        assert!(level.view().is_joined(who(2, 5)));
    }

    /// Protocol RL-3: a forced step that has not reached the level is no loss, and at a cold start the node is not up.
    #[test]
    fn a_doomed_node_is_not_lost_and_not_up_at_a_cold_start() {
        let mut level = LevelView::default();
        level.adopt(&change(true, &[(who(1, 3), Standing::Doomed)]), &database(&[(1, 3, Presence::Joined)]));
        assert!(!level.view().is_lost(who(1, 3)) && !level.view().is_up(NodeId(1)));
        level.adopt(&change(false, &[(who(1, 3), Standing::Forced)]), &View::default());
        assert!(level.view().is_lost(who(1, 3)));
    }

    /// Found by the simulator: a join and a leave in one batch, and the second barrier of the leave names the leaver only. The
    /// joiner, which had been given a service meanwhile, counted as gone, and the service was started a second time.
    #[test]
    fn a_joiner_that_was_adopted_stays_while_its_join_is_not_notified() {
        let mut level = LevelView::default();
        level
            .adopt(&change(false, &[(who(0, 3), Standing::Arriving), (who(0, 3), Standing::Joined)]), &View::default());
        assert!(level.view().is_joined(who(0, 3)));
        let second_barrier = [(who(0, 3), Standing::Arriving), (who(4, 1), Standing::Leaving)];
        level.adopt(&change(false, &second_barrier), &View::default());
        assert!(level.view().is_joined(who(0, 3)) && !level.view().is_lost(who(0, 3)));
        let never_adopted = [(who(1, 2), Standing::Arriving)];
        level.adopt(&change(false, &never_adopted), &View::default());
        assert!(!level.view().is_up(NodeId(1)));
    }

    /// Found by the model check: a starting table alone does not tell who has gone from who has not come yet.
    #[test]
    fn who_has_gone_is_told_from_who_has_not_come_yet() {
        let mut level = LevelView::default();
        level.adopt(&change(true, &[(who(0, 1), Standing::Joined), (who(1, 3), Standing::Absent)]), &View::default());
        assert_eq!(level.view().nodes[&NodeId(1)], Sight::before(Incarnation(3)), "it may be on its way");
        assert!(level.gone(&[who(1, 3)]) && level.view().is_lost(who(1, 3)));
        assert!(!level.gone(&[who(1, 3)]), "that is no news");
        level.adopt(&change(false, &[(who(1, 4), Standing::Joined)]), &View::default());
        assert!(!level.gone(&[who(1, 3)]) && level.view().is_joined(who(1, 4)), "it has come again since");
    }

    #[test]
    fn a_member_that_is_marked_stays_as_it_is_until_its_step_comes() {
        let mut level = LevelView::default();
        level.adopt(&change(true, &[(who(0, 1), Standing::Joined), (who(1, 3), Standing::Joined)]), &View::default());
        level.adopt(&change(false, &[(who(1, 3), Standing::Doomed)]), &View::default());
        assert!(level.view().is_joined(who(1, 3)));
        level.adopt(&change(false, &[(who(1, 3), Standing::Leaving)]), &View::default());
        level.adopt(&change(false, &[(who(1, 3), Standing::Absent)]), &View::default());
        assert_eq!(level.view().nodes[&NodeId(1)], Sight { incarnation: Incarnation(3), presence: Presence::Left });
    }
}
