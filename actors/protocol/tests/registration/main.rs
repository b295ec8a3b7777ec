//! Registration and launch by its decisions alone: no disk, no network, no time.

mod cluster;
mod faults;
mod figures;
mod found;
mod groups;
mod orders;
mod printed;
mod rows;
mod tables;
