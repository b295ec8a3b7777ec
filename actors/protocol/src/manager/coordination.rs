//! What this node does while it is master: the coordinator's outputs (protocol §5.2, §5.4).

use crate::agent::AgentInput;
use crate::chronicle::Happening;
use crate::coordinator::{self, Coordinator, CoordinatorInput, CoordinatorOutput};
use crate::frm::FrmInput;
use phalanx_messages::NodeId;
use phalanx_messages::Revision;
use phalanx_messages::membership::{FenceMethod, MembershipRecord, NodeState};
use phalanx_messages::peer::MembershipMessage;
use phalanx_messages::set::NodeSet;

use super::*;
use crate::lease::Publication;

/// How a new master begins.
enum Beginning {
    /// As a member.
    Member,
    /// The cluster forms anew; the deaths that are proved already.
    ColdStart(BTreeMap<NodeIncarnation, FenceMethod>),
    /// Not at all: others are members and alive.
    MembersLive,
}

impl Manager {
    /// This node owns a term and its base record is committed.
    pub(super) fn lead(&mut self, base: MembershipRecord) {
        self.learn(&Arc::new(base.clone()));
        let cold_start = match self.beginning(&base) {
            Beginning::Member => None,
            Beginning::ColdStart(proofs) => Some(proofs),
            Beginning::MembersLive => {
                // T-18: one of them must lead. They were not seen when this node stood for election.
                self.remark(Remark::MembersLive);
                return self.drive(FrmInput::Resign);
            }
        };
        let (coordinator, outputs) = Coordinator::new(self.settings.me, self.settings.profile, base, cold_start);
        self.coordinator = Some(coordinator);
        let (term, node) = (self.newest.revision.term, self.here());
        self.happened([Happening::MasterElected { term, node }]);
        self.carry_out(outputs);
        self.look_around();
        self.tick_agent();
    }

    /// The claim goes, then this node.
    pub(super) fn hand_over(&mut self) {
        self.handing_over = true;
        self.drive(FrmInput::Resign);
    }

    /// Whether this node leads as a member, or forms the cluster anew because nobody who has an entry lives (protocol T-18).
    fn beginning(&self, base: &MembershipRecord) -> Beginning {
        let candidates = self.watch.candidates(self.now());
        let active = base.nodes.iter().filter(|(_, entry)| entry.state != NodeState::Inactive);
        let active: Vec<NodeIncarnation> =
            active.map(|(node, entry)| NodeIncarnation { node: *node, incarnation: entry.incarnation }).collect();
        let lives = |who: &NodeIncarnation| {
            let candidate = candidates.get(&who.node);
            candidate.is_some_and(|it| it.live && it.incarnation == who.incarnation)
        };
        if active.contains(&self.settings.me) {
            return Beginning::Member;
        }
        if active.iter().any(lives) {
            return Beginning::MembersLive;
        }
        // 3.7 step 0: earlier starts of this node were killed and counted before this one began.
        let own = active.iter().filter(|who| who.node == self.here()).map(|who| (*who, FenceMethod::NewIncarnation));
        Beginning::ColdStart(own.collect())
    }

    /// Gives the coordinator an input, if this node is master.
    pub(super) fn coordinate(&mut self, input: CoordinatorInput) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let outputs = coordinator.step(input);
        self.carry_out(outputs);
    }

    pub(super) fn tick_coordinator(&mut self) {
        let now = self.now();
        self.coordinate(CoordinatorInput::Tick(now));
        self.commit_when_allowed();
    }

    fn carry_out(&mut self, outputs: Vec<CoordinatorOutput>) {
        for output in outputs {
            self.carry_out_one(output);
        }
    }

    fn carry_out_one(&mut self, output: CoordinatorOutput) {
        match output {
            CoordinatorOutput::Commit(record) => {
                self.fix_configuration(&record);
                self.committing = Some(record);
                self.commit_due = true;
                self.commit_when_allowed();
            }
            CoordinatorOutput::Notify { to, record } => self.notify(to, &record),
            CoordinatorOutput::Refuse { to, refusal } if to.node == self.here() => self.refused(refusal),
            CoordinatorOutput::Refuse { to, refusal } => self.send(to.node, MembershipMessage::JoinRefused(refusal)),
            CoordinatorOutput::RefuseLevel { to, registration, refusal } if to.node == self.here() => {
                self.advise_here(AgentInput::Refused(registration, refusal));
            }
            CoordinatorOutput::RefuseLevel { to, registration, refusal } => {
                self.send(to.node, MembershipMessage::LevelRefused { registration, refusal });
            }
            CoordinatorOutput::Expel { victim } => self.send(victim.node, MembershipMessage::Expelled { victim }),
            CoordinatorOutput::NewMaster { to } => {
                let revision = self.newest.revision;
                for node in to.iter() {
                    if node == self.here() {
                        self.new_master(node, revision);
                    } else {
                        self.send(node, MembershipMessage::NewMaster { revision });
                    }
                }
            }
            CoordinatorOutput::HandOver => self.hand_over(),
            CoordinatorOutput::Quorum { reached, votes, needed } => {
                self.remark(Remark::Quorum { reached, votes, needed });
            }
            CoordinatorOutput::Warn(warning) => self.remark(Remark::Overdue(warning)),
            CoordinatorOutput::Panic { reason } => self.panic(reason),
        }
    }

    /// No commit without a lease that outlives it by the guard (protocol §3.4, `commit`).
    fn commit_when_allowed(&mut self) {
        if self.commit_due && self.moment.may_act && !self.frm_busy && self.frm.is_owner() {
            self.commit_due = false;
            self.drive(FrmInput::Commit);
        }
    }

    pub(super) fn committed(&mut self, revision: Revision) {
        let Some(record) = self.committing.take().filter(|record| record.revision == revision) else { return };
        self.configuration_committed();
        self.publish_pills(&record);
        self.marks_committed(&record);
        self.learn(&record);
        self.coordinate(CoordinatorInput::Committed);
        self.look_around();
    }

    /// Death orders go into this node's register as soon as the marks are committed (protocol §4.6 step 3).
    fn publish_pills(&mut self, record: &MembershipRecord) {
        let pills = coordinator::pills(record, record.revision.term);
        if pills != coordinator::pills(&self.newest, record.revision.term) {
            let publication = Publication { pills: Some(pills), ..Publication::default() };
            self.publish(publication); // nobody waits: the mark itself is committed already
        }
    }

    fn notify(&mut self, to: NodeSet, record: &Arc<MembershipRecord>) {
        let me = self.here();
        let mut others = to;
        others.remove(me);
        self.emit(ManagerOutput::Tell { to: others, record: record.clone() });
        if to.contains(me) {
            let term = record.revision.term;
            self.told(me, term, record.clone());
        }
    }

    /// Takes a request to leave: this node's own, or an administrator's for another node.
    pub(super) fn request_leave(&mut self, node: NodeId) -> Result<(), String> {
        let name = self.configuration.name_of(node);
        let entry = self.newest.nodes.get(&node).filter(|entry| entry.state != NodeState::Inactive);
        if node == self.here() {
            self.leave_wanted = true;
            self.leave_begun();
            self.tick_agent();
            return Ok(());
        }
        let Some(entry) = entry else { return Err(format!("node {name} is not a member")) };
        let subject = NodeIncarnation { node, incarnation: entry.incarnation };
        self.ask_to_leave(subject)
    }

    pub(super) fn ask_to_leave(&mut self, node: NodeIncarnation) -> Result<(), String> {
        match self.master() {
            Some(master) if master == self.here() => self.coordinate(CoordinatorInput::LeaveRequest { node }),
            Some(master) => self.send(master, MembershipMessage::LeaveRequest { node }),
            None => return Err("there is no master at the moment; try again".to_owned()),
        }
        Ok(())
    }
}
