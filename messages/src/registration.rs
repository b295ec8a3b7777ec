//! The registration database (`RD`) and what the registration-and-launch services of two nodes tell each other (protocol §6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Revision, Term};
use crate::register::Claim;
use crate::service::ServiceDefinition;

/// Payload of a decision register `DL[n]`: node n's claim of a depoch (protocol §6.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DecisionRegister {
    /// Which start of the node wrote this.
    pub incarnation: Incarnation,
    /// The claim.
    pub claim: Claim,
}

/// Run state of one service (protocol §6.3).
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceRun {}

/// One service in the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What the administrator asked for.
    pub definition: ServiceDefinition,
    /// What became of it.
    pub run: ServiceRun,
}

/// The whole registration database; every decision commits it as one record.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegistrationRecord {
    /// Place in the committed chain: (depoch, seq).
    pub revision: Revision,
    /// Formation of the cluster that was seen last (protocol §6.2, `want`).
    pub formation: Term,
    /// The services by name.
    pub services: BTreeMap<String, ServiceRecord>,
}

impl RegistrationRecord {
    /// A database with these definitions and nothing running: what `disk create` writes.
    #[must_use]
    pub fn of_definitions(definitions: impl IntoIterator<Item = ServiceDefinition>) -> Self {
        let record = |definition: ServiceDefinition| {
            (definition.name.clone(), ServiceRecord { definition, run: ServiceRun::default() })
        };
        Self { services: definitions.into_iter().map(record).collect(), ..Self::default() }
    }
}

/// What the registration-and-launch services of two nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistrationMessage {}
