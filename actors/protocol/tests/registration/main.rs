//! Registration and launch by its decisions alone: no disk, no network, no time.

mod cluster;
mod groups;
mod orders;
mod tables;
