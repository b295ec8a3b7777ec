//! The keys of a service's action functions, as they are written in a file.

use phalanx_messages::service::{Invocation, Monitor, RestartPolicy, ServiceCommand, ServiceDefinition};
use toml::Value;

use crate::config::service::{MONITOR_INTERVAL_MS, MONITOR_TIMEOUT_MS, TIMEOUT_MS, TOLERANCE};
use crate::config::{command, duration};

type Pairs = Vec<(&'static str, Value)>;

/// Adds them. Keys that have their default are left out.
pub(super) fn push(keys: &mut Pairs, definition: &ServiceDefinition) {
    if let Some(agent) = &definition.agent {
        keys.push(("agent", Value::String(agent.class.to_string())));
        if !agent.parameters.is_empty() {
            let text = |(name, value): (&String, &String)| (name.clone(), Value::String(value.clone()));
            keys.push(("agent_parameters", Value::Table(agent.parameters.iter().map(text).collect())));
        }
    }
    let commands = [
        (["start_command", "start_timeout", "start_retries"], &definition.start_command),
        (["stop_command", "stop_timeout", "stop_retries"], &definition.stop_command),
        (["notify_command", "notify_timeout", "notify_retries"], &definition.notify_command),
        (["recovery_command", "recovery_timeout", "recovery_retries"], &definition.recovery_command),
    ];
    for (names, command) in commands {
        command.iter().for_each(|command| push_command(keys, names, command));
    }
    let by_agent = definition.agent.is_some();
    match &definition.monitor {
        None if by_agent => keys.push(("monitor", Value::Boolean(false))),
        None => {}
        Some(monitor) => keys.extend(monitor_value(monitor).map(|value| ("monitor", value))),
    }
    if definition.restart != RestartPolicy::default() {
        keys.push(("restart", restart_value(definition.restart)));
    }
}

fn push_command(keys: &mut Pairs, names: [&'static str; 3], command: &ServiceCommand) {
    let [command_key, timeout_key, retries_key] = names;
    let ServiceCommand { run, timeout_ms, retries } = command;
    keys.extend(run.program().map(|program| (command_key, command::value(&program))));
    // What an agent says of itself may change, so what is in the database is told.
    if *timeout_ms != TIMEOUT_MS || *run == Invocation::Agent {
        keys.push((timeout_key, Value::String(duration::text(*timeout_ms))));
    }
    if *retries > 0 {
        keys.push((retries_key, Value::Integer((*retries).into())));
    }
}

fn monitor_value(monitor: &Monitor) -> Option<Value> {
    let Monitor { run, interval_ms, timeout_ms, tolerance } = monitor;
    let mut keys = toml::Table::new();
    let by_agent = *run == Invocation::Agent;
    if let Some(program) = run.program() {
        keys.insert("command".to_owned(), command::value(&program));
    }
    for (key, ms, default_ms) in
        [("interval", *interval_ms, MONITOR_INTERVAL_MS), ("timeout", *timeout_ms, MONITOR_TIMEOUT_MS)]
    {
        if ms != default_ms || by_agent {
            keys.insert(key.to_owned(), Value::String(duration::text(ms)));
        }
    }
    if *tolerance != TOLERANCE {
        keys.insert("tolerance".to_owned(), Value::Integer((*tolerance).into()));
    }
    (!keys.is_empty()).then_some(Value::Table(keys))
}

fn restart_value(restart: RestartPolicy) -> Value {
    let RestartPolicy { limit, window_ms, backoff_ms } = restart;
    let keys = [
        ("limit", Value::Integer(limit.into())),
        ("window", Value::String(duration::text(window_ms))),
        ("backoff", Value::String(duration::text(backoff_ms))),
    ];
    Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
