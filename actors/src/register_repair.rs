//! Carries out the proxy repair of registers (protocol §3.8): hears every reading, looks at what nobody can read, and on the master
//! writes the register of a node that is certainly dead.
//!
//! Never: decides when ([`ProxyRepair`] does), or writes with its gate closed.

use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::{Instant, NodeId};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::proxy_repair::{ProxyRepair, Repair};

use crate::clock::Clock;
use crate::disk::{DiskActor, LookAtUnreadable, RepairRegister};
use crate::gate::Gate;
use crate::guard::PanicGuard;
use crate::ports::{GetMembership, LeaseChanged, RegistersRead};

/// See the module.
pub struct RegisterRepair {
    machine: ProxyRepair,
    me: NodeId,
    clock: Clock,
    gate: Gate,
    guard: PanicGuard,
    disk: Addr<DiskActor>,
    membership: Recipient<GetMembership>,
    /// A repair is being asked for or written.
    busy: bool,
}

impl RegisterRepair {
    /// For the node `me`.
    #[must_use]
    pub const fn new(
        machine: ProxyRepair,
        me: NodeId,
        clock: Clock,
        gate: Gate,
        guard: PanicGuard,
        disk: Addr<DiskActor>,
        membership: Recipient<GetMembership>,
    ) -> Self {
        Self { machine, me, clock, gate, guard, disk, membership, busy: false }
    }

    fn heard(&mut self, reading: &Arc<RegistersReading>, ctx: &mut Context<Self>) {
        for node in self.machine.read(&reading.registers) {
            let begun = self.clock.now();
            let look = self.disk.send(LookAtUnreadable(node));
            ctx.spawn(look.into_actor(self).map(move |found, actor, ctx| {
                // A disk that fails tells nothing: as if nobody had looked.
                if let Ok(Ok(digest)) = found {
                    actor.looked(node, begun, digest, ctx);
                }
            }));
        }
    }

    fn looked(&mut self, node: NodeId, begun: Instant, digest: Option<u32>, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        self.machine.looked(node, begun, now, digest);
        if self.busy || !self.machine.is_due(now) || !self.gate.is_open() {
            return;
        }
        self.busy = true;
        ctx.spawn(self.membership.send(GetMembership).into_actor(self).map(|status, actor, ctx| {
            actor.busy = false;
            let Ok(status) = status else { return };
            if status.master == Some(actor.me) && status.lease_valid {
                let due = actor.machine.due(actor.clock.now(), &status.record);
                due.into_iter().for_each(|repair| actor.write(repair, ctx));
            }
        }));
    }

    fn write(&mut self, repair: Repair, ctx: &mut Context<Self>) {
        if !self.gate.is_open() {
            return;
        }
        self.busy = true;
        let (node, incarnation) = (repair.node, repair.register.incarnation);
        ctx.spawn(self.disk.send(RepairRegister(repair)).into_actor(self).map(move |written, actor, _| {
            actor.busy = false;
            match written {
                Ok(Ok(true)) => tracing::warn!(%node, %incarnation, "its register was unreadable and it is dead: written in its place"),
                Ok(Ok(false)) | Err(_) => {} // it can be read again, or this node is ending
                Ok(Err(error)) => tracing::warn!(%node, %error, "failed to repair its register"),
            }
        }));
    }
}

impl Actor for RegisterRepair {
    type Context = Context<Self>;
}

impl Handler<RegistersRead> for RegisterRepair {
    type Result = ();

    fn handle(&mut self, RegistersRead(reading): RegistersRead, ctx: &mut Self::Context) {
        self.guard.clone().run(|| self.heard(&reading, ctx));
    }
}

impl Handler<LeaseChanged> for RegisterRepair {
    type Result = ();

    /// The gate tells whether this node may write.
    fn handle(&mut self, _: LeaseChanged, _: &mut Self::Context) {}
}
