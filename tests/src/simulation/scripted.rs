//! Stories told on the simulated world: no weather, only what the script does.
//!
//! ```
//! use phalanx_tests::simulation::scripted::Story;
//!
//! let mut story = Story::of(3);
//! story.all_join();
//! story.kill(2);
//! story.until("node 2 is out", 20_000, |story| story.state(2) == "inactive");
//! ```

use std::sync::Arc;

use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::{Incarnation, NodeId, Term};

use super::clock::MS;
use super::world::{Fault, Setup, World};

/// Longest time that [`Story::all_join`] waits, in milliseconds.
const JOIN_MS: u64 = 30_000;
/// A condition is looked at this often.
const LOOK_MS: u64 = 5;
/// Lines of the log that a failure shows.
const TAIL: usize = 60;

/// See the module. Nodes are named by number; times are milliseconds of true time.
#[derive(Debug)]
pub struct Story {
    /// The world.
    pub world: World,
}

impl Story {
    /// That many nodes, none of them started.
    #[must_use]
    pub fn of(nodes: u16) -> Self {
        Self::with(Setup::calm(nodes))
    }

    /// A world made otherwise.
    #[must_use]
    pub fn with(setup: Setup) -> Self {
        Self { world: World::new(setup) }
    }

    /// Starts every node and waits until all are joined.
    pub fn all_join(&mut self) {
        self.world.start_all();
        self.until("all nodes are joined", JOIN_MS, |story| story.world.unrest().is_none());
    }

    /// Starts a node, or lets it be started again after [`Story::kill`].
    pub fn start(&mut self, node: u16) {
        self.world.let_start(NodeId(node));
    }

    /// The daemon dies and its warden lives. It is not started again before [`Story::start`].
    pub fn kill(&mut self, node: u16) {
        self.world.keep_down(NodeId(node));
        self.world.inflict(Fault::Crash(NodeId(node)));
    }

    /// Daemon and warden die at once. They are not started again before [`Story::start`].
    pub fn kill_with_warden(&mut self, node: u16) {
        self.world.keep_down(NodeId(node));
        self.world.inflict(Fault::CrashBoth(NodeId(node)));
    }

    /// The administrator ends what is left of a dead node.
    pub fn clean_by_hand(&mut self, node: u16) {
        self.world.clean_by_hand(NodeId(node));
    }

    /// The daemon is stopped for that long; its warden is not.
    pub fn freeze(&mut self, node: u16, ms: u64) {
        self.world.inflict(Fault::Freeze { node: NodeId(node), daemon: true, warden: false, lasts: ms * MS });
    }

    /// Daemon and warden are stopped for that long.
    pub fn freeze_with_warden(&mut self, node: u16, ms: u64) {
        self.world.inflict(Fault::Freeze { node: NodeId(node), daemon: true, warden: true, lasts: ms * MS });
    }

    /// Disk operations of a node do not end for that long.
    pub fn stall(&mut self, node: u16, ms: u64) {
        self.world.inflict(Fault::Stall(NodeId(node), ms * MS));
    }

    /// Disk operations of nobody end for that long.
    pub fn stall_all(&mut self, ms: u64) {
        self.world.inflict(Fault::StallAll(ms * MS));
    }

    /// Nothing passes between the two, in both directions, until [`Story::heal`].
    pub fn cut(&mut self, one: u16, other: u16) {
        let (one, other) = (NodeId(one), NodeId(other));
        self.cut_directions(vec![(one, other), (other, one)]);
    }

    /// Nothing passes from the one to the other until [`Story::heal`].
    pub fn cut_one_way(&mut self, from: u16, to: u16) {
        self.cut_directions(vec![(NodeId(from), NodeId(to))]);
    }

    /// Nothing passes between these nodes and all others until [`Story::heal`].
    pub fn split_off(&mut self, side: &[u16]) {
        let on_side = |node: &NodeId| side.contains(&node.0);
        let (here, there): (Vec<NodeId>, Vec<NodeId>) = self.world.node_ids().into_iter().partition(on_side);
        let pairs = here.iter().flat_map(|one| there.iter().map(move |other| (*one, *other)));
        self.cut_directions(pairs.flat_map(|(one, other)| [(one, other), (other, one)]).collect());
    }

    fn cut_directions(&mut self, directions: Vec<(NodeId, NodeId)>) {
        self.world.inflict(Fault::Cut(directions, u64::MAX / 2));
    }

    /// Everything passes again.
    pub fn heal(&mut self) {
        self.world.mend_everything();
    }

    /// The connection between the two breaks once.
    pub fn reset(&mut self, one: u16, other: u16) {
        self.world.inflict(Fault::Reset(NodeId(one), NodeId(other)));
    }

    /// The host loses power. Every node is started again a while later.
    pub fn lose_power(&mut self) {
        self.world.inflict(Fault::PowerLoss);
    }

    /// An administrator orders that a node be forced out although it lives.
    pub fn fence(&mut self, node: u16) {
        self.world.inflict(Fault::Fence(NodeId(node)));
    }

    /// A node is asked to leave gracefully, and is not started again before [`Story::start`].
    pub fn leave(&mut self, node: u16) {
        self.world.keep_down(NodeId(node));
        self.world.inflict(Fault::Leave(NodeId(node)));
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.world.now() + ms * MS;
        self.world.run_to(until);
        self.check();
    }

    /// Lets time pass until the condition holds; true time at which it did, in milliseconds since now.
    ///
    /// # Panics
    /// If an invariant is broken, or `within_ms` have passed.
    pub fn until(&mut self, what: &str, within_ms: u64, holds: impl Fn(&Self) -> bool) -> u64 {
        let begun = self.world.now();
        loop {
            let passed = (self.world.now() - begun) / MS;
            if holds(self) {
                return passed;
            }
            assert!(passed < within_ms, "after {within_ms} ms not true that {what}\n{}", self.tail());
            self.run_for(LOOK_MS);
        }
    }

    fn check(&self) {
        if let Some(violation) = &self.world.violation {
            panic!("{violation}\n{}", self.tail());
        }
    }

    fn tail(&self) -> String {
        let lines = self.world.log.lines();
        let last = &lines[lines.len().saturating_sub(TAIL)..];
        last.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The newest committed record.
    #[must_use]
    pub fn record(&self) -> Arc<MembershipRecord> {
        self.world.newest_record()
    }

    /// State of a node in the newest committed record.
    #[must_use]
    pub fn state(&self, node: u16) -> &'static str {
        self.record().nodes.get(&NodeId(node)).map_or(NodeState::Inactive, |entry| entry.state).text()
    }

    /// Incarnation of a node in the newest committed record.
    #[must_use]
    pub fn incarnation(&self, node: u16) -> Incarnation {
        self.record().nodes.get(&NodeId(node)).map_or(Incarnation(0), |entry| entry.incarnation)
    }

    /// The term of the newest committed record.
    #[must_use]
    pub fn term(&self) -> Term {
        self.record().revision.term
    }

    /// Who leads with a valid lease.
    #[must_use]
    pub fn master(&self) -> Option<u16> {
        self.world.masters().first().map(|node| node.0)
    }

    /// The daemon of a node runs, stopped or not.
    #[must_use]
    pub fn runs(&self, node: u16) -> bool {
        self.world.process_runs(NodeId(node))
    }

    /// Everything is at rest: all configured nodes that are not kept down are joined, nobody else is, and all agree.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.world.unrest().is_none()
    }

    /// Lines of the log that contain the text.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.world.log.lines().iter().filter(|line| line.text.contains(text)).count()
    }
}
