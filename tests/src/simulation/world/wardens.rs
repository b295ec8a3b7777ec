//! The warden of each node: feeds on the daemon's words, reaps what is left of it, and speaks for the dead
//! (`phalanx_node::warden`). It can die or be stopped as its daemon can.

use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_messages::register::{NodeRegister, OwnState};

use super::{Event, World};
use crate::simulation::clock::{MS, Micros};
use crate::simulation::disk::Fate;
use crate::simulation::invariants;
use crate::simulation::process::ProcessEvent;

/// What happens to a warden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WardenEvent {
    /// It looks whether it was fed.
    Watches,
    /// Its daemon has ended.
    DaemonEnded,
    /// Everything of the node is gone.
    Reaped,
    /// The last word is on the disk.
    Wrote,
}

/// See the module.
#[derive(Debug)]
pub struct Warden {
    /// The daemon it has started.
    pub process: u64,
    /// Its events wait.
    pub stopped: bool,
    /// What happened meanwhile.
    pub deferred: Vec<WardenEvent>,
    fed: Micros,
    ending: bool,
    writing: bool,
}

impl World {
    pub(super) fn new_warden(&mut self, node: NodeId, process: u64) {
        let fed = self.now;
        if let Some(host) = self.hosts.get_mut(&node) {
            let (stopped, ending, writing) = (false, false, false);
            host.warden = Some(Warden { process, stopped, deferred: Vec::new(), fed, ending, writing });
        }
        self.plan_watch(node, process);
    }

    fn plan_watch(&mut self, node: NodeId, process: u64) {
        let at = self.now + self.setup.profile.watchdog_ms * MS / 4;
        self.queue.plan(at, Event::Warden(node, process, WardenEvent::Watches));
    }

    fn warden(&mut self, node: NodeId) -> Option<&mut Warden> {
        self.hosts.get_mut(&node)?.warden.as_mut()
    }

    /// The word waits in the pipe while the warden is stopped.
    pub(super) fn feed_warden(&mut self, node: NodeId) {
        let (now, process) = (self.now, self.process(node).map(|process| process.id));
        if let Some(warden) = self.warden(node).filter(|warden| Some(warden.process) == process) {
            warden.fed = now;
        }
    }

    pub(super) fn warden_event(&mut self, node: NodeId, process: u64, event: WardenEvent) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let Some(warden) = host.warden.as_mut().filter(|warden| warden.process == process) else { return };
        if warden.stopped {
            return warden.deferred.push(event);
        }
        if matches!(event, WardenEvent::Reaped | WardenEvent::Wrote) && host.stalled_until > now {
            return self.queue.plan(host.stalled_until + 1, Event::Warden(node, process, event));
        }
        match event {
            WardenEvent::Watches => self.watch(node, process),
            WardenEvent::DaemonEnded => self.reap(node, process),
            WardenEvent::Reaped => self.speak_for_the_dead(node, process),
            WardenEvent::Wrote => self.last_word_written(node),
        }
    }

    fn watch(&mut self, node: NodeId, process: u64) {
        let (now, period) = (self.now, self.setup.profile.watchdog_ms * MS);
        let leased = self.process(node).is_some_and(|process| process.lease.is_some());
        let Some(warden) = self.warden(node).filter(|warden| !warden.ending) else { return };
        if leased && now.saturating_sub(warden.fed) > period {
            self.coverage.reach("warden kills a daemon that does not feed it");
            self.die(node, "its warden was not fed");
        }
        self.plan_watch(node, process);
    }

    fn reap(&mut self, node: NodeId, process: u64) {
        let takes = self.random.between(MS, self.setup.weather.reap_max.max(2 * MS));
        let Some(warden) = self.warden(node) else { return };
        if !std::mem::replace(&mut warden.ending, true) {
            self.queue.plan(self.now + takes, Event::Warden(node, process, WardenEvent::Reaped));
        }
    }

    /// Only for its own start, and not for one that has left.
    fn speak_for_the_dead(&mut self, node: NodeId, process: u64) {
        self.reaped(node);
        let register = Arc::clone(self.disk.registers[&node].settled());
        let own = register.fence.daemon.start_ticks == process && register.boot == self.boot;
        if !own || register.own_state == OwnState::CleanDown {
            return self.warden_ends(node);
        }
        let word =
            NodeRegister { own_state: OwnState::DeadDrained, heartbeat: register.heartbeat + 1, ..(*register).clone() };
        self.begin_register_write(node, Arc::new(word), false);
        if let Some(warden) = self.warden(node) {
            warden.writing = true;
        }
        let takes = self.io_time();
        self.queue.plan(self.now + takes, Event::Warden(node, process, WardenEvent::Wrote));
    }

    fn last_word_written(&mut self, node: NodeId) {
        let failed = self.random.chance(self.setup.weather.write_error);
        let fate = if failed && self.random.coin() { Fate::Vanished } else { Fate::Landed };
        if let Some(cell) = self.disk.registers.get_mut(&node) {
            cell.end(fate);
        }
        self.log.event(self.now, Some(node), "dead and drained", &[], || format!("{fate:?}"));
        self.coverage.reach("dead and drained");
        self.warden_ends(node);
    }

    fn warden_ends(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.warden = None;
        }
        self.start_again(node);
    }

    fn start_again(&mut self, node: NodeId) {
        let at = self.now + self.random.between(10 * MS, self.setup.weather.restart_max.max(20 * MS));
        self.plan_start(node, at);
    }

    /// The warden itself is killed; what it was writing lands or not.
    pub(super) fn kill_warden(&mut self, node: NodeId, why: &'static str) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let Some(warden) = host.warden.take() else { return };
        self.log.event(self.now, Some(node), "warden dies", &[warden.process], || why.to_owned());
        if warden.writing {
            self.end_flight(node);
        }
        match self.process(node) {
            Some(_) => {
                // The daemon sees the end of its warden and is no longer fit; if it is stopped it lives on until it goes on.
                let at = self.now + MS;
                self.plan(node, at, ProcessEvent::WardenGone);
            }
            None => self.start_again(node),
        }
    }

    fn end_flight(&mut self, node: NodeId) {
        let fate = self.fate();
        if let Some(cell) = self.disk.registers.get_mut(&node) {
            cell.end(fate);
        }
    }

    fn fate(&mut self) -> Fate {
        if self.random.coin() { Fate::Landed } else { Fate::Vanished }
    }

    /// The node is no longer fit: the gate closes, the process ends, the warden does the rest.
    pub(super) fn panic(&mut self, node: NodeId, reason: &str) {
        self.log.event(self.now, Some(node), "panics", &[], || reason.to_owned());
        self.coverage.panicked(reason);
        self.die(node, "panic");
    }

    /// The boot has failed.
    pub(super) fn exit(&mut self, node: NodeId, reason: &'static str) {
        self.coverage.reach("a boot fails");
        self.die(node, reason);
    }

    /// The process of a node ends now, whatever it was doing. What it had given to the disk lands or vanishes, and nothing of it
    /// comes later (an mmap disk has no queue: protocol §1.3, `T_late` = 0).
    pub(super) fn die(&mut self, node: NodeId, why: &'static str) {
        if !self.end_process(node, why) {
            return;
        }
        match self.hosts.get(&node).and_then(|host| host.warden.as_ref()) {
            Some(warden) => {
                let process = warden.process;
                self.queue.plan(self.now + MS, Event::Warden(node, process, WardenEvent::DaemonEnded));
            }
            None => self.start_again(node),
        }
    }

    /// Every process of earlier starts of the node is gone, services included.
    pub(super) fn reaped(&mut self, node: NodeId) {
        let running = self.process(node).map(|process| process.me);
        for who in self.truth.services.starts_of(node) {
            if Some(who) != running {
                self.truth.services.reaped(who);
            }
        }
    }

    /// It has left, or was refused: the warden ends without a word.
    pub(super) fn leave_cleanly(&mut self, node: NodeId) {
        if let Some(me) = self.process(node).map(|process| process.me) {
            let found = invariants::r14_nothing_stays_behind::check(me, &self.truth.services);
            self.broken_all(found);
        }
        if self.end_process(node, "ended") {
            if let Some(host) = self.hosts.get_mut(&node) {
                host.warden = None;
            }
            self.start_again(node);
        }
    }

    fn end_process(&mut self, node: NodeId, why: &'static str) -> bool {
        self.cover_end_of(node);
        let Some(process) = self.hosts.get_mut(&node).and_then(|host| host.process.take()) else { return false };
        let me = process.me;
        if let Some(host) = self.hosts.get_mut(&node) {
            host.ended = Some((me, self.now));
        }
        self.log.event(self.now, Some(node), "dies", &[process.id, me.incarnation.0], || format!("{me}: {why}"));
        if process.lease.as_ref().is_some_and(|lease| lease.waits.is_some()) {
            self.end_flight(node);
        }
        let links = process.actors.iter().flat_map(|actors| actors.links.values()).copied().collect::<Vec<_>>();
        if process.actors.is_some() {
            let (membership, configuration, torn) = (self.fate(), self.fate(), self.random.coin());
            if let Some(cell) = self.disk.memberships.get_mut(&node) {
                cell.end(membership);
            }
            self.disk.end_configuration(node, configuration, torn);
            let (decision, registration) = (self.fate(), self.fate());
            if let Some(cell) = self.disk.decisions.get_mut(&node) {
                cell.end(decision);
            }
            if let Some(cell) = self.disk.registrations.get_mut(&node) {
                cell.end(registration);
            }
        }
        if process.data_in_flight && self.random.coin() {
            let found = self.truth.data_landed(me);
            self.broken_all(found);
        }
        for link in links {
            let due = self.network.close(link.connection, link.peer.node, self.now, &self.setup.weather);
            self.plan_arrivals(due);
        }
        self.truth.died(me);
        true
    }

    /// Processes that were stopped go on: first with what happened meanwhile.
    pub(super) fn go_on(&mut self, node: NodeId, process: Option<u64>, warden: Option<u64>) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        if let Some(running) = host.process.as_mut().filter(|running| Some(running.id) == process) {
            running.stopped = false;
            let id = running.id;
            for event in std::mem::take(&mut running.deferred) {
                self.queue.plan(self.now, Event::Process(node, id, event));
            }
        }
        if let Some(running) = host.warden.as_mut().filter(|running| Some(running.process) == warden) {
            running.stopped = false;
            let id = running.process;
            for event in std::mem::take(&mut running.deferred) {
                self.queue.plan(self.now, Event::Warden(node, id, event));
            }
        }
        self.log.event(self.now, Some(node), "goes on", &[], String::new);
    }
}
