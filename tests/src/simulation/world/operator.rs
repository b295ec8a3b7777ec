//! The administrator: confirms deaths that nothing else proves (F5), asks nodes to leave, fences and configures.

use phalanx_messages::NodeId;
use phalanx_messages::configuration::{NodeChange, NodeSettings};
use phalanx_messages::peer::MasterRequest;
use phalanx_protocol::manager::ManagerInput;

use super::{Event, World};
use crate::simulation::clock::SECOND;

impl World {
    /// Once a second.
    pub(super) fn operate(&mut self) {
        self.queue.plan(self.now + SECOND, Event::Operator);
        for victim in self.truth.unproved_victims() {
            // Whoever confirms has looked: on a node that is certain to be dead.
            if self.truth.is_dead(victim) && self.random.chance(300) {
                self.ask_somebody(MasterRequest::ConfirmDead { victim, by: "operator".to_owned() });
            }
        }
    }

    /// Asks the master through any node.
    pub(super) fn ask_somebody(&mut self, request: MasterRequest) {
        let up: Vec<NodeId> = self.node_ids().into_iter().filter(|node| self.can_be_asked(*node)).collect();
        let Some(node) = self.random.pick(&up).copied() else { return };
        let Some(actors) = self.actors_mut(node) else { return };
        actors.asked += 1;
        let counter = actors.asked;
        self.log.event(self.now, Some(node), "is asked", &[counter], || format!("{request:?}"));
        self.manage(node, ManagerInput::Ask { counter, request });
    }

    pub(super) fn can_be_asked(&self, node: NodeId) -> bool {
        self.process(node).is_some_and(|process| process.actors.is_some() && !process.stopped)
    }

    pub(super) fn ask_to_leave(&mut self, node: NodeId) {
        if self.can_be_asked(node) {
            self.log.event(self.now, Some(node), "is asked to leave", &[], String::new);
            if let Some(process) = self.process_mut(node) {
                process.leaving = true;
            }
            self.manage(node, ManagerInput::Leave(node));
        }
    }

    /// A subsystem or a service of that node cannot let go: its node is to be forced out (protocol T-24, RL-8).
    pub fn cannot_let_go(&mut self, node: NodeId) {
        let Some(victim) = self.running(node) else { return };
        let reason = "it cannot let go of a service".to_owned();
        self.manage(node, ManagerInput::Force { victim, reason });
    }

    /// The administrator ends what a dead node has left running.
    pub fn clean_by_hand(&mut self, node: NodeId) {
        self.log.event(self.now, Some(node), "is cleaned by hand", &[], String::new);
        self.reaped(node);
    }

    pub(super) fn fence_by_hand(&mut self, node: NodeId) {
        let Some(victim) = self.running(node) else { return };
        self.ask_somebody(MasterRequest::Fence { victim, reason: "by hand".to_owned() });
    }

    pub(super) fn change_configuration(&mut self) {
        let ids = self.node_ids();
        let Some(node) = self.random.pick(&ids).copied() else { return };
        let votes = u8::try_from(self.random.between(1, 4)).ok();
        let settings = NodeSettings { votes, ..NodeSettings::default() };
        let change = NodeChange::Set { name: format!("n{node}"), address: None, settings };
        self.ask_somebody(MasterRequest::Change { base: None, changes: vec![change] });
    }
}
