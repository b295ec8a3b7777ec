//! Test harness of Phalanx: model checks, scenarios, clusters in one process and in many.
//!
//! Harness code is library code: what a test needs twice lives here, written as carefully as the rest.

pub mod bench;
pub mod command_line;
pub mod crash_points;
pub mod draw;
pub mod fault_table;
pub mod frm_model;
pub mod fuzz;
pub mod host_cluster;
pub mod init_cluster;
pub mod invariants;
pub mod lan;
pub mod launcher_cluster;
pub mod lease_model;
pub mod loop_device;
pub mod node_cluster;
pub mod order_checker;
pub mod peers;
pub mod process_cluster;
pub mod program;
pub mod proxy;
pub mod python_subsystem;
pub mod random_faults;
pub mod register_model;
pub mod registration_model;
pub mod requirement;
pub mod scripted_subsystem;
pub mod service_journal;
pub mod simulated_cluster;
pub mod simulated_network;
pub mod simulation;
pub mod soak;
pub mod spec_map;
pub mod transition_model;
