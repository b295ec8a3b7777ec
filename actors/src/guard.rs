//! The wrapper of every kernel-level handler: a panic inside it is a panic of the node (architecture §3).
//!
//! actix closes the mailbox of an actor whose handler panics and tells nobody. Here the gate is closed and the supervisor is
//! told before the mailbox closes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use actix::Recipient;

use crate::gate::Gate;
use crate::ports::NodePanic;

/// Held by each kernel-level actor, which runs its handlers through it.
#[derive(Debug, Clone)]
pub struct PanicGuard {
    name: &'static str,
    gate: Gate,
    supervisor: Recipient<NodePanic>,
}

impl PanicGuard {
    /// A guard for the actor of that name.
    #[must_use]
    pub const fn new(name: &'static str, gate: Gate, supervisor: Recipient<NodePanic>) -> Self {
        Self { name, gate, supervisor }
    }

    /// The same for another actor.
    #[must_use]
    pub fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    /// Runs a handler. If it panics the gate closes, the supervisor is told, and the panic goes on.
    ///
    /// # Panics
    /// If `handler` does.
    pub fn run<R>(&self, handler: impl FnOnce() -> R) -> R {
        catch_unwind(AssertUnwindSafe(handler)).unwrap_or_else(|payload| {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no text".to_owned());
            self.node_panic(&format!("actor {} panicked: {text}", self.name));
            resume_unwind(payload)
        })
    }

    /// Closes the gate and tells the supervisor that this node is no longer fit.
    pub fn node_panic(&self, reason: &str) {
        self.gate.close_for_good();
        self.supervisor.do_send(NodePanic { reason: reason.to_owned() });
    }
}
