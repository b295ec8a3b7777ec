//! Registration and launch (protocol §6).
