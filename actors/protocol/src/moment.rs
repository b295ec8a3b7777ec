//! When an input is taken, as far as decisions depend on it.

use phalanx_messages::Instant;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// This node's clock.
    pub now: Instant,
    /// The gate is open: the node's lease is valid.
    pub open: bool,
    /// The node's lease is valid for at least another guard: it may commit and act as master (protocol §3.4).
    pub may_act: bool,
}
