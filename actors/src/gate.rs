//! The I/O gate: whether this node may touch shared resources right now (protocol §3.3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use phalanx_messages::Instant;

use crate::clock::Clock;

/// Set once, by [`close_all_for_good`].
static ALL_CLOSED: AtomicBool = AtomicBool::new(false);

/// Closes every gate of this process for ever. May be called in a signal handler, which ends the process next.
pub fn close_all_for_good() {
    ALL_CLOSED.store(true, Ordering::SeqCst);
}

/// Shared between the lease thread, which opens it, and everything that must ask before it acts.
///
/// Open while the node lease is valid and the node is not panicking. Once closed by a panic it never opens again.
#[derive(Debug, Clone)]
pub struct Gate {
    clock: Clock,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    expiry: AtomicU64,
    panicking: AtomicBool,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, shared: Arc::default() }
    }

    /// The lease is valid until `expiry`.
    pub fn extend(&self, expiry: Instant) {
        self.shared.expiry.store(expiry.0, Ordering::SeqCst);
    }

    /// The lease is lost; a later [`Gate::extend`] opens the gate again.
    pub fn close(&self) {
        self.shared.expiry.store(0, Ordering::SeqCst);
    }

    /// The node panics: closed for ever.
    pub fn close_for_good(&self) {
        self.shared.panicking.store(true, Ordering::SeqCst);
        self.close();
    }

    /// True if the node may act, and still may `guard_ms` from now.
    #[must_use]
    pub fn is_open_for(&self, guard_ms: u64) -> bool {
        !self.is_panicking() && self.clock.now().plus(guard_ms).0 < self.shared.expiry.load(Ordering::SeqCst)
    }

    /// True if the node may act.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open_for(0)
    }

    /// True once the node panics.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        self.shared.panicking.load(Ordering::SeqCst) || ALL_CLOSED.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_lease_and_never_again_after_a_panic() {
        let clock = Clock::Boot;
        let gate = Gate::new(clock);
        assert!(!gate.is_open());
        gate.extend(clock.now().plus(60_000));
        assert!(gate.is_open() && gate.is_open_for(1_000) && !gate.is_open_for(60_001));
        gate.close_for_good();
        gate.extend(clock.now().plus(60_000));
        assert!(!gate.is_open());
    }
}
