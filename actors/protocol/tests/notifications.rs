//! Protocol §5.3 row by row (spec, Table 1): what one subsystem is told about one node, given what it was last told.
//!
//! N0 has the subsystem under test, with two barriers a kind; N1 is in transition, N2 is there for context. A test shows the
//! agent committed records and compares everything that comes of each. `table.rs` prints the same table whole.

use std::collections::BTreeMap;

use phalanx_messages::membership::{
    BarrierCounts, FenceState, LevelRegistration, LevelState, MemberEntry, MembershipRecord, NodeState, Step,
    StepPhase, TransitionKind,
};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_messages::set::NodeSet;
use phalanx_messages::{Incarnation, Level, NodeId, NodeIncarnation, NotificationId, Revision, Term, TransitionId};
use phalanx_protocol::agent::{Agent, AgentInput, AgentOutput};

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const INCARNATION: Incarnation = Incarnation(1);
const LEVEL: Level = Level::SFS;
const ABOVE: Level = Level::EVENT_MANAGER;

/// A step of the transition with that number.
fn step(kind: TransitionKind, counter: u64, barrier: u8) -> Step {
    let transition = TransitionId { term: Term(1), counter };
    let participants = match kind {
        TransitionKind::Joining | TransitionKind::JoinExtending | TransitionKind::Leaving => [N0, N1].into(),
        TransitionKind::ForcedLeaving => vec![N0],
    };
    let (phase, participants) = (StepPhase::Notifying, participants.into_iter().collect());
    Step { transition, kind, level: LEVEL, barrier, restart: 0, phase, participants }
}

fn joining(barrier: u8) -> Step {
    step(TransitionKind::Joining, 1, barrier)
}

fn leaving(barrier: u8) -> Step {
    step(TransitionKind::Leaving, 2, barrier)
}

fn forced(barrier: u8) -> Step {
    step(TransitionKind::ForcedLeaving, 3, barrier)
}

/// The same step begun again (T-9).
fn again(step: Step) -> Step {
    Step { restart: step.restart + 1, ..step }
}

/// N0, its subsystem, and a record in which only N1 moves.
struct Subsystem {
    agent: Agent,
    record: MembershipRecord,
    processing: Vec<NotificationId>,
    told: Option<SubsystemNotification>,
}

impl Subsystem {
    /// N0 and N2 are joined; N1 is joined too, or not there.
    fn seeing(n1: NodeState) -> Self {
        let entry = |state| MemberEntry {
            incarnation: INCARNATION,
            state,
            levels: vec![LEVEL, ABOVE],
            leave_requested: state == NodeState::Inactive,
            ..MemberEntry::default()
        };
        let barriers = BarrierCounts { joining: 2, leaving: 2, forced_leaving: 2 };
        let registration = |level| LevelRegistration {
            level,
            name: String::new(),
            barriers,
            needs: Default::default(),
            optional: false,
        };
        let record = MembershipRecord {
            revision: Revision { term: Term(1), seq: 0 },
            nodes: [(N0, entry(NodeState::Joined)), (N1, entry(n1)), (N2, entry(NodeState::Joined))].into(),
            levels: [LEVEL, ABOVE].map(|level| (level, registration(level))).into(),
            ..MembershipRecord::default()
        };
        let agent = Agent::new(NodeIncarnation { node: N0, incarnation: INCARNATION });
        let mut subsystem = Self { agent, record, processing: Vec::new(), told: None };
        // What it knows of the others comes with its own join.
        let own = Step { participants: [N0].into_iter().collect(), ..step(TransitionKind::Joining, 0, 0) };
        for barrier in [0, 1] {
            subsystem.show(N0, NodeState::Joining, Some(Step { barrier, ..own.clone() }));
            subsystem.acknowledge();
        }
        subsystem.show(N0, NodeState::Joined, None);
        subsystem
    }

    fn show(&mut self, node: NodeId, state: NodeState, step: Option<Step>) -> Vec<String> {
        self.record.revision.seq += 1;
        let entry = self.record.nodes.get_mut(&node).expect("one of three");
        (entry.state, entry.step) = (state, step);
        if state == NodeState::ForcedLeaving {
            let (marked, io_certain, death_certain) = (true, true, true);
            (entry.top, entry.fence) = (Some(ABOVE), FenceState { marked, io_certain, death_certain, method: None });
        }
        self.take(self.record.clone())
    }

    /// The next committed record shows this step of N1.
    fn commit(&mut self, step: Step) -> Vec<String> {
        let state = match step.kind {
            TransitionKind::Joining | TransitionKind::JoinExtending => NodeState::Joining,
            TransitionKind::Leaving => NodeState::Leaving,
            TransitionKind::ForcedLeaving => NodeState::ForcedLeaving,
        };
        self.show(N1, state, Some(step))
    }

    fn take(&mut self, record: MembershipRecord) -> Vec<String> {
        let outputs = self.agent.step(AgentInput::Record(std::sync::Arc::new(record)));
        self.texts(outputs)
    }

    fn texts(&mut self, outputs: Vec<AgentOutput>) -> Vec<String> {
        outputs.into_iter().filter_map(|output| self.text(output)).collect()
    }

    /// What comes of an input, as one line; none for what this page is not about.
    fn text(&mut self, output: AgentOutput) -> Option<String> {
        match output {
            AgentOutput::Notify(notification) => {
                let [notice] = notification.batch[..] else { panic!("one transition: {notification:?}") };
                self.processing = vec![notice.id];
                let again = if notice.renotification { " again" } else { "" };
                let NotificationId { barrier, restart, .. } = notice.id;
                self.told = Some(notification);
                Some(format!("notify{again}: {:?}({barrier}) restart {restart}", notice.kind))
            }
            AgentOutput::Acknowledge { answers, .. } => {
                let ids: Vec<_> = answers.iter().map(|answer| (answer.id.barrier, answer.id.restart)).collect();
                Some(format!("acknowledge {ids:?}"))
            }
            AgentOutput::Panic { reason } => Some(format!("panic: {reason}")),
            AgentOutput::Stale { seen } => Some(format!("stale: {seen}")),
            AgentOutput::Resume { .. }
            | AgentOutput::Register { .. }
            | AgentOutput::Refused { .. }
            | AgentOutput::Withdraw { .. } => None,
            AgentOutput::Report { .. } | AgentOutput::Joined | AgentOutput::Deregistered(_) | AgentOutput::Left => None,
        }
    }

    /// The subsystem has processed what it was told last.
    fn acknowledge(&mut self) -> Vec<String> {
        let id = self.processing.pop().expect("it processes something");
        self.answer(id)
    }

    fn answer(&mut self, id: NotificationId) -> Vec<String> {
        let node = if id.transition.counter == 0 { N0 } else { N1 };
        let subject = NodeIncarnation { node, incarnation: INCARNATION };
        let answer = SubsystemAcknowledged { subject, id, answer: SubsystemAnswer::Acknowledged };
        let outputs = self.agent.step(AgentInput::Answered(answer));
        self.texts(outputs)
    }

    /// N1 goes through these steps, each acknowledged.
    fn through(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        for step in steps {
            assert_eq!(self.commit(step).len(), 1);
            assert_eq!(self.acknowledge().len(), 1);
        }
        self
    }
}

fn absent() -> Subsystem {
    Subsystem::seeing(NodeState::Inactive)
}

fn present() -> Subsystem {
    Subsystem::seeing(NodeState::Joined)
}

fn is_protocol_error(outputs: &[String]) -> bool {
    matches!(outputs, [panic] if panic.starts_with("panic: ") && panic.ends_with("(Table 1)"))
}

/// Row "Inactive, Joining(b=0)": processed; the acknowledgement of the last barrier makes it Joined.
#[test]
fn s53_inactive_takes_joining_barrier_0() {
    let mut subsystem = absent();
    assert_eq!(subsystem.commit(joining(0)), ["notify: Joining(0) restart 0"]);
    assert_eq!(subsystem.acknowledge(), ["acknowledge [(0, 0)]"]);
    assert!(is_protocol_error(&absent().commit(leaving(0))), "and not Leaving");
    assert!(absent().commit(joining(1))[0].starts_with("panic: "), "and no barrier but the first");
}

/// Row "Joining(b) acked, Joining(b+1)": one barrier after the other, then Joined.
#[test]
fn s53_joining_acknowledged_takes_the_next_barrier() {
    let mut subsystem = absent();
    let _ = subsystem.commit(joining(0));
    assert!(subsystem.commit(joining(1))[0].starts_with("panic: "), "not before it has acknowledged");
    let mut subsystem = absent().through([joining(0)]);
    assert_eq!(subsystem.commit(joining(1)), ["notify: Joining(1) restart 0"]);
    assert_eq!(subsystem.acknowledge(), ["acknowledge [(1, 0)]"]);
    assert_eq!(subsystem.commit(leaving(0)), ["notify: Leaving(0) restart 0"], "it is Joined");
}

/// Row "Joined, Leaving(0..)": every barrier, then Inactive.
#[test]
fn s53_joined_takes_leaving() {
    let mut subsystem = present();
    for barrier in [0, 1] {
        assert_eq!(subsystem.commit(leaving(barrier)), [format!("notify: Leaving({barrier}) restart 0")]);
        assert_eq!(subsystem.acknowledge(), [format!("acknowledge [({barrier}, 0)]")]);
    }
    let rejoin = step(TransitionKind::Joining, 4, 0);
    assert_eq!(subsystem.commit(rejoin), ["notify: Joining(0) restart 0"], "it is Inactive");
    assert!(is_protocol_error(&present().commit(joining(0))), "and not Joining");
}

/// Row "Joined, Forced-Leaving(0..)": every barrier, then Inactive.
#[test]
fn s53_joined_takes_forced_leaving() {
    let mut subsystem = present();
    for barrier in [0, 1] {
        assert_eq!(subsystem.commit(forced(barrier)), [format!("notify: ForcedLeaving({barrier}) restart 0")]);
        assert_eq!(subsystem.acknowledge(), [format!("acknowledge [({barrier}, 0)]")]);
    }
    let rejoin = step(TransitionKind::Joining, 4, 0);
    assert_eq!(subsystem.commit(rejoin), ["notify: Joining(0) restart 0"], "it is Inactive");
}

/// Row "Inactive, Forced-Leaving(0)": the Joining was never taken, or the Leaving was acknowledged already.
#[test]
fn s53_inactive_takes_forced_leaving() {
    for mut subsystem in [absent(), present().through([leaving(0), leaving(1)])] {
        assert_eq!(subsystem.commit(forced(0)), ["notify: ForcedLeaving(0) restart 0"], "nothing to abort");
        assert_eq!(subsystem.acknowledge(), ["acknowledge [(0, 0)]"]);
    }
}

/// Row "Joined, Inactive (last barrier acked), same tid with b=0 and rgen+1": the level was not complete for all.
#[test]
fn s53_a_level_that_is_acknowledged_takes_its_restart() {
    let through = [
        (absent(), joining as fn(u8) -> Step, "Joining"),
        (present(), leaving, "Leaving"),
        (present(), forced, "ForcedLeaving"),
    ];
    for (subsystem, kind, name) in through {
        let mut subsystem = subsystem.through([kind(0), kind(1)]);
        assert_eq!(subsystem.commit(again(kind(0))), [format!("notify: {name}(0) restart 1")], "nothing to abort");
        assert_eq!(subsystem.acknowledge(), ["acknowledge [(0, 1)]"]);
        assert_eq!(subsystem.commit(again(kind(1))), [format!("notify: {name}(1) restart 1")]);
    }
    let mut subsystem = absent().through([joining(0), joining(1)]);
    assert!(subsystem.commit(again(joining(1)))[0].starts_with("panic: "), "from the first barrier only");
}

/// Column "legal re-notification while processing": a restart replaces what is being processed, whose answer is void.
#[test]
fn s53_a_step_that_is_processed_takes_its_restart() {
    for (mut subsystem, kind) in [(absent(), joining as fn(u8) -> Step), (present(), leaving), (present(), forced)] {
        let _ = subsystem.commit(kind(0));
        let overtaken = subsystem.processing[0];
        let told = subsystem.commit(again(kind(0)));
        assert!(matches!(&told[..], [told] if told.starts_with("notify again: ") && told.ends_with("restart 1")));
        assert_eq!(subsystem.answer(overtaken), [""; 0], "it answers once, for the newer one");
        assert_eq!(subsystem.acknowledge(), ["acknowledge [(0, 1)]"]);
    }
}

/// Row "Joining (proc or acked b), Forced-Leaving(0)": the join is aborted (spec, Figs. 13 to 15).
#[test]
fn s53_joining_takes_forced_leaving() {
    let mut processing = absent();
    let _ = processing.commit(joining(0));
    let overtaken = processing.processing[0];
    assert_eq!(processing.commit(forced(0)), ["notify again: ForcedLeaving(0) restart 0"]);
    assert_eq!(processing.answer(overtaken), [""; 0], "the join's answer is void (T-8)");
    assert_eq!(processing.acknowledge(), ["acknowledge [(0, 0)]"]);
    let mut acknowledged = absent().through([joining(0)]);
    assert_eq!(acknowledged.commit(forced(0)), ["notify again: ForcedLeaving(0) restart 0"]);
}

/// Row "Leaving (proc or acked b), Forced-Leaving(0)": the leave is aborted.
#[test]
fn s53_leaving_takes_forced_leaving() {
    let mut processing = present();
    let _ = processing.commit(leaving(0));
    let overtaken = processing.processing[0];
    assert_eq!(processing.commit(forced(0)), ["notify again: ForcedLeaving(0) restart 0"]);
    assert_eq!(processing.answer(overtaken), [""; 0], "the leave's answer is void (T-8)");
    assert_eq!(processing.acknowledge(), ["acknowledge [(0, 0)]"]);
    let mut acknowledged = present().through([leaving(0)]);
    assert_eq!(acknowledged.commit(forced(0)), ["notify again: ForcedLeaving(0) restart 0"]);
}

/// Row "Forced-Leaving, Joining / Leaving": a protocol error.
#[test]
fn s53_forced_leaving_takes_neither_joining_nor_leaving() {
    for barrier_acknowledged in [false, true] {
        for kind in [TransitionKind::Joining, TransitionKind::Leaving] {
            let mut subsystem = present();
            let _ = subsystem.commit(forced(0));
            if barrier_acknowledged {
                let _ = subsystem.acknowledge();
            }
            let outputs = subsystem.commit(step(kind, 4, 0));
            assert!(is_protocol_error(&outputs), "{kind:?}: {outputs:?}");
        }
    }
}

/// Row "Joining, Leaving": a protocol error before Joined was acknowledged, legal after (T-12).
#[test]
fn s53_joining_takes_no_leaving_before_it_is_joined() {
    let mut processing = absent();
    let _ = processing.commit(joining(0));
    assert!(is_protocol_error(&processing.commit(leaving(0))));
    assert!(is_protocol_error(&absent().through([joining(0)]).commit(leaving(0))), "barrier 1 is missing");
    let mut joined = absent().through([joining(0), joining(1)]);
    assert_eq!(joined.commit(leaving(0)), ["notify: Leaving(0) restart 0"]);
}

/// Rows "Inactive, Inactive (context only)" and "Joined, Joined (context only)": with others, never alone (T-6, I-T15).
#[test]
fn s53_inactive_and_joined_come_as_context_of_others_only() {
    let mut subsystem = absent();
    let quiet = subsystem.record.clone();
    assert_eq!(subsystem.take(quiet), [""; 0], "a record without a step notifies nobody");
    for n2 in [NodeState::Joined, NodeState::Inactive] {
        let mut subsystem = absent();
        subsystem.record.nodes.get_mut(&N2).unwrap().state = n2;
        assert_eq!(subsystem.commit(joining(0)).len(), 1);
        let told = subsystem.told.unwrap();
        assert!(told.batch.iter().all(|notice| notice.node == N1), "N2 is no part of the batch");
        let state = if n2 == NodeState::Joined { LevelState::Joined } else { LevelState::Inactive };
        let states: BTreeMap<_, _> = told.states.iter().map(|(node, (_, state))| (*node, *state)).collect();
        assert_eq!(states, [(N0, LevelState::Joined), (N1, LevelState::Joining), (N2, state)].into());
    }
}

/// Row "any, same nid again": the acknowledgement is repeated if there is one, else nothing happens.
#[test]
fn s53_the_same_notification_again_repeats_the_acknowledgement() {
    let mut subsystem = absent();
    let _ = subsystem.commit(joining(0));
    let same = subsystem.record.clone();
    assert_eq!(subsystem.take(same.clone()), [""; 0], "it is being processed");
    let _ = subsystem.acknowledge();
    assert_eq!(subsystem.take(same), ["acknowledge [(0, 0)]"]);
    assert_eq!(subsystem.commit(joining(0)), ["acknowledge [(0, 0)]"], "in a newer record too");
}

/// Row "any, older record, older nid, or term < seen_term": ignored; an older term is told so.
#[test]
fn s53_what_is_older_is_ignored() {
    let mut subsystem = absent();
    let before = subsystem.record.clone();
    let _ = subsystem.commit(joining(0));
    let first = subsystem.record.clone();
    let _ = subsystem.acknowledge();
    let _ = subsystem.commit(again(joining(0)));
    assert_eq!(subsystem.take(first.clone()), [""; 0], "an older record (T-23)");
    assert_eq!(subsystem.commit(joining(0)), [""; 0], "an older number in a newer record");

    subsystem.record.revision = Revision { term: Term(2), seq: 0 };
    let newer = subsystem.record.clone();
    let _ = subsystem.take(newer);
    assert_eq!(subsystem.take(before), ["stale: 2.0"], "an older term (M-4)");
}

/// "Starting table": what its own Joining(b=0) tells a subsystem of the others.
#[test]
fn s53_a_joining_subsystem_starts_from_the_state_vector() {
    assert_eq!(present().commit(leaving(0)).len(), 1, "Joined as Joined");
    let mut leaver = present();
    leaver.record.nodes.get_mut(&N1).unwrap().state = NodeState::Inactive;
    let own =
        |restart| Step { participants: [N0].into_iter().collect(), restart, ..step(TransitionKind::Joining, 0, 0) };
    // At a restart of its own join the vector is taken again: N1, which was Joined, is gone.
    assert_eq!(leaver.show(N0, NodeState::Joining, Some(own(1))).len(), 1);
    assert!(is_protocol_error(&leaver.commit(leaving(0))), "Inactive as Inactive");

    let mut victim = absent();
    victim.record.nodes.insert(N1, {
        let (marked, io_certain, death_certain) = (true, true, true);
        let fence = FenceState { marked, io_certain, death_certain, method: None };
        let step = Some(Step { phase: StepPhase::Between, participants: NodeSet::EMPTY, ..forced(0) });
        let (levels, top, state) = (vec![LEVEL, ABOVE], Some(ABOVE), NodeState::ForcedLeaving);
        MemberEntry { incarnation: INCARNATION, state, step, levels, top, fence, ..MemberEntry::default() }
    });
    assert_eq!(victim.show(N0, NodeState::Joining, Some(own(1))).len(), 1);
    assert_eq!(victim.commit(forced(0)), ["notify: ForcedLeaving(0) restart 0"], "Forced as lost, to be recovered");
}
