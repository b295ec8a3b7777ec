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
mod regular;
