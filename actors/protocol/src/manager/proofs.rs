//! What proves a death: what the disk says by itself, and what the fence is asked to find out (protocol §4.5, §4.6 step 0 and 3).

use std::collections::BTreeMap;

use phalanx_messages::membership::{Certainty, FenceMethod, FenceState, MembershipRecord, NodeState};
use phalanx_messages::register::{FenceHandle, NodeRegister, OwnState, WatchdogKind};
use phalanx_messages::{Instant, NodeIncarnation};

use super::*;

/// A ghost's host is left alone by fence agents for this long after it was first looked for, in milliseconds. A cluster that is
/// switched on again finds ghosts of everybody (protocol T-18): whose host is still booting proves its end by starting, and
/// must not be switched off for what it was.
pub const GHOST_GRACE_MS: u64 = 30_000;

/// By which methods a victim's death may be proved.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FenceTarget {
    /// Name of the node.
    pub name: String,
    /// F3: it ran on this host.
    pub local: Option<FenceHandle>,
    /// F1 and F2: it runs on another host. Those that only shut it out of the storage are left out once that is certain.
    pub agents: Vec<FenceAgent>,
    /// A write of the host may take effect until so long after it was switched off, in milliseconds (`T_late`).
    pub late_ms: u64,
    /// F4: its death will be certain by the time that has passed, after so many milliseconds.
    pub deadline_ms: Option<u64>,
}

/// Since when marked victims can know that they are marked, by commits of this node as master: the `c` of protocol §4.5. Whoever
/// begins to read after that commit finds the mark in the record of the owner (MC3, `pills_add_nothing_to_the_mark_in_the_record`).
#[derive(Debug, Default)]
pub(super) struct MarkedSince(BTreeMap<NodeIncarnation, Instant>);

/// Since when ghosts wait for a proof.
#[derive(Debug, Default)]
pub(super) struct GhostsSought(BTreeMap<NodeIncarnation, Instant>);

impl Manager {
    fn uncertain(&self) -> Vec<NodeIncarnation> {
        uncertain_in(&self.newest)
    }

    /// The victim's own word, or its successor's start, which came after its processes were counted (protocol §3.7, T-13).
    pub(super) fn proofs_on_disk(&self) -> Vec<(NodeIncarnation, FenceMethod)> {
        let proof = |victim: NodeIncarnation| {
            let sign = self.watch.disk_sign(victim.node, self.now())?;
            if sign.incarnation > victim.incarnation {
                return Some((victim, FenceMethod::NewIncarnation));
            }
            if sign.incarnation == victim.incarnation && sign.own_state == OwnState::DeadDrained {
                return Some((victim, FenceMethod::OwnWord));
            }
            (self.deadline_ms(victim) == Some(0)).then_some((victim, FenceMethod::Deadline))
        };
        self.uncertain().into_iter().filter_map(proof).collect()
    }

    /// A record of this master is committed: its marks count from now on.
    pub(super) fn marks_committed(&mut self, record: &MembershipRecord) {
        let now = self.now();
        let marked = uncertain_in(record);
        self.marked_since.0.retain(|victim, _| marked.contains(victim));
        for victim in marked {
            self.marked_since.0.entry(victim).or_insert(now);
        }
    }

    /// F4 (protocol §4.5): how long it takes until the victim's watchdog has certainly fired and its last write has landed, in
    /// milliseconds. None unless its own register says that a hardware watchdog is armed, and the administrator vouches for it.
    /// Never over an mmap disk.
    fn deadline_ms(&self, victim: NodeIncarnation) -> Option<u64> {
        let register = self.watch.register(victim.node).filter(|it| it.incarnation == victim.incarnation)?;
        let attested = self.configuration.nodes.get(&victim.node).is_some_and(|node| node.watchdog_attested);
        if self.settings.one_host || register.watchdog != WatchdogKind::Hardware || !attested {
            return None;
        }
        let silent_ms = self.watch.silent_ms(victim.node, self.now());
        let marked_ms = self.marked_since.0.get(&victim).map_or(0, |since| self.now().since(*since));
        Some(self.settings.profile.fence_ms().saturating_sub(silent_ms.max(marked_ms)))
    }

    pub(super) fn seek_proofs(&mut self) {
        let now = self.now();
        let ghosts: Vec<NodeIncarnation> = uncertain_ghosts(&self.newest).collect();
        self.ghosts_sought.0.retain(|ghost, _| ghosts.contains(ghost));
        for ghost in ghosts {
            self.ghosts_sought.0.entry(ghost).or_insert(now);
        }
        let wanted = self.uncertain().into_iter();
        let wanted = wanted.filter_map(|victim| Some((victim, self.target(victim)?))).collect();
        self.emit(ManagerOutput::SeekProofs(wanted));
    }

    /// None while nothing is known of where the victim ran.
    fn target(&self, victim: NodeIncarnation) -> Option<FenceTarget> {
        let register = self.reading.as_ref()?.registers.get(&victim.node)?.as_ref();
        // Only the register of the victim's own incarnation tells how to kill it: a newer start must not be hit.
        if register.is_some_and(|register| register.incarnation != victim.incarnation) {
            return None;
        }
        let is_here = |register: &&NodeRegister| self.settings.one_host || register.boot == self.settings.boot;
        let local = register.filter(is_here).map(|register| register.fence.clone());
        let configured = self.configuration.nodes.get(&victim.node);
        let waits = |since: &Instant| self.now().since(*since) < GHOST_GRACE_MS;
        // To switch off the own host would prove nothing to anybody here.
        let is_elsewhere = !self.settings.one_host && local.is_none();
        let may_use_agents = is_elsewhere && !self.ghosts_sought.0.get(&victim).is_some_and(waits);
        let agents = configured.filter(|_| may_use_agents).map(|node| node.fence.iter());
        let shut_out = fence_of(&self.newest, victim).is_some_and(|fence| fence.io_certain);
        let agents = agents.into_iter().flatten().filter(|agent| !shut_out || agent.proves == Certainty::Death);
        Some(FenceTarget {
            name: self.configuration.name_of(victim.node),
            local,
            agents: agents.cloned().collect(),
            late_ms: self.settings.profile.late_write_ms,
            deadline_ms: self.deadline_ms(victim),
        })
    }
}

/// Marked victims, ghosts included, whose death is not certain yet.
fn uncertain_in(record: &MembershipRecord) -> Vec<NodeIncarnation> {
    let entries = record.nodes.iter();
    let entries = entries
        .filter(|(_, entry)| entry.state == NodeState::ForcedLeaving && !entry.fence.death_certain)
        .map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation });
    entries.chain(uncertain_ghosts(record)).collect()
}

fn uncertain_ghosts(record: &MembershipRecord) -> impl Iterator<Item = NodeIncarnation> {
    let ghosts = record.ghosts.iter().filter(|(_, ghost)| !ghost.fence.death_certain);
    ghosts.map(|(node, ghost)| NodeIncarnation { node: *node, incarnation: ghost.incarnation })
}

/// What is certain of a victim.
fn fence_of(record: &MembershipRecord, victim: NodeIncarnation) -> Option<FenceState> {
    let entry = record.nodes.get(&victim.node).filter(|entry| entry.incarnation == victim.incarnation);
    let ghost = record.ghosts.get(&victim.node).filter(|ghost| ghost.incarnation == victim.incarnation);
    entry.map(|entry| entry.fence).or_else(|| ghost.map(|ghost| ghost.fence))
}

#[cfg(test)]
#[path = "proofs_tests.rs"]
mod tests;
