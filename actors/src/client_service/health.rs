//! Looks after a service that is registered here: runs its monitor, hears of the end of its processes, and tells of a failure as
//! anybody may: `service failed S --generation G`.

use std::time::Duration;

use actix::prelude::*;
use phalanx_messages::OperationId;
use phalanx_messages::launch::{Failure, LaunchResult, Leaves, Owner, WardenRequest};
use phalanx_messages::order::{RegistrationOrder, ServiceOrder};
use phalanx_messages::registration::Instance;
use phalanx_messages::service::{AgentClass, Invocation, Monitor, ServiceDefinition};
use phalanx_protocol::registration::{Care, HealthInput, HealthOutput, MonitorRule, Verdict};

use super::invoke::monitor_owner;
use super::{ClientService, Monitored};
use crate::ports::CarryOut;

/// Exit statuses of an OCF agent's monitor (resource agent API 1.1): it does not run; it runs, and is promoted.
const NOT_RUNNING: i32 = 7;
const RUNNING_PROMOTED: i32 = 8;

/// A registration at this incarnation of this node.
pub use phalanx_protocol::launcher::RegisteredHere;

/// Sent by registration-and-launch when it has changed: where the database says that the service is registered here, and how it is
/// defined; none = it is not registered here.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Registered(pub Option<Box<RegisteredHere>>);

impl ClientService {
    /// The database says something else than before.
    pub(super) fn registered(&mut self, here: Option<Box<RegisteredHere>>, ctx: &mut Context<Self>) {
        let before = std::mem::replace(&mut self.here, here);
        let lane = |here: &RegisteredHere| (here.instance.lane(), here.generation);
        let same = before.as_deref().map(lane) == self.here.as_deref().map(lane);
        if same
            && before.as_ref().is_some_and(|before| before.held)
            && self.here.as_ref().is_some_and(|here| !here.held)
        {
            tracing::info!("a service is held no more: what runs is adopted, what does not has failed");
        }
        if let Some(before) = before.filter(|_| !same && self.health.is_monitoring()) {
            // What it still says counts for nothing, and nothing of it shall be in the way of a stop.
            let owner = monitor_owner(&before.instance.lane());
            let kill = WardenRequest::Kill { owner, operation: None, timeout_ms: self.settings.kill_ms };
            ctx.spawn(self.settings.ask_warden(kill).into_actor(self).map(|_, _, _| ()));
        }
        self.look_after(!same, ctx);
    }

    /// Tells the machine what is registered here; `anew` = what it left running is to be watched.
    pub(super) fn look_after(&mut self, anew: bool, ctx: &mut Context<Self>) {
        let now = self.settings.restarts.now();
        let Some(here) = self.here.clone() else { return self.care(HealthInput::Deregistered, ctx) };
        let rule = |monitor: &Monitor| MonitorRule { interval_ms: monitor.interval_ms, tolerance: monitor.tolerance };
        let monitor = here.definition.monitor.as_ref().map(rule);
        let ends_by_command = here.definition.leaves == Leaves::State && here.definition.stop_command.is_some();
        let care = Care { monitor, held: here.held, outlives_processes: ends_by_command };
        self.care(HealthInput::Registered { generation: here.generation, care, now }, ctx);
        if anew {
            self.watch(&here.instance, here.generation, ctx);
        }
    }

    fn watch(&self, instance: &Instance, generation: OperationId, ctx: &mut Context<Self>) {
        let watch = WardenRequest::Watch { owner: Owner::Service(instance.lane()), operation: generation };
        ctx.spawn(self.settings.ask_warden(watch).into_actor(self).map(move |answer, actor, ctx| {
            match answer {
                LaunchResult::Succeeded => {} // there was nothing to watch
                LaunchResult::Failed { .. } => {
                    let now = actor.settings.restarts.now();
                    actor.care(HealthInput::ProcessesEnded { generation, now }, ctx);
                }
            }
        }));
    }

    /// Gives the machine an input and carries out what it wants.
    pub(super) fn care(&mut self, input: HealthInput, ctx: &mut Context<Self>) {
        let health = &mut self.health;
        let Some(outputs) = self.settings.restarts.run(|| health.step(input)) else {
            return self.begin_anew(ctx);
        };
        for output in outputs {
            match output {
                HealthOutput::RunMonitor { number } => self.run_monitor(number, ctx),
                HealthOutput::TellFailed { generation, text } => self.tell_failed(generation, text),
            }
        }
        self.show_monitor();
        self.wake_when_due(ctx);
    }

    /// Tells what the monitors have found, if that is something else than before.
    fn show_monitor(&mut self) {
        let here = self.here.as_ref().map(|here| here.instance.clone());
        let found = here.zip(self.health.monitor_status());
        if found == self.shown {
            return;
        }
        let before = std::mem::replace(&mut self.shown, found.clone());
        let gone = before.map(|(instance, _)| instance).filter(|was| found.as_ref().is_none_or(|(is, _)| is != was));
        if let Some(instance) = gone {
            self.settings.monitored.do_send(Monitored { instance, monitor: None });
        }
        if let Some((instance, monitor)) = found {
            self.settings.monitored.do_send(Monitored { instance, monitor: Some(monitor) });
        }
    }

    fn wake_when_due(&mut self, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        let Some(due) = self.health.next_deadline() else { return };
        let wait_ms = due.since(self.settings.restarts.now()).max(1);
        self.alarm = Some(ctx.run_later(Duration::from_millis(wait_ms), |actor, ctx| {
            actor.alarm = None;
            if actor.settings.gate.is_open() {
                let now = actor.settings.restarts.now();
                actor.care(HealthInput::Tick(now), ctx);
            } // else: the interval that repeats results looks again
        }));
    }

    /// The gate was closed when the machine was to look.
    pub(super) fn look_again(&mut self, ctx: &mut Context<Self>) {
        let now = self.settings.restarts.now();
        if self.alarm.is_none()
            && self.settings.gate.is_open()
            && self.health.next_deadline().is_some_and(|due| due <= now)
        {
            self.care(HealthInput::Tick(now), ctx);
        }
    }

    fn run_monitor(&mut self, number: u64, ctx: &mut Context<Self>) {
        let Some(here) = self.here.clone() else { return };
        let Some(monitor) = here.definition.monitor.clone() else { return };
        let outcome = self.settings.monitor(&here, &monitor);
        ctx.spawn(outcome.into_actor(self).map(move |outcome, actor, ctx| {
            let verdict = verdict(outcome, &here.definition, &monitor);
            if verdict != Verdict::Well {
                tracing::warn!(service = here.instance.service, ?verdict, "a monitor is not content");
            }
            let now = actor.settings.restarts.now();
            actor.care(HealthInput::MonitorEnded { number, verdict, now }, ctx);
        }));
    }

    /// Nothing follows from the answer here: if the failure is not taken up, it is told again.
    fn tell_failed(&self, generation: OperationId, text: String) {
        let Some(here) = &self.here else { return };
        let Instance { service, of } = here.instance.clone();
        tracing::warn!(service, reason = text, "a service has failed");
        let order = ServiceOrder::Failed { generation: generation.revision, node: of, text };
        self.settings.orders.do_send(CarryOut(RegistrationOrder::Service { service, order }));
    }
}

/// What a monitor's end means.
fn verdict(outcome: LaunchResult, definition: &ServiceDefinition, monitor: &Monitor) -> Verdict {
    let by_agent = definition.agent.as_ref().filter(|_| monitor.run == Invocation::Agent);
    let speaks_ocf = by_agent.is_some_and(|agent| match agent.class {
        AgentClass::Ocf { .. } | AgentClass::Systemd { .. } => true,
        AgentClass::Actor { .. } => false,
    });
    let failure = outcome.failure();
    let LaunchResult::Failed { text } = outcome else { return Verdict::Well };
    match failure {
        Some(Failure::TimedOut) => Verdict::Slow(text),
        Some(Failure::Status(NOT_RUNNING)) if speaks_ocf => Verdict::Dead(text),
        Some(Failure::Status(RUNNING_PROMOTED)) if speaks_ocf => {
            tracing::info!(
                service = definition.name,
                "its agent says that it is promoted, which is as good as running"
            );
            Verdict::Well
        }
        Some(Failure::Status(_) | Failure::Otherwise) | None => Verdict::Bad(text),
    }
}

#[cfg(test)]
mod tests {
    use phalanx_messages::service::ServiceAgent;

    use super::*;

    /// OCF resource agent API 1.1, "Exit status codes".
    #[test]
    fn the_exit_status_of_an_agents_monitor_says_how_the_service_is() {
        let class = AgentClass::Ocf { provider: "heartbeat".to_owned(), agent: "Dummy".to_owned() };
        let agent = Some(ServiceAgent { class, parameters: Default::default() });
        let with_agent = ServiceDefinition { agent, ..ServiceDefinition::new("s") };
        let monitor = |run| Monitor { run, interval_ms: 10, timeout_ms: 20, tolerance: 1 };
        let by_agent = |outcome| verdict(outcome, &with_agent, &monitor(Invocation::Agent));
        let status = |status| LaunchResult::Failed { text: LaunchResult::exit_status(status) };
        assert_eq!(by_agent(LaunchResult::Succeeded), Verdict::Well);
        assert_eq!(by_agent(status(7)), Verdict::Dead("exit status 7".to_owned()));
        assert_eq!(by_agent(status(8)), Verdict::Well);
        assert_eq!(by_agent(status(9)), Verdict::Bad("exit status 9".to_owned()), "it has failed as promoted");
        assert_eq!(by_agent(status(1)), Verdict::Bad("exit status 1".to_owned()));
        let slow = LaunchResult::Failed { text: LaunchResult::timed_out(20) };
        assert_eq!(by_agent(slow), Verdict::Slow("timed out after 20 ms and was killed".to_owned()));
        let own = monitor(Invocation::Arguments(vec!["check".to_owned()]));
        assert_eq!(verdict(status(7), &with_agent, &own), Verdict::Bad("exit status 7".to_owned()), "no agent's word");
    }
}
