//! What the world looks like from outside: who leads, and whether everything is at rest.

use std::sync::Arc;

use phalanx_messages::membership::{MembershipRecord, NodeState, Step, StepPhase, TransitionKind};
use phalanx_messages::{Level, NodeId, NodeIncarnation};

use super::World;
use crate::invariants;

impl World {
    /// The newest committed record.
    #[must_use]
    pub fn newest_record(&self) -> Arc<MembershipRecord> {
        self.truth.newest()
    }

    /// Nodes that lead and whose lease is valid now; more than one breaks I-M5.
    #[must_use]
    pub fn masters(&self) -> Vec<NodeId> {
        let leads = |node: &NodeId| {
            let now = self.clock(*node);
            let process = self.process(*node).filter(|process| process.gate.is_open_for(0, now));
            process.and_then(|process| process.actors.as_ref()).is_some_and(|actors| actors.manager.leads())
        };
        self.hosts.keys().copied().filter(leads).collect()
    }

    /// The daemon of a node runs, stopped or not.
    #[must_use]
    pub fn process_runs(&self, node: NodeId) -> bool {
        self.process(node).is_some()
    }

    /// Nobody starts the node again.
    pub fn keep_down(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.kept_down = true;
        }
    }

    /// The node is started, now or when its last start has ended.
    pub fn let_start(&mut self, node: NodeId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.kept_down = false;
        }
        self.plan_start(node, self.now);
    }

    /// Everything that was cut passes again.
    pub fn mend_everything(&mut self) {
        let due = self.network.mend_all(self.now, &self.setup.weather);
        self.plan_arrivals(due);
    }

    /// I-M5: at most one node leads with a valid lease.
    pub(super) fn master_changed(&mut self) {
        let masters = self.masters();
        if masters.len() > 1 {
            self.broken(format!("I-M5: nodes {masters:?} lead, each with a valid lease"));
        }
    }

    /// Why not everything is at rest; none if it is: whoever is to be up is joined in one record that all know, nothing is in
    /// transition, and every subsystem sees what the record says (I-T9, I-T19).
    #[must_use]
    pub fn unrest(&self) -> Option<String> {
        let record = self.truth.newest();
        if let Some(leaver) = self.stuck_leaver(&record) {
            return Some(format!("I-R18: {leaver} leaves, and its services do not let it go"));
        }
        if !record.ghosts.is_empty() || record.nodes.values().any(|entry| entry.step.is_some()) {
            return Some("I-T16: a transition has not ended".to_owned());
        }
        for (node, host) in &self.hosts {
            let state = record.nodes.get(node).map_or(NodeState::Inactive, |entry| entry.state);
            if host.kept_down {
                if state != NodeState::Inactive || host.process.is_some() {
                    return Some(format!("I-T16: node {node} is {} and kept down", state.text()));
                }
                continue;
            }
            let Some(process) = &host.process else { return Some(format!("I-T16: node {node} does not run")) };
            let entry = record.nodes.get(node).filter(|entry| entry.incarnation == process.me.incarnation);
            if entry.is_none_or(|entry| entry.state != NodeState::Joined) {
                return Some(format!("I-T16: {} is {}, not joined", process.me, state.text()));
            }
            let Some(actors) = &process.actors else { return Some(format!("I-T16: node {node} is not up")) };
            if actors.manager.record().revision != record.revision {
                return Some(format!("I-T16: node {node} knows record {} only", actors.manager.record().revision));
            }
        }
        if self.masters().len() != 1 {
            return Some("I-T16: nobody leads".to_owned());
        }
        self.unrest_of_services()
    }

    /// Somebody whose leave of the event-manager level is notified, while the database still has something of a service there.
    fn stuck_leaver(&self, record: &MembershipRecord) -> Option<NodeIncarnation> {
        let leaves = |step: &Step| {
            step.level == Level::EVENT_MANAGER
                && step.kind == TransitionKind::Leaving
                && step.phase == StepPhase::Notifying
        };
        let leavers = record.nodes.iter().filter(|(_, entry)| entry.step.as_ref().is_some_and(leaves));
        let mut leavers = leavers.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation });
        let database = self.truth.services.newest();
        leavers.find(|who| !database.is_drained(*who))
    }

    /// What subsystems see wrongly although everything is at rest.
    #[must_use]
    pub fn wrong_views(&self) -> Vec<String> {
        let record = self.truth.newest();
        let up = self.hosts.iter().filter(|(_, host)| host.process.is_some() && !host.kept_down);
        up.flat_map(|(node, _)| invariants::at_rest(&record, *node, &self.views(*node))).collect()
    }

    /// Where the steps stand whose master is lost (protocol §5.6).
    pub(super) fn cover_end_of(&mut self, node: NodeId) {
        if !self.actors(node).is_some_and(|actors| actors.manager.leads()) {
            return;
        }
        self.coverage.reach("a master is lost");
        let record = self.truth.newest();
        for (subject, step) in invariants::subjects(&record) {
            let Some(who) = phalanx_protocol::coordinator::level_states::incarnation_of(&record, subject) else {
                continue;
            };
            match step.phase {
                StepPhase::Between => self.coverage.reach("a master is lost between levels"),
                StepPhase::Held => self.coverage.reach("a master is lost while a step is held"),
                StepPhase::Notifying => {
                    let id = step.notification();
                    let participants: Vec<NodeId> = step.participants.iter().collect();
                    // The master's own subsystems hear of a step in the moment of its commit.
                    let begun = participants
                        .iter()
                        .filter(|other| **other != node)
                        .filter(|other| self.actors(**other).is_some_and(|actors| actors.begun.get(&who) == Some(&id)));
                    let acknowledged = participants.iter().filter(|other| {
                        self.process(**other).is_some_and(|process| self.truth.has_acknowledged(process.me, &id))
                    });
                    let (begun, acknowledged) = (begun.count(), acknowledged.count());
                    self.coverage.reach(match (begun, acknowledged) {
                        (0, 0) => "a master is lost with a step committed and not notified",
                        (_, 0) => "a master is lost with a step notified",
                        (_, all) if all == participants.len() => "a master is lost with all acknowledgements given",
                        (_, _) => "a master is lost with some acknowledgements given",
                    });
                }
            }
        }
    }
}
