//! The actors of Phalanx and their supervisor tree.
//!
//! An actor turns a message into a machine's input, calls `step`, and carries the outputs out in order. No protocol decision
//! is made here. Edges between actors are `Recipient`s ([`ports`]), so that a test can listen in and an embedder can replace one.

pub mod clock;
pub mod fence_actor;
pub mod gate;
pub mod ports;
pub mod supervisor;
