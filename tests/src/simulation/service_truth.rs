//! What really happened to client services: what may run where, which databases are committed, what is lost and not recovered. The
//! invariants of protocol §6.6 are judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::registration::{
    CommandKind, Instance as Named, Order, RegistrationRecord, RunState, ServiceRecord, ServiceRun,
};
use phalanx_messages::{NodeId, NodeIncarnation, OperationId, Revision, Term};

use super::invariants as own;

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
    /// Services of which an instance was lost and not recovered.
    lost: BTreeSet<String>,
    decided: BTreeSet<(String, OperationId)>,
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

    /// A lost instance of the service is not recovered.
    #[must_use]
    pub fn is_lost(&self, service: &str) -> bool {
        self.lost.contains(service)
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
    pub fn command_begins(&mut self, named: &Named, who: NodeIncarnation, kind: CommandKind) -> Vec<String> {
        let lane = named.lane();
        let mut instance = self.instance(&lane, who);
        match kind {
            CommandKind::Start => instance.service = true,
            CommandKind::Recovery => instance.recovery = true,
            CommandKind::Stop | CommandKind::Kill | CommandKind::Notify => {}
        }
        self.set(&lane, who, instance);
        let mut found = own::r1_one_instance::check(&lane, self);
        found.extend(own::r3_under_its_parent::check(named, who, kind, self));
        found
    }

    /// It has ended. What a failed command leaves runs on.
    pub fn command_ends(&mut self, service: &str, who: NodeIncarnation, kind: CommandKind, succeeded: bool) {
        let mut instance = self.instance(service, who);
        match kind {
            CommandKind::Start if succeeded => instance.started = true,
            CommandKind::Stop if succeeded => (instance.service, instance.started) = (false, false),
            CommandKind::Kill if succeeded => instance = Instance::default(),
            CommandKind::Recovery if succeeded => {
                instance.recovery = false;
                self.lost.remove(service);
            }
            CommandKind::Start
            | CommandKind::Stop
            | CommandKind::Kill
            | CommandKind::Recovery
            | CommandKind::Notify => {}
        }
        self.set(service, who, instance);
    }

    fn set(&mut self, service: &str, who: NodeIncarnation, instance: Instance) {
        let key = (service.to_owned(), who);
        if instance.service || instance.recovery {
            self.instances.insert(key, instance);
        } else {
            self.instances.remove(&key);
        }
    }

    /// Every process of that start is gone.
    pub fn reaped(&mut self, who: NodeIncarnation) {
        let newest = self.newest();
        for service in self.services_of(who) {
            let instance = self.instance(&service, who);
            if instance.started
                && run_of(&newest, &service).is_some_and(|(record, run)| counts_as_lost(record, run, who))
            {
                self.lost.insert(service.clone());
            }
            self.set(&service, who, Instance::default());
        }
    }

    /// A database is given to the disk. `base` is what its owner had loaded.
    pub fn database_written(&mut self, record: &Arc<RegistrationRecord>, base: Revision) -> Vec<String> {
        let revision = record.revision;
        let mut found = Vec::new();
        if revision.seq == 0 {
            self.bases.insert(revision.term, base);
        }
        // What failed is written again: the same.
        if self.written.get(&revision).is_some_and(|written| written.record != *record) {
            found.push(format!("I-R6: two databases {revision} are written"));
        }
        self.written.entry(revision).or_insert(WrittenDatabase { record: Arc::clone(record), completed: false });
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
        self.committed.insert(revision, Arc::clone(record));
        found.extend(own::r15_settled_is_settled::check(record));
        for (name, service) in record.services.iter().filter(|_| is_newest) {
            for (of, run) in service.runs() {
                let named = Named { service: name.clone(), of };
                if self.decided.insert((named.lane(), run.operation)) {
                    found.extend(own::r2_begun_when_nothing_runs::check(&named, run, self));
                    found.extend(own::r4_only_where_allowed::check(&named, run, record));
                    found.extend(own::r5_recovered_when_dead::check(&named, run, is_dead));
                    found.extend(own::r17_recovered_before_started::check(&named, run, self));
                }
                found.extend(own::r10_intent_only_at_work::check(&named, run));
            }
        }
        found
    }

    /// A command leaves the node that decides, or is taken by the node it is for.
    #[must_use]
    pub fn command_told(&self, order: &Order) -> Vec<String> {
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
        self.lost.retain(counts);
        self.instances.clear();
    }
}

/// The database says that it ran, so its recovery is owed (I-R17).
fn counts_as_lost(record: &ServiceRecord, run: &ServiceRun, who: NodeIncarnation) -> bool {
    let ran = matches!(run.state, RunState::Registered | RunState::Stopping | RunState::StopKill | RunState::FenceStop);
    ran && run.node == who && record.definition.recovery_command.is_some()
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
