//! A Phalanx node: configuration, command line, boot order and warden.

pub mod builder;
pub mod cli;
pub mod config;
pub mod containment;
pub mod daemon;
pub mod dev;
pub mod disk_check;
pub mod fence_agents;
pub mod licence_server;
pub mod local_fence;
pub mod log;
pub mod mapping_guard;
pub mod ocf;
pub mod subsystem_client;
pub mod test_host;
pub mod timing;
pub mod waiting;
pub mod warden;
pub mod watchdog;
pub mod watcher_client;
