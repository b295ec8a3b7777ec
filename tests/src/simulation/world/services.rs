//! Registration and launch on each node: carries the outputs of its machine out, in order
//! (`phalanx_actors::registration_and_launch`), and answers for the event-manager level.

use std::sync::Arc;

use phalanx_messages::notification::SubsystemNotification;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::{
    Instance, RegistrationMessage, RegistrationRecord, RunState, ServiceRecord, ServiceRun,
};
use phalanx_messages::service::{AllowableNodes, ChildFailure, PlacementPolicy, ServiceCommand, ServiceDefinition};
use phalanx_messages::{Level, NodeId, NodeIncarnation, NotificationId};
use phalanx_protocol::launcher::{Launcher, LauncherInput, LauncherOutput, LauncherSettings};
use phalanx_protocol::manager::{ManagerInput, Moment};
use phalanx_protocol::registration::{DatabaseRoom, SightChange};

use super::World;
use crate::simulation::clock::MS;
use crate::simulation::invariants::candidates_of;
use crate::simulation::network::Said;
use crate::simulation::process::services::Services;
use crate::simulation::process::{Job, ProcessEvent};
use crate::simulation::watched::Before;

/// A result that nobody has consumed is told again this often.
const REPEAT_MS: u64 = 1_000;
/// Longest time that a command may take.
const COMMAND_MS: u64 = 2_000;

/// The services of every world: one that needs recovery and has a child, one that does not, one that not every node may run, and
/// one that runs on all.
pub(super) fn definitions(nodes: u16) -> Vec<ServiceDefinition> {
    let command = |command: &str| Some(ServiceCommand::shell(command, COMMAND_MS));
    let service = |name: &str| ServiceDefinition {
        start_command: command("start"),
        stop_command: command("stop"),
        ..ServiceDefinition::new(name)
    };
    let some = (0..nodes.min(2)).map(NodeId).collect();
    vec![
        ServiceDefinition { recovery_command: command("recover"), ..service("licence") },
        service("queue"),
        ServiceDefinition {
            recovery_command: command("recover"),
            allowable_nodes: AllowableNodes::Listed(some),
            ..service("store")
        },
        ServiceDefinition {
            recovery_command: command("recover"),
            parent: Some("licence".to_owned()),
            child_failure: ChildFailure::FailGroup,
            ..service("audit")
        },
        ServiceDefinition {
            recovery_command: command("recover"),
            placement_policy: PlacementPolicy::RegisterOnAll,
            ..service("cache")
        },
    ]
}

/// Whether the level is the event manager's, which answers when registration-and-launch has adopted the change.
pub(super) fn adopts(level: Level) -> bool {
    level == Level::EVENT_MANAGER
}

impl World {
    pub(super) fn new_services(&self, me: NodeIncarnation) -> Services {
        let settings = LauncherSettings { me, profile: self.setup.profile, room: DatabaseRoom::default() };
        Services::new(Launcher::new(settings))
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
                    let found = orders.iter().flat_map(|order| self.truth.services.command_told(order)).collect();
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
            LauncherOutput::Answer { answer, .. } => {
                self.log.event(self.now, Some(node), "order answered", &[], || format!("{answer:?}"));
                self.coverage.reach(if answer.is_ok() {
                    "an order is carried out"
                } else {
                    "an order is not carried out"
                });
            }
            LauncherOutput::Leader(_)
            | LauncherOutput::DiskFailed(_)
            | LauncherOutput::Happened { .. }
            | LauncherOutput::Committed(_)
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

    /// An administrator wants something of a service, through any node.
    pub(super) fn order_something(&mut self) {
        let up: Vec<NodeId> = self.node_ids().into_iter().filter(|node| self.can_be_asked(*node)).collect();
        let names: Vec<String> = definitions(self.setup.nodes).into_iter().map(|service| service.name).collect();
        let (Some(node), Some(service)) = (self.random.pick(&up).copied(), self.random.pick(&names).cloned()) else {
            return;
        };
        let order = match self.random.below(4) {
            0 => ServiceOrder::Deregister,
            1 => ServiceOrder::Transfer { to: None },
            _ => ServiceOrder::Register,
        };
        let Some(services) = self.services_mut(node) else { return };
        services.orders += 1;
        let counter = services.orders;
        self.log.event(self.now, Some(node), "is ordered", &[counter], || format!("{order:?} {service}"));
        let order = RegistrationOrder::Service { service, order };
        self.tell_launcher(node, LauncherInput::Ask { counter, order });
    }

    /// Why a service is not at rest; none if all are (protocol I-R20).
    pub(super) fn unrest_of_services(&self) -> Option<String> {
        if !self.setup.levels.iter().any(|level| adopts(level.level)) {
            return None;
        }
        let newest = self.truth.services.newest();
        for (name, service) in &newest.services {
            for (of, run) in service.runs() {
                let instance = Instance { service: name.clone(), of };
                let on = self.truth.services.runs_on(&instance.lane());
                let started = || self.truth.services.instance(&instance.lane(), run.node).started;
                if !rests(&newest, &instance, run, &on, started) {
                    let lane = instance.lane();
                    return Some(format!(
                        "service {lane} is {:?} on {}, and it may run on {on:?}",
                        run.state, run.node
                    ));
                }
            }
        }
        None
    }
}

/// It waits for nothing that could still come by itself (protocol I-R20).
fn rests(
    record: &RegistrationRecord,
    instance: &Instance,
    run: &ServiceRun,
    on: &[NodeIncarnation],
    started: impl Fn() -> bool,
) -> bool {
    let candidates = candidates_of(record, instance);
    let parent = record.services.get(&instance.service).and_then(|service| service.definition.parent.as_deref());
    let parent = parent.and_then(|parent| record.services.get(parent)?.run_of(instance.of));
    let below = parent.is_some_and(|parent| parent.state != RunState::Registered);
    match run.state {
        RunState::Registered => run.want && on == [run.node] && started(),
        RunState::Failed => (parent.is_some() || candidates.is_subset(&run.tried)) && on.is_empty(),
        RunState::FailedRecovery => on.is_empty(),
        RunState::AwaitParent => below && on.is_empty(),
        RunState::DeRegistered => (!run.want || candidates.is_empty()) && on.is_empty(),
        RunState::PendRecovery | RunState::AwaitMaturity => candidates.is_empty() && on.is_empty(),
        RunState::Starting
        | RunState::StartCleanup
        | RunState::Stopping
        | RunState::StopKill
        | RunState::Recovering
        | RunState::RecoveryCleanup
        | RunState::FenceStart
        | RunState::FenceStop
        | RunState::FenceRecovery => false,
    }
}

/// One line about a database.
fn describe(record: &phalanx_messages::registration::RegistrationRecord) -> String {
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
