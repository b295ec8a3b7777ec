//! The deterministic simulator: a whole cluster in one thread, with its disk, network, clocks, wardens and services of the kernel
//! levels, around the production machines unchanged (protocol §8.1).
//!
//! One seed gives one run. Each run has two phases: *safety*, with faults as its [`weather`] draws them and every invariant checked
//! after each event; and *liveness*, in which the faults end, everybody is started again, and everything must come to rest within
//! a bounded time. The checks look at what is true - real time, real effects on the disk, what subsystems really did - and never at
//! what a machine believes.
//!
//! [`scripted`] is the same world without weather, for a test that tells a story.
//!
//! Absent: storage other than an mmap disk (fence methods F1, F2 and F4, `T_late` > 0).

pub mod campaign;
pub mod catalogue;
pub mod clock;
pub mod coverage;
pub mod disk;
mod invariants;
pub mod log;
pub mod network;
mod process;
mod queue;
pub mod random;
pub mod scripted;
pub(crate) mod service_truth;
mod truth;
mod watched;
pub mod weather;
mod world;

pub use world::{Fault, Oddity, Setup, World};
