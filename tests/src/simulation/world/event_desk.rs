//! The event manager daemon of each node: carries the outputs of its machine out (`phalanx_actors::event_daemon`). Watchers detect
//! what the weather lets occur, and action functions say that a service has failed, by the public request: nothing is returned
//! to registration-and-launch (spec, "5. Event Manager Daemon").

use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_messages::event::ParameterValue;
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::RegistrationRecord;
use phalanx_protocol::events::{DeskInput, DeskOutput, Done, Run};
use phalanx_protocol::manager::Moment;

use super::World;
use crate::simulation::invariants::r11_events_where_registered;
use crate::simulation::process::ProcessEvent;

impl World {
    /// A committed database, for whoever watches by it.
    pub(super) fn desk_takes_over(&mut self, node: NodeId, record: Arc<RegistrationRecord>) {
        self.desk(node, DeskInput::Database(record));
        let Some((me, services)) = self.process(node).map(|process| process.me).zip(self.services(node)) else {
            return;
        };
        let (watches, record) = (services.watches(), services.desk.record());
        let found = r11_events_where_registered::check(me, &watches, record, &self.truth.services);
        self.broken_all(found);
    }

    pub(super) fn desk_ticks(&mut self, node: NodeId) {
        if self.services(node).is_some_and(|services| services.desk.waits()) {
            self.desk(node, DeskInput::Tick);
        }
    }

    fn desk(&mut self, node: NodeId, input: DeskInput) {
        let now = self.clock(node);
        let Some(process) = self.process_mut(node) else { return };
        let open = process.gate.is_open_for(0, now);
        let Some(actors) = &mut process.actors else { return };
        let outputs = actors.services.desk.step(Moment { now, open, may_act: open }, input);
        for output in outputs {
            self.carry_out_desk(node, output);
        }
    }

    fn carry_out_desk(&mut self, node: NodeId, output: DeskOutput) {
        let Some(services) = self.services_mut(node) else { return };
        match output {
            DeskOutput::Watch { watch, definition } => {
                if services.watchers.insert(definition.name.clone(), watch).is_some() {
                    self.broken(format!("I-R11: node {node} watches for {} twice", definition.name));
                }
            }
            DeskOutput::Unwatch { event, watch } => {
                if services.watchers.remove(&event) != Some(watch) {
                    self.broken(format!("I-R11: node {node} ends a watching for {event} that there is not"));
                }
            }
            DeskOutput::Run(run) => {
                services.actions += 1;
                self.coverage.reach("an action function runs");
                let takes = self.command_takes();
                self.plan(node, self.now + takes, ProcessEvent::ActionEnded(run));
            }
            DeskOutput::Tell(occurrence) => self.coverage.reach(match occurrence.done {
                Done::Quiet => "an event occurs within its quiet time",
                Done::Busy => "an event occurs while its action function runs",
                Done::Waiting => "an action function waits for the lease",
                Done::Dropped => "an action function is given up",
                Done::Told | Done::Running | Done::Succeeded | Done::Failed | Done::WouldRun => "an event occurs",
            }),
            DeskOutput::Forget { .. } | DeskOutput::Tested { .. } => {}
        }
    }

    /// One of the watchers of that node detects its event.
    pub(super) fn something_occurs(&mut self, node: NodeId) {
        if !self.can_be_asked(node) {
            return;
        }
        let watchers = self.services(node).map(|services| services.watchers.clone()).unwrap_or_default();
        let watchers: Vec<_> = watchers.into_iter().collect();
        let Some((event, watch)) = self.random.pick(&watchers).cloned() else { return };
        self.log.event(self.now, Some(node), "an event occurs", &[watch.0], || event.clone());
        let out = [("count".to_owned(), ParameterValue::Number(1))].into();
        self.desk(node, DeskInput::Occurred { event, watch, out });
    }

    /// `phalanx service failed S --generation G` was all it did.
    pub(super) fn action_ended(&mut self, node: NodeId, run: &Run) {
        if let Some((service, purpose)) = run.purpose.as_ref().and_then(|it| Some((it.service.clone()?, it))) {
            let of = purpose.lane.split_once('@').and_then(|(_, of)| Some(NodeId(of.parse().ok()?)));
            let generation = purpose.generation.revision;
            let order = ServiceOrder::Failed { generation, node: of, text: format!("event {} occurred", run.event) };
            self.order(node, RegistrationOrder::Service { service, order });
        }
        if let Some(services) = self.services_mut(node) {
            services.actions -= 1;
        }
        self.desk(node, DeskInput::ActionEnded { run: run.id, result: LaunchResult::Succeeded });
    }
}
