//! Everything that happened, one line an event. A run always has the hash of its log; it has the lines if it was asked to keep
//! them, so that a failing seed, run again, can be read.

use std::fmt::{self, Write as _};

use phalanx_messages::NodeId;

use super::clock::{MS, Micros};

/// See the module.
#[derive(Debug)]
pub struct EventLog {
    hash: u64,
    events: u64,
    detail: Detail,
    lines: Vec<Line>,
}

/// What a log keeps beside its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing: a campaign is fast.
    Hash,
    /// A line for every event.
    Events,
    /// And every step of every machine: input, outputs, differences of its state.
    Machines,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its number.
    pub event: u64,
    /// True time.
    pub at: Micros,
    /// Where it happened; none = in the world.
    pub node: Option<NodeId>,
    /// What.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, at, node, text } = self;
        let node = node.map_or_else(|| "-".to_owned(), |node| format!("n{node}"));
        write!(f, "{event:>7} {:>7}.{:03} ms {node:>3} {text}", at / MS, at % MS)
    }
}

impl EventLog {
    /// An empty log.
    #[must_use]
    pub const fn new(detail: Detail) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, detail, lines: Vec::new() }
    }

    /// An event. `numbers` tell it from others of its kind; `text` is made only if lines are kept.
    pub fn event(
        &mut self,
        at: Micros,
        node: Option<NodeId>,
        kind: &'static str,
        numbers: &[u64],
        text: impl FnOnce() -> String,
    ) {
        self.events += 1;
        let place = node.map_or(u64::MAX, |node| u64::from(node.0));
        for word in [at, place].iter().chain(numbers) {
            self.mix(*word);
        }
        kind.bytes().for_each(|byte| self.mix(u64::from(byte)));
        if self.detail >= Detail::Events {
            let mut line = kind.to_owned();
            let detail = text();
            if !detail.is_empty() {
                write!(line, " {detail}").ok(); // a string takes everything
            }
            self.lines.push(Line { event: self.events, at, node, text: line });
        }
    }

    const fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// Equal for equal runs.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept; none if they are not.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Steps of machines are to be shown.
    #[must_use]
    pub fn shows_machines(&self) -> bool {
        self.detail == Detail::Machines
    }

    /// A step of a machine, which belongs to the event that was last. It is not an event: the hash stays what it is.
    pub fn machine_step(&mut self, at: Micros, node: NodeId, texts: Vec<String>) {
        let event = self.events;
        self.lines.extend(texts.into_iter().map(|text| Line { event, at, node: Some(node), text }));
    }
}
