//! Nodes that come and die again: how often each has died of late, and what follows from it (issue 7, "flap protection").
//!
//! A node that has died once and is back counts as any other. With every further death within an hour it must be up twice as long
//! before a service moves to it freely. It is still chosen for what must start somewhere, by the same preferences as ever.
//!
//! Every node counts for itself what it has seen, and whoever decides uses its own count: the same as the time that a node has been
//! up (protocol RL-9). A node that has just joined has seen nothing. An administrator's word ends it: a node that is taken off
//! standby begins anew.
//!
//! Pure: the caller gives database and time.

use std::collections::BTreeMap;

use phalanx_messages::registration::{Presence, RegistrationRecord, Sight};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Instant, NodeId};

/// Deaths count for so long, in milliseconds.
const WINDOW_MS: u64 = 3_600_000;
/// A free transfer is never kept waiting longer than this for a node's deaths alone, in milliseconds; so the pause ends with them.
const STABLE_MS_MAX: u64 = WINDOW_MS;

/// See the module.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Flaps {
    /// What was seen last.
    seen: BTreeMap<NodeId, Sight>,
    standby: NodeSet,
    /// When each died, oldest first.
    deaths: BTreeMap<NodeId, Vec<Instant>>,
}

impl Flaps {
    /// Looks at the newest database known.
    pub fn observe(&mut self, record: &RegistrationRecord, now: Instant) {
        for (node, sight) in &record.view {
            let before = self.seen.insert(*node, *sight);
            if before.is_some_and(|before| has_died(before, *sight)) {
                self.deaths.entry(*node).or_default().push(now);
            }
        }
        let forgiven = self.standby.difference(&record.standby);
        self.standby = record.standby;
        forgiven.iter().for_each(|node| self.forgive(node));
        self.deaths.retain(|_, deaths| {
            deaths.retain(|died| now.since(*died) < WINDOW_MS);
            !deaths.is_empty()
        });
    }

    /// What a node has died of counts no more.
    pub fn forgive(&mut self, node: NodeId) {
        self.deaths.remove(&node);
    }

    /// Deaths that count, of every node that has any.
    #[must_use]
    pub fn deaths(&self) -> BTreeMap<NodeId, u32> {
        let counted = |deaths: &Vec<Instant>| u32::try_from(deaths.len()).unwrap_or(u32::MAX);
        self.deaths.iter().map(|(node, deaths)| (*node, counted(deaths))).collect()
    }

    /// How long that node must have been up before a service moves to it freely that asks for `stable_ms`.
    #[must_use]
    pub fn stable_ms(&self, node: NodeId, stable_ms: u64) -> u64 {
        let further = self.deaths.get(&node).map_or(0, |deaths| deaths.len().saturating_sub(1));
        let doubled = u32::try_from(further).unwrap_or(u32::MAX).min(16);
        stable_ms.saturating_mul(1 << doubled).min(STABLE_MS_MAX.max(stable_ms))
    }
}

/// It was there, and now is gone without having left; that it was, a next start may be the first to tell.
fn has_died(before: Sight, now: Sight) -> bool {
    let was_there = before.presence <= Presence::Leaving;
    let next_start = now.incarnation > before.incarnation;
    was_there && (next_start || now.presence == Presence::Forced)
}

#[cfg(test)]
mod tests {
    use phalanx_messages::Incarnation;

    use super::*;

    const N1: NodeId = NodeId(1);
    const T0: Instant = Instant(10_000);
    const MINUTE_MS: u64 = 60_000;

    fn sees(flaps: &mut Flaps, incarnation: u64, presence: Presence, minute: u64) {
        let sight = Sight { incarnation: Incarnation(incarnation), presence };
        let record = RegistrationRecord { view: [(N1, sight)].into(), ..RegistrationRecord::default() };
        flaps.observe(&record, T0.plus(minute * MINUTE_MS));
    }

    fn deaths(flaps: &Flaps) -> u32 {
        flaps.deaths().get(&N1).copied().unwrap_or(0)
    }

    #[test]
    fn each_further_death_within_an_hour_doubles_the_pause() {
        let mut flaps = Flaps::default();
        for (incarnation, minutes) in (1..).zip([1, 2, 4, 8]) {
            sees(&mut flaps, incarnation, Presence::Joined, incarnation);
            sees(&mut flaps, incarnation, Presence::Forced, incarnation);
            sees(&mut flaps, incarnation, Presence::Forced, incarnation);
            assert_eq!(flaps.stable_ms(N1, MINUTE_MS), minutes * MINUTE_MS, "each counts once");
        }
        assert_eq!(flaps.stable_ms(NodeId(2), MINUTE_MS), MINUTE_MS, "another node's own");
        sees(&mut flaps, 5, Presence::Joined, 61);
        assert_eq!(deaths(&flaps), 3, "the first was an hour ago");
        sees(&mut flaps, 5, Presence::Joined, 65);
        assert_eq!((deaths(&flaps), flaps.stable_ms(N1, MINUTE_MS)), (0, MINUTE_MS));
    }

    #[test]
    fn a_pause_is_an_hour_at_most_unless_the_service_asks_for_more() {
        let mut flaps = Flaps::default();
        for incarnation in 1..80 {
            sees(&mut flaps, incarnation, Presence::Joined, 0);
        }
        assert_eq!(deaths(&flaps), 78, "its next start is the first to tell");
        assert_eq!(flaps.stable_ms(N1, MINUTE_MS), WINDOW_MS);
        assert_eq!(flaps.stable_ms(N1, 3 * WINDOW_MS), 3 * WINDOW_MS);
        assert_eq!(flaps.stable_ms(N1, 0), 0, "who asks for nothing gets nothing");
    }

    #[test]
    fn a_node_that_leaves_does_not_die() {
        let mut flaps = Flaps::default();
        for incarnation in 1..6 {
            sees(&mut flaps, incarnation, Presence::Joined, 0);
            sees(&mut flaps, incarnation, Presence::Leaving, 0);
            sees(&mut flaps, incarnation, Presence::Left, 0);
        }
        assert_eq!(deaths(&flaps), 0);
    }

    #[test]
    fn a_node_that_is_taken_off_standby_begins_anew() {
        let mut flaps = Flaps::default();
        sees(&mut flaps, 1, Presence::Joined, 0);
        sees(&mut flaps, 2, Presence::Joined, 0);
        let sight = Sight { incarnation: Incarnation(2), presence: Presence::Joined };
        let mut record = RegistrationRecord { view: [(N1, sight)].into(), ..RegistrationRecord::default() };
        record.standby.insert(N1);
        flaps.observe(&record, T0);
        assert_eq!(deaths(&flaps), 1, "not by standby alone");
        record.standby.remove(N1);
        flaps.observe(&record, T0);
        assert_eq!(deaths(&flaps), 0);
    }
}
