//! The waits of the registration database, each on the clock of whoever looks (protocol RL-9).
//!
//! Every node runs them from the same database, so that a new owner of the decisions goes on with what has elapsed already.
//! An expiry only asks for a decision, which evaluates the guard again.

use std::collections::BTreeMap;

use phalanx_messages::registration::{CommandKind, RegistrationRecord, RunState, ServiceRecord};
use phalanx_messages::service::{ServiceCommand, ServiceDefinition};
use phalanx_messages::{Instant, NodeId, OperationId};

use super::commands::kind_of;
use super::events::Event;

/// Durations that no definition gives, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerLimits {
    /// Killing and verifying a containment may take this long (`T_kill`).
    pub kill_ms: u64,
    /// Allowed for the way to the executor and back.
    pub margin_ms: u64,
    /// Between two attempts on what failed everywhere.
    pub backoff_ms: u64,
}

/// What is being waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Result(OperationId),
    Notify(OperationId, NodeId),
    Maturity,
    Backoff(u32),
    Clean(OperationId),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Timers {
    limits: TimerLimits,
    since: BTreeMap<(String, Wait), Instant>,
}

impl Timers {
    /// Waits for nothing yet.
    #[must_use]
    pub const fn new(limits: TimerLimits) -> Self {
        Self { limits, since: BTreeMap::new() }
    }

    /// Looks at the newest database known, and returns what has expired. What is not waited for any more is forgotten.
    pub fn observe(&mut self, record: &RegistrationRecord, now: Instant) -> Vec<Event> {
        let mut since = BTreeMap::new();
        let mut expired = Vec::new();
        for (name, service) in &record.services {
            for (wait, duration_ms) in self.waits(service) {
                let key = (name.clone(), wait);
                let begun = self.since.get(&key).copied().unwrap_or(now);
                if now.since(begun) >= duration_ms {
                    expired.push(event(name, service, &key.1));
                }
                since.insert(key, begun);
            }
        }
        self.since = since;
        expired
    }

    /// What is left of the maturity time of a service, by the newest [`Self::observe`], in milliseconds.
    #[must_use]
    pub fn maturity_left_ms(&self, definition: &ServiceDefinition, now: Instant) -> Option<u64> {
        let begun = self.since.get(&(definition.name.clone(), Wait::Maturity))?;
        Some(definition.maturity_time_ms?.saturating_sub(now.since(*begun)))
    }

    fn waits(&self, service: &ServiceRecord) -> Vec<(Wait, u64)> {
        let (definition, run) = (&service.definition, &service.run);
        let mut waits = Vec::new();
        if let Some(kind) = kind_of(run.state) {
            waits.push((Wait::Result(run.operation), self.answer_ms(definition, kind)));
        }
        if run.state.is_fence() {
            waits.push((Wait::Clean(run.operation), self.limits.backoff_ms));
        }
        if let (RunState::AwaitMaturity, Some(time_ms)) = (run.state, definition.maturity_time_ms) {
            waits.push((Wait::Maturity, time_ms));
        }
        if run.state == RunState::Failed && run.retries < definition.start_retries {
            waits.push((Wait::Backoff(run.retries), self.limits.backoff_ms));
        }
        let notify_ms = self.answer_ms(definition, CommandKind::Notify);
        waits.extend(run.notifying.iter().map(|node| (Wait::Notify(run.generation, node), notify_ms)));
        waits
    }

    /// The decision side waits longer than the executor, which reports a time-out itself.
    fn answer_ms(&self, definition: &ServiceDefinition, kind: CommandKind) -> u64 {
        let own_ms = |command: &Option<ServiceCommand>| command.as_ref().map_or(0, |command| command.timeout_ms);
        let command_ms = match kind {
            CommandKind::Start => own_ms(&definition.start_command),
            CommandKind::Stop => own_ms(&definition.stop_command),
            CommandKind::Recovery => own_ms(&definition.recovery_command),
            CommandKind::Notify => own_ms(&definition.notify_command),
            CommandKind::Kill => 0,
        };
        command_ms + self.limits.kill_ms + self.limits.margin_ms
    }
}

fn event(name: &str, service: &ServiceRecord, wait: &Wait) -> Event {
    let service_name = name.to_owned();
    match wait {
        Wait::Result(operation) => Event::TimedOut { service: service_name, operation: *operation },
        Wait::Notify(generation, node) => {
            Event::NotifyTimedOut { service: service_name, generation: *generation, node: *node }
        }
        Wait::Maturity => Event::Matured { service: service_name },
        Wait::Backoff(_) => Event::BackoffOver { service: service.definition.name.clone() },
        Wait::Clean(_) => Event::CleanAgain { service: service_name },
    }
}
