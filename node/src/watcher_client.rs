//! An event watcher outside its node: the Rust side of docs/watcher-protocol.md. Blocking, without an executor.
//!
//! [`WatcherClient::provide`] connects and says what is provided, [`WatcherClient::hear`] gives what is to be watched for, and
//! [`WatcherClient::occurred`] tells what occurred. Dropping it ends the watching of its events.

use std::path::Path;

use phalanx_messages::subsystem::{ClientLine, NodeLine};
use phalanx_messages::watcher::{PlainValues, Provision};

use crate::subsystem_client::{Answers, ClientError, Connection};

/// What the node asks of a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Watch for this.
    Watch {
        /// Names the watching in what is told of it.
        number: u64,
        /// The event.
        event: String,
        /// IN parameters, defaults included.
        input: PlainValues,
    },
    /// Watch for it no more.
    Unwatch {
        /// Which.
        number: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct WatcherClient(Connection);

impl WatcherClient {
    /// Connects to the node's socket and provides a watcher.
    ///
    /// # Errors
    /// The node does not take it.
    pub fn provide(socket: &Path, provision: Provision) -> Result<Self, ClientError> {
        let mut connection = Connection::open(socket)?;
        connection.answers.say(&ClientLine::Provide(provision))?;
        let provided = connection.hear()?;
        if provided != NodeLine::Provided {
            return Err(ClientError::Unexpected(format!("{provided:?}")));
        }
        Ok(Self(connection))
    }

    /// Waits for the next thing to do. What was told of a watching that had just ended is no error.
    ///
    /// # Errors
    /// The node has ended the connection, and perhaps said why.
    pub fn hear(&mut self) -> Result<Asked, ClientError> {
        loop {
            match self.0.hear()? {
                NodeLine::Watch { number, event, input } => return Ok(Asked::Watch { number, event, input }),
                NodeLine::Unwatch { number } => return Ok(Asked::Unwatch { number }),
                NodeLine::Error { fatal: false, .. } | NodeLine::Pong { .. } => {}
                other @ (NodeLine::Hello { .. }
                | NodeLine::Registered
                | NodeLine::Provided
                | NodeLine::Notification(_)
                | NodeLine::Abort { .. }
                | NodeLine::Resumed { .. }
                | NodeLine::Withdrawn
                | NodeLine::Error { .. }) => return Err(ClientError::Unexpected(format!("{other:?}"))),
            }
        }
    }

    /// Tells of an occurrence.
    ///
    /// # Errors
    /// The node is gone.
    pub fn occurred(&self, number: u64, out: PlainValues) -> Result<(), ClientError> {
        self.0.answers.say(&ClientLine::Occurred { number, out })
    }

    /// Says that an event can't be watched for; `phalanx event list` shows it.
    ///
    /// # Errors
    /// The node is gone.
    pub fn fail(&self, number: u64, text: impl Into<String>) -> Result<(), ClientError> {
        self.0.answers.say(&ClientLine::WatchFailed { number, text: text.into() })
    }

    /// For other threads.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.0.answers.clone()
    }
}
