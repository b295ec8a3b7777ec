//! The action functions of a service: its commands or its agent, its monitor, and what happens when it fails
//! (spec, "4. Action Functions").

use std::collections::BTreeMap;

use phalanx_messages::limits::RETRIES_MAX;
use phalanx_messages::service::{
    AgentClass, Invocation, Monitor, RestartPolicy, ServiceAgent, ServiceCommand, ServiceDefinition,
};

use super::{Checker, TIMEOUT_MS, at};
use crate::config::raw::{RawCommand, RawMonitor};
use crate::config::{command, subsystem};
use crate::ocf::Metadata;

/// A monitor of an agent that says nothing else begins so long after the last one has ended, and may take so long.
pub(in crate::config) const MONITOR_INTERVAL_MS: u64 = 10_000;
/// How long a monitor may take if nothing else is said.
pub(in crate::config) const MONITOR_TIMEOUT_MS: u64 = 20_000;
/// A service has failed after this many bad monitors in a row, if nothing else is said.
pub(in crate::config) const TOLERANCE: u16 = 1;

/// What is checked here, as far as it was given.
#[derive(Debug, Default)]
pub(super) struct Actions {
    start: Option<ServiceCommand>,
    stop: Option<ServiceCommand>,
    notify: Option<ServiceCommand>,
    recovery: Option<ServiceCommand>,
    agent: Option<ServiceAgent>,
    monitor: Option<Monitor>,
    restart: RestartPolicy,
}

impl Actions {
    /// Something may have to be stopped by more than a kill.
    pub const fn has_stop(&self) -> bool {
        self.stop.is_some()
    }

    /// It is performed inside of the application, with which it ends.
    pub fn is_actor(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| matches!(agent.class, AgentClass::Actor { .. }))
    }

    /// Puts them into a definition.
    pub fn into_definition(self, definition: ServiceDefinition) -> ServiceDefinition {
        ServiceDefinition {
            start_command: self.start,
            stop_command: self.stop,
            notify_command: self.notify,
            recovery_command: self.recovery,
            agent: self.agent,
            monitor: self.monitor,
            restart: self.restart,
            ..definition
        }
    }
}

impl Checker<'_, '_, '_> {
    pub(super) fn actions(&mut self) -> Actions {
        let raw = self.raw;
        let (agent, metadata) = self.agent();
        let by_agent = agent.is_some();
        let default_ms =
            |action| metadata.as_ref().and_then(|metadata| metadata.timeout_ms(action)).unwrap_or(TIMEOUT_MS);
        let (start_ms, stop_ms) = (default_ms("start"), default_ms("stop"));
        Actions {
            start: self.command(&Keys::new("start", &raw.start_command, &raw.start_timeout, None, start_ms), by_agent),
            stop: self
                .command(&Keys::new("stop", &raw.stop_command, &raw.stop_timeout, raw.stop_retries, stop_ms), by_agent),
            notify: self.command(
                &Keys::new("notify", &raw.notify_command, &raw.notify_timeout, raw.notify_retries, TIMEOUT_MS),
                false,
            ),
            recovery: self.command(
                &Keys::new("recovery", &raw.recovery_command, &raw.recovery_timeout, raw.recovery_retries, TIMEOUT_MS),
                false,
            ),
            monitor: self.monitor(by_agent, metadata.as_ref()),
            restart: self.restart(),
            agent,
        }
    }

    fn command(&mut self, keys: &Keys<'_>, by_agent: bool) -> Option<ServiceCommand> {
        let Keys { action, command, timeout, retries, default_ms } = *keys;
        let (command_key, timeout_key) = (format!("{action}_command"), format!("{action}_timeout"));
        let retries_key = format!("{action}_retries");
        let path = at(self.index, &timeout_key);
        let run = match (command, by_agent) {
            (Some(_), true) => {
                let message = format!("service `{}` has both agent and {command_key}", self.raw.name);
                self.clash(&command_key, "agent", message, "keep one of the two");
                return None;
            }
            (Some(raw), false) => command::program(&at(self.index, &command_key), &command_key, raw, self.mistakes)
                .map(Invocation::from)?,
            (None, true) => Invocation::Agent,
            (None, false) => {
                let given = [
                    (&timeout_key, timeout.as_ref().map(|timeout| format!("\"{timeout}\""))),
                    (&retries_key, retries.map(|retries| retries.to_string())),
                ];
                for (key, value) in given.into_iter().filter_map(|(key, value)| Some((key, value?))) {
                    let message =
                        format!("{key} of service `{}` is {value}, and there is no {command_key}", self.raw.name);
                    self.wrong(key, message, &format!("add {command_key}, or remove {key}"));
                }
                return None;
            }
        };
        let timeout_ms = subsystem::timeout_ms(&path, timeout.as_deref(), default_ms, self.mistakes);
        Some(ServiceCommand { run, timeout_ms, retries: self.retries(&retries_key, retries) })
    }

    fn retries(&mut self, key: &str, given: Option<i64>) -> u16 {
        let given = given.unwrap_or(0);
        u16::try_from(given).ok().filter(|retries| *retries <= RETRIES_MAX).unwrap_or_else(|| {
            let message = format!("{key} of service `{}` is {given}; it must lie in 0..{RETRIES_MAX}", self.raw.name);
            self.wrong(key, message, "leave the key out for 0");
            0
        })
    }

    fn agent(&mut self) -> (Option<ServiceAgent>, Option<Metadata>) {
        let raw = self.raw;
        let Some(name) = &raw.agent else {
            if raw.agent_parameters.is_some() {
                let message = format!("agent_parameters of service `{}` are for no agent", raw.name);
                self.wrong("agent_parameters", message, "add agent, as in agent = \"ocf:heartbeat:IPaddr2\"");
            }
            return (None, None);
        };
        let class: AgentClass = match name.parse() {
            Ok(class) => class,
            Err(mistake) => {
                let hint = "use \"ocf:PROVIDER:TYPE\", \"systemd:UNIT\" or \"actor:NAME\"";
                self.wrong("agent", format!("agent of service `{}` {mistake}", raw.name), hint);
                return (None, None);
            }
        };
        let given = raw.agent_parameters.iter().flatten();
        let parameters: BTreeMap<String, String> =
            given.map(|(name, value)| (name.clone(), value.to_string())).collect();
        let metadata = self.check_agent(&class, &parameters);
        (Some(ServiceAgent { class, parameters }), metadata)
    }

    /// What an OCF agent says of itself, if it is installed here; what it does not take is a mistake.
    fn check_agent(&mut self, class: &AgentClass, parameters: &BTreeMap<String, String>) -> Option<Metadata> {
        match class {
            AgentClass::Ocf { provider, agent } => match crate::ocf::metadata(provider, agent) {
                Ok(metadata) => {
                    for (parameter, message) in metadata.mistakes(parameters) {
                        let place = parameter.filter(|name| parameters.contains_key(name));
                        let message = format!("{message} (service `{}`)", self.raw.name);
                        let hint = format!("`phalanx agent describe {class}` lists what it takes");
                        match place {
                            Some(name) => {
                                let [service, index, key] = at(self.index, "agent_parameters");
                                self.mistakes.add(&[service, index, key, name.as_str().into()], message, hint);
                            }
                            None => self.wrong("agent", message, &hint),
                        }
                    }
                    self.validate(class, provider, agent, parameters, &metadata);
                    Some(metadata)
                }
                Err(_) if self.mistakes.agents_may_be_absent() => None,
                Err(message) => {
                    let hint = "install it on every node that may run the service (Debian: resource-agents)";
                    self.wrong("agent", message, hint);
                    None
                }
            },
            AgentClass::Systemd { .. } => {
                if let Some(name) = parameters.keys().next() {
                    let message = format!("agent_parameters of service `{}` has `{name}`", self.raw.name);
                    self.wrong("agent_parameters", message, "a systemd unit takes no parameters; remove them");
                }
                None
            }
            AgentClass::Actor { .. } => None,
        }
    }

    /// What the agent would refuse on whatever node is a mistake here already. What only this host lacks is none: the node that
    /// starts it asks again.
    fn validate(
        &mut self,
        class: &AgentClass,
        provider: &str,
        agent: &str,
        parameters: &BTreeMap<String, String>,
        metadata: &Metadata,
    ) {
        // A node that starts reads what was judged when it was applied; and what is wrong already needs no second word.
        if self.mistakes.agents_may_be_absent() || !metadata.mistakes(parameters).is_empty() {
            return;
        }
        let refusal = crate::ocf::refusal(provider, agent, &self.raw.name, parameters);
        if let Some(refusal) = refusal.filter(crate::ocf::Refusal::is_everywhere) {
            let message =
                format!("agent {class} refuses the parameters of service `{}`: {}", self.raw.name, refusal.words);
            let key = if parameters.is_empty() { "agent" } else { "agent_parameters" };
            self.wrong(key, message, "this is the agent's own judgement (its action validate-all)");
        }
    }

    fn monitor(&mut self, by_agent: bool, metadata: Option<&Metadata>) -> Option<Monitor> {
        let raw = self.raw;
        let keys = match &raw.monitor {
            None | Some(RawMonitor::Flag(true)) if by_agent => None,
            None | Some(RawMonitor::Flag(false)) => return None,
            Some(RawMonitor::Flag(true)) => {
                let message = format!("monitor of service `{}` is true, and there is no agent", raw.name);
                self.wrong("monitor", message, "use monitor = { command = [...], interval = \"10s\" }");
                return None;
            }
            Some(RawMonitor::Keys(keys)) => Some(keys),
        };
        let run = match keys.and_then(|keys| keys.command.as_ref()) {
            Some(raw) => {
                let [service, index, key] = at(self.index, "monitor");
                let path = [service, index, key, "command".into()];
                command::program(&path, "monitor.command", raw, self.mistakes).map(Invocation::from)?
            }
            None if by_agent => Invocation::Agent,
            None => {
                let message = format!("monitor of service `{}` has no command, and there is no agent", raw.name);
                self.wrong("monitor", message, "add command = [\"PROGRAM\", \"ARGUMENT\"]; exit status 0 = it is well");
                return None;
            }
        };
        let says = metadata.filter(|_| run == Invocation::Agent);
        let interval_ms = says.and_then(Metadata::monitor_interval_ms).unwrap_or(MONITOR_INTERVAL_MS);
        let timeout_ms = says.and_then(|says| says.timeout_ms("monitor")).unwrap_or(MONITOR_TIMEOUT_MS);
        let duration = |key: &str, given: Option<&String>, default_ms, checker: &mut Self| {
            let [service, index, monitor] = at(checker.index, "monitor");
            let path = [service, index, monitor, key.into()];
            subsystem::timeout_ms(&path, given.map(String::as_str), default_ms, checker.mistakes)
        };
        Some(Monitor {
            run,
            interval_ms: duration("interval", keys.and_then(|keys| keys.interval.as_ref()), interval_ms, self),
            timeout_ms: duration("timeout", keys.and_then(|keys| keys.timeout.as_ref()), timeout_ms, self),
            tolerance: self.tolerance(keys.and_then(|keys| keys.tolerance)),
        })
    }

    fn tolerance(&mut self, given: Option<i64>) -> u16 {
        let given = given.unwrap_or_else(|| TOLERANCE.into());
        u16::try_from(given).ok().filter(|tolerance| (1..=RETRIES_MAX).contains(tolerance)).unwrap_or_else(|| {
            let message =
                format!("monitor.tolerance of service `{}` is {given}; it must lie in 1..{RETRIES_MAX}", self.raw.name);
            self.wrong("monitor", message, "it is how many bad monitors in a row are a failure");
            TOLERANCE
        })
    }

    fn restart(&mut self) -> RestartPolicy {
        let default = RestartPolicy::default();
        let Some(raw) = &self.raw.restart else { return default };
        let given = raw.limit.unwrap_or_else(|| default.limit.into());
        let limit = u16::try_from(given).ok().filter(|limit| *limit <= RETRIES_MAX).unwrap_or_else(|| {
            let message =
                format!("restart.limit of service `{}` is {given}; it must lie in 0..{RETRIES_MAX}", self.raw.name);
            self.wrong("restart", message, "0 = never in place: it goes to another node at once");
            default.limit
        });
        let duration = |key: &str, given: Option<&String>, default_ms, checker: &mut Self| {
            let [service, index, restart] = at(checker.index, "restart");
            let path = [service, index, restart, key.into()];
            subsystem::timeout_ms(&path, given.map(String::as_str), default_ms, checker.mistakes)
        };
        let window_ms = duration("window", raw.window.as_ref(), default.window_ms, self);
        let backoff_ms = duration("backoff", raw.backoff.as_ref(), default.backoff_ms, self);
        RestartPolicy { limit, window_ms, backoff_ms }
    }
}

/// The keys of one action function.
#[derive(Clone, Copy)]
struct Keys<'a> {
    action: &'a str,
    command: &'a Option<RawCommand>,
    timeout: &'a Option<String>,
    retries: Option<i64>,
    default_ms: u64,
}

impl<'a> Keys<'a> {
    const fn new(
        action: &'a str,
        command: &'a Option<RawCommand>,
        timeout: &'a Option<String>,
        retries: Option<i64>,
        default_ms: u64,
    ) -> Self {
        Self { action, command, timeout, retries, default_ms }
    }
}
