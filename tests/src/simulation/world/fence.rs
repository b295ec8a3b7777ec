//! The fence actor and the local fence, F3 (`phalanx_actors::fence_actor`, `phalanx_node::local_fence`).

use std::collections::BTreeMap;

use phalanx_messages::membership::FenceMethod;
use phalanx_messages::{NodeId, NodeIncarnation};
use phalanx_protocol::manager::{FenceTarget, ManagerInput};

use super::World;
use crate::simulation::clock::{MS, SECOND};
use crate::simulation::process::{ProcessEvent, Search};

impl World {
    pub(super) fn seek_proofs(&mut self, node: NodeId, wanted: BTreeMap<NodeIncarnation, FenceTarget>) {
        let wanted: BTreeMap<_, _> = wanted.into_iter().filter(|(_, target)| target.local.is_some()).collect();
        let Some(actors) = self.actors_mut(node) else { return };
        actors.searches.retain(|victim, _| wanted.contains_key(victim));
        let fresh: Vec<_> = wanted.into_keys().filter(|victim| !actors.searches.contains_key(victim)).collect();
        for victim in fresh {
            self.attempt_fence_on(node, victim, true);
        }
    }

    /// Tries again, if the proof is still wanted.
    pub(super) fn attempt_fence(&mut self, node: NodeId, victim: NodeIncarnation) {
        self.attempt_fence_on(node, victim, false);
    }

    fn attempt_fence_on(&mut self, node: NodeId, victim: NodeIncarnation, first: bool) {
        let Some(actors) = self.actors_mut(node) else { return };
        if !first && actors.searches.get(&victim) != Some(&Search::Failed) {
            return;
        }
        actors.searches.insert(victim, Search::Running);
        let slow = self.random.chance(self.setup.weather.fence_fails);
        let takes = self.random.between(MS, if slow { 5 * SECOND } else { 100 * MS });
        self.plan(node, self.now + takes, ProcessEvent::Fenced(victim));
    }

    pub(super) fn fenced(&mut self, node: NodeId, victim: NodeIncarnation) {
        let proved = self.kill_and_prove(victim);
        self.log.event(self.now, Some(node), "local fence", &[u64::from(victim.node.0), u64::from(proved)], || {
            format!("{victim}: {}", if proved { "dead" } else { "no proof" })
        });
        let Some(actors) = self.actors_mut(node) else { return };
        if !actors.searches.contains_key(&victim) {
            return; // called off meanwhile
        }
        if proved {
            actors.searches.remove(&victim);
            self.tell_manager(node, ManagerInput::DeathProved { victim, method: FenceMethod::Local });
        } else {
            actors.searches.insert(victim, Search::Failed);
            self.plan(node, self.now + 2 * SECOND, ProcessEvent::FenceAgain(victim));
        }
    }

    /// Kills what is left of that start, warden included, and looks whether the lock of the node id is free.
    fn kill_and_prove(&mut self, victim: NodeIncarnation) -> bool {
        let Some(host) = self.hosts.get(&victim.node) else { return false };
        let held_by_another = host.process.as_ref().is_some_and(|process| process.me != victim);
        let warden_lives = host.warden.is_some();
        if held_by_another || (self.setup.subreaper && !warden_lives && !self.truth.was_powered_off(victim)) {
            self.coverage.reach("no local proof");
            return false;
        }
        let refused = self.random.chance(self.setup.weather.fence_fails);
        if refused && self.random.coin() {
            return false;
        }
        self.kill_warden(victim.node, "local fence");
        self.die(victim.node, "local fence");
        self.reaped(victim.node);
        !refused
    }
}
