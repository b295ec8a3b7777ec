//! What registration-and-launch asks of the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Message;
use phalanx_messages::NodeId;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};

/// Why a disk request was not carried out; what it would have written may have been written, or may still be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiskFailure(pub String);

/// Whether a completed write survives a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is visible to every node.
    Volatile,
    /// It is on stable storage too.
    Durable,
}

/// Read every decision register; `None` = unreadable.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<BTreeMap<NodeId, Option<DecisionRegister>>, DiskFailure>")]
pub struct ReadDecisions;

/// Write this node's decision register.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DiskFailure>")]
pub struct WriteDecision {
    /// What to write.
    pub register: DecisionRegister,
    /// How.
    pub durability: Durability,
}

/// Read the newest registration database.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<RegistrationRecord>, DiskFailure>")]
pub struct ReadRegistration;

/// Write this node's copy of the registration database.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DiskFailure>")]
pub struct WriteRegistration {
    /// What to write.
    pub record: Arc<RegistrationRecord>,
    /// How.
    pub durability: Durability,
}
