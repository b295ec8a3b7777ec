//! The actors of Phalanx and their supervisor tree.
//!
//! An actor turns a message into a machine's input, calls `step`, and carries the outputs out in order. No protocol decision
//! is made here. Edges between actors are `Recipient`s ([`ports`]), so that a test can listen in and an embedder can replace one.

pub mod client_service;
pub mod clock;
pub mod command_subsystem;
pub mod disk;
pub mod event_daemon;
pub mod event_manager;
pub mod fence_actor;
pub mod gate;
pub mod guard;
pub mod interconnect;
pub mod lease_thread;
pub mod load_sampler;
pub mod local_api;
pub mod membership_manager;
pub mod membership_watcher;
pub mod ports;
pub mod register_repair;
pub mod registration_and_launch;
pub mod restart;
pub mod service_actor;
pub mod subsystem;
pub mod supervisor;
pub mod watchers;
