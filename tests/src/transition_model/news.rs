//! Which records an agent of MC4 may be given, and which it may as well have taken already.

use std::hash::{DefaultHasher, Hasher};

use phalanx_messages::NodeId;
use phalanx_messages::membership::MembershipRecord;
use phalanx_protocol::agent::{Agent, AgentInput, AgentOutput};
use phalanx_protocol::bugs::{self, Bug};

use super::state::{Node, State};
use crate::invariants;

/// Older records that may still be delivered.
const OLDER_RECORDS: usize = 3;

impl State {
    /// The agent has not taken the newest record; or has taken a part of it, which only a deliberate bug makes possible.
    pub(super) fn has_news(&self, node: &Node) -> bool {
        node.agent.record().revision < self.disk.revision
            || (bugs::active(Bug::BatchInPieces) && self.after_news(node).is_none())
    }

    /// The agent after it has taken the newest record, if that changes nothing for it and its subsystems.
    fn after_news(&self, node: &Node) -> Option<Agent> {
        let fingerprint = |agent: &Agent| {
            let mut hasher = DefaultHasher::new();
            agent.hash_beside(&self.disk, &mut hasher);
            hasher.finish()
        };
        let mut agent = node.agent.clone();
        let outputs = agent.step(AgentInput::Record(std::sync::Arc::new(self.disk.clone())));
        // An answer that is said again is known, or comes with the report to the new master.
        let silent = outputs.iter().all(|output| matches!(output, AgentOutput::Acknowledge { .. }));
        (silent && fingerprint(&agent) == fingerprint(&node.agent)).then_some(agent)
    }

    /// What is no news for an agent it may as well have taken: nobody can tell.
    pub(super) fn spread_what_is_no_news(&mut self) {
        if self.log.is_some() {
            return; // then it would no longer be told of what came before
        }
        let behind = |node: &&Node| node.alive && node.agent.record().revision < self.disk.revision;
        let quiet = self.nodes.iter().filter(|(_, node)| behind(node));
        let quiet: Vec<_> = quiet.filter_map(|(id, node)| Some((*id, self.after_news(node)?))).collect();
        for (id, agent) in quiet {
            self.nodes.get_mut(&id).expect("one of the nodes").agent = agent;
        }
    }

    /// The record has a running step for that node.
    pub(super) fn is_addressed(&self, id: NodeId, record: &MembershipRecord) -> bool {
        let entry = record.nodes.get(&id).filter(|entry| entry.incarnation == self.nodes[&id].incarnation);
        entry.is_some() && invariants::running(record).any(|(_, step)| step.participants.contains(id))
    }

    /// Keeps a record that tells somebody of a new step, if older ones are delivered.
    pub(super) fn log(&mut self, record: &MembershipRecord) {
        let Some(log) = &mut self.log else { return };
        let told: Vec<_> = invariants::running(&self.disk).map(|(_, step)| step.notification()).collect();
        if invariants::running(record).any(|(_, step)| !told.contains(&step.notification())) {
            log.push(record.clone());
            log.drain(..log.len().saturating_sub(OLDER_RECORDS));
        }
    }
}
