//! From a committed command to whoever performs it: the warden with a program, or an actor of the application.

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::launch::{Action, LaunchRequest, LaunchResult, Leaves, Owner, Program, WardenRequest};
use phalanx_messages::registration::{Command, CommandKind, Order};
use phalanx_messages::service::{AgentClass, Invocation, Monitor, ServiceAgent, ServiceCommand, ServiceDefinition};

use super::environment::{agent_variables, environment, fencing_token};
use super::health::RegisteredHere;
use super::{ClientService, ClientServiceSettings};
use crate::service_actor::{ServiceAction, ServiceActionKind};

/// What an operation comes to, when it has.
pub(super) type Outcome = LocalBoxFuture<'static, LaunchResult>;

impl ClientService {
    /// Begins a committed command. None = the service has no such command.
    pub(super) fn begin(&self, order: &Order, victim: Option<&str>) -> Option<Outcome> {
        let Order { command, definition } = order;
        let settings = &self.settings;
        let owner = Owner::Service(command.instance.lane());
        let Some(action) = action_of(command.kind) else {
            let timeout_ms = settings.kill_ms;
            let kill = WardenRequest::Kill { owner, operation: Some(command.operation), timeout_ms };
            let by_actor = actor_of(definition)
                .map(|(name, agent)| settings.ask_actor(name, action_for(command, agent, victim), timeout_ms, 0));
            let by_warden = settings.ask_warden(kill);
            return Some(Box::pin(async move {
                match by_actor {
                    Some(by_actor) => match by_actor.await {
                        LaunchResult::Succeeded => by_warden.await,
                        failed @ LaunchResult::Failed { .. } => failed,
                    },
                    None => by_warden.await,
                }
            }));
        };
        let run = command_of(definition, action)?;
        if let (Invocation::Agent, Some((name, agent))) = (&run.run, actor_of(definition)) {
            let ServiceCommand { timeout_ms, retries, .. } = *run;
            return Some(settings.ask_actor(name, action_for(command, agent, victim), timeout_ms, retries));
        }
        let cleans = definition.leaves == Leaves::State && action != Action::Notify;
        let stop = definition.stop_command.as_ref().filter(|_| cleans);
        let mut variables = environment(&settings.surroundings, order, action, victim);
        variables.extend(agent_variables(definition, &command.instance, run.timeout_ms, None));
        Some(settings.ask_warden(WardenRequest::Launch(LaunchRequest {
            owner,
            operation: Some(command.operation),
            action,
            command: settings.program(definition, &run.run, agent_word(action)?)?,
            environment: variables,
            timeout_ms: run.timeout_ms,
            leaves: definition.leaves,
            clean_up: stop.and_then(|stop| settings.program(definition, &stop.run, "stop")),
            retries: run.retries,
        })))
    }
}

impl ClientServiceSettings {
    pub(super) fn ask_warden(&self, request: WardenRequest) -> Outcome {
        let answer = self.warden.send(request);
        Box::pin(async { answer.await.unwrap_or_else(|closed| LaunchResult::Failed { text: closed.to_string() }) })
    }

    /// Asks an actor of the application, again as often as `retries` says.
    fn ask_actor(&self, name: &str, action: ServiceAction, timeout_ms: u64, retries: u16) -> Outcome {
        let Some(actor) = self.actors.find(name) else {
            let text = format!("the application on this node has registered no actor `{name}`");
            return Box::pin(async { LaunchResult::Failed { text } });
        };
        Box::pin(async move {
            let mut outcome = ask_once(&actor, action.clone(), timeout_ms).await;
            for _ in 0..retries {
                if outcome == LaunchResult::Succeeded {
                    break;
                }
                outcome = ask_once(&actor, action.clone(), timeout_ms).await;
            }
            outcome
        })
    }

    /// The monitor of a service that is registered here.
    pub(super) fn monitor(&self, here: &RegisteredHere, monitor: &Monitor) -> Outcome {
        let RegisteredHere { instance, generation, definition, held: _ } = here;
        if let (Invocation::Agent, Some((name, agent))) = (&monitor.run, actor_of(definition)) {
            let action = ServiceAction {
                kind: ServiceActionKind::Monitor,
                service: instance.service.clone(),
                parameters: agent.parameters.clone(),
                generation: fencing_token(*generation),
                operation: None,
                victim: None,
            };
            return self.ask_actor(name, action, monitor.timeout_ms, 0);
        }
        let Some(command) = self.program(definition, &monitor.run, "monitor") else {
            return Box::pin(async { LaunchResult::Failed { text: "there is nothing to run".to_owned() } });
        };
        let mut variables = super::environment::of_monitor(&self.surroundings, instance, *generation);
        variables.extend(agent_variables(definition, instance, monitor.timeout_ms, Some(monitor.interval_ms)));
        self.ask_warden(WardenRequest::Launch(LaunchRequest {
            owner: monitor_owner(&instance.lane()),
            operation: None,
            action: Action::Watch,
            command,
            environment: variables,
            timeout_ms: monitor.timeout_ms,
            leaves: Leaves::Processes,
            clean_up: None,
            retries: 0,
        }))
    }

    /// What the warden runs; none = nothing.
    fn program(&self, definition: &ServiceDefinition, run: &Invocation, word: &str) -> Option<Program> {
        if let Some(program) = run.program() {
            return Some(program);
        }
        let agent = definition.agent.as_ref()?;
        let mut words = self.surroundings.agent_runner.clone();
        words.extend([agent.class.to_string(), word.to_owned()]);
        Some(Program::Arguments(words))
    }
}

async fn ask_once(actor: &Recipient<ServiceAction>, action: ServiceAction, timeout_ms: u64) -> LaunchResult {
    let text = match tokio::time::timeout(Duration::from_millis(timeout_ms), actor.send(action)).await {
        Ok(Ok(Ok(()))) => return LaunchResult::Succeeded,
        Ok(Ok(Err(text))) => text,
        Ok(Err(closed)) => format!("the actor has ended: {closed}"),
        Err(_) => LaunchResult::timed_out(timeout_ms),
    };
    LaunchResult::Failed { text }
}

/// Monitors have processes of their own, which nothing of the service waits for. No event has a colon in its name.
pub(crate) fn monitor_owner(lane: &str) -> Owner {
    Owner::Event(format!("monitor:{lane}"))
}

fn action_for(command: &Command, agent: &ServiceAgent, victim: Option<&str>) -> ServiceAction {
    let kind = match command.kind {
        CommandKind::Start => ServiceActionKind::Start,
        CommandKind::Stop => ServiceActionKind::Stop,
        CommandKind::Recovery => ServiceActionKind::Recovery,
        CommandKind::Notify => ServiceActionKind::Notify,
        CommandKind::Kill => ServiceActionKind::Kill,
    };
    ServiceAction {
        kind,
        service: command.instance.service.clone(),
        parameters: agent.parameters.clone(),
        generation: fencing_token(command.generation),
        operation: Some(command.operation),
        victim: victim.map(str::to_owned),
    }
}

fn actor_of(definition: &ServiceDefinition) -> Option<(&str, &ServiceAgent)> {
    let agent = definition.agent.as_ref()?;
    match &agent.class {
        AgentClass::Actor { name } => Some((name, agent)),
        AgentClass::Ocf { .. } | AgentClass::Systemd { .. } => None,
    }
}

/// `None` = no command runs: it is a kill.
const fn action_of(kind: CommandKind) -> Option<Action> {
    match kind {
        CommandKind::Start => Some(Action::Start),
        CommandKind::Stop => Some(Action::Stop),
        CommandKind::Recovery => Some(Action::Recovery),
        CommandKind::Notify => Some(Action::Notify),
        CommandKind::Kill => None,
    }
}

/// The word for it that an agent would be given.
const fn agent_word(action: Action) -> Option<&'static str> {
    match action {
        Action::Start => Some("start"),
        Action::Stop => Some("stop"),
        Action::Notify => Some("notify"),
        Action::Recovery => Some("recovery"),
        Action::Transition | Action::Watch => None,
    }
}

const fn command_of(definition: &ServiceDefinition, action: Action) -> Option<&ServiceCommand> {
    match action {
        Action::Start => definition.start_command.as_ref(),
        Action::Stop => definition.stop_command.as_ref(),
        Action::Notify => definition.notify_command.as_ref(),
        Action::Recovery => definition.recovery_command.as_ref(),
        Action::Transition | Action::Watch => None,
    }
}
