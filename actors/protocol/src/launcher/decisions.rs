//! Carries out what the decision machine asks, strictly in order: each disk request after the one before has completed.

use std::sync::Arc;

use phalanx_messages::NodeIncarnation;
use phalanx_messages::registration::{Order, RegistrationMessage, RegistrationRecord};

use super::Launcher;
use super::io::{LauncherOutput, LauncherRead, LauncherWrite, RegistrationReader};
use crate::registration::{Change, DeciderInput, DeciderOutput, is_only_member, tell, victims_of_failure};

/// A need to force a node out is told again this often.
const FORCE_AGAIN_MS: u64 = 1_000;

/// Everybody is told again this often what is committed.
const ANNOUNCE_AGAIN_MS: u64 = 1_000;

impl Launcher {
    /// Gives the decision machine an input and carries out what follows.
    pub(super) fn drive(&mut self, input: DeciderInput) {
        if let DeciderInput::Happened(events) = &input {
            self.forgive_nodes(events);
        }
        self.work.extend(self.decider.step(input));
        while self.requested.is_none() {
            let Some(output) = self.work.pop_front() else { return };
            match output {
                DeciderOutput::ReadRegisters
                | DeciderOutput::Publish(_)
                | DeciderOutput::Load
                | DeciderOutput::Write(_) => {
                    self.requested = Some(output);
                    self.request();
                }
                DeciderOutput::Committed { record, changes } => self.committed(&record, &changes),
                DeciderOutput::Send(orders) => self.send_orders(orders),
                DeciderOutput::Leader(leader) => self.emit(LauncherOutput::Leader(leader)),
                DeciderOutput::Adopted(change) => self.adopted(change),
            }
        }
    }

    /// Makes the request that is due, unless it writes and the lease is lost.
    fn request(&mut self) {
        let may_write = self.moment.may_act;
        let output = match &self.requested {
            Some(DeciderOutput::ReadRegisters) => LauncherOutput::Read(LauncherRead::Decisions),
            Some(DeciderOutput::Load) => {
                LauncherOutput::Read(LauncherRead::Registration(RegistrationReader::Decisions))
            }
            Some(DeciderOutput::Publish(register)) if may_write => {
                LauncherOutput::Write(LauncherWrite::Decision(*register))
            }
            Some(DeciderOutput::Write(record)) if may_write => {
                let (record, durable) = (record.clone(), self.is_durable(record));
                LauncherOutput::Write(LauncherWrite::Registration { record, durable })
            }
            _ => {
                self.request_again = true;
                return;
            }
        };
        self.emit(output);
    }

    /// Protocol §1.3, "What is durable, and when": the first database of a depoch, and whatever an administrator is told is done.
    fn is_durable(&self, record: &RegistrationRecord) -> bool {
        record.revision.seq == 0 || record.requests != self.known.requests
    }

    /// The lease was lost, or the disk failed: the same request again, since what failed may have happened.
    pub(super) fn request_again(&mut self) {
        if std::mem::take(&mut self.request_again) && self.requested.is_some() {
            self.request();
        }
    }

    pub(super) fn request_ended(&mut self, ended: Result<DeciderInput, String>) {
        match ended {
            Ok(input) => {
                self.requested = None;
                self.drive(input);
            }
            Err(failure) => {
                self.emit(LauncherOutput::DiskFailed(failure));
                self.request_again = true;
            }
        }
    }

    pub(super) fn written(&mut self, ended: Result<(), String>) {
        let published = matches!(self.requested, Some(DeciderOutput::Publish(_)));
        let input = if published { DeciderInput::Published } else { DeciderInput::Written };
        self.request_ended(ended.map(|()| input));
    }

    fn committed(&mut self, record: &Arc<RegistrationRecord>, changes: &[Change]) {
        self.announced = self.announced.max(record.revision);
        self.learn(record.clone());
        if !self.draining.is_empty() {
            self.refresh();
        }
        for change in changes {
            let text = tell(change, &self.configuration);
            let node = (!change.run.state.is_idle()).then_some(change.run.node.node);
            self.emit(LauncherOutput::Happened { service: change.instance.service.clone(), node, text });
        }
        self.announce();
        self.request_forces();
    }

    /// Tells everybody which database is committed; repeated, since any message may be lost.
    fn announce(&mut self) {
        let Some(revision) = self.decider.committed().map(|record| record.revision) else { return };
        self.announced_at = self.now();
        for peer in self.peers() {
            self.say(peer, RegistrationMessage::Committed { revision });
        }
    }

    pub(super) fn announce_again(&mut self) {
        if self.moment.open && self.now().since(self.announced_at) >= ANNOUNCE_AGAIN_MS {
            self.announce();
        }
    }

    /// A node without lease sends nothing; the commands are sent again when it has one, by whoever decides then.
    fn send_orders(&mut self, orders: Vec<Order>) {
        if !self.moment.open {
            return;
        }
        let Some(depoch) = self.decider.committed().map(|record| record.revision.term) else { return };
        let me = self.settings.me;
        let (mine, others): (Vec<Order>, Vec<Order>) = orders.into_iter().partition(|order| order.command.target == me);
        mine.into_iter().for_each(|order| self.take(depoch, order));
        for peer in self.peers() {
            let its = |order: &&Order| order.command.target.node == peer;
            let orders: Vec<Order> = others.iter().filter(its).cloned().collect();
            if !orders.is_empty() {
                self.say(peer, RegistrationMessage::Orders { depoch, orders });
            }
        }
    }

    /// Tells a new peer where the database is.
    pub(super) fn greet(&mut self, peer: NodeIncarnation) {
        if let Some(revision) = self.decider.committed().map(|record| record.revision) {
            self.say(peer.node, RegistrationMessage::Committed { revision });
        }
    }

    /// Protocol RL-8: as long as the need exists. The only member is not forced out unless it leaves.
    pub(super) fn request_forces(&mut self) {
        let Some(record) = self.decider.committed().cloned() else { return };
        let now = self.now();
        let victims = victims_of_failure(&record);
        if victims.is_empty() || now.since(self.forced_at) < FORCE_AGAIN_MS {
            return;
        }
        self.forced_at = now;
        for (victim, reason) in victims {
            if !is_only_member(&record.seen(), victim.node) {
                self.emit(LauncherOutput::Force { victim, reason });
            }
        }
    }
}
