//! Administrators' requests: what each changes in the database, and when it is refused (protocol §6.3, "Admin"; RL-10).
//!
//! Each only sets fields; the rows decide what follows. A request that is refused has changed nothing.

use phalanx_messages::codec;
use phalanx_messages::order::{
    ConsumedRequest, DefinitionChange, OrderRefusal, RegistrationOrder, RegistrationRequest, ServiceOrder,
};
use phalanx_messages::registration::{RegistrationRecord, RunState, ServiceRecord, ServiceRun};
use phalanx_messages::service::{AutoRegister, ServiceDefinition};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{NodeId, registration::CommandKind};

use super::choose::{best, unfit};
use super::commands::kind_of;
use super::decision::{DatabaseRoom, Decision};
use super::rows::Rows;

/// Bytes that the run state of a service may grow to.
const RUN_BYTES: usize = 600;
/// No record is larger than this.
const RECORD_BYTES_MAX: usize = 1 << 30;

impl Decision<'_> {
    /// Protocol RL-10: a request that was consumed keeps its answer; an older one is dropped.
    pub(super) fn requested(&mut self, request: &RegistrationRequest) {
        let last = self.record.requests.get(&request.source.node);
        let newest = last.map(|last| (last.incarnation, last.counter));
        if newest >= Some((request.source.incarnation, request.counter)) {
            return;
        }
        let answer = match &request.order {
            RegistrationOrder::Service { service, order } => self.ordered(service, order.clone()),
            RegistrationOrder::Apply(changes) => self.apply(&changes.services),
            RegistrationOrder::EnableGroup { .. } => Ok(()),
            RegistrationOrder::Standby { node, standby } => {
                self.stand_by(*node, *standby);
                Ok(())
            }
        };
        let consumed = ConsumedRequest { incarnation: request.source.incarnation, counter: request.counter, answer };
        self.record.requests.insert(request.source.node, consumed);
    }

    fn ordered(&mut self, service: &str, order: ServiceOrder) -> Result<(), OrderRefusal> {
        if !self.record.services.contains_key(service) {
            return Err(OrderRefusal::UnknownService { service: service.to_owned() });
        }
        if let ServiceOrder::Remove { skip_recovery } = order {
            return self.remove(service, skip_recovery);
        }
        let mut answer = Ok(());
        self.with(service, |rows| answer = rows.ordered(order));
        answer
    }

    fn remove(&mut self, service: &str, skip_recovery: bool) -> Result<(), OrderRefusal> {
        let Some(record) = self.record.services.get(service) else { return Ok(()) };
        let (service, run) = (service.to_owned(), &record.run);
        if !run.state.is_idle() {
            // Even by force: what runs would go on without anybody who knows of it.
            return Err(OrderRefusal::NotIdle { service, state: run.state });
        }
        if let Some(victim) = run.victim.filter(|_| !skip_recovery) {
            return Err(OrderRefusal::Unrecovered { service, victim });
        }
        self.record.services.remove(&service);
        Ok(())
    }

    fn stand_by(&mut self, node: NodeId, standby: bool) {
        if standby {
            self.record.standby.insert(node);
        } else {
            self.record.standby.remove(node);
        }
    }

    /// All or none.
    fn apply(&mut self, changes: &[DefinitionChange]) -> Result<(), OrderRefusal> {
        changes.iter().try_for_each(|change| may_become(&self.record, change))?;
        check_room(&self.record, changes, self.room)?;
        for DefinitionChange { before, after } in changes {
            match self.record.services.get_mut(&after.name) {
                Some(record) => record.definition = after.clone(),
                None => drop(self.record.services.insert(after.name.clone(), new_record(after))),
            }
            if let Some(before) = before {
                self.with(&after.name, |rows| rows.redefined(before));
            }
        }
        Ok(())
    }
}

fn new_record(definition: &ServiceDefinition) -> ServiceRecord {
    let want = definition.auto_register == AutoRegister::Always;
    ServiceRecord::new(definition.clone(), ServiceRun { want, ..ServiceRun::default() })
}

fn may_become(record: &RegistrationRecord, change: &DefinitionChange) -> Result<(), OrderRefusal> {
    let service = change.after.name.clone();
    let known = record.services.get(&service);
    let seen = change.before.as_ref().is_none_or(|before| before.name == service);
    if !seen || known.map(|known| &known.definition) != change.before.as_ref() {
        return Err(OrderRefusal::ChangedMeanwhile { service });
    }
    let Some(state) = known.map(|known| known.run.state) else { return Ok(()) };
    let missing = match kind_of(state) {
        Some(CommandKind::Start) => change.after.start_command.is_none(),
        Some(CommandKind::Stop) => change.after.stop_command.is_none(),
        Some(CommandKind::Recovery) => change.after.recovery_command.is_none(),
        Some(CommandKind::Kill | CommandKind::Notify) | None => false,
    };
    if missing { Err(OrderRefusal::CommandRuns { service, state }) } else { Ok(()) }
}

/// The database must hold every service in whatever state it comes to.
fn check_room(
    record: &RegistrationRecord,
    changes: &[DefinitionChange],
    room: DatabaseRoom,
) -> Result<(), OrderRefusal> {
    let changed = |name: &String| changes.iter().any(|change| change.after.name == *name);
    let kept = record.services.iter().filter(|(name, _)| !changed(name)).map(|(_, service)| &service.definition);
    let definitions: Vec<&ServiceDefinition> = kept.chain(changes.iter().map(|change| &change.after)).collect();
    let encoded = codec::encode(&definitions, RECORD_BYTES_MAX).map_or(RECORD_BYTES_MAX, |bytes| bytes.len());
    let (services, bytes) = (definitions.len(), encoded + definitions.len() * RUN_BYTES);
    if bytes > room.bytes || services > room.services {
        let (bytes_max, services_max) = (room.bytes, room.services);
        return Err(OrderRefusal::DatabaseFull { services, services_max, bytes, bytes_max });
    }
    Ok(())
}

impl Rows<'_> {
    fn ordered(&mut self, order: ServiceOrder) -> Result<(), OrderRefusal> {
        match order {
            ServiceOrder::Register => self.run.want = true,
            ServiceOrder::Deregister => self.run.want = false,
            ServiceOrder::Hold => self.run.held = true,
            ServiceOrder::Clear { skip_recovery } => self.cleared(skip_recovery),
            ServiceOrder::Transfer { to } => return self.transfer(to),
            ServiceOrder::Failed { .. } | ServiceOrder::Remove { .. } => {} // not a matter of the run state
        }
        Ok(())
    }

    fn cleared(&mut self, skip_recovery: bool) {
        self.run.held = false;
        self.run.avoid.clear();
        self.run.tried_recovery.clear();
        self.forget_failures();
        match self.run.state {
            RunState::PendRecovery | RunState::FailedRecovery if skip_recovery => self.recovered(),
            RunState::FailedRecovery => self.run.state = RunState::PendRecovery,
            RunState::DeRegistered
            | RunState::AwaitMaturity
            | RunState::AwaitParent
            | RunState::Starting
            | RunState::StartCleanup
            | RunState::Registered
            | RunState::Stopping
            | RunState::StopKill
            | RunState::PendRecovery
            | RunState::Recovering
            | RunState::RecoveryCleanup
            | RunState::FenceStart
            | RunState::FenceStop
            | RunState::FenceRecovery
            | RunState::Failed => {}
        }
    }

    fn forget_failures(&mut self) {
        self.run.tried.clear();
        self.run.retries = 0;
        self.run.failure = None;
        if self.run.state == RunState::Failed {
            self.run.state = RunState::DeRegistered;
        }
    }

    /// The definition has changed; what runs goes on (protocol §6.2: editing never starts a transfer).
    fn redefined(&mut self, before: &ServiceDefinition) {
        if self.definition.auto_register == AutoRegister::Always && before.auto_register != AutoRegister::Always {
            self.run.want = true;
        }
        if self.definition.notify_command.is_none() {
            self.run.notified.clear();
            self.run.notifying.clear();
        }
        self.forget_failures();
    }

    fn transfer(&mut self, to: Option<NodeId>) -> Result<(), OrderRefusal> {
        let (service, state) = (self.definition.name.clone(), self.run.state);
        if state != RunState::Registered || !self.run.notifying.is_empty() || !self.run.want {
            return Err(OrderRefusal::NotSettled { service, state });
        }
        if self.run.held {
            return Err(OrderRefusal::Held { service });
        }
        if self.run.transfer_intent || self.reason().is_some() {
            return Err(OrderRefusal::Moving { service });
        }
        let node = match to {
            Some(node) => node,
            None => self.elsewhere().ok_or(OrderRefusal::NowhereElse { service: service.clone() })?,
        };
        if self.run.node.node == node {
            return Err(OrderRefusal::AlreadyThere { service, node });
        }
        if let Some(why) = unfit(self.definition, self.view, self.standby, node) {
            return Err(OrderRefusal::Unfit { service, node, why });
        }
        self.run.moving = true;
        self.run.target = Some(node);
        self.run.transfer_intent = true;
        Ok(())
    }

    fn elsewhere(&self) -> Option<NodeId> {
        let here: NodeSet = [self.run.node.node].into_iter().collect();
        best(self.definition, &self.candidates().difference(&here))
    }
}
