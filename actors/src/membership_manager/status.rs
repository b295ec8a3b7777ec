//! What this node shows of the membership.

use phalanx_messages::membership::Step;
use phalanx_messages::register::{ClaimPhase, Containment};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, Term, TransitionId};

use super::*;
use crate::fence_actor::AwaitedProofs;
use crate::ports::{GetMembership, GetTraces, MembershipStatus};
use phalanx_protocol::chronicle::TransitionTrace;

impl MembershipManager {
    fn running(&self) -> impl Iterator<Item = &Step> {
        let entries = self.newest.nodes.values().filter_map(|entry| entry.step.as_ref());
        entries.chain(self.newest.ghosts.values().map(|ghost| &ghost.step))
    }

    fn awaiting(&self, step: &Step) -> NodeSet {
        self.coordinator.as_ref().map_or(step.participants, |coordinator| coordinator.awaiting(step.transition))
    }

    fn owner(&self) -> Option<(Term, NodeId)> {
        let live = self.watch.candidates(self.now());
        let owners = live.iter().filter(|(_, node)| node.live && node.claim.phase == ClaimPhase::Owner);
        owners.map(|(node, candidate)| (candidate.claim.term, *node)).max()
    }

    fn containment(&self) -> BTreeMap<NodeId, String> {
        let registers = self.reading.iter().flat_map(|reading| reading.registers.iter());
        let word = |containment: &Containment| match containment {
            Containment::None => "none",
            Containment::Cgroup { .. } => "cgroup",
            Containment::Subreaper => "subreaper",
        };
        registers
            .filter_map(|(node, register)| Some((*node, word(&register.as_ref()?.fence.containment).to_owned())))
            .collect()
    }

    fn membership(&self) -> MembershipStatus {
        let now = self.now();
        let running_ms = |id: TransitionId| self.chronicle.running_for_ms(id, now.0).unwrap_or(0);
        MembershipStatus {
            me: self.settings.me,
            record: self.newest.clone(),
            configuration: self.configuration.clone(),
            nodes_max: self.settings.nodes_max,
            term: self.owner().map_or(self.newest.revision.term, |(term, _)| term.max(self.newest.revision.term)),
            master: self.owner().map(|(_, node)| node),
            awaiting: self.running().map(|step| (step.transition, self.awaiting(step))).collect(),
            running_ms: self.running().map(|step| (step.transition, running_ms(step.transition))).collect(),
            proofs_awaited: BTreeMap::new(),
            containment: self.containment(),
            heartbeat_age_ms: now.since(self.last_renewal()),
            lease_valid: self.lease_valid,
        }
    }
}

impl Handler<GetMembership> for MembershipManager {
    type Result = ResponseFuture<MembershipStatus>;

    fn handle(&mut self, _: GetMembership, _: &mut Self::Context) -> Self::Result {
        let status = self.membership();
        let awaited = self.edges.fence.as_ref().map(|fence| fence.send(AwaitedProofs));
        Box::pin(async move {
            let Some(awaited) = awaited else { return status };
            let proofs = awaited.await.unwrap_or_default();
            let proofs_awaited = proofs.into_iter().map(|(victim, text)| (victim.node, text)).collect();
            MembershipStatus { proofs_awaited, ..status }
        })
    }
}

impl Handler<GetTraces> for MembershipManager {
    type Result = MessageResult<GetTraces>;

    fn handle(&mut self, _: GetTraces, _: &mut Self::Context) -> Self::Result {
        let traces: Vec<TransitionTrace> = self.chronicle.traces().cloned().collect();
        MessageResult(traces)
    }
}
