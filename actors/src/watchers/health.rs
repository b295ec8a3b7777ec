//! `health`: a command that says how something is, run again and again; so many bad ones in a row are an occurrence.

use std::time::Duration;

use actix::Recipient;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::{EventDefinition, Parameters};
use phalanx_messages::launch::{LaunchResult, Owner, WardenRequest};
use phalanx_messages::service::Invocation;

use super::{Input, NoWatch, Surroundings, Tolerance, Watch, missing, number, out, text};
use crate::event_daemon::launch;
use crate::gate::Gate;

pub(super) struct Health {
    owner: Owner,
    run: Invocation,
    variables: Vec<(String, String)>,
    interval: Duration,
    timeout_ms: u64,
    tolerance: Tolerance,
    warden: Recipient<WardenRequest>,
    gate: Gate,
    begun: bool,
}

/// Names the commands of the watcher of an event. No name has a colon, and a monitor's is `monitor:SERVICE`, so it is nobody else's.
pub(crate) fn health_of(event: &str) -> String {
    format!("health:{event}")
}

impl Health {
    pub fn new(definition: &EventDefinition, surroundings: &Surroundings) -> Result<Self, NoWatch> {
        let input = Input(&definition.parameters);
        let words = input.required_text("command")?;
        let mut variables = surroundings.variables.clone();
        variables.push(("PHALANX_EVENT".to_owned(), definition.name.clone()));
        Ok(Self {
            owner: Owner::Event(health_of(&definition.name)),
            run: Invocation::Arguments(words.split_whitespace().map(str::to_owned).collect()),
            variables,
            interval: input.interval()?,
            timeout_ms: input.ms("timeout").ok_or_else(|| missing("timeout"))?,
            tolerance: Tolerance::new(input),
            warden: surroundings.warden.clone(),
            gate: surroundings.gate.clone(),
            begun: false,
        })
    }

    /// What it says, if it is bad. Without a lease nothing is run, and nothing is known.
    async fn look(&self) -> Option<String> {
        if !self.gate.is_open() {
            return None;
        }
        let request = launch(self.owner.clone(), &self.run, self.variables.clone(), self.timeout_ms);
        match self.warden.send(request).await {
            Ok(LaunchResult::Succeeded) => None,
            Ok(LaunchResult::Failed { .. }) if !self.gate.is_open() => None,
            Ok(LaunchResult::Failed { text }) => Some(text),
            Err(closed) => Some(closed.to_string()),
        }
    }
}

impl Watch for Health {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                // From the end of one to the beginning of the next: a slow one is not overtaken.
                if std::mem::replace(&mut self.begun, true) {
                    tokio::time::sleep(self.interval).await;
                }
                match self.look().await {
                    None => self.tolerance.good(),
                    Some(error) => {
                        if let Some(bad) = self.tolerance.bad() {
                            return Ok(out([("bad", number(bad)), ("error", text(error))]));
                        }
                    }
                }
            }
        }
        .boxed_local()
    }
}
