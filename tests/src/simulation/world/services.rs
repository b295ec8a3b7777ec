//! Registration and launch on each node: carries the outputs of its machine out, in order
//! (`phalanx_actors::registration_and_launch`), and answers for the event-manager level.

use std::sync::Arc;

use phalanx_messages::admin::ServiceStatus;
use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::registration::{Instance, RegistrationMessage, RegistrationRecord, RunState, ServiceRecord};
use phalanx_messages::{Level, NodeId, NodeIncarnation, NotificationId, OperationId};
use phalanx_protocol::events::EventDesk;
use phalanx_protocol::launcher::{Launcher, LauncherInput, LauncherOutput, LauncherSettings};
use phalanx_protocol::manager::{ManagerInput, Moment};
use phalanx_protocol::registration::{DatabaseRoom, SightChange, service_statuses};

use super::World;
use crate::simulation::clock::MS;
use crate::simulation::invariants::{
    r11_events_where_registered, r12_every_node_is_notified, r13_the_summary_is_the_fold, r20_everything_comes_to_rest,
};
use crate::simulation::network::Said;
use crate::simulation::process::services::Services;
use crate::simulation::process::{Job, ProcessEvent};
use crate::simulation::watched::Before;

/// A result that nobody has consumed is told again this often.
const REPEAT_MS: u64 = 1_000;

/// Whether the level is the event manager's, which answers when registration-and-launch has adopted the change.
pub(super) fn adopts(level: Level) -> bool {
    level == Level::EVENT_MANAGER
}

impl World {
    pub(super) fn new_services(&self, me: NodeIncarnation) -> Services {
        let settings = LauncherSettings { me, profile: self.setup.profile, room: DatabaseRoom::default() };
        Services::new(Launcher::new(settings), EventDesk::new(me))
    }

    pub(super) fn services(&self, node: NodeId) -> Option<&Services> {
        Some(&self.actors(node)?.services)
    }

    pub(super) fn services_mut(&mut self, node: NodeId) -> Option<&mut Services> {
        Some(&mut self.actors_mut(node)?.services)
    }

    /// Puts a message into the mailbox of registration-and-launch.
    pub(super) fn tell_launcher(&mut self, node: NodeId, input: LauncherInput) {
        if self.is_up(node) {
            self.plan(node, self.now + MS / 10, ProcessEvent::Launcher(Box::new(input)));
        }
    }

    pub(super) fn launcher_ticks(&mut self, node: NodeId) {
        self.plan_in_ms(node, self.setup.profile.io_timeout_ms, ProcessEvent::LauncherTick);
        self.launch(node, LauncherInput::Tick);
        self.desk_ticks(node);
    }

    pub(super) fn reports_again(&mut self, node: NodeId) {
        self.plan_in_ms(node, REPEAT_MS, ProcessEvent::ReportsAgain);
        self.repeat_reports(node);
    }

    /// Gives the machine an input and carries out what follows.
    pub(super) fn launch(&mut self, node: NodeId, input: LauncherInput) {
        let now = self.clock(node);
        let guard_ms = self.setup.profile.guard_ms;
        let shown = self.log.shows_machines();
        let Some(process) = self.process_mut(node) else { return };
        let gate = process.gate;
        let moment = Moment { now, open: gate.is_open_for(0, now), may_act: gate.is_open_for(guard_ms, now) };
        let Some(actors) = &mut process.actors else { return };
        let before = shown.then(|| Before::of(&input, &actors.services.launcher));
        let outputs = actors.services.launcher.step(moment, input);
        let seen = before.map(|before| before.after("launcher", &outputs, &actors.services.launcher));
        self.log.machine_step(self.now, node, seen.unwrap_or_default());
        self.look_at_decisions(node);
        for output in outputs {
            if !self.is_up(node) {
                return;
            }
            self.carry_out_launch(node, output);
        }
    }

    /// The machine may hold a newer database for committed.
    fn look_at_decisions(&mut self, node: NodeId) {
        let Some(services) = self.services_mut(node) else { return };
        let Some(record) = services.launcher.decided().cloned() else { return };
        if std::mem::replace(&mut services.committed, record.revision) == record.revision {
            return;
        }
        let revision = record.revision;
        self.log.event(self.now, Some(node), "decides", &[revision.term.0, revision.seq], || describe(&record));
        let truth = &mut self.truth;
        let found = truth.services.database_committed(&record, &|who| !truth.running.contains(&who));
        self.broken_all(found);
        if let Some(configuration) = self.configuration_of(node) {
            let shown = service_statuses(&record, &record.seen(), &configuration, |_| None);
            self.broken_all(r13_the_summary_is_the_fold::check(&record, &shown));
        }
        for (_, run) in record.services.values().flat_map(ServiceRecord::runs) {
            self.coverage.reach(place_of(run.state));
        }
    }

    fn carry_out_launch(&mut self, node: NodeId, output: LauncherOutput) {
        match output {
            LauncherOutput::Read(read) => self.ask_disk_for(node, Job::Read(read)),
            LauncherOutput::Write(write) => self.ask_disk_for(node, Job::Write(write)),
            LauncherOutput::Send { to, message } => {
                if let RegistrationMessage::Orders { orders, .. } = &message {
                    let truth = &mut self.truth.services;
                    let found = orders.iter().flat_map(|order| truth.command_told(order)).collect();
                    self.broken_all(found);
                }
                self.send(node, to, Said::Registration(Arc::new(message)));
            }
            LauncherOutput::Perform { order, .. } => {
                let found = self.truth.services.command_told(&order);
                self.broken_all(found);
                self.perform(node, *order);
            }
            LauncherOutput::DatabaseSeen { instance, revision, awaited, .. } => {
                let service = instance.lane();
                self.database_seen(node, &service, revision, awaited);
            }
            LauncherOutput::Force { victim, reason } => {
                self.coverage.reach("forced out because of a service");
                self.tell_manager(node, ManagerInput::Force { victim, reason });
            }
            LauncherOutput::Adopted(change) => self.adopted(node, change),
            LauncherOutput::Committed(record) => self.desk_takes_over(node, record),
            LauncherOutput::Answer { answer, .. } => {
                self.log.event(self.now, Some(node), "order answered", &[], || format!("{answer:?}"));
                if let Some(services) = self.services_mut(node) {
                    services.answered += 1;
                }
                self.coverage.reach(if answer.is_ok() {
                    "an order is carried out"
                } else {
                    "an order is not carried out"
                });
            }
            LauncherOutput::Leader(_)
            | LauncherOutput::DiskFailed(_)
            | LauncherOutput::Happened { .. }
            | LauncherOutput::Registered { .. } => {}
        }
    }

    /// The event-manager level is notified: the watcher reads the change, and registration-and-launch adopts it.
    pub(super) fn adopt(&mut self, node: NodeId, notification: &SubsystemNotification) {
        let Some(me) = self.process(node).map(|process| process.me) else { return };
        let sights = SightChange::of(notification, me);
        let notices: Vec<(NodeIncarnation, NotificationId)> = (notification.batch.iter())
            .map(|notice| (NodeIncarnation { node: notice.node, incarnation: notice.incarnation }, notice.id))
            .collect();
        let Some(services) = self.services_mut(node) else { return };
        services.changes += 1;
        let change = services.changes;
        services.adopting.insert(change, notices);
        self.tell_launcher(node, LauncherInput::Adopt { change, sights });
    }

    fn adopted(&mut self, node: NodeId, change: u64) {
        let Some(notices) = self.services_mut(node).and_then(|services| services.adopting.remove(&change)) else {
            return;
        };
        for (subject, id) in notices {
            self.work_is_adopted(node, subject, &id);
        }
    }

    /// Where every service is, and in which registration.
    #[must_use]
    pub fn placements(&self) -> Vec<(String, RunState, NodeIncarnation, OperationId)> {
        let newest = self.truth.services.newest();
        let machines = newest.services.iter().flat_map(|(name, service)| service.runs().map(move |it| (name, it)));
        let placed = machines.map(|(name, (of, run))| {
            let lane = Instance { service: name.clone(), of }.lane();
            (lane, run.state, run.node, run.generation)
        });
        placed.collect()
    }

    /// Registration-and-launch of `node` shows every service as `down` on `other`.
    #[must_use]
    pub fn services_see_down(&self, node: NodeId, other: NodeId) -> bool {
        let shown = self.services(node).map(|services| services.launcher.services(self.clock(node)));
        let name = format!("n{other}");
        let down = |status: &ServiceStatus| status.nodes.get(&name).is_some_and(|node| node.state == "down");
        shown.is_some_and(|shown| !shown.is_empty() && shown.iter().all(down))
    }

    /// Why a service is not at rest; none if all are (protocol I-R20).
    pub(super) fn unrest_of_services(&self) -> Option<String> {
        let decided = self.setup.levels.iter().any(|level| adopts(level.level));
        decided
            .then(|| self.unanswered().or_else(|| r20_everything_comes_to_rest::unrest(&self.truth.services)))
            .flatten()
    }

    /// Somebody waits for the answer to an order, or for an action function that will ask for something, or has not read the newest
    /// database.
    fn unanswered(&self) -> Option<String> {
        let asks = |services: &Services| services.answered < services.orders || services.actions > 0;
        let newest = self.truth.services.newest().revision;
        let behind = |services: &Services| services.launcher.record().revision < newest;
        let what = |node: NodeId| match self.services(node) {
            Some(services) if asks(services) => Some(format!("I-R20: an order at node {node} is not answered")),
            Some(services) if behind(services) => Some(format!("I-R20: node {node} does not know database {newest}")),
            Some(_) | None => None,
        };
        self.node_ids().into_iter().find_map(what)
    }

    /// What is wrong with services although everything is at rest: events watched for, notifications, what is shown.
    #[must_use]
    pub fn wrong_services(&self) -> Vec<String> {
        let (truth, record) = (&self.truth.services, self.truth.services.newest());
        let mut found = r12_every_node_is_notified::at_rest(truth);
        for node in self.node_ids() {
            let Some(actors) = self.actors(node) else { continue };
            let me = self.process(node).map_or_else(NodeIncarnation::default, |process| process.me);
            found.extend(r11_events_where_registered::at_rest(me, &actors.services.watches(), truth));
            let shown = actors.services.launcher.services(self.clock(node));
            found.extend(r13_the_summary_is_the_fold::check(&record, &shown));
        }
        found
    }
}

/// One line about a database.
fn describe(record: &RegistrationRecord) -> String {
    use std::fmt::Write as _;
    let mut text = record.revision.to_string();
    for (name, service) in &record.services {
        for (of, run) in service.runs() {
            let lane = Instance { service: name.clone(), of }.lane();
            write!(text, " {lane}:{:?}@{}", run.state, run.node).ok();
        }
    }
    text
}

const fn place_of(state: RunState) -> &'static str {
    match state {
        RunState::DeRegistered => "service: de-registered",
        RunState::AwaitMaturity => "service: awaits maturity",
        RunState::AwaitParent => "service: awaits its parent",
        RunState::Starting => "service: starting",
        RunState::StartCleanup => "service: cleaned up after a start",
        RunState::Registered => "service: registered",
        RunState::Stopping => "service: stopping",
        RunState::StopKill => "service: killed after a stop",
        RunState::PendRecovery => "service: recovery pends",
        RunState::Recovering => "service: recovering",
        RunState::RecoveryCleanup => "service: cleaned up after a recovery",
        RunState::FenceStart => "service: its start costs a node",
        RunState::FenceStop => "service: its stop costs a node",
        RunState::FenceRecovery => "service: its recovery costs a node",
        RunState::Failed => "service: failed",
        RunState::FailedRecovery => "service: recovery failed",
    }
}
