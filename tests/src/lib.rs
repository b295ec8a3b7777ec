//! Test harness of Phalanx: model checks, scenarios, clusters in one process and in many.
//!
//! Harness code is library code: what a test needs twice lives here, written as carefully as the rest.

pub mod frm_model;
pub mod order_checker;
pub mod process_cluster;
pub mod requirement;
pub mod spec_map;
