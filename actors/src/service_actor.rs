//! Services that an actor of the application performs (`agent = "actor:NAME"`): no process, no warden.
//!
//! The application registers the actor with the node, and the cluster decides where the service is, as for any other. What such an
//! actor does ends with the process of its node, which is the proof of its death.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::OperationId;

/// What an actor is asked to do for its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceActionKind {
    /// Serve from now on.
    Start,
    /// Serve no longer. An error is followed by `Kill`.
    Stop,
    /// The service is registered on another node.
    Notify,
    /// Recover what an instance on a node that was forced out left behind.
    Recovery,
    /// Is it well?
    Monitor,
    /// Whatever is left of it must end now. An error forces this node out.
    Kill,
}

/// Sent by a client service of this node to the actor that performs it: do this once, and answer when it is done. The text of an
/// error is what the administrator reads. The same operation may be asked for again, so it must be idempotent; an answer after the
/// time-out counts for nothing.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), String>")]
pub struct ServiceAction {
    /// What.
    pub kind: ServiceActionKind,
    /// The service.
    pub service: String,
    /// `agent_parameters` of its definition.
    pub parameters: BTreeMap<String, String>,
    /// The fencing token: a number that only grows with each registration of the service.
    pub generation: u128,
    /// The operation; a monitor has none.
    pub operation: Option<OperationId>,
    /// Name of the node whose loss is recovered.
    pub victim: Option<String>,
}

/// The actors that an application has registered, by name.
#[derive(Debug, Default, Clone)]
pub struct ServiceActors(Arc<BTreeMap<String, Recipient<ServiceAction>>>);

impl ServiceActors {
    /// These and no others.
    #[must_use]
    pub fn new(actors: BTreeMap<String, Recipient<ServiceAction>>) -> Self {
        Self(Arc::new(actors))
    }

    /// The actor of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Recipient<ServiceAction>> {
        self.0.get(name).cloned()
    }
}
