//! What all nodes of a simulated cluster share: the journal of everything that happened, and who lives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use phalanx_messages::NodeIncarnation;
use phalanx_messages::launch::Action;
use phalanx_messages::notification::TransitionNotice;
use phalanx_node::builder::NodeHandle;
use phalanx_storage::{ClusterDisk, Recorder};

use super::options::{Hosts, Keys, Options};
use super::watchdog::SimulatedWatchdog;
use crate::draw::Draw;
use crate::order_checker::{Kind, Line};
use phalanx_messages::membership::TransitionKind;

/// Something that happened on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Its process runs.
    Started,
    /// It has joined.
    Joined,
    /// Its membership has ended without a panic.
    Ended(String),
    /// It panicked, for this reason.
    Panicked(String),
    /// Its process and everything that it ran is gone.
    Dead,
    /// A subsystem began, or ended, a step.
    Step(Line),
    /// The warden ran a command of the service.
    Service(Served),
}

/// A command of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// What for.
    pub action: Action,
    /// The fencing token that it was given; 0 for a kill.
    pub generation: u128,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Simulated time in milliseconds.
    pub at_ms: u64,
    /// On which node.
    pub node: u16,
    /// What.
    pub what: Happened,
    /// Operations of the disk that had ended by then; 0 where they are not recorded.
    pub operations: usize,
}

/// See the module. Everything runs on one thread.
pub(super) struct Stage {
    /// The shared disk as each node reaches it.
    pub disks: BTreeMap<u16, ClusterDisk>,
    pub keys: Keys,
    pub hosts: Hosts,
    pub watchdogs: BTreeMap<u16, SimulatedWatchdog>,
    /// Of every node's host.
    pub boot: u128,
    /// What is done to the disk, if it is recorded.
    pub recorder: Option<Recorder>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    journal: Vec<Event>,
    /// Nodes whose process runs.
    alive: BTreeMap<u16, Option<NodeHandle>>,
    /// Nodes that must be killed: they panicked, or a survivor fences them.
    doomed: Vec<u16>,
    /// Where the service runs.
    serving: Vec<u16>,
    violations: Vec<String>,
    draws: BTreeMap<u16, Draw>,
}

impl Stage {
    pub fn new(
        keys: Keys,
        disks: BTreeMap<u16, ClusterDisk>,
        Options { hosts, boot, recorder, .. }: Options,
        seed: u64,
    ) -> Rc<Self> {
        let draws = disks.keys().map(|node| (*node, Draw::new(seed ^ u64::from(*node)))).collect();
        let inner = RefCell::new(Inner { draws, ..Inner::default() });
        let watchdogs = disks.keys().map(|node| (*node, SimulatedWatchdog::default())).collect();
        Rc::new(Self { disks, keys, hosts, watchdogs, boot, recorder, inner })
    }

    pub fn record(&self, node: u16, what: Happened) {
        let at_ms = turmoil::sim_elapsed().map_or(0, millis);
        self.record_at(at_ms, node, what);
    }

    pub fn record_at(&self, at_ms: u64, node: u16, what: Happened) {
        let operations = self.recorder.as_ref().map_or(0, Recorder::len);
        self.inner.borrow_mut().journal.push(Event { at_ms, node, what, operations });
    }

    /// Records one end of the processing of a notice, in an order that no two lines share.
    pub fn record_step(&self, node: u16, notice: &TransitionNotice, ended: bool) {
        let count = self.inner.borrow().journal.len();
        let at_ms = turmoil::sim_elapsed().map_or(0, millis);
        let line = Line {
            at_ns: u128::from(at_ms) * 1_000_000 + count as u128,
            node: format!("n{node}"),
            level: notice.id.level.0,
            kind: match notice.kind {
                TransitionKind::Joining | TransitionKind::JoinExtending => Kind::Joining,
                TransitionKind::Leaving => Kind::Leaving,
                TransitionKind::ForcedLeaving => Kind::ForcedLeaving,
            },
            subject: format!("n{}", notice.node),
            incarnation: notice.incarnation.0,
            transition: (notice.id.transition.term.0, notice.id.transition.counter),
            barrier: notice.id.barrier,
            restart: notice.id.restart,
            ended,
        };
        self.record_at(at_ms, node, Happened::Step(line));
    }

    /// The service starts, stops or is recovered on a node.
    pub fn serve(&self, node: u16, served: Served) {
        self.record(node, Happened::Service(served));
        let action = served.action;
        let mut inner = self.inner.borrow_mut();
        match action {
            Action::Start => {
                let others: Vec<u16> = inner.serving.iter().copied().filter(|other| *other != node).collect();
                if !others.is_empty() {
                    inner.violations.push(format!("n{node} starts the service while {others:?} run it"));
                }
                inner.serving.push(node);
            }
            Action::Stop => inner.serving.retain(|other| *other != node),
            Action::Notify | Action::Recovery | Action::Transition | Action::Watch => {}
        }
    }

    pub fn begin(&self, node: u16) {
        self.inner.borrow_mut().alive.insert(node, None);
    }

    pub fn runs(&self, node: u16, handle: NodeHandle) {
        self.record(node, Happened::Started);
        self.inner.borrow_mut().alive.insert(node, Some(handle));
    }

    pub fn is_alive(&self, node: u16) -> bool {
        self.inner.borrow().alive.contains_key(&node)
    }

    pub fn handle(&self, node: u16) -> Option<NodeHandle> {
        self.inner.borrow().alive.get(&node).cloned().flatten()
    }

    /// The incarnation that runs, if one does.
    pub fn incarnation(&self, node: u16) -> Option<NodeIncarnation> {
        self.handle(node).map(|handle| handle.me())
    }

    pub fn doom(&self, node: u16) {
        self.inner.borrow_mut().doomed.push(node);
    }

    pub fn take_doomed(&self) -> Vec<u16> {
        std::mem::take(&mut self.inner.borrow_mut().doomed)
    }

    pub fn died(&self, at_ms: u64, node: u16) {
        self.record_at(at_ms, node, Happened::Dead);
        let mut inner = self.inner.borrow_mut();
        inner.alive.remove(&node);
        inner.serving.retain(|other| *other != node);
    }

    /// How long a subsystem of this node takes for its next step.
    pub fn draw_ms(&self, node: u16) -> u64 {
        let mut inner = self.inner.borrow_mut();
        let drawn = inner.draws.get_mut(&node).map_or(0, |draw| draw.below(20));
        u64::try_from(drawn).unwrap_or(0) + 1
    }

    pub fn journal(&self) -> Vec<Event> {
        self.inner.borrow().journal.clone()
    }

    pub fn journal_has(&self, mut wanted: impl FnMut(&Event) -> bool) -> bool {
        self.inner.borrow().journal.iter().any(&mut wanted)
    }

    pub fn serving(&self) -> Vec<u16> {
        self.inner.borrow().serving.clone()
    }

    pub fn violations(&self) -> Vec<String> {
        self.inner.borrow().violations.clone()
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
