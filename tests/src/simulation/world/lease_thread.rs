//! The lease thread: carries the outputs of the lease machine out, as `phalanx_actors::lease_thread` does. Its I/O blocks it, so
//! what others ask of it meanwhile waits.

use std::sync::Arc;

use phalanx_messages::register::NodeRegister;
use phalanx_messages::{Instant, NodeId};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::lease::{Lease, LeaseInput, LeaseOutput, OwnerRecord};
use phalanx_protocol::manager::ManagerInput;

use super::World;
use crate::simulation::clock::MS;
use crate::simulation::disk::Fate;
use crate::simulation::process::{LeaseCommand, LeaseThread, LeaseWait, ProcessEvent};
use crate::simulation::watched::Before;

impl World {
    fn lease(&mut self, node: NodeId) -> Option<&mut LeaseThread> {
        self.process_mut(node)?.lease.as_mut().filter(|lease| !lease.ended)
    }

    /// Somebody asks the lease thread.
    pub(super) fn ask_lease(&mut self, node: NodeId, command: LeaseCommand) {
        if let Some(lease) = self.lease(node) {
            lease.commands.push_back(command);
        }
        self.lease_turn(node);
    }

    pub(super) fn lease_wakes(&mut self, node: NodeId, alarm: u64) {
        if self.lease(node).is_some_and(|lease| lease.alarm == alarm) {
            self.lease_turn(node);
        }
    }

    /// One turn of its loop for each command, or one if there is none. Nothing while it is blocked.
    pub(super) fn lease_turn(&mut self, node: NodeId) {
        loop {
            let Some(lease) = self.lease(node).filter(|lease| lease.waits.is_none()) else { return };
            let command = lease.commands.pop_front();
            let more = !lease.commands.is_empty();
            if let Some(command) = command {
                self.lease_command(node, command);
            }
            self.lease_tick(node);
            if !more {
                break;
            }
        }
        self.set_lease_alarm(node);
    }

    fn lease_command(&mut self, node: NodeId, command: LeaseCommand) {
        let now = self.clock(node);
        match command {
            LeaseCommand::Publish(publication, answered) => {
                if let Some(lease) = self.lease(node) {
                    lease.unanswered += usize::from(answered);
                }
                self.lease_step(node, LeaseInput::Publish { now, publication });
            }
            LeaseCommand::RenewNow => self.lease_step(node, LeaseInput::RenewNow { now }),
            LeaseCommand::Stop(state) => self.lease_step(node, LeaseInput::Stop { now, final_state: Some(state) }),
        }
    }

    fn lease_tick(&mut self, node: NodeId) {
        if self.lease(node).is_none_or(|lease| lease.waits.is_some()) {
            return;
        }
        let now = self.clock(node);
        let actors = self.process(node).and_then(|process| process.actors.as_ref());
        let alive = actors.is_none_or(|actors| now.since(actors.ticked) < 2 * self.setup.profile.renewal_ms);
        self.lease_step(node, LeaseInput::Tick { now, alive });
        let feed_ms = self.setup.profile.feed_ms();
        let Some(lease) = self.lease(node) else { return };
        if lease.fed_at.is_none_or(|fed| now.since(fed) >= feed_ms) {
            lease.fed_at = Some(now);
            if lease.lease.may_feed(now) {
                self.feed_warden(node);
            }
        }
    }

    fn set_lease_alarm(&mut self, node: NodeId) {
        let (now, feed_ms) = (self.clock(node), self.setup.profile.feed_ms());
        let Some(lease) = self.lease(node).filter(|lease| lease.waits.is_none()) else { return };
        lease.alarm += 1;
        let alarm = lease.alarm;
        let feed = lease.fed_at.unwrap_or(now).plus(feed_ms);
        let pause_ms = lease.lease.due().min(feed).since(now).max(1);
        self.plan_in_ms(node, pause_ms, ProcessEvent::LeaseWakes(alarm));
    }

    fn lease_step(&mut self, node: NodeId, input: LeaseInput<'_>) {
        let shown = self.log.shows_machines();
        let Some(lease) = self.lease(node) else { return };
        let before = shown.then(|| Before::of(&input, &lease.lease));
        let outputs = lease.lease.step(input);
        let seen = before.map(|before| before.after("lease", &outputs, &lease.lease));
        self.log.machine_step(self.now, node, seen.unwrap_or_default());
        for output in outputs {
            self.lease_output(node, output);
        }
    }

    fn lease_output(&mut self, node: NodeId, output: LeaseOutput) {
        match output {
            LeaseOutput::Write { register, durable } => self.write_register(node, register, durable),
            LeaseOutput::Read => self.begin_lease_reading(node),
            LeaseOutput::Valid { until } => {
                self.log.event(self.now, Some(node), "lease valid", &[until.0], String::new);
                self.lease_extended(node, until);
                self.master_changed();
                self.tell_manager(node, ManagerInput::LeaseChanged { valid: true });
            }
            LeaseOutput::Extended { until } => self.lease_extended(node, until),
            LeaseOutput::Late => {}
            LeaseOutput::Lost => {
                self.log.event(self.now, Some(node), "lease lost", &[], String::new);
                self.coverage.reach("lease lost");
                let now = self.clock(node);
                if let Some(lease) = self.lease(node) {
                    lease.lost = Some(now);
                }
                if let Some(process) = self.process_mut(node) {
                    process.gate.expiry = Instant(0);
                }
                self.tell_manager(node, ManagerInput::LeaseChanged { valid: false });
            }
            LeaseOutput::Panic { reason } => self.panic(node, &reason),
            LeaseOutput::Stopped => {
                if let Some(process) = self.process_mut(node) {
                    process.gate.expiry = Instant(0);
                    if let Some(lease) = &mut process.lease {
                        lease.ended = true;
                    }
                }
                self.tell_manager(node, ManagerInput::LeaseStopped);
            }
        }
    }

    /// What a renewal that counts must not have seen or missed (protocol §3.3, L-1 to L-5).
    fn lease_extended(&mut self, node: NodeId, until: Instant) {
        let (now, lease_ms) = (self.clock(node), self.setup.profile.lease_ms);
        let Some(process) = self.process(node) else { return };
        let Some(lease) = &process.lease else { return };
        let (me, expiry) = (process.me, process.gate.expiry);
        let found = [
            (expiry != Instant(0) && now > expiry, "L-1: the renewal ended after the lease"),
            (lease.lost.is_some_and(|lost| lease.issued < lost), "L-1: the renewal began before the lease was lost"),
            (
                self.truth.marked_at(me).is_some_and(|marked| marked < lease.read_begun),
                "L-3: the renewal has read the mark",
            ),
            (lease.owner_unreadable, "L-4: the owner of the term could not be read"),
            (until > lease.issued.plus(lease_ms), "L-5: the lease outlives the issue of its write by more than L"),
        ];
        for (_, text) in found.into_iter().filter(|(broken, _)| *broken) {
            self.broken(format!("{text}, and it counts for {me}"));
        }
        if let Some(process) = self.process_mut(node) {
            process.gate.expiry = until;
        }
    }

    fn write_register(&mut self, node: NodeId, register: Box<NodeRegister>, durable: bool) {
        let now = self.clock(node);
        let Some(lease) = self.lease(node) else { return };
        (lease.waits, lease.issued) = (Some(LeaseWait::Write), now);
        self.begin_register_write(node, Arc::new(*register), durable);
        let takes = self.io_time();
        self.plan(node, self.now + takes, ProcessEvent::LeaseDone);
    }

    /// Any writer of a register: the lease thread, or the warden of a dead node.
    pub(super) fn begin_register_write(&mut self, node: NodeId, register: Arc<NodeRegister>, durable: bool) {
        self.log.event(self.now, Some(node), "writes register", &[register.heartbeat], || {
            let NodeRegister { heartbeat, own_state, claim, hears, round, announced_round, .. } = &*register;
            let claim = format!("{:?} {}/{}", claim.phase, claim.term, claim.owned);
            format!("{heartbeat} {own_state:?} {claim} hears {hears:?} rounds {round}/{announced_round}")
        });
        let found = self.truth.register_written(node, &register, self.disk.registers[&node].settled());
        self.broken_all(found);
        if let Some(cell) = self.disk.registers.get_mut(&node) {
            cell.begin(register, durable);
        }
    }

    fn begin_lease_reading(&mut self, node: NodeId) {
        let (begun, read_begun) = (self.clock(node), self.now);
        let sampled = self.sample_some_registers();
        if let Some(lease) = self.lease(node) {
            lease.read_begun = read_begun;
            lease.waits = Some(LeaseWait::Read { begun, sampled });
        }
        let takes = self.io_time();
        self.plan(node, self.now + takes, ProcessEvent::LeaseDone);
    }

    pub(super) fn lease_done(&mut self, node: NodeId) {
        match self.lease(node).and_then(|lease| lease.waits.take()) {
            Some(LeaseWait::Write) => self.register_write_ended(node),
            Some(LeaseWait::Read { begun, sampled }) => self.lease_reading_ended(node, begun, sampled),
            None => return,
        }
        self.lease_turn(node);
    }

    fn register_write_ended(&mut self, node: NodeId) {
        let now = self.clock(node);
        let failed = self.random.chance(self.setup.weather.write_error);
        let fate = if failed && self.random.coin() { Fate::Vanished } else { Fate::Landed };
        if let Some(cell) = self.disk.registers.get_mut(&node) {
            cell.end(fate);
        }
        if failed {
            self.log.event(self.now, Some(node), "register write failed", &[], || format!("{fate:?}"));
            if !self.is_up(node) {
                return self.exit(node, "the first register cannot be written");
            }
            return self.lease_step(node, LeaseInput::WriteFailed { now });
        }
        let answered = self.lease(node).map_or(0, |lease| std::mem::take(&mut lease.unanswered));
        for _ in 0..answered {
            self.tell_manager(node, ManagerInput::ClaimPublished(Ok(())));
        }
        self.lease_step(node, LeaseInput::WriteCompleted { now });
    }

    fn lease_reading_ended(&mut self, node: NodeId, begun: Instant, sampled: crate::simulation::process::Sampled) {
        let ended = self.clock(node);
        if self.random.chance(self.setup.weather.read_error) {
            self.log.event(self.now, Some(node), "register read failed", &[], String::new);
            if !self.is_up(node) {
                return self.exit(node, "the registers cannot be read");
            }
            return self.lease_step(node, LeaseInput::ReadFailed { now: ended });
        }
        let registers = self.rest_of_registers(sampled);
        let owner = self.lease(node).and_then(|lease| lease.lease.owner_in(&registers));
        let record = owner.map(|(term, owner)| {
            let unreadable = self.random.chance(self.setup.weather.unreadable);
            let record = self.disk.memberships[&owner].read(&mut self.random);
            let wrote = Lease::owner_wrote(term, Some(&record));
            (!unreadable).then(|| if wrote { record } else { self.disk.newest_membership(&mut self.random) })
        });
        let owner_torn = owner.is_some_and(|(_, owner)| registers[&owner].is_none());
        if let Some(lease) = self.lease(node) {
            lease.owner_unreadable = owner_torn || matches!(record, Some(None));
        }
        let record = match &record {
            None => OwnerRecord::NoOwner,
            Some(Some(record)) => OwnerRecord::Read(record),
            Some(None) => OwnerRecord::Unreadable,
        };
        self.lease_step(node, LeaseInput::ReadCompleted { ended, registers: &registers, record });
        let still_there = self.lease(node).is_some();
        if still_there && !self.is_up(node) {
            self.start_actors(node);
        }
        let reading = Arc::new(RegistersReading { begun, ended, registers });
        self.tell_manager(node, ManagerInput::Registers(reading));
    }

    /// Through its mailbox: a moment later, in the order in which it was said.
    pub(super) fn tell_manager(&mut self, node: NodeId, input: ManagerInput) {
        let at = self.now + MS / 10;
        if self.is_up(node) {
            self.plan(node, at, ProcessEvent::Manager(Box::new(input)));
        }
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.process(node).is_some_and(|process| process.actors.is_some())
    }
}
