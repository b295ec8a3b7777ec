//! The agent's side: joining, dispatching notifications to the levels, acknowledging, leaving (protocol §5.5).

use phalanx_messages::membership::{MembershipRecord, NodeState};
use phalanx_messages::notification::SubsystemAcknowledged;
use phalanx_messages::peer::{JoinRefusal, MembershipMessage};
use phalanx_messages::register::OwnState;
use phalanx_messages::{NodeId, Revision, Term};
use phalanx_protocol::agent::{AgentInput, AgentOutput};
use phalanx_protocol::coordinator::CoordinatorInput;

use super::*;
use crate::disk::ReadMembership;
use crate::lease_thread::Publication;

/// A join or leave request is repeated this often until the record shows it.
const ASK_AGAIN_MS: u64 = 50;

impl MembershipManager {
    /// `master` sent a committed record under `term`.
    pub(super) fn told(&mut self, master: NodeId, term: Term, record: MembershipRecord, ctx: &mut Context<Self>) {
        self.followed(term, master);
        self.learn(&record, ctx);
        let record = Box::new(record);
        self.advise(AgentInput::Record(record), master, ctx);
    }

    /// `master` leads under `term`.
    pub(super) fn followed(&mut self, term: Term, master: NodeId) {
        if self.told_by.replace((term, master)) != Some((term, master)) {
            self.edges.master.do_send(MasterIs(Some(master)));
        }
    }

    pub(super) fn new_master(&mut self, from: NodeId, revision: Revision, ctx: &mut Context<Self>) {
        self.followed(revision.term, from);
        // The report is a promise (protocol M-4): the register says so too, from its next write on.
        self.advise(AgentInput::NewMaster { from, revision }, from, ctx);
    }

    /// A level of this node has ended a step.
    pub(super) fn answered(&mut self, answer: SubsystemAcknowledged, ctx: &mut Context<Self>) {
        let me = self.me();
        self.advise(AgentInput::Answered(answer), me, ctx);
    }

    /// Gives the agent an input that `from` sent.
    pub(super) fn advise(&mut self, input: AgentInput, from: NodeId, ctx: &mut Context<Self>) {
        for output in self.agent.step(input) {
            self.act(output, from, ctx);
        }
    }

    fn act(&mut self, output: AgentOutput, from: NodeId, ctx: &mut Context<Self>) {
        match output {
            AgentOutput::Notify(notification) => match self.edges.levels.get(&notification.level) {
                Some(level) => level.do_send(notification),
                None => self.edges.guard.node_panic(&format!("level {} is not registered here", notification.level)),
            },
            AgentOutput::Acknowledge { answers, .. } => self.acknowledge(answers, ctx),
            AgentOutput::Report { to, seen, steps } if to == self.me() => {
                let from = self.settings.me;
                self.coordinate(CoordinatorInput::Report { from, seen, steps }, ctx);
            }
            AgentOutput::Report { to, seen, steps } => self.send(to, MembershipMessage::Report { seen, steps }),
            AgentOutput::Stale { seen } => self.send(from, MembershipMessage::Stale { seen }),
            AgentOutput::Panic { reason } => self.edges.guard.node_panic(&reason),
            AgentOutput::Joined | AgentOutput::Deregistered(_) => {}
            AgentOutput::Left => self.left(ctx),
        }
    }

    fn acknowledge(&mut self, answers: Vec<SubsystemAcknowledged>, ctx: &mut Context<Self>) {
        match self.master() {
            Some(master) if master == self.me() => {
                let from = self.settings.me;
                self.acknowledged(from, answers, ctx);
            }
            Some(master) => self.send(master, MembershipMessage::Acknowledged(answers)),
            None => {} // A new master asks for it (protocol §3.6).
        }
    }

    /// Acknowledgements have reached the master.
    pub(super) fn acknowledged(
        &mut self,
        from: NodeIncarnation,
        answers: Vec<SubsystemAcknowledged>,
        ctx: &mut Context<Self>,
    ) {
        if self.coordinator.is_none() {
            return;
        }
        let now = self.now();
        let told: Vec<_> =
            answers.iter().filter_map(|answer| self.chronicle.acknowledged(now.0, answer.id, from.node)).collect();
        self.happened(told);
        self.coordinate(CoordinatorInput::Acknowledged { from, answers }, ctx);
    }

    pub(super) fn publish_state(&self, state: OwnState) {
        drop(self.edges.lease.publish(Publication { own_state: Some(state), ..Publication::default() }));
    }

    /// The own leave is complete. The master goes on until it has handed over.
    fn left(&mut self, ctx: &mut Context<Self>) {
        if self.coordinator.is_none() {
            self.leave_disk(ctx);
        }
    }

    pub(super) fn tick_agent(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        let me = self.me();
        self.advise(AgentInput::Tick(now), me, ctx);
        if self.ended || self.asked_at.is_some_and(|asked| now.since(asked) < ASK_AGAIN_MS) {
            return;
        }
        match self.own_state() {
            NodeState::Inactive if self.leave_wanted => self.give_up_joining(ctx),
            NodeState::Inactive => self.ask_to_join(ctx),
            NodeState::Joined | NodeState::Joining if self.leave_wanted => {
                self.asked_at = Some(now);
                self.ask_to_leave(self.settings.me, ctx).ok();
            }
            NodeState::Leaving => self.look_for_own_end(ctx),
            NodeState::Joined | NodeState::Joining | NodeState::ForcedLeaving => {}
        }
    }

    /// State of this incarnation in the newest record.
    pub(super) fn own_state(&self) -> NodeState {
        let entry = self.newest.nodes.get(&self.me());
        let entry = entry.filter(|entry| entry.incarnation == self.settings.me.incarnation);
        entry.map_or(NodeState::Inactive, |entry| entry.state)
    }

    fn ask_to_join(&mut self, ctx: &mut Context<Self>) {
        let Some(master) = self.master() else { return };
        self.asked_at = Some(self.now());
        let (levels, boot, hears) = (self.settings.levels.clone(), self.settings.boot, self.heard());
        let public_key = self.settings.public_key;
        if master == self.me() {
            self.join_requested(self.settings.me, levels, boot, hears, public_key, ctx);
        } else {
            self.send(master, MembershipMessage::JoinRequest { levels, boot, hears, public_key });
        }
    }

    /// Not a member yet and no longer wanted: nothing has to be undone.
    fn give_up_joining(&mut self, ctx: &mut Context<Self>) {
        if self.coordinator.is_some() {
            self.hand_over(ctx);
        } else if !self.frm_busy {
            self.leave_disk(ctx);
        }
    }

    /// The master may have committed this node's end and gone itself before its last message arrived.
    fn look_for_own_end(&mut self, ctx: &mut Context<Self>) {
        self.asked_at = Some(self.now());
        if self.master().is_some() {
            return;
        }
        let request = self.edges.disk.send(ReadMembership);
        ctx.spawn(request.into_actor(self).map(|result, actor, ctx| {
            let Ok(Ok(Some(record))) = result else { return };
            let own = record.nodes.get(&actor.me());
            let gone = own.is_some_and(|entry| {
                entry.incarnation == actor.settings.me.incarnation && entry.state == NodeState::Inactive
            });
            if gone {
                actor.leave_disk(ctx);
            }
        }));
    }

    /// The master does not take this node, for now or for good.
    pub(super) fn refused(&mut self, refusal: JoinRefusal) {
        tracing::info!(?refusal, "join refused");
        let text = match refusal {
            JoinRefusal::NotMaster | JoinRefusal::BusyLeaving | JoinRefusal::NotFullyConnected { .. } => return,
            JoinRefusal::NotConfigured => {
                "this node is not in the membership database; `phalanx node add` adds it, `phalanx config show` lists the nodes"
                    .to_owned()
            }
            JoinRefusal::BarrierMismatch { have, want } => format!(
                "level {} is `{}` with barriers {:?} in the cluster, and `{}` with {:?} in this node's file; make \
                 `[[subsystem]]` equal on every node",
                have.level, have.name, have.barriers, want.name, want.barriers
            ),
            JoinRefusal::LevelOrder => "`level` of each `[[subsystem]]` must be used once, and below 1000".to_owned(),
            JoinRefusal::DuplicateId => {
                "a newer start of this node, or another host with its id, is a member".to_owned()
            }
            JoinRefusal::OtherHost => {
                "the members run on another host or boot; an mmap disk serves one host".to_owned()
            }
            JoinRefusal::KeyMismatch => {
                "the cluster knows another key of this node; restore the key file in its `state_dir`".to_owned()
            }
        };
        self.end(MembershipEnded::Refused(text));
    }
}
