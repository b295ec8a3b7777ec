//! The disk actor.
