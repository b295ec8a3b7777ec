//! What really happened to client services: what may run where, which databases are committed, what is lost and not recovered. The
//! invariants of protocol §6.6 are judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::order::{ConsumedRequest, RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{
    Command, CommandKind, Instance as Named, Order, RegistrationRecord, RunState, ServiceRecord, ServiceRun,
};
use phalanx_messages::{NodeId, NodeIncarnation, OperationId, Revision, Term};
use phalanx_protocol::registration::effective;

use super::invariants as own;
use super::invariants::r12_every_node_is_notified::Notification;

/// What may run of one service in one start of one node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// The service itself.
    pub service: bool,
    /// Its start command has succeeded.
    pub started: bool,
    /// A recovery command, or what one has left.
    pub recovery: bool,
}

/// Why a lost instance is to be recovered before the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// It was registered, or being stopped.
    Always,
    /// It was being started, and its definition says that this counts (`recover_lost_start`).
    OfLostStart,
}

/// A registration database that somebody has given to the disk.
#[derive(Debug, Clone)]
pub struct WrittenDatabase {
    /// What.
    pub record: Arc<RegistrationRecord>,
    /// The write has completed.
    pub completed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ServiceTruth {
    instances: BTreeMap<(String, NodeIncarnation), Instance>,
    /// Every database ever given to the disk, by revision.
    pub written: BTreeMap<Revision, WrittenDatabase>,
    /// The database that the first one of each depoch was loaded from.
    pub bases: BTreeMap<Term, Revision>,
    committed: BTreeMap<Revision, Arc<RegistrationRecord>>,
    /// Services of which an instance was lost and not recovered, and why that is owed.
    lost: BTreeMap<String, Owed>,
    decided: BTreeSet<(String, OperationId)>,
    /// Where a start has failed, and what it left is not killed.
    failed_starts: BTreeMap<String, NodeIncarnation>,
    /// Notify commands that were sent.
    pub told: BTreeSet<Notification>,
    /// Notify commands that have begun.
    pub notified: BTreeSet<Notification>,
    /// What administrators and action functions have asked, by where and which.
    asked: BTreeMap<(NodeIncarnation, u64), RegistrationOrder>,
}

impl ServiceTruth {
    /// Starts of nodes in which something of the service may run.
    #[must_use]
    pub fn runs_on(&self, service: &str) -> Vec<NodeIncarnation> {
        self.instances.keys().filter(|(name, _)| name == service).map(|(_, who)| *who).collect()
    }

    /// What may run of that service in that start.
    #[must_use]
    pub fn instance(&self, service: &str, who: NodeIncarnation) -> Instance {
        self.instances.get(&(service.to_owned(), who)).copied().unwrap_or_default()
    }

    /// Services of which something may run in that start.
    #[must_use]
    pub fn services_of(&self, who: NodeIncarnation) -> Vec<String> {
        self.instances.keys().filter(|(_, on)| *on == who).map(|(name, _)| name.clone()).collect()
    }

    /// Starts of that node in which some service may run.
    #[must_use]
    pub fn starts_of(&self, node: NodeId) -> BTreeSet<NodeIncarnation> {
        self.instances.keys().map(|(_, who)| *who).filter(|who| who.node == node).collect()
    }

    /// Services, or instances, of which something may run.
    pub fn lanes(&self) -> impl Iterator<Item = &String> {
        self.instances.keys().map(|(lane, _)| lane)
    }

    /// Where a start of it has failed, and what that left is not killed.
    #[must_use]
    pub fn failed_start(&self, lane: &str) -> Option<NodeIncarnation> {
        self.failed_starts.get(lane).copied()
    }

    /// Somebody asks for something, through a start of a node that numbers its orders.
    pub fn order_asked(&mut self, through: NodeIncarnation, counter: u64, order: RegistrationOrder) {
        self.asked.insert((through, counter), order);
    }

    /// Orders that are carried out by the decision that makes `record` of `before`.
    fn carried_out(&self, before: &RegistrationRecord, record: &RegistrationRecord) -> Vec<&RegistrationOrder> {
        let consumed =
            record.requests.iter().filter(|(node, it)| before.requests.get(*node) != Some(*it) && it.answer.is_ok());
        let key = |(node, it): (&NodeId, &ConsumedRequest)| {
            (NodeIncarnation { node: *node, incarnation: it.incarnation }, it.counter)
        };
        consumed.filter_map(|it| self.asked.get(&key(it))).collect()
    }

    /// A lost instance of the service is not recovered.
    #[must_use]
    pub fn is_lost(&self, service: &str) -> bool {
        self.lost.contains_key(service)
    }

    /// The newest committed database.
    #[must_use]
    pub fn newest(&self) -> Arc<RegistrationRecord> {
        self.committed.last_key_value().map(|(_, record)| Arc::clone(record)).unwrap_or_default()
    }

    /// Somebody holds a database of that revision for committed.
    #[must_use]
    pub fn is_committed(&self, revision: Revision) -> bool {
        self.committed.contains_key(&revision)
    }

    /// Databases held for committed, oldest first.
    pub fn committed(&self) -> impl DoubleEndedIterator<Item = &Arc<RegistrationRecord>> {
        self.committed.values()
    }

    /// A command begins in that start.
    pub fn command_begins(&mut self, command: &Command) -> Vec<String> {
        let (named, who, kind) = (&command.instance, command.target, command.kind);
        let mut found = own::r12_every_node_is_notified::check(command, self);
        self.notified.extend(own::r12_every_node_is_notified::of_command(command));
        let lane = named.lane();
        let mut instance = self.instance(&lane, who);
        match kind {
            CommandKind::Start => instance.service = true,
            CommandKind::Recovery => instance.recovery = true,
            CommandKind::Stop | CommandKind::Kill | CommandKind::Notify => {}
        }
        self.set(&lane, who, instance);
        found.extend(own::r1_one_instance::check(&lane, self));
        found.extend(own::r3_under_its_parent::check(named, who, kind, self));
        found
    }

    /// It has ended. What a failed command leaves runs on.
    pub fn command_ends(&mut self, service: &str, who: NodeIncarnation, kind: CommandKind, succeeded: bool) {
        let mut instance = self.instance(service, who);
        match kind {
            CommandKind::Start if succeeded => instance.started = true,
            CommandKind::Start => drop(self.failed_starts.insert(service.to_owned(), who)),
            CommandKind::Stop if succeeded => (instance.service, instance.started) = (false, false),
            CommandKind::Kill if succeeded => instance = Instance::default(),
            CommandKind::Recovery if succeeded => {
                instance.recovery = false;
                self.lost.remove(service);
            }
            CommandKind::Stop | CommandKind::Kill | CommandKind::Recovery | CommandKind::Notify => {}
        }
        self.set(service, who, instance);
    }

    fn set(&mut self, service: &str, who: NodeIncarnation, instance: Instance) {
        let key = (service.to_owned(), who);
        if instance.service || instance.recovery {
            self.instances.insert(key, instance);
        } else {
            self.instances.remove(&key);
            self.failed_starts.retain(|lane, on| (lane.as_str(), *on) != (service, who));
        }
    }

    /// Every process of that start is gone.
    pub fn reaped(&mut self, who: NodeIncarnation) {
        let newest = self.newest();
        for service in self.services_of(who) {
            let instance = self.instance(&service, who);
            let owed = run_of(&newest, &service).and_then(|(record, run)| owed(record, run, who));
            if let Some(owed) = owed.filter(|_| instance.started) {
                self.lost.insert(service.clone(), owed);
            }
            self.set(&service, who, Instance::default());
        }
    }

    /// A database is given to the disk. `base` is what its owner had loaded.
    pub fn database_written(&mut self, record: &Arc<RegistrationRecord>, base: Revision) -> Vec<String> {
        let revision = record.revision;
        if revision.seq == 0 {
            self.bases.insert(revision.term, base);
        }
        // What failed is written again: the same.
        if let Some(written) = self.written.get(&revision) {
            let same = written.record == *record;
            return if same { Vec::new() } else { vec![format!("I-R6: two databases {revision} are written")] };
        }
        let found = self.decided(record);
        self.written.insert(revision, WrittenDatabase { record: Arc::clone(record), completed: false });
        found
    }

    /// What a decision makes of the database before it. The first one of a depoch is what was loaded.
    fn decided(&self, record: &RegistrationRecord) -> Vec<String> {
        let Revision { term, seq } = record.revision;
        let before = seq.checked_sub(1).and_then(|seq| self.written.get(&Revision { term, seq }));
        let Some(WrittenDatabase { record: before, .. }) = before else { return Vec::new() };
        let orders = self.carried_out(before, record);
        let mut found = own::r9_waits_only_for_maturity::check(before, record);
        found.extend(own::r18_a_leave_has_a_row::check(record));
        found.extend(own::r19_stopped_for_a_reason::check(before, record, &orders));
        found
    }

    /// That write has completed.
    pub fn database_completed(&mut self, revision: Revision) {
        if let Some(written) = self.written.get_mut(&revision) {
            written.completed = true;
        }
    }

    /// The owner of the decisions holds a database for committed.
    pub fn database_committed(
        &mut self,
        record: &Arc<RegistrationRecord>,
        is_dead: &dyn Fn(NodeIncarnation) -> bool,
    ) -> Vec<String> {
        let revision = record.revision;
        if let Some(known) = self.committed.get(&revision) {
            let text = format!("I-R6: two databases {revision} are held for committed");
            return if known == record { Vec::new() } else { vec![text] };
        }
        let mut found = own::r6_one_chain::check(record, self);
        let is_newest = self.committed.last_key_value().is_none_or(|(newest, _)| *newest < revision);
        if is_newest {
            self.forgive(&self.newest(), record);
        }
        self.committed.insert(revision, Arc::clone(record));
        found.extend(own::r15_settled_is_settled::check(record));
        for (name, service) in record.services.iter().filter(|_| is_newest) {
            for (of, run) in service.runs() {
                let named = Named { service: name.clone(), of };
                if self.decided.insert((named.lane(), run.operation)) {
                    found.extend(own::r16_clean_before_the_next::check(&named, run, self));
                    found.extend(own::r2_begun_when_nothing_runs::check(&named, run, self));
                    found.extend(own::r4_only_where_allowed::check(&named, run, record));
                    found.extend(own::r5_recovered_when_dead::check(&named, run, is_dead));
                    found.extend(own::r17_recovered_before_started::check(&named, run, self));
                }
                found.extend(own::r10_intent_only_at_work::check(&named, service, run));
            }
        }
        found
    }

    /// Losses that need no recovery any more: an administrator says so (`clear --force`), or there is nothing to recover them with.
    fn forgive(&mut self, before: &RegistrationRecord, record: &RegistrationRecord) {
        let skips = self.carried_out(before, record).into_iter().any(|order| match order {
            RegistrationOrder::Service { order, .. } => {
                matches!(
                    order,
                    ServiceOrder::Clear { skip_recovery: true } | ServiceOrder::Remove { skip_recovery: true }
                )
            }
            RegistrationOrder::Apply(_) | RegistrationOrder::EnableGroup { .. } | RegistrationOrder::Standby { .. } => {
                false
            }
        });
        let victim = |record: &RegistrationRecord, lane: &String| run_of(record, lane).and_then(|(_, run)| run.victim);
        let forgotten = |lane: &String| victim(before, lane).is_some() && victim(record, lane).is_none();
        self.lost.retain(|lane, owed| {
            let service = lane.split('@').next().unwrap_or_default();
            let counts = effective(&record.services, service)
                .is_some_and(|it| it.recovery_command.is_some() && (*owed == Owed::Always || it.recover_lost_start));
            counts && !(skips && forgotten(lane))
        });
    }

    /// A command leaves the node that decides, or is taken by the node it is for.
    pub fn command_told(&mut self, order: &Order) -> Vec<String> {
        self.told.extend(own::r12_every_node_is_notified::of_command(&order.command));
        own::r7_committed_then_sent::check(order, self)
    }

    /// Power was lost: databases that were not durable are as if they had never been (protocol §1.3), and nothing runs.
    pub fn power_lost(&mut self, newest: Revision) {
        self.committed.retain(|revision, _| *revision <= newest);
        let survivor = self.newest();
        let counts = |service: &String| {
            let run = run_of(&survivor, service);
            run.is_some_and(|(_, run)| !run.state.is_idle() || run.state == RunState::PendRecovery)
        };
        self.lost.retain(|service, _| counts(service));
        self.instances.clear();
        self.failed_starts.clear();
    }
}

/// The database says that it ran, so its recovery is owed (I-R17); none = it is not.
fn owed(record: &ServiceRecord, run: &ServiceRun, who: NodeIncarnation) -> Option<Owed> {
    let owed = match run.state {
        RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop => Owed::Always,
        RunState::Starting | RunState::StartCleanup | RunState::FenceStart if record.definition.recover_lost_start => {
            Owed::OfLostStart
        }
        RunState::DeRegistered
        | RunState::AwaitMaturity
        | RunState::AwaitParent
        | RunState::Starting
        | RunState::StartCleanup
        | RunState::FenceStart
        | RunState::PendRecovery
        | RunState::Recovering
        | RunState::RecoveryCleanup
        | RunState::FenceRecovery
        | RunState::Failed
        | RunState::FailedRecovery => return None,
    };
    (run.node == who && record.definition.recovery_command.is_some()).then_some(owed)
}

/// What a database says of the instance with that lane.
fn run_of<'a>(record: &'a RegistrationRecord, lane: &str) -> Option<(&'a ServiceRecord, &'a ServiceRun)> {
    let (service, of) = match lane.split_once('@') {
        Some((service, node)) => (service, Some(NodeId(node.parse().ok()?))),
        None => (lane, None),
    };
    let record = record.services.get(service)?;
    Some((record, record.run_of(of)?))
}
