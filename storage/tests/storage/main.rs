//! Tests of the storage crate through its public interface.

mod areas;
mod capacity;
mod common;
mod contract;
mod regular;
