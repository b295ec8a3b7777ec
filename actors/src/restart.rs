//! The wrapper of handlers whose panic is not the node's: watchers and client services (architecture §3).
//!
//! A panic inside is caught and recorded, and the actor begins anew with empty memory. Too many within the window are a panic
//! of the node: something is wrong that a restart does not mend. For an event watcher they are just the end of that watcher.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use phalanx_messages::Instant;

use crate::clock::Clock;
use crate::guard::PanicGuard;

/// Panics within the window that are borne.
const RESTARTS_MAX: usize = 5;
/// The window, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Restarts {
    guard: Option<PanicGuard>,
    clock: Clock,
    recorded: VecDeque<Instant>,
}

impl Restarts {
    /// Nothing recorded yet; too many panics go to `guard`.
    #[must_use]
    pub const fn new(guard: PanicGuard, clock: Clock) -> Self {
        Self { guard: Some(guard), clock, recorded: VecDeque::new() }
    }

    /// The same, but too many panics are nobody else's: the caller looks at [`Self::is_exhausted`].
    #[must_use]
    pub const fn contained(clock: Clock) -> Self {
        Self { guard: None, clock, recorded: VecDeque::new() }
    }

    /// There were too many panics within the window.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.recorded.len() > RESTARTS_MAX
    }

    /// Runs a handler; `None` if it panicked, and the caller must begin anew.
    pub fn run<R>(&mut self, handler: impl FnOnce() -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(handler)).ok();
        if result.is_none() {
            self.record();
        }
        result
    }

    /// Now, on the clock that panics are counted by.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// How many panics the window holds.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.recorded.len()
    }

    fn record(&mut self) {
        let now = self.clock.now();
        self.recorded.push_back(now);
        while self.recorded.front().is_some_and(|first| now.since(*first) > WINDOW_MS) {
            self.recorded.pop_front();
        }
        tracing::warn!(restarts = self.recorded.len(), "actor restarted after a panic");
        if let (true, Some(guard)) = (self.is_exhausted(), &self.guard) {
            guard.node_panic("an actor panicked too often to be restarted again");
        }
    }
}
