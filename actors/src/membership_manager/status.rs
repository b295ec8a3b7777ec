//! What this node shows of the membership.

use std::collections::BTreeMap;

use actix::prelude::*;
use phalanx_messages::NodeId;
use phalanx_messages::admin::QuorumStatus;

use super::MembershipManager;
use crate::fence_actor::AwaitedProofs;
use crate::ports::{GetMembership, MembershipStatus};

impl MembershipManager {
    fn membership(&self) -> MembershipStatus {
        let (now, machine) = (self.edges.clock.now(), &self.machine);
        let record = machine.record().clone();
        let owner = machine.owner(now);
        MembershipStatus {
            quorum: machine.votes(now).map(|(reached, votes, needed)| QuorumStatus { reached, votes, needed }),
            me: machine.me(),
            term: owner.map_or(record.revision.term, |(term, _)| term.max(record.revision.term)),
            master: owner.map(|(_, node): (_, NodeId)| node),
            record,
            configuration: machine.configuration().clone(),
            nodes_max: machine.nodes_max(),
            awaiting: machine.awaiting(),
            running_ms: machine.running_ms(now),
            proofs_awaited: BTreeMap::new(),
            hosts: machine.hosts(),
            heartbeat_age_ms: now.since(self.edges.lease.last_renewal()),
            lease_valid: machine.lease_valid(),
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
