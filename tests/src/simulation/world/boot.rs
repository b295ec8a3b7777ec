//! A node starts: lock, register, lease, then the actors (protocol §3.7; `phalanx_node::builder`).

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_messages::register::{Containment, FenceHandle, NodeRegister, OwnState, ProcessIdentity};
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation, Revision};
use phalanx_protocol::frm::Frm;
use phalanx_protocol::launcher::LauncherInput;
use phalanx_protocol::lease::{Lease, StallPolicy};
use phalanx_protocol::manager::{Manager, ManagerInput, ManagerSettings, TICK_MS};
use uuid::Uuid;

use super::{Event, Oddity, World};
use crate::simulation::clock::{MS, Micros};
use crate::simulation::process::subsystem::Subsystem;
use crate::simulation::process::{Actors, DiskThread, LeaseThread, Process, ProcessEvent};

impl World {
    /// Plans a start; one at a time.
    pub(in crate::simulation) fn plan_start(&mut self, node: NodeId, at: Micros) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        if !host.kept_down && !std::mem::replace(&mut host.start_planned, true) {
            self.queue.plan(at, Event::Start(node));
        }
    }

    /// Starts a node with something wrong.
    pub fn start_as(&mut self, node: NodeId, oddity: Oddity) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.oddity = oddity;
        }
        self.let_start(node);
    }

    /// The lock of the node id is free only if warden and daemon of the last start are dead; what is left of a start whose warden
    /// died is killed and counted first (3.7 step 0).
    pub(super) fn start(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        host.start_planned = false;
        if host.warden.is_some() || host.kept_down {
            return; // it runs, or is being drained
        }
        if host.process.is_some() {
            self.die(node, "left over from the last start");
        }
        self.reaped(node);
        let id = self.next_process_id();
        self.log.event(self.now, Some(node), "starts", &[id], String::new);
        if let Some(host) = self.hosts.get_mut(&node) {
            host.process = Some(Process::new(id, NodeIncarnation { node, incarnation: Incarnation(0) }));
        }
        self.new_warden(node, id);
        let takes = self.io_time() + self.io_time() + 5 * MS;
        self.plan(node, self.now + takes, ProcessEvent::Booted);
    }

    /// The register and the newest records are read: which start is this?
    pub(super) fn booted(&mut self, node: NodeId) {
        let Some(register) = self.disk.registers.get(&node) else { return };
        let before = Arc::clone(register.settled());
        let record = self.disk.newest_membership(&mut self.random);
        let entry = record.nodes.get(&node).map_or(Incarnation(0), |entry| entry.incarnation);
        let me = NodeIncarnation { node, incarnation: entry.max(before.incarnation).next() };
        let host = Uuid::from_u128(7);
        let Some(id) = self.process(node).map(|process| process.id) else { return };
        let first = NodeRegister {
            incarnation: me.incarnation,
            host,
            boot: self.boot,
            nonce: self.random.next(),
            own_state: OwnState::Booting,
            claim: Frm::new(node, me.incarnation, before.claim).claim(),
            fence: self.fence_handle(id),
            ..NodeRegister::default()
        };
        // An mmap disk has no deadline fencing, so a stall may be ridden through (protocol §4.7).
        let lease = Lease::new(me, self.setup.profile, StallPolicy::RideThrough, first);
        self.log.event(self.now, Some(node), "boots", &[me.incarnation.0], || format!("as {me}"));
        let found = self.truth.runs(me);
        self.broken_all(found);
        if let Some(process) = self.process_mut(node) {
            process.me = me;
            process.lease = Some(LeaseThread {
                lease,
                commands: Default::default(),
                waits: None,
                unanswered: 0,
                alarm: 0,
                fed_at: None,
                issued: Instant(0),
                read_begun: 0,
                owner_unreadable: false,
                lost: None,
                ended: false,
            });
        }
        self.lease_turn(node);
    }

    fn fence_handle(&self, process: u64) -> FenceHandle {
        let identity = ProcessIdentity { pid: 1, start_ticks: process };
        let containment = if self.setup.subreaper { Containment::Subreaper } else { Containment::None };
        FenceHandle { containment, warden: identity, daemon: identity, id_lock: String::new() }
    }

    /// The first cycle of the lease has ended: the rest of the node starts, or the boot has failed.
    pub(super) fn start_actors(&mut self, node: NodeId) {
        let record = self.disk.newest_membership(&mut self.random);
        let configuration =
            self.disk.find_configuration(record.configuration).or_else(|| self.disk.newest_configuration());
        let claim = self.disk.registers[&node].settled().claim;
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let Oddity { levels, other_boot } = self.hosts[&node].oddity.clone();
        let settings = ManagerSettings {
            me,
            boot: if other_boot { Uuid::max() } else { self.boot },
            one_host: true,
            profile: self.setup.profile,
            levels: levels.unwrap_or_else(|| self.setup.levels.clone()),
            public_key: [u8::try_from(node.0).unwrap_or(0) + 1; 32],
            nodes_max: self.setup.nodes,
            configuration: configuration.unwrap_or_default(),
            record,
        };
        let levels = self.setup.levels.iter().map(|level| (level.level, Subsystem::default()));
        let actors = Actors {
            manager: Manager::new(settings, claim),
            links: BTreeMap::new(),
            dialling: Vec::new(),
            disk: DiskThread::default(),
            searches: BTreeMap::new(),
            subsystems: levels.collect(),
            services: self.new_services(me),
            begun: BTreeMap::new(),
            seen: Revision::default(),
            ticked: self.clock(node),
            asked: 0,
            base: Revision::default(),
        };
        self.log.event(self.now, Some(node), "is up", &[me.incarnation.0], || me.to_string());
        if let Some(process) = self.process_mut(node) {
            process.actors = Some(Box::new(actors));
        }
        let now = self.clock(node);
        let valid = self.process(node).is_some_and(|process| process.gate.is_open_for(0, now));
        self.tell_manager(node, ManagerInput::LeaseChanged { valid });
        if let Some(configuration) = self.configuration_of(node) {
            self.tell_launcher(node, LauncherInput::Configuration(configuration));
        }
        self.plan_in_ms(node, TICK_MS, ProcessEvent::Tick);
        self.plan(node, self.now, ProcessEvent::LauncherTick);
        self.plan(node, self.now, ProcessEvent::ReportsAgain);
        self.plan(node, self.now, ProcessEvent::Beat);
        let soon = self.now + self.random.below(50 * MS);
        self.plan(node, soon, ProcessEvent::DataAsks);
    }
}
