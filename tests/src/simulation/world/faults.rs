//! Faults: what each does, and when the weather lets it happen. A script inflicts the same ones.

use phalanx_messages::NodeId;
use uuid::Uuid;

use super::{Event, World};
use crate::simulation::clock::{MS, Micros, SECOND};
use crate::simulation::process::Link;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The daemon dies.
    Crash(NodeId),
    /// The warden dies.
    CrashWarden(NodeId),
    /// Both die at once.
    CrashBoth(NodeId),
    /// Processes are stopped, and go on later.
    Freeze {
        /// Whose.
        node: NodeId,
        /// The daemon is.
        daemon: bool,
        /// The warden is.
        warden: bool,
        /// For so long.
        lasts: Micros,
    },
    /// Disk operations of one node do not end for a while.
    Stall(NodeId, Micros),
    /// Everybody's.
    StallAll(Micros),
    /// The connection between two nodes breaks.
    Reset(NodeId, NodeId),
    /// Nothing passes in these directions for a while.
    Cut(Vec<(NodeId, NodeId)>, Micros),
    /// The host loses power.
    PowerLoss,
    /// A node is asked to leave.
    Leave(NodeId),
    /// A node is fenced by hand.
    Fence(NodeId),
    /// The configuration is changed.
    Change,
    /// Something is ordered of a service.
    Order,
    /// An event that a node watches for occurs.
    Occur(NodeId),
}

/// The weather is asked this often.
const STORM_EVERY: Micros = 100 * MS;

impl World {
    /// A fault happens now.
    pub fn inflict(&mut self, fault: Fault) {
        self.log.event(self.now, None, "FAULT", &[], || format!("{fault:?}"));
        match fault {
            Fault::Crash(node) => self.die(node, "crash"),
            Fault::CrashWarden(node) => self.kill_warden(node, "crash"),
            Fault::CrashBoth(node) => {
                self.kill_warden(node, "crash");
                self.die(node, "crash");
            }
            Fault::Freeze { node, daemon, warden, lasts } => self.freeze(node, daemon, warden, lasts),
            Fault::Stall(node, lasts) => {
                if let Some(host) = self.hosts.get_mut(&node) {
                    host.stalled_until = host.stalled_until.max(self.now + lasts);
                }
            }
            Fault::StallAll(lasts) => {
                for host in self.hosts.values_mut() {
                    host.stalled_until = host.stalled_until.max(self.now + lasts);
                }
            }
            Fault::Reset(one, other) => self.reset(one, other),
            Fault::Cut(directions, lasts) => {
                for (from, to) in directions {
                    self.network.cut(from, to);
                    self.queue.plan(self.now + lasts, Event::Mend(from, to));
                }
            }
            Fault::PowerLoss => self.lose_power(),
            Fault::Leave(node) => self.ask_to_leave(node),
            Fault::Fence(node) => self.fence_by_hand(node),
            Fault::Change => self.change_configuration(),
            Fault::Order => self.order_something(),
            Fault::Occur(node) => self.something_occurs(node),
        }
    }

    fn freeze(&mut self, node: NodeId, daemon: bool, warden: bool, lasts: Micros) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let process = host.process.as_mut().filter(|process| daemon && !process.stopped).map(|process| {
            process.stopped = true;
            process.stops += 1;
            process.id
        });
        let warden = host.warden.as_mut().filter(|guard| warden && !guard.stopped).map(|guard| {
            guard.stopped = true;
            guard.process
        });
        if process.is_some() || warden.is_some() {
            self.queue.plan(self.now + lasts, Event::Go { node, process, warden });
        }
    }

    fn reset(&mut self, one: NodeId, other: NodeId) {
        let link = self.actors(one).and_then(|actors| actors.links.get(&other)).copied();
        if let Some(link @ Link { .. }) = link {
            self.close_link(one, link);
        }
    }

    /// Every process of the host is gone in the same moment, and what was only in memory.
    fn lose_power(&mut self) {
        self.coverage.reach("power lost");
        for node in self.node_ids() {
            self.kill_warden(node, "power lost");
            self.die(node, "power lost");
        }
        self.disk.lose_power(&mut self.random);
        self.boot = Uuid::from_u128(self.boot.as_u128() + 1);
        let newest = self.disk.memberships.values().map(|cell| cell.settled().revision).max().unwrap_or_default();
        self.truth.power_lost(newest);
        let newest = self.disk.registrations.values().map(|cell| cell.settled().revision).max().unwrap_or_default();
        self.truth.services.power_lost(newest);
    }

    /// What the weather brings within the next moments.
    pub(super) fn storm(&mut self) {
        self.queue.plan(self.now + STORM_EVERY, Event::Storm);
        for node in self.node_ids() {
            self.storm_on_node(node);
        }
        let weather = self.setup.weather.clone();
        if self.strikes(weather.stall_all) {
            let lasts = self.random.magnitude(50 * MS, weather.stall_max);
            self.strike(Fault::StallAll(lasts));
        }
        if self.strikes(weather.partition) {
            self.partition(weather.cut_max);
        }
        if self.strikes(weather.power_loss) {
            self.strike(Fault::PowerLoss);
        }
        if self.strikes(weather.change) {
            self.strike(Fault::Change);
        }
        if self.strikes(weather.order) {
            self.strike(Fault::Order);
        }
    }

    fn storm_on_node(&mut self, node: NodeId) {
        let weather = self.setup.weather.clone();
        let other = |world: &mut Self| {
            let others: Vec<NodeId> = world.node_ids().into_iter().filter(|other| *other != node).collect();
            world.random.pick(&others).copied().unwrap_or(node)
        };
        if self.strikes(weather.crash) {
            self.strike(Fault::Crash(node));
        }
        if self.strikes(weather.warden_crash) {
            let fault = if self.random.coin() { Fault::CrashBoth(node) } else { Fault::CrashWarden(node) };
            self.strike(fault);
        }
        if self.strikes(weather.freeze) {
            let (daemon, warden) =
                *self.random.pick(&[(true, false), (true, true), (false, true)]).unwrap_or(&(true, true));
            let lasts = self.random.magnitude(10 * MS, weather.freeze_max);
            self.strike(Fault::Freeze { node, daemon, warden, lasts });
        }
        if self.strikes(weather.stall) {
            let lasts = self.random.magnitude(50 * MS, weather.stall_max);
            self.strike(Fault::Stall(node, lasts));
        }
        if self.strikes(weather.reset) {
            let other = other(self);
            self.strike(Fault::Reset(node, other));
        }
        if self.strikes(weather.clog) {
            let (other, lasts) = (other(self), self.random.magnitude(100 * MS, weather.cut_max));
            self.strike(Fault::Cut(vec![(node, other)], lasts));
        }
        if self.strikes(weather.leave) {
            self.strike(Fault::Leave(node));
        }
        if self.strikes(weather.fence) {
            self.strike(Fault::Fence(node));
        }
        if self.strikes(weather.occur) {
            self.strike(Fault::Occur(node));
        }
    }

    /// A rate per second, asked every [`STORM_EVERY`].
    const fn strikes(&mut self, per_thousand_seconds: u64) -> bool {
        self.random.below(1_000 * SECOND / STORM_EVERY) < per_thousand_seconds
    }

    /// At any moment until the weather is asked again.
    fn strike(&mut self, fault: Fault) {
        let at = self.now + self.random.below(STORM_EVERY);
        self.queue.plan(at, Event::Inflict(fault));
    }

    /// A random split, one node alone, one direction, some edges, or all nodes one after the other.
    fn partition(&mut self, cut_max: Micros) {
        let nodes = self.node_ids();
        let lasts = self.random.magnitude(500 * MS, cut_max);
        let kind = self.random.below(5);
        let Some(lonely) = self.random.pick(&nodes).copied() else { return };
        let sides = self.random.next();
        let mut directions = Vec::new();
        for (from, to) in nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to))) {
            let is_cut = match kind {
                0 => (sides >> from.0 & 1) != (sides >> to.0 & 1),
                1 => from == lonely || to == lonely,
                2 => from == lonely,
                3 => from < to && self.random.chance(300),
                _ => false,
            };
            if from != to && is_cut {
                directions.push((from, to));
                if kind == 3 {
                    directions.push((to, from));
                }
            }
        }
        if kind < 4 {
            return self.strike(Fault::Cut(directions, lasts));
        }
        for node in &nodes {
            let all = nodes.iter().filter(|other| *other != node).flat_map(|other| [(*node, *other), (*other, *node)]);
            let lasts = self.random.magnitude(100 * MS, cut_max);
            self.strike(Fault::Cut(all.collect(), lasts));
        }
    }

    /// The faults end: what is cut is mended, what is stopped goes on, everybody is started again.
    pub fn end_the_storm(&mut self) {
        self.storming = false;
        self.setup.weather = self.setup.weather.after_the_storm();
        self.log.event(self.now, None, "the storm ends", &[], String::new);
        let due = self.network.mend_all(self.now, &self.setup.weather);
        self.plan_arrivals(due);
        for node in self.node_ids() {
            let Some(host) = self.hosts.get_mut(&node) else { continue };
            host.stalled_until = self.now;
            host.kept_down = false;
            let process = host.process.as_ref().filter(|process| process.stopped).map(|process| process.id);
            let warden = host.warden.as_ref().filter(|warden| warden.stopped).map(|warden| warden.process);
            self.go_on(node, process, warden);
            self.plan_start(node, self.now);
        }
    }
}
