//! Client services: definitions, run states, the registration database (protocol §6).

use serde::{Deserialize, Serialize};

/// What the registration-and-launch services of two nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistrationMessage {}
