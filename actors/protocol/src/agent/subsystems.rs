//! This node's subsystems as they come, fail and die: registration at run time, repetition of what failed, and death without a
//! leave (protocol T-15, T-17, T-24; spec, Figs. 7a to 7c: the call of the event manager "returns immediately", with the
//! notification of its own join).
//!
//! What always holds: a subsystem that is dead is told nothing. While it may come back, its node answers nothing for it, so the
//! others wait; when its level is given up, its node acknowledges everything for it, because there is nothing left to do.

use std::collections::{BTreeMap, BTreeSet};

use phalanx_messages::membership::{LevelRegistration, MemberEntry, NodeState, Step, TransitionKind};
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification, TransitionNotice};
use phalanx_messages::peer::LevelRefusal;
use phalanx_messages::subsystem::DeathPolicy;
use phalanx_messages::{Instant, Level, NodeIncarnation, NotificationId, Revision};

use super::{Agent, AgentOutput, Dispatched, Progress};
use crate::coordinator::level_states::{incarnation_of, states, subjects};

/// The subsystem is asked again after 1, 2, 4 ... seconds, at most this many doublings.
const BACK_OFF_DOUBLINGS_MAX: u32 = 5;
/// What the master has not answered is asked again after this long (protocol §5.6, 7).
const ASK_AGAIN_MS: u64 = 1_000;

/// A subsystem that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Death {
    /// It may register again; the next tick starts the time.
    MayReturn { policy: DeathPolicy, since: Option<Instant> },
    /// Its level is given up.
    Dropped,
}

/// See the module.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Subsystems {
    /// Registered here and not in the record yet.
    wanted: BTreeMap<Level, LevelRegistration>,
    deaths: BTreeMap<Level, Death>,
    /// They live and want to leave alone.
    leaving: BTreeSet<Level>,
    /// For which record, and when, the master was last asked.
    asked: Option<(Revision, Option<Instant>)>,
    now: Option<Instant>,
}

impl Subsystems {
    /// A subsystem waits until the record has its level, or has it anew.
    pub fn waits_at(&self, level: Level) -> bool {
        self.wanted.contains_key(&level)
    }

    /// None waits for anything.
    fn is_quiet(&self) -> bool {
        self.wanted.is_empty() && self.deaths.is_empty() && self.leaving.is_empty()
    }

    fn is_dropped(&self, level: Level) -> bool {
        self.deaths.get(&level) == Some(&Death::Dropped)
    }
}

impl Agent {
    /// Time alone changes nothing here until there is another input.
    pub(crate) fn is_quiet(&self) -> bool {
        let failed = |last: &Dispatched| matches!(last.progress, Progress::Failed { .. });
        self.subsystems.is_quiet() && !self.dispatched.values().any(failed)
    }

    pub(super) fn register(&mut self, registration: LevelRegistration, outputs: &mut Vec<AgentOutput>) {
        let level = registration.level;
        if let Some(Death::MayReturn { .. }) = self.subsystems.deaths.get(&level) {
            if let Some(have) = self.differs(&registration) {
                let refusal = LevelRefusal::BarrierMismatch { have, want: registration };
                return outputs.push(AgentOutput::Refused { level, refusal }); // The dead one may still come back.
            }
            self.subsystems.deaths.remove(&level);
            if self.own.has(level) {
                return self.resume(level, outputs);
            }
        }
        // Whoever comes after its level was given up waits until the level has left, and joins anew.
        if !self.own.has(level) || self.subsystems.is_dropped(level) {
            self.subsystems.wanted.insert(level, registration);
            self.ask_at_once(outputs);
        }
    }

    /// The master does not let it in. Said once, and not to whoever asks for the same level with something else.
    pub(super) fn refused(
        &mut self,
        registration: &LevelRegistration,
        refusal: LevelRefusal,
        outputs: &mut Vec<AgentOutput>,
    ) {
        let level = registration.level;
        if self.subsystems.wanted.get(&level) == Some(registration) {
            self.subsystems.wanted.remove(&level);
            outputs.push(AgentOutput::Refused { level, refusal });
        }
    }

    /// A subsystem that the record has leaves as a step of its own. One that it does not have is gone at once; should the master
    /// have let it in meanwhile, its node answers for it.
    pub(super) fn withdraw(&mut self, level: Level, outputs: &mut Vec<AgentOutput>) {
        if level.is_built_in() {
            return;
        }
        if self.own.has(level) && !self.subsystems.is_dropped(level) {
            self.subsystems.leaving.insert(level);
            self.ask_at_once(outputs);
        } else {
            self.subsystems.wanted.remove(&level);
            self.subsystems.deaths.insert(level, Death::Dropped);
            outputs.push(AgentOutput::Deregistered(level));
        }
    }

    /// What the record has at a level of this node, if a successor of the dead subsystem there wants something else.
    fn differs(&self, want: &LevelRegistration) -> Option<LevelRegistration> {
        let have = self.record.levels.get(&want.level).filter(|_| self.own.has(want.level))?;
        (have.barriers != want.barriers || have.name != want.name).then(|| have.clone())
    }

    fn resume(&self, level: Level, outputs: &mut Vec<AgentOutput>) {
        outputs.push(AgentOutput::Resume { level, states: self.levels.known(level, &self.record) });
        outputs.extend(self.notify_again(level, |_| true).map(AgentOutput::Notify));
    }

    pub(super) fn died(&mut self, level: Level, policy: DeathPolicy) {
        let policy = if level.is_built_in() { DeathPolicy::ForceNode } else { policy };
        self.subsystems.wanted.remove(&level);
        self.subsystems.leaving.remove(&level);
        if self.subsystems.is_dropped(level) {
            return; // It was waiting for its level to leave.
        }
        self.subsystems.deaths.insert(level, Death::MayReturn { policy, since: None });
        for last in self.dispatched.values_mut().filter(|last| last.id.level == level) {
            if matches!(last.progress, Progress::Failed { .. }) {
                last.progress = Progress::Processing; // Its successor has not refused anything.
            }
        }
    }

    /// Gives a notification to its subsystem, if that lives.
    pub(super) fn deliver(&mut self, notification: SubsystemNotification, outputs: &mut Vec<AgentOutput>) {
        match self.subsystems.deaths.get(&notification.level) {
            None => outputs.push(AgentOutput::Notify(notification)),
            Some(Death::MayReturn { .. }) => {} // Told when it resumes.
            Some(Death::Dropped) => self.answer_for_the_dropped(notification.level, outputs),
        }
    }

    fn answer_for_the_dropped(&mut self, level: Level, outputs: &mut Vec<AgentOutput>) {
        let unanswered = |(_, last): &(&NodeIncarnation, &Dispatched)| {
            last.id.level == level && last.progress == Progress::Processing
        };
        let unanswered: Vec<_> = self.dispatched.iter().filter(unanswered).map(|(who, last)| (*who, last.id)).collect();
        for (subject, id) in unanswered {
            let answer = SubsystemAnswer::Acknowledged;
            self.answered(SubsystemAcknowledged { subject, id, answer }, outputs);
        }
    }

    /// There is something new to ask for.
    fn ask_at_once(&mut self, outputs: &mut Vec<AgentOutput>) {
        self.subsystems.asked = None;
        self.ask_the_master(outputs);
    }

    /// What only the master can do for this node's levels, one thing at a time (T-4), as soon as the record allows it.
    pub(super) fn ask_the_master(&mut self, outputs: &mut Vec<AgentOutput>) {
        self.forget_the_registered();
        let Some(question) = self.question() else { return };
        let (revision, now) = (self.record.revision, self.subsystems.now);
        let waits = |(of, at): (Revision, Option<Instant>)| {
            let elapsed = now.zip(at).map_or(0, |(now, at)| now.since(at));
            of == revision && elapsed < ASK_AGAIN_MS && at.is_some() == now.is_some()
        };
        if !self.subsystems.asked.is_some_and(waits) {
            self.subsystems.asked = Some((revision, now));
            outputs.push(question);
        }
    }

    /// A level that the record has needs no request; one that has left is forgotten with its death, and may join anew.
    fn forget_the_registered(&mut self) {
        let Subsystems { wanted, deaths, leaving, .. } = &mut self.subsystems;
        let own = &self.own;
        leaving.retain(|level| own.has(*level));
        deaths.retain(|level, death| *death != Death::Dropped || own.has(*level) || !wanted.contains_key(level));
        wanted.retain(|level, _| !own.has(*level) || deaths.contains_key(level));
    }

    fn question(&self) -> Option<AgentOutput> {
        let entry = self.record.nodes.get(&self.me.node).filter(|entry| entry.incarnation == self.me.incarnation)?;
        let seen = self.record.revision;
        let goes = |level: &Level| self.subsystems.is_dropped(*level) || self.subsystems.leaving.contains(level);
        let gives_up = |level: &Level| goes(level) && may_withdraw(entry, *level);
        if let Some(level) = entry.levels.iter().copied().find(gives_up) {
            return Some(AgentOutput::Withdraw { level, seen });
        }
        let runs = entry.state == NodeState::Joining || entry.step.is_some();
        let wanted = self.subsystems.wanted.values().find(|wanted| !self.own.has(wanted.level));
        let wanted = wanted.filter(|_| !runs || entry.state == NodeState::Leaving).cloned();
        wanted.map(|registration| AgentOutput::Register { registration, seen })
    }

    pub(super) fn ticked(&mut self, now: Instant, outputs: &mut Vec<AgentOutput>) {
        self.subsystems.now = Some(now);
        self.end_waiting_for_the_dead(now, outputs);
        self.notify_the_failed(now, outputs);
        self.ask_the_master(outputs);
    }

    fn end_waiting_for_the_dead(&mut self, now: Instant, outputs: &mut Vec<AgentOutput>) {
        let mut over = Vec::new();
        for (level, death) in &mut self.subsystems.deaths {
            let Death::MayReturn { policy, since } = death else { continue };
            if now.since(*since.get_or_insert(now)) >= self.restart_ms {
                over.push((*level, *policy));
            }
        }
        for (level, policy) in over {
            match policy {
                DeathPolicy::ForceNode if self.own.has(level) => {
                    let reason = format!("its subsystem at level {level} died and did not come back in time");
                    outputs.push(AgentOutput::Panic { reason });
                }
                DeathPolicy::ForceNode => {} // Not while the cluster does not know of the level.
                DeathPolicy::DropLevel => {
                    self.subsystems.deaths.insert(level, Death::Dropped);
                    self.answer_for_the_dropped(level, outputs);
                }
            }
        }
    }

    /// T-24: subsystems that failed are notified again.
    fn notify_the_failed(&mut self, now: Instant, outputs: &mut Vec<AgentOutput>) {
        if !self.dispatched.values().any(|last| matches!(last.progress, Progress::Failed { .. })) {
            return;
        }
        let runs: Vec<NotificationId> = subjects(&self.record)
            .map(|(_, step)| step)
            .filter(|step| self.takes_part(step))
            .map(Step::notification)
            .collect();
        let mut due = Vec::new();
        // A step on hold dispatches nothing (T-23); it is still to be repeated if it goes on.
        for (who, last) in self.dispatched.iter_mut().filter(|(_, last)| runs.contains(&last.id)) {
            let Progress::Failed { again_at, .. } = &mut last.progress else { continue };
            let Some(at) = *again_at else {
                let failures = self.failures.entry(*who).or_insert((last.id, 0));
                if failures.0 != last.id {
                    *failures = (last.id, 0);
                }
                *again_at = Some(now.plus(1_000 << failures.1));
                failures.1 = (failures.1 + 1).min(BACK_OFF_DOUBLINGS_MAX);
                continue;
            };
            if at <= now {
                last.progress = Progress::Processing;
                due.push((*who, last.id.level));
            }
        }
        for (who, level) in due {
            outputs.extend(self.notify_again(level, |other| *other == who).map(AgentOutput::Notify));
        }
    }

    /// What the subsystem at `level` has not answered, with the numbers it had.
    fn notify_again(&self, level: Level, about: impl Fn(&NodeIncarnation) -> bool) -> Option<SubsystemNotification> {
        let running = subjects(&self.record).filter(|(_, step)| step.level == level && self.takes_part(step));
        let unanswered = running.filter_map(|(subject, step)| {
            let who = incarnation_of(&self.record, subject).filter(&about)?;
            let last = self.dispatched.get(&who)?;
            let open = last.id == step.notification() && last.progress == Progress::Processing;
            open.then_some((who, last, step.participants))
        });
        let mut unanswered: Vec<_> = unanswered.collect();
        unanswered.sort_by_key(|(who, ..)| *who != self.me);
        let notice = |(who, last, _): &(NodeIncarnation, &Dispatched, _)| {
            let NodeIncarnation { node, incarnation } = *who;
            TransitionNotice { id: last.id, node, incarnation, kind: last.kind, renotification: false }
        };
        Some(SubsystemNotification {
            level,
            participants: unanswered.first()?.2,
            batch: unanswered.iter().map(notice).collect(),
            states: states(&self.record, level),
            formation: self.record.formation,
        })
    }
}

/// The level can leave alone now, or as soon as it has joined.
fn may_withdraw(entry: &MemberEntry, level: Level) -> bool {
    let joins = |step: &phalanx_messages::membership::Step| {
        step.level == level && step.kind == TransitionKind::JoinExtending && !entry.withdrawing
    };
    entry.state == NodeState::Joined && entry.step.as_ref().is_none_or(joins)
}
