//! What the disk actor is asked for, and how it says that it could not.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use actix::prelude::*;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::membership::MembershipRecord;
use phalanx_messages::registration::{DecisionRegister, RegistrationRecord};
use phalanx_messages::{NodeId, Revision};
use phalanx_protocol::expiry::RegistersReading;
use phalanx_protocol::proxy_repair::Repair;
use phalanx_storage::Durability;

/// Why the disk did not do what was asked. A failed write may have happened and may still happen (protocol R-2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiskFailure(pub String);

impl DiskFailure {
    /// The one who would answer is gone.
    pub fn gone(why: impl Display) -> Self {
        Self(format!("the disk actor does not answer: {why}"))
    }
}

/// Reads every node register.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<RegistersReading, DiskFailure>")]
pub struct ReadRegisters;

/// Looks at a register that could not be read: a digest of its bytes, none if it can be read now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<u32>, DiskFailure>")]
pub struct LookAtUnreadable(pub NodeId);

/// Writes the register of a dead node in its place, durably and into both slots, if its bytes are those that were judged. False if
/// they are not.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<bool, DiskFailure>")]
pub struct RepairRegister(pub Repair);

/// Reads the membership record with the highest revision.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<MembershipRecord>, DiskFailure>")]
pub struct ReadMembership;

/// Writes this node's membership area.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DiskFailure>")]
pub struct WriteMembership {
    /// What to write.
    pub record: Arc<MembershipRecord>,
    /// Whether it must survive the host.
    pub durability: Durability,
}

/// Reads the configuration of that revision, or the newest.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<ConfigurationRecord>, DiskFailure>")]
pub struct ReadConfiguration {
    /// Which; none = the newest.
    pub revision: Option<Revision>,
}

/// Writes this node's configuration area.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DiskFailure>")]
pub struct WriteConfiguration {
    /// What to write.
    pub record: Arc<ConfigurationRecord>,
    /// The committed configuration: its slot is not overwritten (protocol §2, "MA and CF together").
    pub keep: Revision,
    /// Whether it must survive the host.
    pub durability: Durability,
}

/// Reads every decision register; none for one that is unreadable.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<BTreeMap<NodeId, Option<DecisionRegister>>, DiskFailure>")]
pub struct ReadDecisions;

/// Writes this node's decision register.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DiskFailure>")]
pub struct WriteDecision {
    /// What to write.
    pub register: DecisionRegister,
    /// Whether it must survive the host.
    pub durability: Durability,
}

/// Reads the registration database with the highest revision.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<RegistrationRecord>, DiskFailure>")]
pub struct ReadRegistration;

/// Writes this node's registration area.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DiskFailure>")]
pub struct WriteRegistration {
    /// What to write.
    pub record: Arc<RegistrationRecord>,
    /// Whether it must survive the host.
    pub durability: Durability,
}
