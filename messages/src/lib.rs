//! Vocabulary of Phalanx: ids, states, notifications, records, the codec and the limits.
//!
//! Plain data that travels between actors, nodes and the shared disk. No I/O, no clock, no executor.
//! Names follow the spec for spec things (`Joining`, `Forced-Leaving`, subsystem, barrier, client service).

pub mod admin;
pub mod codec;
pub mod configuration;
pub mod event;
pub mod event_report;
pub mod ids;
pub mod launch;
pub mod limits;
pub mod membership;
pub mod notification;
pub mod order;
pub mod peer;
mod persistent;
pub mod profile;
pub mod register;
pub mod registration;
pub mod registration_change;
pub mod service;
pub mod service_report;
pub mod set;
pub mod subsystem;
pub mod trace;
pub mod watcher;

pub use ids::*;
