//! The agent's side: joining, dispatching notifications to the levels, acknowledging, leaving (protocol §5.5).

use crate::agent::{AgentInput, AgentOutput};
use crate::coordinator::CoordinatorInput;
use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer};
use phalanx_messages::peer::{JoinRefusal, MembershipMessage};
use phalanx_messages::{Level, NodeId, Revision, Term};

use super::*;

/// A join or leave request is repeated this often until the record shows it.
const ASK_AGAIN_MS: u64 = 50;

impl Manager {
    /// `master` sent a committed record under `term`.
    pub(super) fn told(&mut self, master: NodeId, term: Term, record: Arc<MembershipRecord>) {
        self.followed(term, master);
        self.learn(&record);
        self.advise(AgentInput::Record(record), master);
    }

    /// `master` leads under `term`.
    pub(super) fn followed(&mut self, term: Term, master: NodeId) {
        if self.told_by.replace((term, master)) != Some((term, master)) {
            self.emit(ManagerOutput::MasterIs(master));
        }
    }

    pub(super) fn new_master(&mut self, from: NodeId, revision: Revision) {
        self.followed(revision.term, from);
        // The report is a promise (protocol M-4): the register says so too, from its next write on.
        self.advise(AgentInput::NewMaster { from, revision }, from);
    }

    /// Gives the agent an input that `from` sent.
    pub(super) fn advise(&mut self, input: AgentInput, from: NodeId) {
        for output in self.agent.step(input) {
            self.act(output, from);
        }
    }

    /// Gives the agent an input of this node itself.
    pub(super) fn advise_here(&mut self, input: AgentInput) {
        let me = self.here();
        self.advise(input, me);
    }

    fn act(&mut self, output: AgentOutput, from: NodeId) {
        match output {
            AgentOutput::Notify(notification) => {
                let now_ms = self.now().0;
                notification.batch.iter().for_each(|notice| self.chronicle.notified(now_ms, notice.id));
                self.emit(ManagerOutput::Notify(notification));
            }
            AgentOutput::Acknowledge { answers, .. } => self.acknowledge(answers),
            AgentOutput::Report { to, seen, steps } if to == self.here() => {
                let from = self.settings.me;
                self.coordinate(CoordinatorInput::Report { from, seen, steps });
            }
            AgentOutput::Report { to, seen, steps } => self.send(to, MembershipMessage::Report { seen, steps }),
            AgentOutput::Stale { seen } => self.send(from, MembershipMessage::Stale { seen }),
            AgentOutput::Panic { reason } => self.panic(reason),
            AgentOutput::Joined => {}
            AgentOutput::Resume { level, states } => self.emit(ManagerOutput::Resume { level, states }),
            AgentOutput::Refused { level, refusal } => self.emit(ManagerOutput::LevelRefused { level, refusal }),
            AgentOutput::Deregistered(level) => self.emit(ManagerOutput::Deregistered(level)),
            AgentOutput::Register { registration, seen } => self.ask_for_level(registration, seen),
            AgentOutput::Withdraw { level, seen } => self.ask_for_withdrawal(level, seen),
            AgentOutput::Left => self.left(),
        }
    }

    fn acknowledge(&mut self, answers: Vec<SubsystemAcknowledged>) {
        let now_ms = self.now().0;
        let done = answers.iter().filter(|answer| answer.answer == SubsystemAnswer::Acknowledged);
        done.for_each(|answer| self.chronicle.answered(now_ms, answer.id));
        match self.master() {
            Some(master) if master == self.here() => {
                let from = self.settings.me;
                self.acknowledged(from, answers);
            }
            Some(master) => self.send(master, MembershipMessage::Acknowledged(answers)),
            None => {} // A new master asks for it (protocol §3.6).
        }
    }

    /// Whoever is master; if nobody is, the agent asks again.
    fn ask_for_level(&mut self, registration: LevelRegistration, seen: Revision) {
        match self.master() {
            Some(master) if master == self.here() => {
                let from = self.settings.me;
                self.coordinate(CoordinatorInput::Register { from, registration, seen });
            }
            Some(master) => self.send(master, MembershipMessage::RegisterLevel { registration, seen }),
            None => {}
        }
    }

    fn ask_for_withdrawal(&mut self, level: Level, seen: Revision) {
        match self.master() {
            Some(master) if master == self.here() => {
                let from = self.settings.me;
                self.coordinate(CoordinatorInput::Withdraw { from, level, seen });
            }
            Some(master) => self.send(master, MembershipMessage::WithdrawLevel { level, seen }),
            None => {}
        }
    }

    /// Acknowledgements have reached the master.
    pub(super) fn acknowledged(&mut self, from: NodeIncarnation, answers: Vec<SubsystemAcknowledged>) {
        if self.coordinator.is_none() {
            return;
        }
        let now = self.now();
        let told: Vec<_> =
            answers.iter().filter_map(|answer| self.chronicle.acknowledged(now.0, answer.id, from.node)).collect();
        self.happened(told);
        self.coordinate(CoordinatorInput::Acknowledged { from, answers });
    }

    /// The own leave is complete. The master goes on until it has handed over.
    fn left(&mut self) {
        if self.coordinator.is_none() {
            self.leave_disk();
        }
    }

    pub(super) fn tick_agent(&mut self) {
        let now = self.now();
        self.advise_here(AgentInput::Tick(now));
        if self.asked_at.is_some_and(|asked| now.since(asked) < ASK_AGAIN_MS) {
            return;
        }
        match self.own_state() {
            NodeState::Inactive if self.leave_wanted => self.give_up_joining(),
            NodeState::Inactive => self.ask_to_join(),
            NodeState::Joined | NodeState::Joining if self.leave_wanted => {
                self.asked_at = Some(now);
                self.ask_to_leave(self.settings.me).ok();
            }
            NodeState::Leaving => self.look_for_own_end(),
            NodeState::Joined | NodeState::Joining | NodeState::ForcedLeaving => {}
        }
    }

    /// State of this incarnation in the newest record.
    pub(super) fn own_state(&self) -> NodeState {
        let entry = self.newest.nodes.get(&self.here());
        let entry = entry.filter(|entry| entry.incarnation == self.settings.me.incarnation);
        entry.map_or(NodeState::Inactive, |entry| entry.state)
    }

    fn ask_to_join(&mut self) {
        let Some(master) = self.master() else { return };
        self.asked_at = Some(self.now());
        let (levels, boot, hears) = (self.settings.levels.clone(), self.settings.boot, self.heard());
        let public_key = self.settings.public_key;
        if master == self.here() {
            self.join_requested(self.settings.me, levels, boot, hears, public_key);
        } else {
            self.send(master, MembershipMessage::JoinRequest { levels, boot, hears, public_key });
        }
    }

    /// Not a member yet and no longer wanted: nothing has to be undone.
    fn give_up_joining(&mut self) {
        if self.coordinator.is_some() {
            self.hand_over();
        } else if !self.frm_busy {
            self.leave_disk();
        }
    }

    /// The master may have committed this node's end and gone itself before its last message arrived.
    fn look_for_own_end(&mut self) {
        self.asked_at = Some(self.now());
        if self.master().is_none() && !std::mem::replace(&mut self.looking_for_end, true) {
            self.emit(ManagerOutput::Disk(DiskRequest::ReadMembership(RecordReader::Follower)));
        }
    }

    pub(super) fn own_end_read(&mut self, result: DiskResult<Option<MembershipRecord>>) {
        self.looking_for_end = false;
        let Ok(Some(record)) = result else { return };
        let own = record.nodes.get(&self.here());
        let gone = own.is_some_and(|entry| {
            entry.incarnation == self.settings.me.incarnation && entry.state == NodeState::Inactive
        });
        if gone {
            self.leave_disk();
        }
    }

    /// The master does not take this node, for now or for good.
    pub(super) fn refused(&mut self, refusal: JoinRefusal) {
        self.remark(Remark::JoinRefused(refusal.clone()));
        match refusal {
            JoinRefusal::NotMaster
            | JoinRefusal::BusyLeaving
            | JoinRefusal::NotFullyConnected { .. }
            | JoinRefusal::NoQuorum { .. } => {}
            JoinRefusal::NotConfigured
            | JoinRefusal::BarrierMismatch { .. }
            | JoinRefusal::LevelOrder
            | JoinRefusal::DuplicateId
            | JoinRefusal::OtherHost
            | JoinRefusal::KeyMismatch => self.end(End::Refused(refusal)),
        }
    }
}
