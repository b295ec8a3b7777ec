//! The waits of the registration database, each on the clock of whoever looks (protocol RL-9).
//!
//! Every node runs them from the same database, so that a new owner of the decisions goes on with what has elapsed already.
//! An expiry only asks for a decision, which evaluates the guard again.

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;
use phalanx_messages::registration::{
    CommandKind, Instance, RegistrationRecord, RunState, ServiceRecord, ServiceRun, View,
};
use phalanx_messages::service::{NodePreferences, RestartPolicy, ServiceCommand, ServiceDefinition, TransferCost};
use phalanx_messages::{Instant, NodeId, NodeIncarnation, OperationId};

use super::choose::{candidates, rank};
use super::commands::kind_of;
use super::events::Event;
use super::flaps::Flaps;
use super::index::Services;

/// A pause before a restart in place is never longer than this.
const REST_MS_MAX: u64 = 60_000;

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
    Rest(OperationId),
    Aged(OperationId),
    Forgotten(OperationId),
    Clean(OperationId),
}

/// Since when something is waited for, and how long in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    duration_ms: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Timers {
    limits: TimerLimits,
    /// The services as they were looked at last.
    seen: Services,
    /// Services that wait, and for what; one for each node where there are instances.
    waiting: BTreeMap<String, BTreeMap<(Option<NodeId>, Wait), Waiting>>,
    /// Services that go to a better node by themselves.
    free: BTreeSet<String>,
    /// Since when nodes take services.
    up: BTreeMap<NodeIncarnation, Instant>,
    flaps: Flaps,
}

impl Timers {
    /// Waits for nothing yet.
    #[must_use]
    pub fn new(limits: TimerLimits) -> Self {
        let (seen, waiting, free) = (Services::default(), BTreeMap::new(), BTreeSet::new());
        Self { limits, seen, waiting, free, up: BTreeMap::new(), flaps: Flaps::default() }
    }

    /// How often nodes have died of late.
    #[must_use]
    pub const fn flaps(&self) -> &Flaps {
        &self.flaps
    }

    /// What a node has died of counts no more, by an administrator's word.
    pub fn forgive(&mut self, node: NodeId) {
        self.flaps.forgive(node);
    }

    /// Looks at the newest database known, and returns what has expired. What is not waited for any more is forgotten.
    pub fn observe(&mut self, record: &RegistrationRecord, now: Instant) -> Vec<Event> {
        let view = record.seen();
        self.flaps.observe(record, now);
        let up = view.up().map(|node| NodeIncarnation { node, incarnation: view.incarnation(node) });
        self.up = up.map(|node| (node, self.up.get(&node).copied().unwrap_or(now))).collect();
        let seen = std::mem::replace(&mut self.seen, record.services.clone());
        for difference in seen.diff(&record.services) {
            match difference {
                DiffItem::Add(name, service) | DiffItem::Update { new: (name, service), .. } => {
                    self.look_at(name, service, now);
                }
                DiffItem::Remove(name, _) => {
                    self.waiting.remove(name);
                    self.free.remove(name);
                }
            }
        }
        let waiting = self.waiting.iter().flat_map(|(name, waiting)| waiting.iter().map(move |one| (name, one)));
        let over = waiting.filter(|(_, (_, Waiting { since, duration_ms }))| now.since(*since) >= *duration_ms);
        let over = over.map(|(name, ((of, wait), _))| event(Instance { service: name.clone(), of: *of }, wait));
        let free = self.free.iter().filter_map(|name| {
            let node = self.stable_and_better(record.services.get(name)?, record, &view, now)?;
            Some(Event::Stable { service: name.clone(), node })
        });
        over.chain(free).collect()
    }

    /// What a new or changed service waits for. What it has waited for goes on.
    fn look_at(&mut self, name: &str, service: &ServiceRecord, now: Instant) {
        let before = self.waiting.remove(name).unwrap_or_default();
        let mut waiting = BTreeMap::new();
        for (of, run) in service.runs() {
            for (wait, duration_ms) in self.waits(&service.definition, run) {
                let key = (if wait == Wait::Maturity { None } else { of }, wait);
                let since = before.get(&key).map_or(now, |before| before.since);
                waiting.insert(key, Waiting { since, duration_ms });
            }
        }
        if !waiting.is_empty() {
            self.waiting.insert(name.to_owned(), waiting);
        }
        if goes_by_itself(&service.definition) {
            self.free.insert(name.to_owned());
        } else {
            self.free.remove(name);
        }
    }

    /// What is left of the maturity time of a service, by the newest [`Self::observe`], in milliseconds.
    #[must_use]
    pub fn maturity_left_ms(&self, definition: &ServiceDefinition, now: Instant) -> Option<u64> {
        let waiting = self.waiting.get(&definition.name)?.get(&(None, Wait::Maturity))?;
        Some(definition.maturity_time_ms?.saturating_sub(now.since(waiting.since)))
    }

    fn waits(&self, definition: &ServiceDefinition, run: &ServiceRun) -> Vec<(Wait, u64)> {
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
        let policy = definition.restart;
        waits.extend(run.restarts.iter().map(|failed| (Wait::Aged(*failed), policy.window_ms)));
        if run.resting {
            waits.push((Wait::Rest(run.generation), rest_ms(policy, run.restarts.len())));
        }
        if run.state == RunState::Registered && !run.exhausted.is_empty() {
            waits.push((Wait::Forgotten(run.generation), policy.window_ms));
        }
        let notify_ms = self.answer_ms(definition, CommandKind::Notify);
        waits.extend(run.notifying.iter().map(|node| (Wait::Notify(run.generation, node), notify_ms)));
        waits
    }

    /// The decision side waits longer than the executor, which reports a time-out itself.
    fn answer_ms(&self, definition: &ServiceDefinition, kind: CommandKind) -> u64 {
        let own_ms = |command: &Option<ServiceCommand>| {
            let command = command.as_ref();
            command.map_or(0, |command| command.timeout_ms.saturating_mul(1 + u64::from(command.retries)))
        };
        let command_ms = match kind {
            CommandKind::Start => own_ms(&definition.start_command),
            CommandKind::Stop => own_ms(&definition.stop_command),
            CommandKind::Recovery => own_ms(&definition.recovery_command),
            CommandKind::Notify => own_ms(&definition.notify_command),
            CommandKind::Kill => 0,
        };
        command_ms + self.limits.kill_ms + self.limits.margin_ms
    }

    /// The most preferred node that has been up long enough for a free transfer, if it is better than where the service is.
    fn stable_and_better(
        &self,
        service: &ServiceRecord,
        record: &RegistrationRecord,
        view: &View,
        now: Instant,
    ) -> Option<NodeIncarnation> {
        let ServiceRecord { definition, run, .. } = service;
        if run.state != RunState::Registered || run.held || run.transfer_intent {
            return None;
        }
        let here = rank(definition, run.node.node);
        let stable = |node: &NodeIncarnation| {
            let since = self.up.get(node);
            let stable_ms = self.flaps.stable_ms(node.node, definition.stable_ms);
            since.is_some_and(|since| now.since(*since) >= stable_ms)
        };
        let fit = candidates(definition, view, &record.standby).difference(&run.avoid);
        let better = fit.iter().filter(|node| rank(definition, *node) < here);
        let better = better.map(|node| NodeIncarnation { node, incarnation: view.incarnation(node) }).filter(stable);
        better.min_by_key(|node| (rank(definition, node.node), node.node))
    }
}

fn goes_by_itself(definition: &ServiceDefinition) -> bool {
    definition.transfer_cost == TransferCost::Free && definition.node_preferences != NodePreferences::None
}

/// Doubles with each restart that is counted.
fn rest_ms(policy: RestartPolicy, restarts: usize) -> u64 {
    let doubled = u32::try_from(restarts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    policy.backoff_ms.saturating_mul(1 << doubled).min(REST_MS_MAX.max(policy.backoff_ms))
}

fn event(instance: Instance, wait: &Wait) -> Event {
    match wait {
        Wait::Result(operation) => Event::TimedOut { instance, operation: *operation },
        Wait::Notify(generation, node) => Event::NotifyTimedOut { instance, generation: *generation, node: *node },
        Wait::Maturity => Event::Matured { service: instance.service },
        Wait::Backoff(_) => Event::BackoffOver { instance },
        Wait::Rest(generation) => Event::RestOver { instance, generation: *generation },
        Wait::Aged(generation) => Event::FailureAged { instance, generation: *generation },
        Wait::Forgotten(generation) => Event::FailuresForgotten { instance, generation: *generation },
        Wait::Clean(_) => Event::CleanAgain { instance },
    }
}
