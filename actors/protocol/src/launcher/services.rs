//! The newest database known on this node, the commands for it, and their results.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use phalanx_messages::registration::{Instance, OperationResult, Order, RegistrationMessage, RegistrationRecord};
use phalanx_messages::{Revision, Term};

use super::Launcher;
use super::io::{LauncherOutput, LauncherRead, RegistrationReader};
use crate::registration::{DeciderInput, Event, outstanding_of};

/// A database not heard of for this long is read again.
const STALE_MS: u64 = 2_000;
/// Commands kept that came before this node had joined the level.
const EARLY_MAX: usize = 4_096;

impl Launcher {
    /// A command for this node, from whoever decides.
    pub(super) fn take(&mut self, depoch: Term, order: Order) {
        if order.command.target == self.settings.me && !self.joined && self.early.len() < EARLY_MAX {
            self.early.push((depoch, order));
            return;
        }
        if !self.admission.admit(depoch, &order.command) {
            return;
        }
        let victim = order.command.victim.map(|victim| self.configuration.name_of(victim.node));
        let (instance, revision) = (order.command.instance.clone(), order.command.operation.revision);
        self.told.insert(instance.clone());
        self.emit(LauncherOutput::Perform { order: Box::new(order), victim });
        self.tell_service_again(instance, revision); // a command that came late, or once more, may be done with
    }

    /// To whoever decides; to everybody if that is not known. The service repeats it until it is consumed.
    pub(super) fn reported(&mut self, result: &OperationResult) {
        let leader = self.decider.leader();
        let me = self.settings.me;
        if leader.is_none_or(|leader| leader == me.node) {
            let finished = Event::Finished { from: me, result: result.clone() };
            self.drive(DeciderInput::Happened(vec![finished]));
        }
        for peer in self.peers() {
            if leader.is_none_or(|leader| leader == peer) {
                self.say(peer, RegistrationMessage::Results(vec![result.clone()]));
            }
        }
        self.tell_service_again(result.instance.clone(), result.operation.revision); // nobody may wait for it any more
    }

    /// Takes over a newer database.
    pub(super) fn learn(&mut self, record: Arc<RegistrationRecord>) {
        self.known_at = self.now();
        if record.revision < self.known.revision {
            return;
        }
        self.admission.see(record.revision.term);
        let before = std::mem::replace(&mut self.known, record);
        self.tell_services(&before);
        self.tell_registered(&before);
        self.run_timers();
        self.answer_orders();
        self.show_committed();
    }

    /// Only those that have run something here and have changed: ten thousand services do not concern every node, nor every
    /// decision.
    fn tell_services(&mut self, before: &RegistrationRecord) {
        let known = self.known.clone();
        for difference in before.services.diff(&known.services) {
            let name = match difference {
                DiffItem::Add(name, _) | DiffItem::Update { new: (name, _), .. } | DiffItem::Remove(name, _) => name,
            };
            let first = Instance { service: name.clone(), of: None };
            let of_service = self.told.range(&first..).take_while(|instance| instance.service == *name);
            for instance in of_service.cloned().collect::<Vec<_>>() {
                self.tell_service(instance);
            }
        }
    }

    /// Tells a service of the database known, if that has the operation: what has not changed since is not told again by itself.
    fn tell_service_again(&mut self, instance: Instance, operation: Revision) {
        if self.known.revision >= operation {
            self.tell_service(instance);
        }
    }

    /// One that was removed awaits nothing any more; it ends with its last result.
    fn tell_service(&mut self, instance: Instance) {
        let known = self.known.clone();
        let defined = known.services.get(&instance.service);
        if defined.is_none() {
            self.told.remove(&instance);
        }
        let run = defined.and_then(|service| service.run_of(instance.of));
        let commands = run.into_iter().flat_map(|run| outstanding_of(&instance.service, instance.of, run));
        let mine = commands.filter(|command| command.target == self.settings.me);
        let awaited = mine.map(|command| (command.kind, command.operation)).collect();
        let (revision, defined) = (known.revision, defined.is_some());
        self.emit(LauncherOutput::DatabaseSeen { instance, revision, awaited, defined });
    }

    /// Everybody runs the timers; who decides uses what expires (protocol RL-9).
    pub(super) fn run_timers(&mut self) {
        let expired = self.timers.observe(&self.known, self.now());
        if !expired.is_empty() && self.decider.committed().is_some() {
            self.drive(DeciderInput::Happened(expired));
        }
    }

    pub(super) fn refresh_if_stale(&mut self) {
        let age_ms = self.now().since(self.known_at);
        let owner = self.decider.committed().is_some();
        if !self.draining.is_empty() || (!owner && self.joined && age_ms >= STALE_MS) {
            self.refresh();
        }
    }

    pub(super) fn refresh_if_announced(&mut self) {
        if self.announced > self.known.revision || !self.draining.is_empty() {
            self.refresh();
        }
    }

    /// Reads the newest database; what was announced meanwhile is read afterwards.
    pub(super) fn refresh(&mut self) {
        if self.reading.is_none() {
            self.reading = Some(self.announced);
            self.readings_begun += 1;
            self.emit(LauncherOutput::Read(LauncherRead::Registration(RegistrationReader::Follower)));
        }
    }

    pub(super) fn followed(&mut self, result: Result<Option<RegistrationRecord>, String>) {
        let before = self.reading.take().unwrap_or_default();
        match result {
            Ok(record) => {
                self.learn(record.unwrap_or_default().into());
                self.answer_if_drained();
            }
            Err(failure) => self.emit(LauncherOutput::DiskFailed(failure)),
        }
        if self.announced > before {
            self.refresh_if_announced();
        }
    }
}
