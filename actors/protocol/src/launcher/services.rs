//! The newest database known on this node, the commands for it, and their results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phalanx_messages::Term;
use phalanx_messages::registration::{Instance, OperationResult, Order, RegistrationMessage, RegistrationRecord};

use super::Launcher;
use super::io::{LauncherOutput, LauncherRead, RegistrationReader};
use crate::registration::{DeciderInput, Event, outstanding};

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
        self.told.insert(order.command.instance.clone());
        self.emit(LauncherOutput::Perform { order: Box::new(order), victim });
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
    }

    /// Takes over a newer database.
    pub(super) fn learn(&mut self, record: Arc<RegistrationRecord>) {
        self.known_at = self.now();
        if record.revision < self.known.revision {
            return;
        }
        self.admission.see(record.revision.term);
        let before = std::mem::replace(&mut self.known, record);
        self.tell_services();
        self.tell_registered(&before);
        self.run_timers();
        self.answer_orders();
        self.show_committed();
    }

    /// Only those that have run something here: ten thousand services do not concern every node. One that was removed awaits
    /// nothing any more; it ends with its last result.
    fn tell_services(&mut self) {
        let known = self.known.clone();
        let mut awaited: BTreeMap<Instance, BTreeSet<_>> = BTreeMap::new();
        if !self.told.is_empty() {
            for command in outstanding(&known).into_iter().filter(|command| command.target == self.settings.me) {
                awaited.entry(command.instance).or_default().insert((command.kind, command.operation));
            }
        }
        for instance in self.told.clone() {
            let defined = known.services.contains_key(&instance.service);
            let awaited = awaited.remove(&instance).unwrap_or_default();
            if !defined {
                self.told.remove(&instance);
            }
            self.emit(LauncherOutput::DatabaseSeen { instance, revision: known.revision, awaited, defined });
        }
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
