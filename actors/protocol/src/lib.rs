//! The decisions of Phalanx: pure machines without I/O, clock or executor.
//!
//! Each machine takes an input and returns what must happen next; actors carry that out, and the model checker and the
//! simulator drive the same machines.

pub mod chronicle;
pub mod detector;
pub mod mastership;
