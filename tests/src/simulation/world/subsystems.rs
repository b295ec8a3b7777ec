//! The subsystems of the kernel levels: they take their time, wait for each other's real begin, and answer once.

use phalanx_messages::membership::TransitionKind;
use phalanx_messages::notification::{SubsystemAcknowledged, SubsystemAnswer, SubsystemNotification};
use phalanx_messages::{Level, NodeId, NodeIncarnation, NotificationId};
use phalanx_protocol::manager::ManagerInput;

use super::World;
use super::services::adopts;
use crate::invariants::{self, Views};
use crate::simulation::clock::MS;
use crate::simulation::invariants as own;
use crate::simulation::process::ProcessEvent;
use crate::simulation::process::subsystem::{Outcome, Work};

impl World {
    pub(super) fn notified(&mut self, node: NodeId, notification: SubsystemNotification) {
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let Some(record) = self.actors(node).map(|actors| actors.manager.record().clone()) else { return };
        let found = invariants::of_notification(&record, &notification, &|who| self.truth.is_dead(who));
        self.broken_all(found);
        let found = self.truth.notified(me, &notification);
        self.broken_all(found);
        let level = notification.level;
        let Some(registration) = self.setup.levels.iter().find(|it| it.level == level).cloned() else {
            return self.broken(format!("I-T10: level {level} of {me} is notified and not registered"));
        };
        let found = own::t12_barriers_are_agreed::check(me, &registration, &notification);
        self.broken_all(found);
        let found = own::t21_only_the_newest_record::check(me, &record, &notification);
        self.broken_all(found);
        let own_join = notification.batch.iter().any(|notice| {
            let own = notice.node == me.node && notice.incarnation == me.incarnation;
            own && notice.kind == TransitionKind::Joining && notice.id.barrier == 0
        });
        if own_join && let Some(subsystem) = self.actors_mut(node).and_then(|actors| actors.subsystems.get_mut(&level))
        {
            subsystem.start(&notification, me);
        }
        if adopts(level) {
            self.adopt(node, &notification);
        }
        for notice in &notification.batch {
            let subject = NodeIncarnation { node: notice.node, incarnation: notice.incarnation };
            let outcome = self.outcome(level);
            let Some(actors) = self.actors_mut(node) else { return };
            actors.begun.insert(subject, notice.id);
            let Some(subsystem) = actors.subsystems.get_mut(&level) else { return };
            match subsystem.begin(notice, &registration, notification.participants, outcome) {
                Ok(Some((row, standing))) => self.coverage.row(row, standing),
                Ok(None) => self.coverage.reach("a refused step is notified again"),
                Err(text) => self.broken(format!("{text}, at level {level} of {me}")),
            }
            self.log.event(self.now, Some(node), "begins", &[u64::from(subject.node.0), u64::from(level.0)], || {
                format!("{:?} of {subject} at level {level}, barrier {}", notice.kind, notice.id.barrier)
            });
            let takes = self.random.below(self.setup.weather.work_max) + MS / 10;
            self.plan(node, self.now + takes, ProcessEvent::Worked { level, subject, id: notice.id });
            self.others_may_answer(subject);
        }
    }

    /// The event manager ends its part when registration-and-launch has adopted the change, whatever else is drawn.
    fn outcome(&mut self, level: Level) -> Outcome {
        if adopts(level) {
            Outcome::Done
        } else if self.random.chance(self.setup.weather.hang) {
            self.coverage.reach("a subsystem hangs");
            Outcome::Never
        } else if self.random.chance(self.setup.weather.refuse) {
            Outcome::Refused
        } else {
            Outcome::Done
        }
    }

    fn work(&mut self, node: NodeId, level: Level, subject: NodeIncarnation, id: NotificationId) -> Option<&mut Work> {
        let subsystem = self.actors_mut(node)?.subsystems.get_mut(&level)?;
        subsystem.work.get_mut(&subject).filter(|work| work.id == id)
    }

    pub(super) fn worked(&mut self, node: NodeId, level: Level, subject: NodeIncarnation, id: NotificationId) {
        if let Some(work) = self.work(node, level, subject, id) {
            work.worked = true;
        }
        self.may_answer(node, level, subject);
    }

    /// Somebody has begun a step: whoever waited for that goes on.
    fn others_may_answer(&mut self, subject: NodeIncarnation) {
        let waiting: Vec<(NodeId, Level)> = self
            .hosts
            .iter()
            .filter_map(|(node, host)| Some((*node, host.process.as_ref()?.actors.as_ref()?)))
            .flat_map(|(node, actors)| actors.subsystems.iter().map(move |(level, it)| (node, *level, it)))
            .filter(|(_, _, subsystem)| subsystem.work.get(&subject).is_some_and(|work| work.worked))
            .map(|(node, level, _)| (node, level))
            .collect();
        for (node, level) in waiting {
            self.may_answer(node, level, subject);
        }
    }

    /// A refusal does not wait for anybody.
    fn may_answer(&mut self, node: NodeId, level: Level, subject: NodeIncarnation) {
        let Some(actors) = self.actors(node) else { return };
        let Some(work) = actors.subsystems.get(&level).and_then(|subsystem| subsystem.work.get(&subject)) else {
            return;
        };
        let ready = match work.outcome {
            Outcome::Done => work.participants.iter().all(|other| self.has_begun(other, subject, work)),
            Outcome::Refused => true,
            Outcome::Never => false,
        };
        if !work.worked || !work.adopted || work.answering || !ready {
            return;
        }
        let id = work.id;
        if let Some(work) = self.work(node, level, subject, id) {
            work.answering = true;
        }
        let at = self.now + self.random.below(MS);
        self.plan(node, at, ProcessEvent::Answers { level, subject, id });
    }

    /// Registration-and-launch has adopted what the notice says.
    pub(super) fn work_is_adopted(&mut self, node: NodeId, subject: NodeIncarnation, id: &NotificationId) {
        if let Some(work) = self.work(node, Level::EVENT_MANAGER, subject, *id) {
            work.adopted = true;
        }
        self.may_answer(node, Level::EVENT_MANAGER, subject);
    }

    fn has_begun(&self, node: NodeId, subject: NodeIncarnation, work: &Work) -> bool {
        let begun = self.actors(node).and_then(|actors| actors.begun.get(&subject));
        begun.is_some_and(|begun| begun.transition == work.id.transition && reaches(begun, &work.id, work.kind))
    }

    pub(super) fn answers(&mut self, node: NodeId, level: Level, subject: NodeIncarnation, id: NotificationId) {
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let subsystem = self.actors_mut(node).and_then(|actors| actors.subsystems.get_mut(&level));
        let Some(work) = subsystem.and_then(|subsystem| subsystem.end(subject, &id)) else { return };
        let answer = match work.outcome {
            Outcome::Done => SubsystemAnswer::Acknowledged,
            Outcome::Refused => SubsystemAnswer::Failed { text: "drawn".to_owned() },
            Outcome::Never => return,
        };
        if answer != SubsystemAnswer::Acknowledged {
            self.coverage.reach("a subsystem refuses");
        }
        // T-24: a join that is refused is given up, and what follows stands for the acknowledgement.
        if answer == SubsystemAnswer::Acknowledged || work.kind == TransitionKind::Joining {
            self.truth.acknowledged(me, &id);
        }
        self.log.event(self.now, Some(node), "answers", &[u64::from(subject.node.0), u64::from(level.0)], || {
            format!("{:?} of {subject} at level {level}, barrier {}: {answer:?}", work.kind, id.barrier)
        });
        self.manage(node, ManagerInput::Answered(SubsystemAcknowledged { subject, id, answer }));
    }

    /// What the subsystems of a node really know.
    pub(in crate::simulation) fn views(&self, node: NodeId) -> Views {
        let mut views = Views::new();
        for (level, subsystem) in self.actors(node).iter().flat_map(|actors| &actors.subsystems) {
            subsystem.add_views(*level, &mut views);
        }
        views
    }
}

/// `begun` is the step `wanted` or a later one of the same transition.
fn reaches(begun: &NotificationId, wanted: &NotificationId, kind: TransitionKind) -> bool {
    let place = |id: &NotificationId| {
        let level = i64::from(id.level.0);
        (id.restart, if kind == TransitionKind::Leaving { -level } else { level }, id.barrier)
    };
    place(begun) >= place(wanted)
}
