//! Subsystems of this node that are not part of it: who has which level (protocol T-15 to T-17).

use actix::prelude::*;
use phalanx_messages::Level;
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::peer::LevelRefusal;
use phalanx_protocol::manager::ManagerInput;

use super::MembershipManager;
use super::words::level_refusal_text;
use crate::subsystem::{
    Adapter, AdapterEdges, Detach, RegisterError, RegisterSubsystem, Subsystem, SubsystemDied, SubsystemEvent,
    WithdrawSubsystem,
};

/// A subsystem that has a level of this node.
pub(super) struct Attached {
    /// Which registration of this start of the node it is.
    registered: u64,
    subsystem: Subsystem,
    adapter: Addr<Adapter>,
}

impl MembershipManager {
    /// Gives the level to a subsystem; the cluster hears of it elsewhere.
    pub(super) fn attach(&mut self, subsystem: Subsystem, ctx: &Context<Self>) {
        self.registered += 1;
        let level = subsystem.registration.level;
        let me = ctx.address();
        let edges = AdapterEdges {
            answers: me.clone().recipient(),
            died: me.recipient(),
            guard: self.edges.guard.named("adapter of a subsystem"),
        };
        let adapter = Adapter::new(subsystem.clone(), self.registered, edges).start();
        self.attached.insert(level, Attached { registered: self.registered, subsystem, adapter });
    }

    /// Notifies the subsystem at that level, whatever its kind.
    pub(super) fn notify_subsystem(&self, notification: SubsystemNotification) {
        let level = notification.level;
        if let Some(attached) = self.attached.get(&level) {
            attached.adapter.do_send(notification);
        } else if let Some(own) = self.edges.levels.get(&level) {
            own.do_send(notification);
        } else {
            self.edges.guard.node_panic(&format!("level {level} is not registered here"));
        }
    }

    pub(super) fn tell_subsystem(&self, level: Level, event: SubsystemEvent) {
        if let Some(attached) = self.attached.get(&level) {
            attached.adapter.do_send(event);
        }
    }

    /// The level is free again; its subsystem is told why.
    pub(super) fn release(&mut self, level: Level, event: SubsystemEvent) {
        if let Some(attached) = self.attached.remove(&level) {
            tracing::info!(%level, subsystem = attached.subsystem.registration.name, ?event, "a subsystem is gone");
            attached.adapter.do_send(event);
            attached.adapter.do_send(Detach);
        }
    }

    pub(super) fn refuse_subsystem(&mut self, level: Level, refusal: LevelRefusal) {
        let text = level_refusal_text(&refusal);
        self.release(level, SubsystemEvent::Refused { refusal, text });
    }

    fn bury_subsystem(&mut self, level: Level, ctx: &mut Context<Self>) {
        let Some(attached) = self.attached.remove(&level) else { return };
        attached.adapter.do_send(Detach);
        let Subsystem { registration, on_death, .. } = attached.subsystem;
        tracing::warn!(%level, subsystem = registration.name, policy = ?on_death, "a subsystem has died");
        self.take(ManagerInput::Died { level, policy: on_death }, ctx);
    }

    fn register(&mut self, subsystem: Subsystem, ctx: &mut Context<Self>) -> Result<(), RegisterError> {
        let registration = subsystem.registration.clone();
        let level = registration.level;
        if level.is_built_in() {
            return Err(RegisterError::BuiltIn(level));
        }
        if self.machine.has_ended() {
            return Err(RegisterError::Ending);
        }
        if self.edges.levels.contains_key(&level) {
            let record = self.machine.record();
            let name = record.levels.get(&level).map_or_else(String::new, |known| known.name.clone());
            return Err(RegisterError::InUse { level, name });
        }
        if let Some(attached) = self.attached.get(&level) {
            if attached.subsystem.notifications.connected() {
                let name = attached.subsystem.registration.name.clone();
                return Err(RegisterError::InUse { level, name });
            }
            self.bury_subsystem(level, ctx); // nobody has noticed its end yet
        }
        tracing::info!(%level, subsystem = registration.name, "a subsystem registers");
        self.attach(subsystem, ctx);
        self.take(ManagerInput::Register(registration), ctx);
        Ok(())
    }

    fn withdraw(&mut self, level: Level, ctx: &mut Context<Self>) -> Result<(), RegisterError> {
        if !self.attached.contains_key(&level) {
            return Err(RegisterError::NotRegistered(level));
        }
        self.take(ManagerInput::Withdraw(level), ctx);
        Ok(())
    }
}

impl Handler<RegisterSubsystem> for MembershipManager {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, RegisterSubsystem(subsystem): RegisterSubsystem, ctx: &mut Self::Context) -> Self::Result {
        self.register(subsystem, ctx)
    }
}

impl Handler<WithdrawSubsystem> for MembershipManager {
    type Result = Result<(), RegisterError>;

    fn handle(&mut self, WithdrawSubsystem(level): WithdrawSubsystem, ctx: &mut Self::Context) -> Self::Result {
        self.withdraw(level, ctx)
    }
}

impl Handler<SubsystemDied> for MembershipManager {
    type Result = ();

    fn handle(&mut self, SubsystemDied { level, registered }: SubsystemDied, ctx: &mut Self::Context) {
        // A successor may have the level already.
        if self.attached.get(&level).is_some_and(|attached| attached.registered == registered) {
            self.bury_subsystem(level, ctx);
        }
    }
}
