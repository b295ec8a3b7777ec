//! The lease thread.
