//! The decisions of Phalanx: pure machines without I/O, clock or executor.
//!
//! Each machine takes an input and returns what must happen next; actors carry that out, and the model checker and the
//! simulator drive the same machines.

pub mod agent;
pub mod bugs;
pub mod chronicle;
pub mod configuration;
pub mod coordinator;
pub mod detector;
pub mod events;
pub mod expiry;
pub mod frm;
pub mod launcher;
pub mod lease;
pub mod manager;
pub mod mastership;
pub mod moment;
pub mod partition;
pub mod processing;
pub mod proxy_repair;
pub mod quorum;
pub mod registration;
pub mod survivor;
pub mod trace;
