//! The connections between nodes, as the interconnect promises them: in order on one connection, from the incarnation they name,
//! and lost when it breaks. Beyond that promise a message may come twice, and the last words of one connection again on the next
//! one: the machines may not rely on more than protocol §1.1, N1.
//!
//! A direction that is cut holds what is on its way until it is open again or the connection is given up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::registration::RegistrationMessage;
use phalanx_messages::{NodeId, NodeIncarnation, Revision};

use super::clock::{MS, Micros};
use super::random::Random;
use super::weather::Weather;

/// What one node says to another.
#[derive(Debug, Clone)]
pub enum Said {
    /// A heartbeat, with the newest record that the sender has processed.
    Beat(Revision),
    /// Between membership managers.
    Membership(Arc<MembershipMessage>),
    /// Between registration-and-launch services.
    Registration(Arc<RegistrationMessage>),
}

/// What comes out of a connection.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A message of that incarnation.
    Message(NodeIncarnation, Said),
    /// The other end has closed.
    Closed,
}

/// One direction of one connection.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Arrival>,
    /// Nothing comes before what was sent earlier.
    last: Micros,
    /// Came to the end of the wire while the direction was cut.
    held: usize,
}

#[derive(Debug)]
struct Connection {
    ends: [NodeId; 2],
    /// To the first end, to the second one.
    lanes: [Lane; 2],
}

/// When something comes to the end of its wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// True time.
    pub at: Micros,
    /// Which connection.
    pub connection: u64,
    /// To whom.
    pub to: NodeId,
}

/// Messages that a later connection may repeat.
const LAST_WORDS: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Network {
    random: Random,
    connections: BTreeMap<u64, Connection>,
    made: u64,
    /// How many cuts lie on a direction.
    cuts: BTreeMap<(NodeId, NodeId), u32>,
    last_words: BTreeMap<(NodeId, NodeId), (NodeIncarnation, VecDeque<Said>)>,
}

impl Network {
    /// A network without connections.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self { random, connections: BTreeMap::new(), made: 0, cuts: BTreeMap::new(), last_words: BTreeMap::new() }
    }

    /// True if nothing passes from the one to the other.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|cuts| *cuts > 0)
    }

    /// Cuts a direction; cuts add up.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut away. What was held comes through.
    pub fn mend(&mut self, from: NodeId, to: NodeId, now: Micros, weather: &Weather) -> Vec<Due> {
        if let Some(cuts) = self.cuts.get_mut(&(from, to)) {
            *cuts = cuts.saturating_sub(1);
        }
        if self.is_cut(from, to) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (id, connection) in &mut self.connections {
            let (first, second) = (connection.ends[0], connection.ends[1]);
            let side = match (from, to) {
                pair if pair == (second, first) => 0,
                pair if pair == (first, second) => 1,
                _ => continue,
            };
            let lane = &mut connection.lanes[side];
            for _ in 0..std::mem::take(&mut lane.held) {
                lane.last = lane.last.max(now + self.random.below(weather.delay_max + 1)) + 1;
                due.push(Due { at: lane.last, connection: *id, to });
            }
        }
        due
    }

    /// Every cut is taken away.
    pub fn mend_all(&mut self, now: Micros, weather: &Weather) -> Vec<Due> {
        let cut: BTreeSet<(NodeId, NodeId)> = self.cuts.keys().copied().collect();
        cut.into_iter()
            .flat_map(|(from, to)| {
                self.cuts.insert((from, to), 1);
                self.mend(from, to, now, weather)
            })
            .collect()
    }

    /// A new connection of `from`, who dialled, to `to`: its number, and when `from` learns that it stands. Copies of what was
    /// said last on an earlier one may come on it.
    pub fn connect(
        &mut self,
        from: NodeIncarnation,
        to: NodeIncarnation,
        now: Micros,
        weather: &Weather,
    ) -> (u64, Micros, Vec<Due>) {
        self.made += 1;
        let id = self.made;
        let up = now + self.random.between(MS / 10, weather.delay_max.max(MS));
        let lane = |last| Lane { last, ..Lane::default() };
        self.connections.insert(id, Connection { ends: [from.node, to.node], lanes: [lane(up), lane(up)] });
        let mut due = Vec::new();
        for (sender, receiver) in [(from, to), (to, from)] {
            if !self.random.chance(weather.duplicate) {
                continue;
            }
            let words = self.last_words.get(&(sender.node, receiver.node)).filter(|(who, _)| *who == sender);
            for said in words.map(|(_, words)| words.clone()).unwrap_or_default() {
                due.extend(self.put(id, receiver.node, Arrival::Message(sender, said), now, weather));
            }
        }
        (id, up, due)
    }

    /// `from` says something on a connection.
    pub fn say(
        &mut self,
        connection: u64,
        from: NodeIncarnation,
        to: NodeId,
        said: Said,
        now: Micros,
        weather: &Weather,
    ) -> Vec<Due> {
        let twice = self.random.chance(weather.duplicate);
        if weather.duplicate > 0 && matches!(said, Said::Membership(_)) {
            let (who, words) =
                self.last_words.entry((from.node, to)).or_insert_with(|| (from, VecDeque::with_capacity(LAST_WORDS)));
            if *who != from {
                (*who, *words) = (from, VecDeque::with_capacity(LAST_WORDS));
            }
            if words.len() == LAST_WORDS {
                words.pop_front();
            }
            words.push_back(said.clone());
        }
        let mut due = Vec::new();
        if twice {
            due.extend(self.put(connection, to, Arrival::Message(from, said.clone()), now, weather));
        }
        due.extend(self.put(connection, to, Arrival::Message(from, said), now, weather));
        due
    }

    /// One end closes; the other one hears of it behind everything that was said.
    pub fn close(&mut self, connection: u64, to: NodeId, now: Micros, weather: &Weather) -> Option<Due> {
        self.put(connection, to, Arrival::Closed, now, weather)
    }

    fn put(&mut self, id: u64, to: NodeId, arrival: Arrival, now: Micros, weather: &Weather) -> Option<Due> {
        let delay = self.random.below(weather.delay_max) + MS / 20;
        let lane = self.lane(id, to)?;
        lane.last = lane.last.max(now + delay) + 1;
        lane.waiting.push_back(arrival);
        Some(Due { at: lane.last, connection: id, to })
    }

    fn lane(&mut self, connection: u64, to: NodeId) -> Option<&mut Lane> {
        let connection = self.connections.get_mut(&connection)?;
        let side = connection.ends.iter().position(|end| *end == to)?;
        Some(&mut connection.lanes[side])
    }

    /// Something has come to the end of its wire.
    pub fn arrive(&mut self, connection: u64, to: NodeId) -> Option<Arrival> {
        let ends = self.connections.get(&connection)?.ends;
        let from = if ends[0] == to { ends[1] } else { ends[0] };
        let cut = self.is_cut(from, to);
        let lane = self.lane(connection, to)?;
        if cut {
            lane.held += 1;
            return None;
        }
        let arrival = lane.waiting.pop_front();
        if matches!(arrival, Some(Arrival::Closed)) {
            self.connections.remove(&connection);
        }
        arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_messages::Incarnation;

    fn node(id: u16) -> NodeIncarnation {
        NodeIncarnation { node: NodeId(id), incarnation: Incarnation(1) }
    }

    fn beat(seq: u64) -> Said {
        Said::Beat(Revision { seq, ..Revision::default() })
    }

    #[test]
    fn what_is_cut_is_held_and_comes_in_order_once_it_is_mended() {
        let weather = Weather::calm();
        let mut network = Network::new(Random::new(1));
        let (id, _, _) = network.connect(node(1), node(0), 0, &weather);
        network.cut(NodeId(1), NodeId(0));
        let sent: Vec<Due> =
            (0..3).flat_map(|seq| network.say(id, node(1), NodeId(0), beat(seq), seq, &weather)).collect();
        assert!(sent.iter().all(|due| network.arrive(due.connection, due.to).is_none()));
        let due = network.mend(NodeId(1), NodeId(0), 100 * MS, &weather);
        assert!(due.is_sorted_by_key(|due| due.at) && due.len() == 3);
        let seqs: Vec<u64> = due
            .iter()
            .filter_map(|due| match network.arrive(due.connection, due.to) {
                Some(Arrival::Message(_, Said::Beat(seen))) => Some(seen.seq),
                _ => None,
            })
            .collect();
        assert_eq!(seqs, [0, 1, 2]);
    }
}
