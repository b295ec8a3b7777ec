//! What each subsystem of this node knows of every other node (protocol §5.3).

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use phalanx_messages::membership::{LevelState, MembershipRecord, TransitionKind};
use phalanx_messages::notification::LevelStates;
use phalanx_messages::{Incarnation, Level, NodeId, NodeIncarnation};

use super::Deregistered;
use super::table::{self, Arrival, Row, Standing};
use crate::bugs::{self, Bug};
use crate::coordinator::level_states::{entry_state, ghost_state, states};

/// One table a level; whoever is not in it is `Inactive`.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels(BTreeMap<Level, BTreeMap<NodeIncarnation, Standing>>);

impl Hash for Levels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let known = |(level, table)| std::iter::repeat(level).zip::<&BTreeMap<_, _>>(table);
        let known = self.0.iter().flat_map(known).filter(|(_, (_, standing))| **standing != Standing::Inactive);
        known.for_each(|known| known.hash(state));
    }
}

impl Levels {
    /// The starting table of a subsystem that is itself joining (protocol §5.3).
    pub fn start(&mut self, level: Level, me: NodeIncarnation, record: &MembershipRecord) {
        let own = self.standing(level, me);
        let entries = record.nodes.iter().map(|(node, entry)| {
            (NodeIncarnation { node: *node, incarnation: entry.incarnation }, entry_state(entry, level))
        });
        let ghosts = record.ghosts.iter().map(|(node, ghost)| {
            (NodeIncarnation { node: *node, incarnation: ghost.incarnation }, ghost_state(ghost, level))
        });
        let mut table: BTreeMap<_, _> = entries
            .chain(ghosts)
            .map(|(who, state)| (who, told(state)))
            .filter(|(who, standing)| *who != me && *standing != Standing::Inactive)
            .collect();
        table.insert(me, own);
        self.0.insert(level, table);
    }

    /// Takes a notification; tells whether it replaces one that may still be processed.
    pub fn enter(
        &mut self,
        level: Level,
        who: NodeIncarnation,
        kind: TransitionKind,
        arrival: Arrival,
    ) -> Result<bool, String> {
        let standing = self.standing(level, who);
        let legal = |row: &Row| *row != Row::RecoverNothing || !bugs::active(Bug::NothingToRecover);
        let row = table::row(standing, kind, arrival).filter(legal).ok_or_else(|| {
            format!("level {level}: {kind:?} ({arrival:?}) of node {who} is illegal in state {standing:?} (Table 1)")
        })?;
        self.set(level, who, table::processing(kind));
        Ok(row.is_renotification(standing))
    }

    /// The subsystem has acknowledged.
    pub fn acknowledged(&mut self, level: Level, who: NodeIncarnation, kind: TransitionKind, last_barrier: bool) {
        self.set(level, who, table::acknowledged(kind, last_barrier));
    }

    /// Drops levels that this node has left.
    pub fn forget_left(&mut self, left: &Deregistered) {
        self.0.retain(|level, _| !left.contains(level));
    }

    /// Whoever is in one of the tables.
    pub fn known_nodes(&self) -> impl Iterator<Item = &NodeIncarnation> {
        self.0.values().flat_map(BTreeMap::keys)
    }

    /// Drops incarnations that are gone.
    pub fn forget(&mut self, gone: impl Fn(&NodeIncarnation) -> bool) {
        self.0.values_mut().for_each(|table| table.retain(|who, _| !gone(who)));
    }

    /// The state vector for a subsystem that goes on where a dead one was: what that one had acknowledged is so, even while the
    /// record still waits for others (protocol T-17).
    pub fn known(&self, level: Level, record: &MembershipRecord) -> LevelStates {
        let known = |(node, (incarnation, _)): (NodeId, (Incarnation, LevelState))| {
            let state = match self.standing(level, NodeIncarnation { node, incarnation }) {
                Standing::Inactive => LevelState::Inactive,
                Standing::Joining | Standing::JoiningAcknowledged => LevelState::Joining,
                Standing::Joined => LevelState::Joined,
                Standing::Leaving | Standing::LeavingAcknowledged => LevelState::Leaving,
                Standing::Lost | Standing::ForcedLeaving | Standing::ForcedLeavingAcknowledged => {
                    LevelState::ForcedLeaving
                }
            };
            (node, (incarnation, state))
        };
        states(record, level).into_iter().map(known).collect()
    }

    fn standing(&self, level: Level, who: NodeIncarnation) -> Standing {
        self.0.get(&level).and_then(|table| table.get(&who)).copied().unwrap_or_default()
    }

    fn set(&mut self, level: Level, who: NodeIncarnation, standing: Standing) {
        self.0.entry(level).or_default().insert(who, standing);
    }
}

/// How the state vector of its own join tells a subsystem of another node.
const fn told(state: LevelState) -> Standing {
    match state {
        LevelState::Joined | LevelState::Leaving => Standing::Joined,
        LevelState::Joining | LevelState::Inactive => Standing::Inactive,
        LevelState::ForcedLeaving => Standing::Lost,
    }
}
