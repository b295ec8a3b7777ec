//! Who is at the event-manager level: deaths, their proofs, forced steps, new starts.

use phalanx_messages::{Incarnation, NodeId, NodeIncarnation, Term};
use phalanx_protocol::launcher::LauncherInput;
use phalanx_protocol::registration::{LeaseSigns, SightChange, Standing};

use super::node::Node;
use super::{LauncherCluster, Step};

impl LauncherCluster {
    /// All nodes form a cluster together.
    pub(super) fn form(&mut self, count: u16) {
        for node in (0..count).map(NodeId) {
            let me = NodeIncarnation { node, incarnation: Incarnation(1) };
            self.starts.insert(node, me);
            self.nodes.insert(node, Node::new(me, &self.disk));
        }
        for node in (0..count).map(NodeId) {
            self.give_later(node, LauncherInput::Configuration(self.configuration.clone()));
            self.adopt(node, true, self.standings());
        }
    }

    fn standings(&self) -> Vec<(NodeIncarnation, Standing)> {
        let standing = |who: &NodeIncarnation| {
            let standing = if self.dead.contains(who) { Standing::Absent } else { Standing::Joined };
            (*who, standing)
        };
        self.starts.values().map(standing).collect()
    }

    fn adopt(&mut self, node: NodeId, joining: bool, standings: Vec<(NodeIncarnation, Standing)>) {
        self.last_change += 1;
        let change = self.last_change;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.adopting.insert(change);
        }
        let sights = SightChange { joining, draining: false, formation: Term(1), standings };
        self.give_later(node, LauncherInput::Adopt { change, sights });
    }

    fn everybody_adopts(&mut self, standing: (NodeIncarnation, Standing)) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.adopt(node, false, vec![standing]));
    }

    /// The newest start of a node.
    #[must_use]
    pub fn start_of(&self, node: u16) -> NodeIncarnation {
        self.starts[&NodeId(node)]
    }

    /// A daemon dies with whatever it had not done yet. What it has sent is on its way; nobody knows of its death.
    ///
    /// # Panics
    /// If it is dead.
    pub fn crash(&mut self, node: u16) {
        let who = self.nodes.remove(&NodeId(node)).expect("it lives").me;
        self.steps.retain(|step| step.of() != who);
        self.frozen.remove(&who);
        let theirs = |(counter, asked_at): (&u64, &NodeIncarnation)| (*asked_at == who).then_some(*counter);
        let unanswered: Vec<u64> = self.asked_at.iter().filter_map(theirs).collect();
        for counter in unanswered {
            self.answers.entry(counter).or_insert(Ok(())); // nobody waits for it any more
        }
    }

    /// What that node ran is killed, everybody knows that it is certainly dead, and its forced step reaches the level.
    ///
    /// # Panics
    /// If it lives.
    pub fn force_out(&mut self, node: u16) {
        self.prove_dead(node);
        self.everybody_adopts((self.start_of(node), Standing::Forced));
    }

    /// What that node ran is killed, and everybody knows that it is certainly dead.
    ///
    /// # Panics
    /// If it lives.
    pub fn prove_dead(&mut self, node: u16) {
        let who = self.start_of(node);
        assert!(!self.nodes.contains_key(&who.node), "{who} lives");
        self.truth.reaped(who);
        self.dead.insert(who);
        self.tell_leases();
    }

    /// The leases of a node that lives count as ended.
    pub fn expire(&mut self, node: u16) {
        let expired = [NodeId(node)].into_iter().collect();
        let signs = LeaseSigns { expired, dead: self.dead.clone(), gone: Vec::new() };
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| other.0 != node).collect();
        others.into_iter().for_each(|other| self.give_later(other, LauncherInput::Leases(signs.clone())));
    }

    fn tell_leases(&mut self) {
        let gone = self.starts.values().filter(|who| self.dead.contains(who)).map(|who| who.node).collect();
        let signs = LeaseSigns { expired: gone, dead: self.dead.clone(), gone: Vec::new() };
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.give_later(node, LauncherInput::Leases(signs.clone())));
    }

    /// A node that was forced out starts again and joins.
    ///
    /// # Panics
    /// If it lives.
    pub fn restart(&mut self, node: u16) {
        let before = self.start_of(node);
        assert!(self.dead.contains(&before), "{before} lives");
        let me = NodeIncarnation { node: before.node, incarnation: before.incarnation.next() };
        self.starts.insert(me.node, me);
        self.nodes.insert(me.node, Node::new(me, &self.disk));
        self.give_later(me.node, LauncherInput::Configuration(self.configuration.clone()));
        self.tell_leases();
        self.adopt(me.node, true, self.standings());
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|other| *other != me.node).collect();
        others.into_iter().for_each(|other| self.adopt(other, false, vec![(me, Standing::Joined)]));
    }

    /// The daemon of a node is stopped; what it was about to do waits.
    pub fn freeze(&mut self, node: u16) {
        let who = self.start_of(node);
        self.frozen.entry(who).or_default();
    }

    /// It goes on where it was.
    pub fn thaw(&mut self, node: u16) {
        let waiting = self.frozen.remove(&self.start_of(node)).unwrap_or_default();
        for step in waiting.into_iter().rev() {
            self.steps.push_front(step);
        }
    }

    /// The actors of a node's services begin anew: what its warden knows is all that is known of their commands.
    pub fn forget_executors(&mut self, node: u16) {
        if let Some(node) = self.nodes.get_mut(&NodeId(node)) {
            node.executors.clear();
        }
    }

    pub(super) fn give_later(&mut self, node: NodeId, input: LauncherInput) {
        if let Some(to) = self.nodes.get(&node).map(|node| node.me) {
            self.steps.push_back(Step::Give { to, input });
        }
    }
}
