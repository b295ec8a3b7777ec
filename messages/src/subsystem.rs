//! Subsystems that are not part of a node: what they register, and the lines that a program outside the node and its daemon say
//! to each other over the local socket (docs/subsystem-protocol.md; protocol T-15 to T-17).
//!
//! Each line is one JSON object with a `type`, ended by a newline. Fields that are not known are ignored, so that a minor
//! addition harms nobody; what changes the meaning of a line has another [`PROTOCOL_VERSION`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Level, NotificationId};
use crate::membership::{BarrierCounts, Certainty, LevelState, TransitionKind};
use crate::watcher::{PlainValues, Provision};

/// Version of the lines.
pub const PROTOCOL_VERSION: u32 = 1;

/// What becomes of a subsystem that died and did not register again in time (protocol T-17).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeathPolicy {
    /// Its node panics, and the others recover it: the subsystem may have held something.
    #[default]
    ForceNode,
    /// Its level leaves alone: it only watched. Built-in levels are never given up like this.
    DropLevel,
}

/// Default of [`Registration::answer_within_ms`]: as long as a step runs before it counts as hung (protocol T-20).
pub const ANSWER_WITHIN_MS_DEFAULT: u64 = 60_000;

/// What a subsystem outside the node registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name, the same on every node.
    pub name: String,
    /// Its place in the order; none of the built-in ones.
    pub level: Level,
    /// Its barriers, the same on every node (protocol T-14).
    pub barriers: BarrierCounts,
    /// What becomes of it when it dies.
    #[serde(default)]
    pub on_death: DeathPolicy,
    /// What its recovery waits for: that the victim writes nothing any more, or that no process of it runs.
    #[serde(default = "certainty_of_death")]
    pub needs: Certainty,
    /// A client that has not answered a notification for this long is treated as dead, in milliseconds.
    #[serde(default = "answer_within_ms")]
    pub answer_within_ms: u64,
}

const fn certainty_of_death() -> Certainty {
    Certainty::Death
}

const fn answer_within_ms() -> u64 {
    ANSWER_WITHIN_MS_DEFAULT
}

/// A line of the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientLine {
    /// The first line.
    Hello {
        /// [`PROTOCOL_VERSION`] of the client.
        version: u32,
    },
    /// The second line: one connection is one subsystem.
    Register(Registration),
    /// The notification was processed.
    Acknowledged {
        /// Its number.
        number: u64,
    },
    /// The notification could not be processed; it comes again (protocol T-24).
    Failed {
        /// Its number.
        number: u64,
        /// What the administrator reads.
        text: String,
    },
    /// Let this level of this node leave. The notifications of that leave follow, then [`NodeLine::Withdrawn`].
    Withdraw,
    /// The second line of a program that provides an event watcher instead of a subsystem (docs/watcher-protocol.md).
    Provide(Provision),
    /// An event that it was asked to watch for has occurred.
    Occurred {
        /// Number of the [`NodeLine::Watch`].
        number: u64,
        /// OUT parameters: all of them.
        #[serde(default)]
        out: PlainValues,
    },
    /// An event can't be watched for.
    WatchFailed {
        /// Number of the [`NodeLine::Watch`].
        number: u64,
        /// What the administrator reads.
        text: String,
    },
    /// Answered by [`NodeLine::Pong`] with the same token, in order with all other lines.
    Ping {
        /// Whatever the client likes.
        token: u64,
    },
}

/// A line of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum NodeLine {
    /// Answer to [`ClientLine::Hello`].
    Hello {
        /// [`PROTOCOL_VERSION`] of the node.
        version: u32,
        /// Name of the cluster.
        cluster: String,
        /// Name of the node.
        node: String,
    },
    /// Answer to [`ClientLine::Register`], at once (spec, Figs. 7a to 7c). The join of the level follows, or a refusal.
    Registered,
    /// Answer to [`ClientLine::Provide`].
    Provided,
    /// Watch for this event until [`NodeLine::Unwatch`].
    Watch {
        /// Names the watching; never used twice on a node.
        number: u64,
        /// The event.
        event: String,
        /// IN parameters, defaults included.
        #[serde(rename = "in")]
        input: PlainValues,
    },
    /// Watch for it no more.
    Unwatch {
        /// Number of the [`NodeLine::Watch`].
        number: u64,
    },
    /// Process this, then answer it once. Nothing else is sent for the same nodes before that, but for an abort.
    Notification(Notified),
    /// The notification was overtaken by a forced leave or by its own restart: abort its work; its answer counts for nothing.
    Abort {
        /// Its number.
        number: u64,
    },
    /// This client goes on where one that died was: this is what that one had acknowledged (protocol T-17).
    Resumed {
        /// State of every node at this level, by name.
        states: BTreeMap<String, NodeAtLevel>,
    },
    /// The level has left this node; the last line.
    Withdrawn,
    /// Answer to [`ClientLine::Ping`].
    Pong {
        /// The client's token.
        token: u64,
    },
    /// Something is wrong. Unless `fatal` is false it is the last line.
    Error {
        /// Which of the errors it is.
        error: LineError,
        /// What people read.
        text: String,
        /// The node closes the connection after this line.
        fatal: bool,
    },
}

/// What went wrong on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineError {
    /// This user may not attach.
    NotAllowed,
    /// The client speaks another version.
    Version,
    /// The line is no JSON object of this protocol, or one that has no place here.
    NotUnderstood,
    /// The line is longer than [`crate::limits::SUBSYSTEM_LINE_BYTES_MAX`].
    LineTooLong,
    /// More lines than [`crate::limits::SUBSYSTEM_LINES_PER_SECOND_MAX`].
    TooManyLines,
    /// The client has not said hello and registered in time, or has not answered a notification in time.
    TooSlow,
    /// As many subsystems are attached as there can be.
    TooManyClients,
    /// The level or the registration is not one that can be (see the text).
    BadRegistration,
    /// Another subsystem has this level of this node.
    LevelInUse,
    /// The cluster does not take the registration (protocol T-15); a mismatch of barriers names both counts.
    Refused,
    /// No notification with this number is open: it was answered, overtaken or never sent. Not fatal.
    NotOpen,
    /// The node is ending.
    NodeEnds,
}

/// A notification as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// Number on this connection; ascending.
    pub number: u64,
    /// The level addressed.
    pub level: Level,
    /// The transitions to process, as one unit; never empty.
    pub batch: Vec<Notice>,
    /// State of every node at this level, by name; context.
    pub states: BTreeMap<String, NodeAtLevel>,
    /// Everybody who processes this batch, by name.
    pub participants: Vec<String>,
    /// Term in which the cluster was formed.
    pub formation: u64,
}

/// One transitional node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its name.
    pub node: String,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// What it is doing.
    pub kind: TransitionKind,
    /// The transition: `term.counter`.
    pub transition: String,
    /// The barrier, from 0.
    pub barrier: u8,
    /// Restarts so far (protocol T-9).
    pub restart: u32,
    /// It replaces a notification that may still be processed (spec, Table 1, "Allowed Re-notifications").
    pub renotification: bool,
}

impl Notice {
    /// A notice in words of a client.
    #[must_use]
    pub fn new(notice: &crate::notification::TransitionNotice, node: String) -> Self {
        let NotificationId { transition, barrier, restart, .. } = notice.id;
        Self {
            node,
            incarnation: notice.incarnation,
            kind: notice.kind,
            transition: transition.to_string(),
            barrier,
            restart,
            renotification: notice.renotification,
        }
    }
}

/// A node as it stands at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAtLevel {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its state at the level.
    pub state: LevelState,
}
