//! The interconnect.
