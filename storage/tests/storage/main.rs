//! Tests of the storage crate through its public interface.

#[cfg(test)]
mod areas;
#[cfg(test)]
mod capacity;
#[cfg(test)]
mod common;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[path = "../../../tests/src/loop_device.rs"]
mod loop_device;
#[cfg(test)]
mod redo;
#[cfg(test)]
mod regular;
#[cfg(test)]
#[path = "../../../tests/src/requirement.rs"]
#[expect(dead_code, reason = "one module for all tests; these need some of it")]
mod requirement;
