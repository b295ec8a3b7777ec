//! What administrators ask of the master: on the node that was asked, and on the master.
//!
//! The asked node sends one request at a time and repeats it until it is answered. The configuration remembers the last change
//! of each node that it contains, so a repeated request - also to the next master - is answered and not carried out again.
//! A change is answered only when it is committed.

use std::collections::VecDeque;

use crate::configuration::{change, same_settings};
use crate::coordinator::level_states::unmarked_members;
use crate::coordinator::{Coordinator, CoordinatorInput};
use crate::detector::Verdict;
use phalanx_messages::configuration::{ChangeRefusal, Consumed, NodeChange};
use phalanx_messages::membership::NodeState;
use phalanx_messages::peer::{MasterAnswer, MasterRequest, MembershipMessage};
use phalanx_messages::register::NodeRegister;
use phalanx_messages::{Instant, NodeId, Revision};

use super::*;
use phalanx_messages::limits::REQUESTS_WAITING_MAX;

/// A request is repeated this often until it is answered.
const ASK_AGAIN_MS: u64 = 100;
/// A request that nobody has answered for this long is given up. Longer than any election takes.
const ANSWER_WITHIN_MS: u64 = 15_000;

const EXIT_ERROR: u8 = 1;
const EXIT_TRY_AGAIN: u8 = 75;
const EXIT_NO_MASTER: u8 = 106;
const EXIT_REFUSED: u8 = 107;

/// A request of this node that the master has not answered.
#[derive(Debug)]
struct Waiting {
    counter: u64,
    request: MasterRequest,
    since: Instant,
    asked_at: Option<Instant>,
    /// It was sent to a master at least once: it may have been carried out.
    sent: bool,
    /// What the master has said. It is passed on when this node knows the configuration that has the change, so that whoever
    /// asked sees it here.
    said: Option<MasterAnswer>,
}

/// The requests of this node, oldest first; the first one is being asked.
#[derive(Debug, Default)]
pub(super) struct Requests {
    waiting: VecDeque<Waiting>,
}

impl Requests {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn refused(code: u8, text: impl Into<String>) -> MasterAnswer {
    MasterAnswer::Refused { code, text: text.into() }
}

/// On the node that was asked.
impl Manager {
    pub(super) fn ask_master(&mut self, counter: u64, request: MasterRequest) {
        if self.requests.waiting.len() >= REQUESTS_WAITING_MAX {
            let answer = refused(EXIT_TRY_AGAIN, "too many requests wait for the master; try again");
            return self.emit(ManagerOutput::Answer { counter, answer });
        }
        let since = self.now();
        self.requests.waiting.push_back(Waiting { counter, request, since, asked_at: None, sent: false, said: None });
        self.tick_requests();
    }

    pub(super) fn tick_requests(&mut self) {
        let now = self.now();
        while let Some(first) = self.requests.waiting.front()
            && now.since(first.since) >= ANSWER_WITHIN_MS
            && let Some(late) = self.requests.waiting.pop_front()
        {
            let answer = late.said.unwrap_or_else(|| given_up(late.sent));
            self.emit(ManagerOutput::Answer { counter: late.counter, answer });
        }
        self.pass_on();
        let Some(master) = self.master() else { return };
        let Some(first) = self.requests.waiting.front_mut() else { return };
        if first.said.is_some() || first.asked_at.is_some_and(|asked| now.since(asked) < ASK_AGAIN_MS) {
            return;
        }
        (first.asked_at, first.sent) = (Some(now), true);
        let (counter, request) = (first.counter, first.request.clone());
        if master == self.here() {
            self.requested(self.settings.me, counter, request);
        } else {
            self.send(master, MembershipMessage::Request { counter, request });
        }
    }

    /// The master has answered. An answer to another request than the first one is a repetition.
    pub(super) fn request_answered(&mut self, counter: u64, answer: MasterAnswer) {
        let Some(first) = self.requests.waiting.front_mut().filter(|first| first.counter == counter) else { return };
        first.said = Some(answer);
        self.tick_requests();
    }

    /// Gives the first request its answer, as soon as this node can show what the answer says.
    fn pass_on(&mut self) {
        let shown = self.configuration.revision;
        let ready = |answer: &MasterAnswer| match answer {
            MasterAnswer::Changed { revision } => *revision <= shown,
            MasterAnswer::Unchanged { .. }
            | MasterAnswer::Accepted
            | MasterAnswer::ChangeRefused(_)
            | MasterAnswer::Refused { .. } => true,
        };
        while self.requests.waiting.front().is_some_and(|first| first.said.as_ref().is_some_and(ready))
            && let Some(Waiting { counter, said: Some(answer), .. }) = self.requests.waiting.pop_front()
        {
            self.emit(ManagerOutput::Answer { counter, answer });
        }
    }
}

fn given_up(sent: bool) -> MasterAnswer {
    let seconds = ANSWER_WITHIN_MS / 1_000;
    let text = if sent {
        format!(
            "no master has answered for {seconds} s; the request may still be carried out: `phalanx config show` and \
             `phalanx status` tell"
        )
    } else {
        format!("there is no master for {seconds} s; `phalanx status` tells why")
    };
    refused(EXIT_NO_MASTER, text)
}

/// On the master.
impl Manager {
    /// `source` asks this node, which may or may not be master. No answer means: ask again.
    pub(super) fn requested(&mut self, source: NodeIncarnation, counter: u64, request: MasterRequest) {
        if !self.is_master() {
            return;
        }
        let answer = match request {
            MasterRequest::Change { base, changes } => self.change(source, counter, base, &changes),
            MasterRequest::Fence { victim, reason } => Some(self.fence(victim, reason)),
            MasterRequest::ConfirmDead { victim, by } => Some(self.confirm_dead(victim, by)),
        };
        if let Some(answer) = answer {
            self.answer(source, counter, answer);
        }
    }

    fn answer(&mut self, to: NodeIncarnation, counter: u64, answer: MasterAnswer) {
        if to == self.settings.me {
            self.request_answered(counter, answer);
        } else {
            self.send(to.node, MembershipMessage::Answer { counter, answer });
        }
    }

    fn change(
        &mut self,
        source: NodeIncarnation,
        counter: u64,
        base: Option<Revision>,
        changes: &[NodeChange],
    ) -> Option<MasterAnswer> {
        if let Some(revision) = self.configuration.outcome(source, counter) {
            return Some(MasterAnswer::Changed { revision });
        }
        // One change at a time: what is not committed yet may never be, and nothing may be promised or refused because of it.
        if self.draft.drafted.is_some() || self.draft.committing.is_some() {
            return None;
        }
        // Nor beside a decision about who is a member, which was made by the votes of now.
        if self.coordinator.as_ref().is_none_or(Coordinator::decides) {
            return None;
        }
        let consumed = self.configuration.consumed.get(&source.node);
        let newer = (source.incarnation, counter);
        if consumed.is_some_and(|last| (last.incarnation, last.counter) > newer) {
            return None; // A late copy of a request that was given up.
        }
        let now = self.configuration.revision;
        if let Some(base) = base.filter(|base| *base != now) {
            return Some(MasterAnswer::ChangeRefused(ChangeRefusal::Stale { base, now }));
        }
        let membership = self.coordinator.as_ref()?.draft();
        match change(&self.configuration, membership, self.settings.nodes_max, changes) {
            Err(refusal) => Some(MasterAnswer::ChangeRefused(refusal)),
            Ok(changed) if same_settings(&changed, &self.configuration) => {
                Some(MasterAnswer::Unchanged { revision: self.configuration.revision })
            }
            Ok(mut changed) => {
                // The revision is known when the commit begins.
                let consumed = Consumed { incarnation: source.incarnation, counter, revision: Revision::default() };
                changed.consumed.insert(source.node, consumed);
                self.draft_configuration(changed);
                None
            }
        }
    }

    /// A new configuration is committed: whoever asked for what is new in it is told.
    pub(super) fn answer_consumed(&mut self, before: &ConfigurationRecord) {
        let configuration = self.configuration.clone();
        for (node, consumed) in &configuration.consumed {
            if before.consumed.get(node) != Some(consumed) {
                let source = NodeIncarnation { node: *node, incarnation: consumed.incarnation };
                let answer = MasterAnswer::Changed { revision: consumed.revision };
                self.answer(source, consumed.counter, answer);
            }
        }
    }

    fn fence(&mut self, victim: NodeIncarnation, reason: String) -> MasterAnswer {
        let name = self.configuration.name_of(victim.node);
        let Some(coordinator) = &self.coordinator else { return given_up(false) };
        let draft = coordinator.draft();
        let entry = draft.nodes.get(&victim.node).filter(|entry| entry.incarnation == victim.incarnation);
        match entry.map_or(NodeState::Inactive, |entry| entry.state) {
            // It was a member when it was asked for: an earlier copy of this request has been carried out.
            NodeState::Inactive | NodeState::ForcedLeaving => return MasterAnswer::Accepted,
            NodeState::Joining | NodeState::Joined | NodeState::Leaving => {}
        }
        if unmarked_members(draft).iter().all(|member| member == victim.node) {
            let text = format!(
                "node {name} is the only member, so nobody could take over; `phalanx node leave {name}` takes it out"
            );
            return refused(EXIT_ERROR, text);
        }
        if !coordinator.may_lose(&[victim.node].into_iter().collect()) {
            let text =
                format!("without node {name} there would be no quorum, so nobody may force it out (protocol §4.4)");
            return refused(EXIT_ERROR, text);
        }
        self.force_out(victim, reason);
        MasterAnswer::Accepted
    }

    /// Forces a node out. A master never marks itself: it panics, and the next one marks it, or, without quorum, its next start
    /// proves that it has ended. Whom quorum forbids to mark is asked to do the same.
    pub(super) fn force_out(&mut self, victim: NodeIncarnation, reason: String) {
        let alone = [victim.node].into_iter().collect();
        let is_needed = self.coordinator.as_ref().is_some_and(|coordinator| !coordinator.may_lose(&alone));
        if is_needed && victim != self.settings.me {
            self.remark(Remark::KeptForQuorum { victim, reason: reason.clone() });
            return self.send(victim.node, MembershipMessage::ForceRequest { victim, reason });
        }
        self.remark(Remark::ForcingOut { victim, reason: reason.clone() });
        if victim == self.settings.me {
            let draft = self.coordinator.as_ref().map(|coordinator| unmarked_members(coordinator.draft()));
            // The last one cannot be taken over by anybody (protocol T-24).
            if draft.is_some_and(|members| members.iter().any(|member| member != victim.node)) {
                self.panic(reason);
            }
            return;
        }
        let victims = vec![Verdict { victim, reason, proof: None }];
        self.coordinate(CoordinatorInput::Force { victims });
    }

    /// Protocol §4.5, F5. Whatever still shows a sign of life is not believed dead, whoever says so.
    fn confirm_dead(&mut self, victim: NodeIncarnation, by: String) -> MasterAnswer {
        let name = self.configuration.name_of(victim.node);
        let Some(coordinator) = &self.coordinator else { return given_up(false) };
        let record = coordinator.draft();
        let entry = record.nodes.get(&victim.node).filter(|entry| entry.incarnation == victim.incarnation);
        let entry = entry.filter(|entry| entry.state == NodeState::ForcedLeaving).map(|entry| entry.fence);
        let ghost = record.ghosts.get(&victim.node).filter(|ghost| ghost.incarnation == victim.incarnation);
        let Some(fence) = entry.or_else(|| ghost.map(|ghost| ghost.fence)) else {
            if is_over(record, victim) {
                return MasterAnswer::Accepted; // It was a victim when it was asked for.
            }
            let text = format!("node {name} is not being forced out; `phalanx fence {name}` forces it out first");
            return refused(EXIT_REFUSED, text);
        };
        if fence.death_certain {
            return MasterAnswer::Accepted;
        }
        if let Some(sign) = self.sign_of_life(victim) {
            let text = format!("node {name} is alive: {sign}; end it, then confirm its death. No flag overrides this");
            return refused(EXIT_REFUSED, text);
        }
        self.remark(Remark::DeathConfirmed { victim, by: by.clone() });
        self.coordinate(CoordinatorInput::Confirmed { victim, by });
        MasterAnswer::Accepted
    }

    /// What shows that a victim may be alive: its lease has not certainly ended, or somebody is connected to it.
    fn sign_of_life(&self, victim: NodeIncarnation) -> Option<String> {
        let now = self.now();
        let Some(register) = self.watch.register(victim.node) else {
            return Some("its register was never read".to_owned());
        };
        if register.incarnation == victim.incarnation && !self.watch.expired(victim.node, now) {
            let silent_ms = self.watch.silent_ms(victim.node, now);
            let needed_ms = self.settings.profile.takeover_ms();
            return Some(format!("its register was written {silent_ms} ms ago, and must be silent for {needed_ms} ms"));
        }
        let registers = self.reading.iter().flat_map(|reading| reading.registers.iter());
        let hears = |(node, register): (&NodeId, &Option<NodeRegister>)| {
            let hears = register.as_ref().is_some_and(|register| register.hears.contains(victim.node));
            (*node != victim.node && hears && !self.watch.expired(*node, now)).then_some(*node)
        };
        let hearer =
            if self.detector.hears(victim.node) { Some(self.here()) } else { registers.filter_map(hears).next() };
        hearer.map(|node| format!("{} is connected to it over the interconnect", self.configuration.name_of(node)))
    }
}

/// Nothing of that incarnation is left in the record but that it was there.
fn is_over(record: &MembershipRecord, victim: NodeIncarnation) -> bool {
    let entry = record.nodes.get(&victim.node);
    entry.is_none_or(|entry| {
        entry.incarnation > victim.incarnation
            || (entry.incarnation == victim.incarnation && entry.state == NodeState::Inactive)
    })
}
