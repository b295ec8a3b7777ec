//! Watchers outside the node: a program that provides one is told what to watch for, and tells what occurs
//! (docs/watcher-protocol.md).

use actix::prelude::*;
use phalanx_messages::event::Parameters;
use phalanx_messages::watcher::WatcherSchema;
use phalanx_protocol::events::{DeskInput, EXTERNAL, WatchId, mistake_in_schema};

use super::EventDaemon;

/// Sent by the connection of a program to the daemon: it provides this watcher. An error is what the program is told.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct ProvideWatcher {
    /// Its name, without the prefix.
    pub watcher: String,
    /// What it takes and tells.
    pub schema: WatcherSchema,
    /// Hears what to watch for.
    pub program: Recipient<ExternalWatch>,
}

/// Sent by that connection when it ends.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ProvideNoMore {
    /// The name.
    pub watcher: String,
    /// Who provided it.
    pub program: Recipient<ExternalWatch>,
}

/// Sent by the daemon to the connection of a program.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum ExternalWatch {
    /// Watch for this.
    Begin {
        /// Names the watching.
        watch: WatchId,
        /// The event.
        event: String,
        /// IN parameters, defaults included.
        input: Parameters,
    },
    /// Watch for it no more.
    End {
        /// Which watching.
        watch: WatchId,
    },
}

/// A program that is connected.
pub(super) struct Provider {
    program: Recipient<ExternalWatch>,
}

impl EventDaemon {
    /// Tells the program that provides the watcher, if that is one outside the node.
    pub(super) fn tell_program(&mut self, watcher: &str, watch: WatchId, event: &str, input: &Parameters) -> bool {
        let Some(Provider { program }) = self.providers.get(watcher) else { return false };
        program.do_send(ExternalWatch::Begin { watch, event: event.to_owned(), input: input.clone() });
        self.outside.insert(watch, watcher.to_owned());
        true
    }

    pub(super) fn end_outside(&mut self, watch: WatchId) {
        let provider = self.outside.remove(&watch).and_then(|watcher| self.providers.get(&watcher));
        if let Some(Provider { program }) = provider {
            program.do_send(ExternalWatch::End { watch });
        }
    }
}

impl Handler<ProvideWatcher> for EventDaemon {
    type Result = Result<(), String>;

    fn handle(&mut self, provided: ProvideWatcher, ctx: &mut Self::Context) -> Self::Result {
        let ProvideWatcher { watcher, schema, program } = provided;
        if let Some(mistake) = mistake_in_schema(&schema) {
            return Err(mistake);
        }
        let name = format!("{EXTERNAL}{watcher}");
        if self.providers.contains_key(&name) {
            return Err(format!("another program provides watcher `{watcher}` on this node"));
        }
        tracing::info!(watcher, "a program provides a watcher");
        self.providers.insert(name.clone(), Provider { program });
        self.give(DeskInput::External { watcher: name, schema: Some(schema) }, ctx);
        Ok(())
    }
}

impl Handler<ProvideNoMore> for EventDaemon {
    type Result = ();

    fn handle(&mut self, ProvideNoMore { watcher, program }: ProvideNoMore, ctx: &mut Self::Context) {
        let name = format!("{EXTERNAL}{watcher}");
        if self.providers.get(&name).is_some_and(|provider| provider.program == program) {
            tracing::warn!(watcher, "the program that provided a watcher is gone");
            self.providers.remove(&name);
            self.give(DeskInput::External { watcher: name, schema: None }, ctx);
        }
    }
}
