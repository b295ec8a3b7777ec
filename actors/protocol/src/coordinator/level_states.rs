//! What a membership record says about one level (protocol §5.1): `pls`, `LM(l)`, `top`, victims and running batches.
//!
//! Derived from the record, never stored, so that coordinator and agents can never disagree about it.

use std::collections::BTreeMap;

use phalanx_messages::membership::{
    Certainty, FenceState, LevelState, MemberEntry, MembershipRecord, NodeState, Step, StepPhase, TransitionKind,
    Victim,
};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Level, NodeId, NodeIncarnation, NotificationId};

/// Whose transition: a node's entry, or the victim of a cold start that no longer has the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The entry of a node.
    Node(NodeId),
    /// The ghost of a node (protocol T-18).
    Ghost(NodeId),
}

impl Subject {
    /// The node, living or dead.
    #[must_use]
    pub const fn node(self) -> NodeId {
        match self {
            Self::Node(node) | Self::Ghost(node) => node,
        }
    }
}

/// `pls(X, l)` of a node's entry.
#[must_use]
pub fn entry_state(entry: &MemberEntry, level: Level) -> LevelState {
    if !entry.levels.contains(&level) {
        return LevelState::Inactive;
    }
    match (entry.state, &entry.step) {
        (NodeState::Inactive, _) | (NodeState::Joining | NodeState::Leaving | NodeState::ForcedLeaving, None) => {
            LevelState::Inactive
        }
        (NodeState::Joined, None) => LevelState::Joined,
        // One level of a joined node comes or goes: the others stay.
        (NodeState::Joined, Some(step)) if level != step.level => LevelState::Joined,
        (NodeState::Joined, Some(step)) => match (step.kind, step.phase) {
            (TransitionKind::Leaving, StepPhase::Between) => LevelState::Joined,
            (TransitionKind::Leaving, StepPhase::Notifying | StepPhase::Held) => LevelState::Leaving,
            (_, StepPhase::Between) => LevelState::Inactive,
            (_, StepPhase::Notifying | StepPhase::Held) => LevelState::Joining,
        },
        (NodeState::Joining, Some(step)) if level < step.level => LevelState::Joined,
        (NodeState::Joining, Some(step)) if level == step.level && step.phase != StepPhase::Between => {
            LevelState::Joining
        }
        (NodeState::Joining, Some(_)) => LevelState::Inactive,
        (NodeState::Leaving, Some(step)) if level > step.level => LevelState::Inactive,
        (NodeState::Leaving, Some(step)) if level == step.level && step.phase != StepPhase::Between => {
            LevelState::Leaving
        }
        (NodeState::Leaving, Some(_)) => LevelState::Joined,
        (NodeState::ForcedLeaving, Some(step)) => victim_state(step, entry.top, level),
    }
}

/// `pls` of a ghost. Its levels are all registered ones through its `top`.
#[must_use]
pub fn ghost_state(ghost: &Victim, level: Level) -> LevelState {
    victim_state(&ghost.step, ghost.top, level)
}

fn victim_state(step: &Step, top: Option<Level>, level: Level) -> LevelState {
    match top {
        Some(top) if step.level <= level && level <= top => LevelState::ForcedLeaving,
        Some(_) | None => LevelState::Inactive,
    }
}

/// The state vector of a level (protocol T-6). Where a node has an entry and a ghost, the ghost shows only if the entry is
/// `Inactive` there.
#[must_use]
pub fn states(record: &MembershipRecord, level: Level) -> BTreeMap<NodeId, (Incarnation, LevelState)> {
    let mut states: BTreeMap<_, _> =
        record.nodes.iter().map(|(node, entry)| (*node, (entry.incarnation, entry_state(entry, level)))).collect();
    for (node, ghost) in &record.ghosts {
        let told = (ghost.incarnation, ghost_state(ghost, level));
        let shown = states.entry(*node).or_insert(told);
        if shown.1 == LevelState::Inactive {
            *shown = told;
        }
    }
    states
}

/// Incarnations that are out of a level for good: they have left it, or were forced out and recovered, and come again only as later
/// ones. A state vector tells them as `Inactive`, like those that have not come yet.
pub fn gone_from(record: &MembershipRecord, level: Level) -> impl Iterator<Item = NodeIncarnation> + '_ {
    let gone = move |(node, entry): &(&NodeId, &MemberEntry)| match (entry.state, &entry.step) {
        // Before a ghost is recovered nothing is certain of what it ran (protocol T-18).
        (NodeState::Inactive, _) => entry.incarnation > Incarnation(0) && !record.ghosts.contains_key(node),
        (NodeState::Leaving, Some(step)) => level > step.level,
        (NodeState::Leaving, None) | (NodeState::Joining | NodeState::Joined | NodeState::ForcedLeaving, _) => false,
    };
    let who = |(node, entry): (&NodeId, &MemberEntry)| NodeIncarnation { node: *node, incarnation: entry.incarnation };
    record.nodes.iter().filter(gone).map(who)
}

/// `LM(l)`: nodes that are members of the level, a leaving one included until its step there has completed.
#[must_use]
pub fn members_at(record: &MembershipRecord, level: Level) -> NodeSet {
    nodes_in(record, level, |state| matches!(state, LevelState::Joined | LevelState::Leaving))
}

/// Nodes whose join is being processed or is held at the level.
#[must_use]
pub fn joining_at(record: &MembershipRecord, level: Level) -> NodeSet {
    nodes_in(record, level, |state| state == LevelState::Joining)
}

fn nodes_in(record: &MembershipRecord, level: Level, wanted: impl Fn(LevelState) -> bool) -> NodeSet {
    record.nodes.iter().filter(|(_, entry)| wanted(entry_state(entry, level))).map(|(node, _)| *node).collect()
}

/// `top(X)` of an entry that is about to be marked: the highest level that ever heard of it.
#[must_use]
pub fn top_of(entry: &MemberEntry) -> Option<Level> {
    entry.levels.iter().rev().copied().find(|level| entry_state(entry, *level) != LevelState::Inactive)
}

/// Everybody in transition.
pub fn subjects(record: &MembershipRecord) -> impl Iterator<Item = (Subject, &Step)> {
    let entries = record.nodes.iter().filter_map(|(node, entry)| Some((Subject::Node(*node), entry.step.as_ref()?)));
    entries.chain(record.ghosts.iter().map(|(node, ghost)| (Subject::Ghost(*node), &ghost.step)))
}

/// The step of one subject.
#[must_use]
pub fn step_of(record: &MembershipRecord, subject: Subject) -> Option<&Step> {
    match subject {
        Subject::Node(node) => record.nodes.get(&node)?.step.as_ref(),
        Subject::Ghost(node) => record.ghosts.get(&node).map(|ghost| &ghost.step),
    }
}

/// The step of one subject, to be changed.
pub fn step_mut(record: &mut MembershipRecord, subject: Subject) -> Option<&mut Step> {
    match subject {
        Subject::Node(node) => record.nodes.get_mut(&node)?.step.as_mut(),
        Subject::Ghost(node) => record.ghosts.get_mut(&node).map(|ghost| &mut ghost.step),
    }
}

/// Node and incarnation of one subject.
#[must_use]
pub fn incarnation_of(record: &MembershipRecord, subject: Subject) -> Option<NodeIncarnation> {
    let node = subject.node();
    let incarnation = match subject {
        Subject::Node(node) => record.nodes.get(&node)?.incarnation,
        Subject::Ghost(node) => record.ghosts.get(&node)?.incarnation,
    };
    Some(NodeIncarnation { node, incarnation })
}

/// A victim: an unfinished `ForcedLeaving` entry or a ghost.
#[derive(Debug, Clone, Copy)]
pub struct VictimView<'a> {
    /// Who.
    pub subject: Subject,
    /// Its way through the levels; `step.level` is the frontier.
    pub step: &'a Step,
    /// Highest level that ever heard of it.
    pub top: Option<Level>,
    /// What is certain.
    pub fence: FenceState,
}

impl VictimView<'_> {
    /// The certainty that a level needs is there (protocol T-11).
    #[must_use]
    pub const fn is_certain(&self, needs: Certainty) -> bool {
        match needs {
            Certainty::Io => self.fence.io_certain,
            Certainty::Death => self.fence.io_certain && self.fence.death_certain,
        }
    }
}

/// All victims.
pub fn victims(record: &MembershipRecord) -> impl Iterator<Item = VictimView<'_>> {
    let entries =
        record.nodes.iter().filter(|(_, entry)| entry.state == NodeState::ForcedLeaving).filter_map(|(node, entry)| {
            let step = entry.step.as_ref()?;
            Some(VictimView { subject: Subject::Node(*node), step, top: entry.top, fence: entry.fence })
        });
    let ghosts = record.ghosts.iter().map(|(node, ghost)| VictimView {
        subject: Subject::Ghost(*node),
        step: &ghost.step,
        top: ghost.top,
        fence: ghost.fence,
    });
    entries.chain(ghosts)
}

/// Barriers that a level has for a kind; 0 = it is not notified of that kind.
#[must_use]
pub fn barriers(record: &MembershipRecord, level: Level, kind: TransitionKind) -> u8 {
    record.levels.get(&level).map_or(0, |registration| registration.barriers.of(kind))
}

/// True if participants are notified of this step: a level with no barriers for its kind just passes (protocol T-5).
#[must_use]
pub fn is_notified(record: &MembershipRecord, step: &Step) -> bool {
    step.phase == StepPhase::Notifying && step.barrier < barriers(record, step.level, step.kind)
}

/// The batch that runs at a level: all graceful steps, or all forced ones (protocol §5.1).
#[must_use]
pub fn batch(record: &MembershipRecord, level: Level, forced: bool) -> Vec<Subject> {
    subjects(record)
        .filter(|(_, step)| {
            let of_kind = (step.kind == TransitionKind::ForcedLeaving) == forced;
            step.phase == StepPhase::Notifying && step.level == level && of_kind
        })
        .map(|(subject, _)| subject)
        .collect()
}

/// Compares two steps of one node: by transition, restart, level in the direction of the kind, barrier (protocol §5.1).
#[must_use]
pub fn is_newer(kind: TransitionKind, new: &NotificationId, old: &NotificationId) -> bool {
    let place = |id: &NotificationId| {
        let level = match kind {
            TransitionKind::Leaving => u16::MAX - id.level.0,
            TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::ForcedLeaving => id.level.0,
        };
        (id.transition, id.restart, level, id.barrier)
    };
    place(new) > place(old)
}

/// Members that are not marked.
#[must_use]
pub fn unmarked_members(record: &MembershipRecord) -> NodeSet {
    let live = |state| matches!(state, NodeState::Joining | NodeState::Joined | NodeState::Leaving);
    record.nodes.iter().filter(|(_, entry)| live(entry.state)).map(|(node, _)| *node).collect()
}

/// Ends a node's way out. The entry keeps its incarnation, the reason, and whether the node itself asked to leave.
pub(super) fn become_inactive(entry: &mut MemberEntry) {
    *entry = MemberEntry {
        incarnation: entry.incarnation,
        leave_requested: entry.leave_requested,
        reason: std::mem::take(&mut entry.reason),
        ..MemberEntry::default()
    };
}
